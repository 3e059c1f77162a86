"""A convolution emitted row by row, by the fastest kernel that its scratch memory allows.

What a fused block repeats: `prepare` once, then `emit_row` for each row, in increasing order. Some
memory is kept from row to row (weight panels), the rest is free again after each row, so that the
stages of a block share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tiny_dialect.types import shape_of
from tiny_targets.kernels.address import Address, address_of
from tiny_targets.kernels.convolution import Convolution
from tiny_targets.kernels.dense import DenseEmitter
from tiny_targets.kernels.dense_panel import dense_of
from tiny_targets.kernels.depthwise import DepthwiseEmitter, depthwise_of
from tiny_targets.kernels.nest import Buffer, Nest, image_shape
from tiny_targets.kernels.pointwise import Pointwise, plan_of
from tiny_targets.kernels.rescale import rescaling_of
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index
from tiny_targets.kernels.windows import Axis

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

    def emit_row(self, oh: Index, x: Rows, y: Rows, mask: Buffer | None) -> None:
        """Compute row `oh` of `y` and of the mask from the rows of `x` that its window meets."""
        ...


@dataclass(frozen=True)
class RowMemory:
    """Scratch memory of one convolution in bytes, whole words."""

    kept: int
    passing: int
    """Free between two rows."""


def row_memory(op: Any, target: Any, tile: int) -> RowMemory:
    """What the row form of a `conv2d` takes; nothing where only the plain loops apply.

    Of a pointwise convolution up to `tile` pixels are widened at a time.
    """
    plan = plan_of(op, target)
    width = image_shape(op.x)[1]
    if plan is not None and plan.pixels <= width:
        return RowMemory(0, _words(plan.scratch_bytes(min(width, tile))))
    depthwise = depthwise_of(op, target)
    if depthwise is not None and rescaling_of(op) is not None:
        return RowMemory(0, _words(depthwise.one_row.scratch_bytes))
    dense = dense_of(op, target)
    if dense is not None:
        form = dense.one_row
        return RowMemory(_words(form.panel_bytes), _words(form.row_bytes))
    return RowMemory(0, 0)


def working_bytes(ops: Sequence[Any], target: Any, tile: int) -> int:
    """What several convolutions take together, a row of one after a row of another."""
    parts = [row_memory(op, target, tile) for op in ops]
    return sum(part.kept for part in parts) + max((part.passing for part in parts), default=0)


def tile_within(ops: Sequence[Any], target: Any, budget: int) -> int | None:
    """The largest of `TILES` whose `working_bytes` are within `budget`; None if none is."""
    fitting = [tile for tile in TILES if working_bytes(ops, target, tile) <= budget]
    return max(fitting, default=None)


def row_convolutions(
    nest: Nest, ops: Sequence[Any], target: Any, tile: int, scratch: Address | None
) -> list[RowConvolution]:
    """The convolutions of one nest in `working_bytes` of scratch memory; plain loops without."""
    parts = [row_memory(op, target, tile) for op in ops]
    passing = max(part.passing for part in parts)
    kept, found = passing, []
    for op, part in zip(ops, parts, strict=True):
        if scratch is None or not (part.kept or part.passing):
            found.append(Convolution(nest, op))
            continue
        found.append(_fast(nest, op, target, tile, (scratch + kept, scratch)))
        kept += part.kept
    return found


def _fast(
    nest: Nest, op: Any, target: Any, tile: int, memory: tuple[Address, Address]
) -> RowConvolution:
    """The fast form, which exists; `memory` that is kept and that is free between rows."""
    kept, start = memory
    plan, rescaling = plan_of(op, target), rescaling_of(op)
    assert rescaling is not None
    width = image_shape(op.x)[1]
    if plan is not None and plan.pixels <= width:
        outputs = shape_of(op.w)[0]
        product = Pointwise(nest, op, plan, start, plan.depth, outputs, min(width, tile))
        return _PointwiseRows(product, Axis(*_rows_of(op)), width, -(-outputs // 8))
    depthwise = depthwise_of(op, target)
    if depthwise is not None:
        return DepthwiseEmitter(nest, op, depthwise.one_row, rescaling, target, start)
    dense = dense_of(op, target)
    assert dense is not None
    return DenseEmitter(nest, op, dense.one_row, rescaling, target, kept, start)


@dataclass(frozen=True)
class _PointwiseRows:
    product: Pointwise
    vertical: Axis
    width: int
    mask_bytes: int

    def prepare(self) -> None:
        """Nothing."""

    def emit_row(self, oh: Index, x: Rows, y: Rows, mask: Buffer | None) -> None:
        """Pixels are independent: a row is a short image."""
        bits = None if mask is None else address_of(mask) + oh * (self.width * self.mask_bytes)
        self.product.emit(x.address(oh), y.address(oh), bits, self.width)


def _rows_of(op: Any) -> tuple[int, int, int, int, int]:
    height = image_shape(op.x)[0]
    return height, height, 1, 1, 0


def _words(size: int) -> int:
    return -(-size // 4) * 4
