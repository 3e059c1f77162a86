"""A chain of convolutions in one kernel: hidden tensors live in rings of rows, nothing is repeated.

For each output row: every convolution has its producer emit the rows that it is about to read and
that are not there yet, then emits its own. Hidden rows go to rings in scratch memory, masks and
gathered channels of a hidden tensor to their results, and the last row to the output, where the
residual addition finishes it in place. Rows are emitted by the same primitives as in the kernels of
the single ops. Which rows: `tiny_passes.row_schedule`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tiny_dialect.errors import InvalidModel
from tiny_dialect.ops import FusedBlock
from tiny_passes.graph import layer_of
from tiny_passes.overwriting import ROWS
from tiny_passes.row_schedule import Chain, chain_of, ring_offsets, ring_shapes, scratch_bytes
from tiny_targets.kernels.address import address_of
from tiny_targets.kernels.elementwise import Gathering
from tiny_targets.kernels.nest import Buffer, Nest, Span, image_shape
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.residual_add import addition_of
from tiny_targets.kernels.row_convolution import (
    TILES,
    RowConvolution,
    row_convolutions,
    tile_within,
    working_bytes,
)
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index, maximum, minimum, select
from tiny_targets.kernels.scratch import ScratchWish, register_scratch, scratch_of
from tiny_targets.kernels.windows import Axis


@dataclass
class _Stage:
    """One convolution of the chain, and what is done with each row of its output."""

    convolution: RowConvolution
    x: Rows
    y: Rows
    mask: Buffer | None
    finish: list[Callable[[Index], None]] = field(default_factory=list)

    @property
    def window(self) -> Axis:
        """Its vertical axis."""
        return self.convolution.vertical

    @property
    def keeps_rows(self) -> bool:
        """True where every row is needed, read by the next convolution or not."""
        return self.mask is not None or bool(self.finish)

    def emit(self, row: Index) -> None:
        """Compute one row; the rows it reads are there."""
        self.convolution.emit_row(row, self.x, self.y, self.mask)
        for action in self.finish:
            action(row)


@register_kernel(FusedBlock, traversals=(ROWS,))
def fused_block(nest: Nest, op: Any, target: Any) -> None:
    """The region, an output row at a time."""
    chain = chain_of(op)
    _check(op, chain)
    results = _yielded(op)
    x = Rows(nest.read(chain.convolutions[0].x, image_shape(chain.convolutions[0].x)))
    y = Rows(nest.write(op.results[0], image_shape(op.results[0])))
    rings = [
        Rows(nest.scratch(shape, "i8", offset), ring=True)
        for shape, offset in zip(ring_shapes(chain), ring_offsets(chain)[:-1], strict=True)
    ]
    stages = _stages(nest, chain, results, [x, *rings, y], target, scratch_of(op))
    if chain.addition is not None:
        stages[-1].finish.append(_addition(nest, chain, results, x, y, target))
    for stage in stages:
        stage.convolution.prepare()
    for row in nest.loop(y.slots):
        _emit(nest, stages, row)
    _emit_the_rest(nest, stages)


@register_scratch(FusedBlock)
def scratch_wish(op: Any, target: Any) -> ScratchWish:
    """The rings, and room for the kernels of the convolutions."""
    chain = chain_of(op)
    rings, convolutions = scratch_bytes(chain), chain.convolutions
    sizes = {rings + working_bytes(convolutions, target, tile) for tile in TILES}
    return ScratchWish(sorted(sizes))


def _check(op: Any, chain: Chain) -> None:
    """Raise `InvalidModel` for a region that is no chain, or without its scratch memory."""
    links = zip(chain.convolutions, chain.convolutions[1:], strict=False)
    is_chain = bool(chain.convolutions) and all(a.y == b.x for a, b in links)
    outputs = [conv.y for conv in chain.convolutions]
    if chain.addition is not None:
        is_chain &= outputs[-1] in list(chain.addition.operands) and chain.residual not in outputs
    is_chain &= all(gather.x in outputs for gather in chain.gathers)
    if not is_chain or _yielded(op).get(chain.output) != op.results[0]:
        raise InvalidModel("a fused block must be a chain that yields its last value", _place(op))
    needed = scratch_bytes(chain)
    stated = 0
    if "tiny.scratch_bytes" in op.attributes:
        stated = op.attributes["tiny.scratch_bytes"].value
    if stated < needed:
        raise InvalidModel(f"needs tiny.scratch_bytes of {needed}, has {stated}", _place(op))


def _place(op: Any) -> str:
    return layer_of(op) or str(op.location)


def _yielded(op: Any) -> dict[Any, Any]:
    """The result for each value that the region yields."""
    *_, end = op.regions[0].blocks[0].operations
    return dict(zip(end.operands, op.results, strict=True))


def _mask(nest: Nest, op: Any, results: dict[Any, Any]) -> Buffer | None:
    """The mask of an inner op, where the block hands it out."""
    result = None if op.mask is None else results.get(op.mask)
    return None if result is None else nest.write(result)


def _stages(
    nest: Nest,
    chain: Chain,
    results: dict[Any, Any],
    images: Sequence[Rows],
    target: Any,
    size: int,
) -> list[_Stage]:
    """The convolutions, each between two of `images`, with their masks and gathers.

    `size` bytes of scratch memory: what the rings leave is for the kernels of the convolutions.
    """
    rings = scratch_bytes(chain)
    tile, working = tile_within(chain.convolutions, target, size - rings), None
    needed = 0 if tile is None else working_bytes(chain.convolutions, target, tile)
    if needed:
        working = address_of(nest.scratch((needed // 4,), "i32", rings))
    emitters = row_convolutions(nest, chain.convolutions, target, tile or TILES[0], working)
    stages = []
    between = pairwise(images)
    for conv, emitter, (source, output) in zip(chain.convolutions, emitters, between, strict=True):
        stage = _Stage(emitter, source, output, _mask(nest, conv, results))
        for gather in chain.gathers:
            if gather.x == conv.y and gather.y in results:
                stage.finish.append(_copy(nest, gather, output, results))
        stages.append(stage)
    return stages


def _copy(nest: Nest, op: Any, source: Rows, results: dict[Any, Any]) -> Callable[[Index], None]:
    """Copies the chosen channels of a row of `source` to the block's result."""
    gathering = Gathering(nest, op)
    target = Rows(nest.write(results[op.y], image_shape(op.y)))
    return lambda row: gathering.emit_row(row, source, target)


def _addition(
    nest: Nest, chain: Chain, results: dict[Any, Any], x: Rows, y: Rows, target: Any
) -> Callable[[Index], None]:
    """Adds the residual to a row of `y`, in place."""
    op: Any = chain.addition
    residual = chain.residual
    is_input = residual == chain.convolutions[0].x
    other = x if is_input else Rows(nest.read(residual, image_shape(residual)))
    addition, mask = addition_of(nest, op, target), _mask(nest, op, results)
    a, b = (other, y) if op.a == residual else (y, other)
    return lambda row: addition.emit_row(row, a, b, y, mask)


def _emit(nest: Nest, stages: Sequence[_Stage], row: Index) -> None:
    """Emit `row` of the last stage; rows before it have been emitted."""
    *producers, last = stages
    if producers:
        for needed in nest.loop(_missing_rows(last.window, row)):
            _emit(nest, producers, needed)
    last.emit(row)


def _missing_rows(window: Axis, row: Index) -> Span:
    """The input rows that output `row` needs and earlier ones did not."""
    if window.pointwise and window.output <= window.input:
        return Span.one(row)
    end = _end(window, row)
    if isinstance(row, int):
        return Span(0 if row == 0 else _end(window, row - 1), end)
    # Before the first row nothing was there, whatever a row of number -1 would have met.
    return Span(select(row.equals(0), row.like(0), _end(window, row - 1)), end)


def _end(window: Axis, row: Index) -> Any:
    """One more than the last input row that output `row` meets, at least 0."""
    end = row * window.stride + (window.kernel - window.pad)
    if window.kernel < window.pad:
        end = maximum(end, 0)
    return minimum(end, window.input)


def _emit_the_rest(nest: Nest, stages: Sequence[_Stage]) -> None:
    """The rows of kept hidden tensors that no output row needed, those nearest the output first."""
    emitted = stages[-1].window.output
    for number in reversed(range(len(stages) - 1)):
        window = stages[number + 1].window
        done = int(_end(window, emitted - 1))
        emitted = window.input if stages[number].keeps_rows else done
        for row in nest.loop(Span(done, emitted)):
            _emit(nest, stages[: number + 1], row)
