"""Float32 gradients of a pointwise convolution as blocks of products: of its input, its weight.

Input gradient: `gx[p, c] = sum_o g[p, o] (w[o, c] scales[o])`. For a block of input channels a
panel of weights is converted once, for all pixels; then the pixels stream past it. Where scratch
memory is short the panel holds a piece of the depth, and the sums wait in the result.

Weight gradient: `gw[o, c] = sum_p g[p, o] (x[p, c] - z)`. For a block of input channels a panel of
inputs is converted once, for all output channels; each finished sum is handed over, to be stored or
applied, and touched no more.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.ops import Conv2DInputGrad, Conv2DWeightGrad, Conv2DWeightUpdate
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import quantization, shape_of
from tiny_passes.overwriting import PLANES, ROWS, traversal_of
from tiny_targets.kernels.address import (
    ANY_SIZE,
    ELEMENT_BYTES,
    Address,
    Elements,
    address_of,
    walk,
)
from tiny_targets.kernels.depthwise_gradient import (
    depthwise_gradient_scratch,
)
from tiny_targets.kernels.float_blocks import (
    BLOCK_ROWS,
    COLUMNS,
    FLOAT_BYTES,
    Sums,
    Walker,
    in_blocks,
    multiply,
    unroll_of,
)
from tiny_targets.kernels.gradients import conv2d_input_grad, conv2d_weight_grad
from tiny_targets.kernels.nest import Nest, Span
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, minimum, number, real, select
from tiny_targets.kernels.scratch import ScratchWish, register_scratch, scratch_of
from tiny_targets.kernels.updates import conv2d_weight_update, subtract_step
from tiny_targets.kernels.weight_rows import WeightRows
from tiny_targets.kernels.weights import frozen_part

_PIECE = 16
"""Depth of the smallest panel."""

_MOST_INPUT_BYTES = 4096
"""Of a panel of inputs; the general kernel converts them anew for every block."""


def _is_pointwise(op: Any, weight: tuple[int, ...]) -> bool:
    geo = geometry(op)
    plain = geo.strides == (1, 1) and not any(geo.pads) and geo.groups == 1
    return weight[1:3] == (1, 1) and plain


# --- input gradient


@register_scratch(Conv2DInputGrad)
def input_gradient_scratch(op: Any, target: Any) -> ScratchWish | None:
    """A panel of weights: the whole depth, or a piece."""
    shape = shape_of(op.w)
    if not target.has("fpu"):
        return None
    if not _is_pointwise(op, shape) or traversal_of(op) == PLANES:
        return None if traversal_of(op) == ROWS else depthwise_gradient_scratch(op, target)
    column = COLUMNS * FLOAT_BYTES
    pieces = {min(shape[0], n) for n in (_PIECE, 2 * _PIECE, 4 * _PIECE, 8 * _PIECE, shape[0])}
    return ScratchWish([depth * column for depth in sorted(pieces)])


@register_kernel(Conv2DInputGrad, traversals=(ROWS, PLANES))
def input_gradient(nest: Nest, op: Any, target: Any) -> None:
    """Blocks of products for a pointwise op with scratch memory, else the general kernel."""
    piece = scratch_of(op) // (COLUMNS * FLOAT_BYTES)
    blocked = input_gradient_scratch(op, target) is not None and _is_pointwise(op, shape_of(op.w))
    if not blocked or traversal_of(op) == PLANES or piece < min(_PIECE, shape_of(op.w)[0]):
        conv2d_input_grad(nest, op, target)
        return
    _InputGradient(nest, op, piece).emit()


class _InputGradient:
    """The input gradient of one pointwise convolution."""

    def __init__(self, nest: Nest, op: Any, piece: int) -> None:
        outputs, _, _, inputs = shape_of(op.w)
        _, height, columns, _ = shape_of(op.g)
        # Row by row the result may overwrite rows of g that have been read.
        self._tiled = traversal_of(op) == ROWS and height > 1
        tile = columns if self._tiled else height * columns
        self._known_tile, self._known_inputs = tile, inputs
        self._whole = piece >= outputs
        piece = outputs if self._whole else piece // _PIECE * _PIECE
        self._unroll = unroll_of(outputs)
        table = nest.read(np.array([height * columns, outputs, inputs, piece, tile], np.int32))
        self._pixels, self._outputs, self._inputs, self._piece, self._tile = (
            table[i] for i in range(5)
        )
        self._g = address_of(nest.read(op.g, ANY_SIZE))
        self._gx = address_of(nest.write(op.gx, ANY_SIZE))
        self._scales = address_of(nest.read(to_array(op.scales), ANY_SIZE))
        self._frozen = WeightRows(nest, frozen_part(op), self._inputs)
        self._trained = None if op.trained is None else _TrainedColumns(nest, op)
        self._panel = address_of(nest.scratch(ANY_SIZE, "i8"))

    def emit(self) -> None:
        """Compute all pixels."""
        if not self._tiled:
            self._emit_tile(self._g, self._gx)
            return

        def tile(first: Scalar) -> tuple[Scalar]:
            g = self._g + first * self._outputs * FLOAT_BYTES
            self._emit_tile(g, self._gx + first * self._inputs * FLOAT_BYTES)
            return (first + self._tile,)

        walk(self._pixels, (number(0),), tile)

    def _emit_tile(self, g: Address, gx: Address) -> None:
        def channels(first: Scalar, lanes: int) -> None:
            self._channels(g, gx + first * FLOAT_BYTES, first, lanes)

        in_blocks(self._inputs, COLUMNS, self._known_inputs, channels)

    def _channels(self, g: Address, gx: Address, first: Scalar, lanes: int) -> None:
        """`lanes` input channels from `first` on, for all pixels of the tile."""
        if self._whole:
            end = self._fill(number(0), self._outputs, first, lanes)
            self._pixel_blocks(g, gx, lanes, end, lambda _: real(0.0))
            return

        def piece(start: Scalar) -> tuple[Scalar]:
            count = minimum(self._piece, self._outputs - start)
            end = self._fill(start, count, first, lanes)
            is_first = start.equals(0)

            def earlier(place: Address) -> Scalar:
                # Before the first piece the result holds anything.
                return select(is_first, real(0.0), place.load("f32"))

            self._pixel_blocks(g + start * FLOAT_BYTES, gx, lanes, end, earlier)
            return (start + count,)

        walk(self._outputs, (number(0),), piece)

    def _fill(self, start: Scalar, count: Index, first: Scalar, lanes: int) -> Address:
        """The panel `[output][lane]` of scaled weights; its end."""
        row_bytes = lanes * FLOAT_BYTES
        end = self._panel + count * row_bytes
        weights, scales = self._frozen, self._scales + start * FLOAT_BYTES

        def row(at: Address, source: Address, scale: Address) -> tuple[Address, ...]:
            factor = scale.load("f32")
            for lane in range(lanes):
                value = weights.real(source + lane * weights.stride)
                (at + FLOAT_BYTES * lane).store(value * factor, "f32")
            return at + row_bytes, source + weights.row_bytes, scale + FLOAT_BYTES

        walk(end, (self._panel, weights.at(start, first), scales), row)
        if self._trained is not None:
            self._trained.write(self._panel, end, (start, first), row_bytes, scales)
        return end

    def _pixel_blocks(
        self, g: Address, gx: Address, lanes: int, end: Address,
        earlier: Callable[[Address], Scalar],
    ) -> None:  # fmt: skip
        """Multiply a filled panel with all pixels of the tile."""

        def block(first: Scalar, rows: int) -> None:
            stride = self._outputs * FLOAT_BYTES
            start, line = g + first * stride, gx + first * (self._inputs * FLOAT_BYTES)
            left = Walker(tuple(start + stride * row for row in range(rows)), rows, FLOAT_BYTES)
            right = Walker((self._panel,), lanes, lanes * FLOAT_BYTES)
            places = [
                line + self._inputs * (FLOAT_BYTES * row) + FLOAT_BYTES * lane
                for row in range(rows)
                for lane in range(lanes)
            ]
            sums = tuple(earlier(place) for place in places)
            sums = multiply(left, right, sums, end, self._unroll)
            for place, total in zip(places, sums, strict=True):
                place.store(total, "f32")

        in_blocks(self._tile, BLOCK_ROWS, self._known_tile, block)


class _TrainedColumns:
    """The trained input channels of a partly trained weight, written over a panel."""

    def __init__(self, nest: Nest, op: Any) -> None:
        channels = to_list(op.attributes["trained_channels"])
        limits = range(0, shape_of(op.w)[3] + COLUMNS, COLUMNS)
        starts = [sum(channel < limit for channel in channels) for limit in limits]
        self._nest = nest
        self._starts = address_of(nest.read(np.array(starts, np.int32), ANY_SIZE))
        self._channels = address_of(nest.read(np.array(channels, np.int32), ANY_SIZE))
        count = nest.read(np.array([len(channels)], np.int32))[0]
        self._weights = WeightRows(nest, op.trained, count)

    def write(
        self, panel: Address, end: Address, corner: tuple[Scalar, Scalar], row_bytes: int,
        scales: Address,
    ) -> None:  # fmt: skip
        """Write the trained ones of the panel's columns; `corner` is its first output and input."""
        start, first = corner
        block = self._starts + first // COLUMNS * 4
        bounds = Span(block.load("i32").as_index(), (block + 4).load("i32").as_index())
        for i in self._nest.loop(bounds):
            chosen = i.as_integer()
            lane = (self._channels + chosen * 4).load("i32") - first

            def element(at: Address, source: Address, scale: Address) -> tuple[Address, ...]:
                at.store(self._weights.real(source) * scale.load("f32"), "f32")
                return at + row_bytes, source + self._weights.row_bytes, scale + FLOAT_BYTES

            offset = lane * FLOAT_BYTES
            walk(end + offset, (panel + offset, self._weights.at(start, chosen), scales), element)


# --- weight gradient


@register_scratch(Conv2DWeightUpdate)
def weight_update_scratch(op: Any, target: Any) -> ScratchWish | None:
    """A panel of inputs for all pixels, where that is not much."""
    return _weight_scratch(op, shape_of(op.parameter), target)


@register_scratch(Conv2DWeightGrad)
def weight_gradient_scratch(op: Any, target: Any) -> ScratchWish | None:
    """A panel of inputs for all pixels, where that is not much."""
    return _weight_scratch(op, shape_of(op.gw), target)


def _weight_scratch(op: Any, weight: tuple[int, ...], target: Any) -> ScratchWish | None:
    if not target.has("fpu") or not _is_pointwise(op, weight):
        return None
    size = prod(shape_of(op.g)[1:3]) * COLUMNS * FLOAT_BYTES
    return ScratchWish([size]) if size <= _MOST_INPUT_BYTES else None


def _has_panel(wish: ScratchWish | None, op: Any) -> bool:
    return wish is not None and scratch_of(op) >= wish.sizes[0]


@register_kernel(Conv2DWeightGrad)
def weight_gradient(nest: Nest, op: Any, target: Any) -> None:
    """Blocks of products for a pointwise op with scratch memory, else the general kernel."""
    if not _has_panel(weight_gradient_scratch(op, target), op):
        conv2d_weight_grad(nest, op, target)
        return
    scales = address_of(nest.read(to_array(op.scales), ANY_SIZE))
    result = address_of(nest.write(op.gw, ANY_SIZE))

    def store(place: Address, gradient: Scalar, scale: Scalar) -> None:
        place.store(gradient * scale, "f32")

    _weight_sums(nest, op, shape_of(op.gw), result, FLOAT_BYTES, scales, store)


@register_kernel(Conv2DWeightUpdate)
def weight_update(nest: Nest, op: Any, target: Any) -> None:
    """Blocks of products for a pointwise op with scratch memory, else the general kernel."""
    if not _has_panel(weight_update_scratch(op, target), op):
        conv2d_weight_update(nest, op, target)
        return
    parameter = nest.update(op.parameter, ANY_SIZE)
    factors = address_of(nest.read(to_array(op.factors), ANY_SIZE))
    rate = nest.read(op.rate)[()]
    elements = Elements(parameter.element)

    def apply(place: Address, gradient: Scalar, factor: Scalar) -> None:
        subtract_step(elements, place, gradient * (factor * rate))

    stride = ELEMENT_BYTES[parameter.element]
    base = address_of(parameter)
    _weight_sums(nest, op, shape_of(op.parameter), base, stride, factors, apply)


def _weight_sums(
    nest: Nest,
    op: Any,
    shape: tuple[int, ...],
    result: Address,
    stride: int,
    factors: Address,
    consume: Callable[[Address, Scalar, Scalar], None],
) -> None:
    """`consume(place, gradient, factors[o])` once for every element of a weight gradient.

    The elements lie `stride` bytes apart from `result` on.
    """
    outputs, _, _, inputs = shape
    pixels = prod(shape_of(op.g)[1:3])
    _, known_zero = quantization(op.x)
    table = nest.read(np.array([pixels, outputs, inputs, known_zero], np.int32))
    depth, height, width, zero = (table[i] for i in range(4))
    x, g = (address_of(nest.read(value, ANY_SIZE)) for value in (op.x, op.g))
    panel = address_of(nest.scratch(ANY_SIZE, "i8"))

    def channels(first: Scalar, lanes: int) -> None:
        end = panel + depth * (lanes * FLOAT_BYTES)

        def pixel(at: Address, source: Address) -> tuple[Address, Address]:
            for lane in range(lanes):
                value = (source + lane).load("i8") - zero
                (at + FLOAT_BYTES * lane).store(value.as_float(), "f32")
            return at + lanes * FLOAT_BYTES, source + width

        walk(end, (panel, x + first), pixel)

        def block(row: Scalar, rows: int) -> None:
            left = Walker((g + row * FLOAT_BYTES,), rows, height * FLOAT_BYTES)
            right = Walker((panel,), lanes, lanes * FLOAT_BYTES)
            sums: Sums = (real(0.0),) * (rows * lanes)
            sums = multiply(left, right, sums, end, unroll_of(pixels))
            line = result + (row * width + first) * stride
            for i in range(rows):
                factor = (factors + (row + i) * FLOAT_BYTES).load("f32")
                for j in range(lanes):
                    place = line + width * (i * stride) + j * stride
                    consume(place, sums[i * lanes + j], factor)

        in_blocks(height, BLOCK_ROWS, outputs, block)

    in_blocks(width, COLUMNS, inputs, channels)
