"""A chain of convolutions in one kernel: hidden tensors live in rings of rows, nothing is repeated.

A chain may be a single convolution. A streamed input lies in a ring too; the kernel then runs in
steps, one output row each, and new rows of the input arrive between them.

For each band of output rows: every convolution has its producer emit the rows that it is about to
read and that are not there yet, then emits its own. Hidden rows go to rings in scratch memory,
masks and gathered channels of a hidden tensor to their results, and the last rows to the output,
where the residual addition finishes them in place. Rows are emitted by the same primitives as in
the kernels of the single ops. Which rows: `tiny_passes.row_schedule`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

from tiny_dialect.errors import InvalidModel
from tiny_dialect.ops import FusedBlock
from tiny_passes.block_chains import MAX_BUFFERS, buffers_of
from tiny_passes.graph import layer_of, outer_value
from tiny_passes.overwriting import ROWS, traversal_of
from tiny_passes.row_schedule import Chain, chain_of, ring_offsets, ring_shapes, scratch_bytes
from tiny_passes.streamed import is_streamed, ring_rows
from tiny_targets.kernels.address import ANY_SIZE, address_of
from tiny_targets.kernels.elementwise import Gathering
from tiny_targets.kernels.nest import Buffer, Nest, Span, image_shape
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.residual_add import addition_of
from tiny_targets.kernels.row_convolution import (
    TILES,
    RowConvolution,
    bands_of,
    row_convolutions,
    row_sizes,
    working_bytes,
)
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index, Scalar, maximum, minimum, select
from tiny_targets.kernels.scratch import ScratchWish, register_scratch, scratch_of
from tiny_targets.kernels.windows import Axis

BANDS = (1, 2, 4, 8)
"""Output rows computed at a time: the more, the less is gathered and widened twice."""

WORTH_BYTES = 4096
"""What is asked for to compute two rows at a time in place of one, which halves that."""

_FAST_TABLES = 5
"""The most tables that a convolution binds more in its fast form."""


@dataclass
class _Stage:
    """One convolution of the chain, and what is done with each row of its output."""

    convolution: RowConvolution
    x: Rows
    y: Rows
    mask: Buffer | None
    band: int = 1
    """Rows computed at a time."""
    finish: list[Callable[[Index], None]] = field(default_factory=list)

    @property
    def window(self) -> Axis:
        """Its vertical axis."""
        return self.convolution.vertical

    @property
    def keeps_rows(self) -> bool:
        """True where every row is needed, read by the next convolution or not."""
        return self.mask is not None or bool(self.finish)

    def emit(self, nest: Nest, first: Index, count: Index) -> None:
        """Compute `count` rows, a band at most; the rows they read are there."""
        self.convolution.emit_rows(first, count, self.x, self.y, self.mask)
        if self.finish:
            for row in nest.loop(_span(first, count)):
                for action in self.finish:
                    action(row)


@register_kernel(FusedBlock, traversals=(ROWS,))
def fused_block(nest: Nest, op: Any, target: Any) -> None:
    """The region, an output row at a time."""
    chain = chain_of(op)
    _check(op, chain)
    results, sizes = _yielded(op), _sizes_within(op, chain, target, scratch_of(op))
    if _binds_too_much(op, chain, results, target, sizes):
        sizes = _rings_alone(chain)
    _emit_chain(nest, chain, results, target, sizes)


def emit_chain(nest: Nest, op: Any, chain: Chain, results: dict[Any, Any], target: Any) -> None:
    """The kernel of an op that is a chain; `results` are the op's, by the chain's values."""
    _emit_chain(nest, chain, results, target, _sizes_within(op, chain, target, scratch_of(op)))


def _binds_too_much(
    op: Any, chain: Chain, results: dict[Any, Any], target: Any, sizes: "_Sizes"
) -> bool:
    """True where the fast form, which binds tables of its own, is more than one dispatch takes."""
    if (
        sizes.tile is None
        or buffers_of(chain) + _FAST_TABLES * len(chain.convolutions) < MAX_BUFFERS
    ):
        return False
    with Nest("trial") as trial:
        _emit_chain(trial, chain, results, target, sizes)
        made = trial.call()
    return len(made.arguments) > MAX_BUFFERS + (made.kernel.steps > 1)


def _emit_chain(
    nest: Nest, chain: Chain, results: dict[Any, Any], target: Any, sizes: "_Sizes"
) -> None:
    source, output = chain.convolutions[0].x, results[chain.output]
    x = _input(nest, source)
    y = Rows(nest.write(output, image_shape(output)))
    shapes, offsets = ring_shapes(chain, sizes.bands), ring_offsets(chain, sizes.bands)
    rings = [
        Rows(nest.scratch(shape, "i8", offset), ring=True)
        for shape, offset in zip(shapes, offsets[:-1], strict=True)
    ]
    stages = _stages(nest, chain, results, [x, *rings, y], target, sizes)
    if chain.addition is not None:
        stages[-1].finish.append(_addition(nest, chain, results, x, y, target))
    if is_streamed(outer_value(source)) and y.slots > 1:
        _emit_step(nest, stages, nest.step(y.slots), y.slots)
        return
    _prepare(stages)
    _emit_span(nest, stages, Span(0, y.slots))
    _emit_the_rest(nest, stages)


@dataclass(frozen=True)
class _Sizes:
    """How a chain uses its scratch memory."""

    bands: list[int]
    """Rows that each convolution computes at a time."""
    tile: int | None
    """Pixels widened at a time; None where the memory is for the rings alone."""
    keeps_panels: bool = True
    """Whether widened weights stay from band to band, however many they are."""


def _sizes(op: Any, chain: Chain, target: Any) -> Iterator[tuple[int, _Sizes]]:
    """(bytes, what they are good for), the best last."""
    convolutions = chain.convolutions
    width = max(image_shape(conv.y)[1] for conv in convolutions)
    possible = BANDS if _may_work_in_bands(op, chain) else BANDS[:1]
    height = image_shape(convolutions[-1].y)[0]
    for keeps, rows in product((False, True), (rows for rows in possible if rows <= height)):
        bands = bands_of(convolutions, target, rows)
        # A short tile would widen weights more often than a longer band saves.
        for tile in TILES if rows == 1 else [t for t in TILES if t >= min(width, TILES[-1])]:
            working = working_bytes(convolutions, target, row_sizes(tile, bands, keeps))
            yield scratch_bytes(chain, bands) + working, _Sizes(bands, tile, keeps)


def _may_work_in_bands(op: Any, chain: Chain) -> bool:
    """True where the output may be written some rows after the input was read for it.

    Over what it overwrites, the output may not run ahead of reads in the same band: a residual is
    read row by row, and a single convolution reads while it writes. A streamed input has rows for
    one step alone.
    """
    if is_streamed(outer_value(chain.convolutions[0].x)):
        return False
    return traversal_of(op) != ROWS or (len(chain.convolutions) > 1 and chain.addition is None)


def _sizes_within(op: Any, chain: Chain, target: Any, budget: int) -> _Sizes:
    """The best use of `budget` bytes."""
    fitting = [sizes for size, sizes in _sizes(op, chain, target) if size <= budget]
    return fitting[-1] if fitting else _rings_alone(chain)


def _rings_alone(chain: Chain) -> _Sizes:
    return _Sizes([1] * len(chain.convolutions), None)


def _input(nest: Nest, source: Any) -> Rows:
    """The whole image, or the ring in which it arrives."""
    height, width, channels = image_shape(source)
    if not is_streamed(outer_value(source)):
        return Rows(nest.read(source, (height, width, channels)))
    return Rows(nest.read(source, (ring_rows(outer_value(source)), width, channels)), ring=True)


def _prepare(stages: Sequence[_Stage]) -> None:
    for stage in stages:
        stage.convolution.prepare()


def _emit_step(nest: Nest, stages: Sequence[_Stage], row: Scalar, count: int) -> None:
    """One output row of `count`; the first prepares, the last computes what is left."""

    def first() -> tuple[()]:
        _prepare(stages)
        return ()

    def last() -> tuple[()]:
        _emit_the_rest(nest, stages)
        return ()

    nest.branch(row.equals(0), first, tuple, like=())
    _emit(nest, stages, row, 1)
    nest.branch(row.equals(count - 1), last, tuple, like=())


@register_scratch(FusedBlock)
def scratch_wish(op: Any, target: Any) -> ScratchWish:
    """The rings, and room for the kernels of the convolutions."""
    return chain_scratch(op, chain_of(op), target)


def chain_scratch(op: Any, chain: Chain, target: Any) -> ScratchWish:
    """What an op that is a chain can use."""
    sizes = {size: max(use.bands) for size, use in _sizes(op, chain, target)}
    most = min(sizes) + WORTH_BYTES
    worth = [size for size, rows in sizes.items() if rows > 1 and size <= most] or list(sizes)
    return ScratchWish(sorted(size for size in sizes if size >= min(worth)))


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
    sizes: _Sizes,
) -> list[_Stage]:
    """The convolutions, each between two of `images`, with their masks and gathers.

    What the rings leave of the scratch memory is for the kernels of the convolutions.
    """
    ops, bands, tile = chain.convolutions, sizes.bands, sizes.tile or TILES[0]
    rows = row_sizes(tile, bands, sizes.keeps_panels)
    working, needed = None, working_bytes(ops, target, rows)
    if needed and sizes.tile is not None:
        working = address_of(nest.scratch(ANY_SIZE, "i32", scratch_bytes(chain, bands)))
    emitters = row_convolutions(nest, ops, target, rows, working)
    stages = []
    between = zip(ops, emitters, bands, pairwise(images), strict=True)
    for conv, emitter, band, (source, output) in between:
        stage = _Stage(emitter, source, output, _mask(nest, conv, results), band)
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


def _emit_span(nest: Nest, stages: Sequence[_Stage], rows: Span) -> None:
    """Emit `rows` of the last stage, a band after the other."""
    band = stages[-1].band
    if rows.trips is not None and rows.trips <= band:
        if rows.trips:
            _emit(nest, stages, rows.lower, rows.trips)
        return
    whole = rows.trips is not None and rows.trips % band == 0
    for first in nest.loop(rows, step=band):
        _emit(
            nest, stages, first, band if whole or band == 1 else minimum(rows.upper - first, band)
        )


def _emit(nest: Nest, stages: Sequence[_Stage], first: Index, count: Index) -> None:
    """Emit up to a band of rows of the last stage; rows before them have been emitted."""
    *producers, last = stages
    if producers:
        _emit_missing(nest, producers, last.window, first, count)
    last.emit(nest, first, count)


def _emit_missing(
    nest: Nest, producers: Sequence[_Stage], window: Axis, first: Index, count: Index
) -> None:
    """Emit the rows that output rows from `first` on need and earlier ones did not."""
    if window.pointwise and window.output <= window.input:
        _emit(nest, producers, first, count)
        return
    end = _end(window, first + (count - 1))
    if isinstance(first, int):
        _emit_span(nest, producers, Span(0 if first == 0 else _end(window, first - 1), end))
        return
    # Before the first row nothing was there, whatever a row of number -1 would have met.
    start = select(first.equals(0), first.like(0), _end(window, first - 1))
    _emit_span(nest, producers, Span(start, end))


def _span(first: Index, count: Index) -> Span:
    """`count` rows from `first` on."""
    return Span(first, first + count, count if isinstance(count, int) else None)


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
            _emit(nest, stages[: number + 1], row, 1)
