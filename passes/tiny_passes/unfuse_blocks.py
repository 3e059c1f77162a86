"""Replace every fused block by the ops in it: where memory is no concern, as on the host.

Before:  %y = "tiny.fused_block"(%x, %w, %b, ...) ({ ... "tiny.yield"(%p) ... })
After:   %e = "tiny.conv2d"(%x, %w, %b) ... , and %y is what the region yielded

Cost: one walk. Results are the same bit for bit.
"""

from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.ops import FusedBlock
from tiny_passes.graph import body
from tiny_passes.registry import register_pass


@register_pass("tiny-unfuse-blocks", anchor="func.func")
def unfuse_blocks(function: Any) -> None:
    """Move the ops of every fused block of `function` in front of it and drop it."""
    for op in body(function):
        if isinstance(op, FusedBlock):
            _inline(op)


def _inline(block: Any) -> None:
    values = dict(zip(block.regions[0].blocks[0].arguments, block.operands, strict=True))
    *ops, end = block.regions[0].blocks[0].operations
    with ir.InsertionPoint(block):
        for op in ops:
            copy = op.operation.clone()
            for number, operand in enumerate(op.operands):
                copy.operands[number] = values[operand]
            values.update(zip(op.results, copy.results, strict=True))
    for result, value in zip(block.results, end.operands, strict=True):
        result.replace_all_uses_with(values[value])
    block.operation.erase()
