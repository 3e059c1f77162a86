"""Fuse chains of convolutions where a tensor between them makes the peak: only rows of it live.

Before:  %e, %m = "tiny.conv2d"(%x, %w0, %b0) ...         expanded: the largest tensor of the block
         %d = "tiny.conv2d"(%e, %w1, %b1) ...             depthwise
         %p = "tiny.conv2d"(%d, %w2, %b2) ...
         %y = "tiny.add"(%p, %x) ...
After:   %y, %m = "tiny.fused_block"(%x, %w0, %b0, ...) ({ ... }) {tiny.scratch_bytes = ...}

What a chain is follows from uses alone, see `block_chains`: any kernel, stride, padding and groups
will do, and a residual addition may end it. Masks and gathered channels of hidden tensors that a
backward op needs become results of the fused op.

Which chains: those without which the lowest peak cannot be reached, and no others, because a small
hidden tensor costs nothing. For the best order of the function each segment of a chain is priced at
the bytes that its step would need; the lowest peak is the dearest step that must stay, or the
dearest segment of the best partition. Of the partitions that keep within it the cheapest is taken
(`block_costs`). @infer is fused only where it would need more than @train_step does. Integer
results do not change.

Cost: one order search a function, and a quadratic walk over each chain.
"""

from typing import Any

from tiny_dialect.attributes import integer, string
from tiny_dialect.bindings import ir
from tiny_dialect.ops.fused import create_fused_block, create_yield
from tiny_passes.block_chains import chain_in, chain_operands, chain_results, find_runs
from tiny_passes.block_costs import BlockCosts
from tiny_passes.graph import TRAIN_STEP, functions, layer_of
from tiny_passes.registry import register_pass
from tiny_passes.row_schedule import Chain, scratch_bytes


@register_pass("tiny-fuse-blocks", anchor="builtin.module")
def fuse_blocks(module: Any, *, all: bool = False, row_overlap: bool = False) -> None:
    """Fuse in every function of `module`; with `all` every chain, whether it makes the peak or not.

    With `row_overlap` steps are priced as `tiny-overlap-rows` will let them run.
    """
    known = [function for function in functions(module).values() if not function.is_external]
    known.sort(key=lambda function: function.name.value != TRAIN_STEP)
    peak = 0
    for function in known:
        costs = BlockCosts(function, row_overlap)
        runs = find_runs(function)
        peak = max(peak, costs.floor(runs), *(costs.lowest_peak(run) for run in runs), 0)
        limit = None if all else peak
        segments = [segment for run in runs for segment in costs.partition(run, limit)]
        for segment in segments:
            if len(segment) > 1:
                fuse(chain_in(segment))


def fuse(chain: Chain) -> Any:
    """Replace the ops of `chain` by one `tiny.fused_block` at the place of the last; returns it."""
    operands, results = chain_operands(chain), chain_results(chain)
    last = chain.addition or chain.convolutions[-1]
    block = create_fused_block(
        operands,
        [value.type for value in results],
        loc=last.location,
        ip=ir.InsertionPoint(last.operation),
    )
    if layer := _layer(chain):
        block.attributes["layer"] = string(layer)
    if needed := scratch_bytes(chain):
        block.attributes["tiny.scratch_bytes"] = integer(needed)
    inner = block.regions[0].blocks[0]
    values = dict(zip(operands, inner.arguments, strict=True))
    ops = _in_chain_order(chain)
    with ir.InsertionPoint(inner):
        for op in ops:
            copy = op.operation.clone()
            for number, operand in enumerate(op.operands):
                copy.operands[number] = values[operand]
            values.update(zip(op.results, copy.results, strict=True))
        create_yield([values[value] for value in results], loc=last.location)
    for old, new in zip(results, block.results, strict=True):
        old.replace_all_uses_with(new)
    for op in reversed(ops):
        op.operation.erase()
    return block


def _in_chain_order(chain: Chain) -> list[Any]:
    """The ops of the chain, each gather behind what it reads from."""
    ops: list[Any] = []
    for conv in chain.convolutions:
        ops.append(conv)
        ops += [gather for gather in chain.gathers if gather.x == conv.y]
    return ops if chain.addition is None else [*ops, chain.addition]


def _layer(chain: Chain) -> str:
    """The block that all layers of the chain belong to, or the first and the last layer."""
    names = [layer_of(op) for op in _in_chain_order(chain)]
    blocks = {name.rpartition(".")[0] for name in names}
    common = blocks.pop() if len(blocks) == 1 else ""
    return common or "..".join(dict.fromkeys(name for name in (names[0], names[-1]) if name))
