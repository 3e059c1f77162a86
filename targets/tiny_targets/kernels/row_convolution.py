"""A convolution emitted in bands of rows, by the fastest kernel that its scratch memory allows.

What a fused block repeats: `prepare` once, then `emit_rows` for each band, in increasing order. The
more rows in a band, the less often input rows are gathered and weights widened again. Some memory
is kept from band to band (weight panels, unless they would be large), the rest is free again after
each, so that the stages of a block share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tiny_dialect.types import shape_of
from tiny_targets.kernels.address import Address, address_of
from tiny_targets.kernels.convolution import Convolution
from tiny_targets.kernels.dense import DenseEmitter
from tiny_targets.kernels.dense_panel import Dense, dense_of
from tiny_targets.kernels.depthwise import DepthwiseEmitter, depthwise_of
from tiny_targets.kernels.nest import Buffer, Nest, image_shape
from tiny_targets.kernels.pointwise import Pointwise, plan_of
from tiny_targets.kernels.rescale import rescaling_of
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index
from tiny_targets.kernels.windows import Axis, axes

TILES = (8, 16, 32, 64)
"""Pixels of a row that a pointwise convolution widens at a time."""


class RowConvolution(Protocol):
    """A convolution whose weights and tables are arguments of a nest."""

    @property
    def vertical(self) -> Axis:
        """Of rows."""
        ...

    def prepare(self) -> None:
        """Emit what comes before all rows."""
        ...

    def emit_rows(self, first: Index, count: Index, x: Rows, y: Rows, mask: Buffer | None) -> None:
        """Compute rows of `y` and of the mask from the rows of `x` that their windows meet.

        `count` is at most the band that the convolution was made for.
        """
        ...


@dataclass(frozen=True)
class RowMemory:
    """Scratch memory of one convolution in bytes, whole words."""

    kept: int
    passing: int
    """Free between two bands."""


@dataclass(frozen=True)
class RowSize:
    """How much of a convolution is done at a time."""

    tile: int
    """Pixels of a pointwise convolution that are widened."""
    band: int
    """Rows of the output."""
    keeps_panels: bool
    """Whether the weights of a dense window stay widened from band to band, however many."""


def row_memory(op: Any, target: Any, size: RowSize) -> RowMemory:
    """What the row form of a `conv2d` takes; nothing where only the plain loops apply."""
    tile, band = size.tile, size.band
    plan = plan_of(op, target)
    width = image_shape(op.x)[1]
    if plan is not None and plan.pixels <= width:
        return RowMemory(0, _words(plan.scratch_bytes(min(width * band, tile))))
    depthwise = depthwise_of(op, target)
    if depthwise is not None and rescaling_of(op) is not None:
        return RowMemory(0, _words(depthwise.band(band).scratch_bytes))
    dense = dense_of(op, target)
    if dense is not None:
        form = _dense_rows(dense, size)
        if form.held == form.outputs:
            return RowMemory(_words(form.panel_bytes), _words(form.row_bytes))
        return RowMemory(0, _words(form.scratch_bytes))
    return RowMemory(0, 0)


def _dense_rows(form: Dense, size: RowSize) -> Dense:
    return form.band(size.band) if size.keeps_panels else form.band(size.band).least()


def row_sizes(tile: int, bands: Sequence[int], keeps_panels: bool) -> list[RowSize]:
    """One for each convolution of a chain."""
    return [RowSize(tile, band, keeps_panels) for band in bands]


def working_bytes(ops: Sequence[Any], target: Any, sizes: Sequence[RowSize]) -> int:
    """What several convolutions take together, a band of one after a band of another."""
    parts = [row_memory(op, target, size) for op, size in zip(ops, sizes, strict=True)]
    return sum(part.kept for part in parts) + max((part.passing for part in parts), default=0)


def bands_of(ops: Sequence[Any], target: Any, rows: int) -> list[int]:
    """How many rows each convolution of a chain computes at a time, if the last computes `rows`.

    What feeds a pointwise convolution keeps in step with it, and so do all before that. Where rows
    of a ring are not side by side only windows of one group, which write a row at a time, gain.
    """
    bands, aligned = [rows], True
    for op, consumer in zip(ops[-2::-1], ops[:0:-1], strict=True):
        aligned = aligned and _keeps_rows(consumer)
        bands.append(rows if aligned or _writes_rows(op, target) else 1)
    return bands[::-1]


def _keeps_rows(op: Any) -> bool:
    """True for a convolution whose row meets the row of the same number."""
    vertical, _ = axes(op, op.x, op.y, shape_of(op.w))
    return vertical.pointwise and vertical.output == vertical.input


def _writes_rows(op: Any, target: Any) -> bool:
    if plan_of(op, target) is not None or depthwise_of(op, target) is not None:
        return False
    return dense_of(op, target) is not None


def row_convolutions(
    nest: Nest,
    ops: Sequence[Any],
    target: Any,
    sizes: Sequence[RowSize],
    scratch: Address | None,
) -> list[RowConvolution]:
    """The convolutions of one nest in `working_bytes` of scratch memory; plain loops without."""
    parts = [row_memory(op, target, size) for op, size in zip(ops, sizes, strict=True)]
    passing = max(part.passing for part in parts)
    kept, found = passing, []
    for op, part, size in zip(ops, parts, sizes, strict=True):
        if scratch is None or not (part.kept or part.passing):
            found.append(Convolution(nest, op))
            continue
        found.append(_fast(nest, op, target, size, (scratch + kept, scratch)))
        kept += part.kept
    return found


def _fast(
    nest: Nest, op: Any, target: Any, size: RowSize, memory: tuple[Address, Address]
) -> RowConvolution:
    """The fast form, which exists; `memory` that is kept and that is free between bands."""
    tile, band = size.tile, size.band
    kept, start = memory
    plan, rescaling = plan_of(op, target), rescaling_of(op)
    assert rescaling is not None
    width = image_shape(op.x)[1]
    if plan is not None and plan.pixels <= width:
        outputs = shape_of(op.w)[0]
        pixels: Index = width * band
        if tile < pixels:
            # An argument: forms that differ in nothing else share the code.
            pixels = nest.read(np.array([tile], np.int32))[0]
        product = Pointwise(nest, op, plan, start, plan.depth, outputs, pixels)
        return _PointwiseRows(product, Axis(*_rows_of(op)), width, -(-outputs // 8))
    depthwise = depthwise_of(op, target)
    if depthwise is not None:
        return DepthwiseEmitter(nest, op, depthwise.band(band), rescaling, target, start)
    dense = dense_of(op, target)
    assert dense is not None
    form = _dense_rows(dense, size)
    if form.held == form.outputs:
        return DenseEmitter(nest, op, form, rescaling, target, kept, start)
    return DenseEmitter(nest, op, form, rescaling, target, start, start + form.panel_bytes)


@dataclass(frozen=True)
class _PointwiseRows:
    product: Pointwise
    vertical: Axis
    width: int
    mask_bytes: int

    def prepare(self) -> None:
        """Nothing."""

    def emit_rows(self, first: Index, count: Index, x: Rows, y: Rows, mask: Buffer | None) -> None:
        """Pixels are independent: rows side by side are an image."""
        bits = None if mask is None else address_of(mask) + first * (self.width * self.mask_bytes)
        self.product.emit(x.address(first), y.address(first), bits, count * self.width)


def _rows_of(op: Any) -> tuple[int, int, int, int, int]:
    height = image_shape(op.x)[0]
    return height, height, 1, 1, 0


def _words(size: int) -> int:
    return -(-size // 4) * 4
