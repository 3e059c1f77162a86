"""The input gradient of a convolution with any window: for each tap, as of a pointwise one.

    gx[p, i] = sum_taps sum_o g[p', o] w[o, tap, i]        any kernel, strides, pads and groups

The outputs of a pixel of g are contiguous, so a tap is a row of g against a panel of weight columns
(`integer_pointwise`); the panels of all taps lie behind each other in scratch memory. For a pixel
of the input the outputs that read it are a rectangle of g, of which nothing outside is touched: no
padding is stored and no product with an inserted zero is computed. Neighbours one stride apart meet
the same taps a pixel of g further, and share the panel where the whole of their windows exists.

Sizes are arguments: layers of one window, stride and depth share the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiny_dialect.ops.convolution import geometry, is_depthwise
from tiny_dialect.types import element_name, shape_of
from tiny_targets.kernels.address import Address, walk
from tiny_targets.kernels.integer_header import numbers
from tiny_targets.kernels.integer_panels import STEP, Sums
from tiny_targets.kernels.integer_pointwise import (
    Plan,
    PointwiseInputGradient,
    format_of,
    unrolled,
)
from tiny_targets.kernels.nest import Nest, Span
from tiny_targets.kernels.scalar import Index, Scalar, maximum, minimum, number, select
from tiny_targets.kernels.scratch import ScratchWish
from tiny_targets.kernels.windows import Axis, axes

WORTH_BYTES = 4096
"""Panels that are asked for; larger ones are used where the plan leaves room for them."""


def plan_of(op: Any, target: Any) -> Plan | None:
    """The plan of one tap; None where a group has too few outputs, or is trained channel-wise."""
    shape, groups = shape_of(op.w), op.groups.value
    outputs = shape[0] // groups
    if outputs < STEP or (op.trained is not None and is_depthwise(groups, shape)):
        return None
    if element_name(op.w) == "f32" or (op.trained and element_name(op.trained) == "f32"):
        return None
    form = format_of(op, target, outputs)
    return Plan(form, form.pixels, unrolled(form))


def panels_bytes(op: Any, plan: Plan) -> int:
    """The panels of all taps."""
    _, height, width, _ = shape_of(op.w)
    return height * width * plan.panel_bytes


def window_scratch(op: Any, target: Any) -> ScratchWish | None:
    """The panels of one block of columns; nothing at least where they are large."""
    plan = plan_of(op, target)
    if plan is None:
        return None
    size = panels_bytes(op, plan)
    return ScratchWish([size] if size <= WORTH_BYTES else [0, size])


class WindowInputGradient(PointwiseInputGradient):
    """The code of one input gradient."""

    def __init__(self, nest: Nest, op: Any, plan: Plan) -> None:
        super().__init__(nest, op, plan)
        self._two = False
        shape = shape_of(op.w)
        self._taps, self._groups, self._group = shape[1] * shape[2], op.groups.value, 0
        self._strides = geometry(op).strides
        self._axes = vertical, horizontal = axes(op, op.gx, op.g, shape)
        values = [vertical.input, vertical.output, horizontal.input, horizontal.output]
        self._sides = numbers(nest, values)

    def emit(self) -> None:
        """All groups, then the header."""
        for group in self._nest.loop(self._groups):
            self._group = group
            if self._op.trained is not None:
                self._emit_lists()
            else:
                self._emit_ordered()
        self._finish()

    def _ordered(self, nest: Nest, value: Any) -> tuple[Address, int, Scalar, int]:
        """As of a pointwise one, of the first tap of the group; a row is a tap."""
        start, step, row, count = super()._ordered(nest, value)
        outputs = shape_of(self._op.w)[0] // self._groups
        return start + self._group * (outputs * self._taps * count * step), step, row, count

    def _pack(self, panel: Address, sources: list[Address], row: Scalar) -> None:
        """Fill the panels of all taps; `row` is the distance of two taps."""
        below = row * self._taps
        for tap in self._nest.loop(self._taps):
            moved = [source + row * _integer(tap) for source in sources]
            super()._pack(panel + tap * self._plan.panel_bytes, moved, below)

    def _stream(
        self, panel: Address, start: Address, outs: Sequence[Index], adjacent: bool
    ) -> None:
        """All pixels of the input against the panels; results lie `outs` bytes behind `start`."""
        nest, stride = self._nest, self._strides[1]
        start = start + self._group * (shape_of(self._op.w)[3] * 2)
        height, _, width, _ = self._sides
        for line in nest.loop(Span(0, height.as_index())):
            for phase in nest.loop(Span(0, minimum(stride, self._axes[1].input))):

                def pixels(column: Scalar, line: Index = line) -> tuple[Scalar]:
                    return (self._block(panel, start, outs, adjacent, (line, column)),)

                first = number(_integer(phase))
                # Columns of the phase, the first that is behind the image ends it.
                end = (width - first + (stride - 1)) // stride * stride + first
                walk(end, (first,), pixels)

    def _block(
        self,
        panel: Address,
        start: Address,
        outs: Sequence[Index],
        adjacent: bool,
        place: tuple[Index, Scalar],
    ) -> Scalar:
        """A block of neighbours, or one pixel where they do not meet the same taps; the next."""
        block, (stride, horizontal) = self._plan.pixels, (self._strides[1], self._axes[1])
        _, _, width, columns = self._sides

        def emit(count: int) -> tuple[()]:
            self._emit_pixels(panel, start, outs, adjacent, (*place, count))
            return ()

        _, column = place
        if block == 1 or horizontal.input < block * stride:
            emit(1)
            return column + stride
        ahead = column + (block - 1) * stride
        whole = column + horizontal.pad >= horizontal.kernel - stride
        whole = whole & (ahead < width) & (ahead + horizontal.pad < columns * stride)
        self._nest.branch(whole, lambda: emit(block), lambda: emit(1), like=())
        return column + select(whole, number(block * stride), number(stride))

    def _emit_pixels(
        self,
        panel: Address,
        start: Address,
        outs: Sequence[Index],
        adjacent: bool,
        place: tuple[Index, Scalar, int],
    ) -> None:
        """`count` neighbours from a place on, all taps."""
        line, column, count = place
        lanes = len(outs)
        _, rows, width, columns = self._sides
        across, down = self._axes[1], self._axes[0]
        line = number(_integer(line))
        tops = _readers(down, line, rows)
        lefts = _readers(across, column, columns)
        g = self._g + self._group * (self._plan.form.outputs * self._plan.form.bytes)

        def tap(sums: Any, row: Scalar, left: Scalar) -> Sums:
            row, left = row.as_integer(), left.as_integer()
            vertical = line + down.pad - row * down.stride
            horizontal = column + across.pad - left * across.stride
            at = panel + (vertical * across.kernel + horizontal) * self._plan.panel_bytes
            return self._multiply(at, g + (row * columns + left) * self._g_row, sums, lanes)

        sums = self._nest.fold((tops, lefts), (self._half,) * (count * lanes), tap)
        out = start + (line * width + column) * self._gx_row
        for pixel in range(count):
            self._store(out, outs, sums[pixel * lanes : (pixel + 1) * lanes], adjacent)
            out = out + self._gx_row * self._strides[1]


def _readers(axis: Axis, source: Scalar, outputs: Scalar) -> Span:
    """As `Axis.outputs_of_source`, of a size that is an argument."""
    behind = source + axis.pad
    lower = maximum(behind - (axis.kernel - axis.stride), 0) // axis.stride
    upper = minimum(behind // axis.stride + 1, outputs)
    return Span(lower.as_index(), upper.as_index())


def _integer(index: Index) -> Index:
    return index.as_integer() if isinstance(index, Scalar) else index
