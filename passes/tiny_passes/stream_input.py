"""Declare that the input arrives row by row and never exists whole.

Before:  func @train_step(%x: ..., %label, %rate) { %y = "tiny.conv2d"(%x, %w, %b) ... }
After:   func @train_step(%x: ... {tiny.streamed}, %label, %rate) { the same }

Of a streamed input only the newest rows have a place in the arena, as many as its one reader needs
(`streamed`). The reader must be a convolution, or a block that begins with one: it takes rows in
order, each once. An op that reads the input again, as the weight update of the first convolution
does, is an error at that op. Results do not change.

Before tiny-fuse-blocks, so that blocks are priced without the input.

Cost: one look at the uses of the input.
"""

from typing import Any

from tiny_dialect.types import is_quantized, shape_of
from tiny_passes.graph import FUSED_BLOCK, body, users
from tiny_passes.registry import PassError, register_pass
from tiny_passes.streamed import mark_streamed


@register_pass("tiny-stream-input", anchor="func.func")
def stream_input(function: Any) -> None:
    """Mark the first argument of each function that takes an image."""
    arguments = list(function.regions[0].blocks[0].arguments)
    if not arguments or not is_image(arguments[0]):
        return
    place = {op.operation: number for number, op in enumerate(body(function))}
    readers = sorted(users(arguments[0]), key=lambda op: place[op.operation])
    if not readers:
        raise PassError(function, "cannot stream the input: nothing reads it")
    takers = [op for op in readers if _takes_rows(op, arguments[0])]
    if not takers:
        message = "cannot stream the input: it is read here, and not by a convolution"
        raise PassError(readers[0], message)
    others = [op for op in readers if op != takers[0]]
    if others:
        raise PassError(
            others[0],
            "cannot stream the input: it is read again here, when its rows are gone; leave the "
            "weights of the first layer frozen, or do not stream",
        )
    mark_streamed(function)


def is_image(value: Any) -> bool:
    """True for a quantized NHWC tensor."""
    return len(shape_of(value)) == 4 and is_quantized(value)


def _takes_rows(op: Any, x: Any) -> bool:
    """True for an op that can compute its output from rows of `x` in order."""
    name = op.operation.name
    if name == FUSED_BLOCK:
        inner = op.regions[0].blocks[0]
        number = list(op.operands).index(x)
        (first, *_), reads = inner.operations, users(inner.arguments[number])
        return [use.operation for use in reads] == [first.operation] and _takes_rows(
            first, inner.arguments[number]
        )
    return name == "tiny.conv2d" and op.operands[0] == x
