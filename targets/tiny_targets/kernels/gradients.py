"""Gradients of convolutions: input, weight, bias. Float32, one sequential sum for each element.

The input gradient gathers: each element is summed over the outputs that read it and written once.
The weight gradient sums over the pixels a tap meets; stored or applied, it is the same loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.ops import BiasGrad, Conv2DInputGrad, Conv2DWeightGrad
from tiny_dialect.types import quantization, shape_of
from tiny_passes.overwriting import PLANES, ROWS, traversal_of
from tiny_targets.kernels.convolution import Sums, axes, first_input
from tiny_targets.kernels.depthwise_gradient import emit_depthwise_gradient
from tiny_targets.kernels.elementwise import by_pixel
from tiny_targets.kernels.gradient_planes import input_gradient_in_planes
from tiny_targets.kernels.nest import Buffer, Nest, Span
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar
from tiny_targets.kernels.weights import Overlay, Weight, weights_of
from tiny_targets.kernels.windows import Axis, as_one_row

_COLUMNS, _PIXELS = 4, 4
"""Input gradients summed at once, channels by pixels of a pointwise convolution: the conversion of
a weight, the dearest part of a product, serves all pixels."""

_ROWS, _WEIGHT_COLUMNS = 4, 2
"""Weight elements summed at once, output by input channels: the conversion of an input, the dearest
part of a product, serves a whole column."""


Reader = Callable[[Index, Index, Index, int], Scalar]


@dataclass(frozen=True)
class _InputGradient:
    """Sums over outputs for a block of pixels by input channels."""

    nest: Nest
    g: Buffer
    scales: Buffer
    vertical: Axis
    horizontal: Axis

    def __call__(
        self, totals: Sums, place: tuple[Index, Index, int], outputs: Span, read: Reader
    ) -> Sums:
        """`totals` plus the sums of `g[oh, ow, oc] scales[oc] read(oc, kh, kw, j)`.

        `place` is row, first column and count of the pixels, more than one only where each is read
        by a single output. Lanes are ordered pixel by channel j.
        """
        h, w, pixels = place
        width = len(totals) // pixels

        def add_products(sums: Sums, oh: Index, ow: Index, oc: Index) -> Sums:
            scale = self.scales[oc]
            gradients = [self.g[oh, ow + i, oc] * scale for i in range(pixels)]
            kh, kw = self.vertical.tap(oh, h), self.horizontal.tap(ow, w)
            values = [read(oc, kh, kw, j) for j in range(width)]
            return tuple(
                total + gradients[lane // width] * values[lane % width]
                for lane, total in enumerate(sums)
            )

        spans = (self.vertical.outputs_of_source(h), self.horizontal.outputs_of_source(w), outputs)
        return self.nest.fold(spans, totals, add_products)


@register_kernel(Conv2DInputGrad, traversals=(ROWS, PLANES))
def conv2d_input_grad(nest: Nest, op: Any, target: Any) -> None:
    """`gx = conv_transpose(w, g * scales)`, with trained weights in place of frozen ones."""
    if traversal_of(op) != ROWS and emit_depthwise_gradient(nest, op, target):
        return
    shape, groups = shape_of(op.w), op.groups.value
    vertical, horizontal = axes(op, op.gx, op.g, shape)
    if traversal_of(op) == PLANES:
        input_gradient_in_planes(nest, op, vertical, horizontal)
        return
    if traversal_of(op) != ROWS:
        vertical, horizontal = as_one_row(vertical, horizontal)
    pointwise = vertical.pointwise and horizontal.pointwise
    g = nest.read(op.g, (vertical.output, horizontal.output, shape[0]))
    weight, overlay = weights_of(nest, op, groups)
    scales = nest.read(to_array(op.scales))
    gx = nest.write(op.gx, (vertical.input, horizontal.input, shape[3] * groups))
    pixels = _PIXELS if pointwise else 1
    gather = _InputGradient(nest, g, scales, vertical, horizontal)
    if overlay is None and shape[0] == groups and shape[3] == 1:
        _one_to_one(gather, weight, gx)
        return
    for h in nest.loop(vertical.input):
        for w, count in nest.blocks(horizontal.input, pixels):
            for group in nest.loop(groups):
                outputs = _outputs_of_group(group, shape[0] // groups)
                _group(gather, (h, w, count), outputs, weight, overlay, gx, group, shape[3])


def _outputs_of_group(group: Index, count: int) -> Span:
    return Span(group * count, group * count + count, count)


def _group(
    gather: _InputGradient,
    place: tuple[Index, Index, int],
    outputs: Span,
    weight: Weight,
    overlay: Overlay | None,
    gx: Buffer,
    group: Index,
    channels: int,
) -> None:
    """Write the `channels` input channels of one group."""
    nest, (h, w, pixels) = gather.nest, place
    base, zero = group * channels, nest.real(0.0)
    for first, size in nest.blocks(channels, _COLUMNS):
        zeros = (zero,) * (pixels * size)
        sums = _group_sums(gather, zeros, place, outputs, weight, overlay, first)
        for lane, total in enumerate(sums):
            gx[h, w + lane // size, base + first + lane % size] = total
    if overlay is None or overlay.depthwise:
        return
    for j in nest.loop(len(overlay.channels)):

        def trained(oc: Index, kh: Index, kw: Index, _: int, j: Index = j) -> Scalar:
            return overlay.trained.real((oc, kh, kw, j))

        # The frozen table holds zeros here: what was written above is replaced.
        channel = overlay.table[j].as_index() + base
        for i, total in enumerate(gather((zero,) * pixels, place, outputs, trained)):
            gx[h, w + i, channel] = total


def _group_sums(
    gather: _InputGradient,
    zeros: Sums,
    place: tuple[Index, Index, int],
    outputs: Span,
    weight: Weight,
    overlay: Overlay | None,
    first: Index,
) -> Sums:
    """The sums of the channels from `first` on, over the outputs of one group."""

    def frozen(oc: Index, kh: Index, kw: Index, j: int) -> Scalar:
        return weight.real((oc, kh, kw, first + j))

    if overlay is None or not overlay.depthwise:
        return gather(zeros, place, outputs, frozen)

    def add_output(sums: Sums, oc: Index) -> Sums:
        row, one = overlay.table[oc], Span.one(oc)

        def trained(_: Index, kh: Index, kw: Index, j: int) -> Scalar:
            return overlay.trained.real((row, kh, kw, j))

        return gather.nest.branch(
            row >= 0,
            lambda: gather(sums, place, one, trained),
            lambda: gather(sums, place, one, frozen),
            like=zeros,
        )

    return gather.nest.fold((outputs,), zeros, add_output)


def _one_to_one(gather: _InputGradient, weight: Weight, gx: Buffer) -> None:
    """Each channel has its own output channel: a block of channels shares the loops."""
    nest, g = gather.nest, gather.g
    height, width, channels = gx.shape
    for h in nest.loop(height):
        for w in nest.loop(width):
            spans = gather.vertical.outputs_of_source(h), gather.horizontal.outputs_of_source(w)
            for first, size in nest.blocks(channels, _COLUMNS):

                def add_products(
                    sums: Sums, oh: Index, ow: Index,
                    h: Index = h, w: Index = w, first: Index = first,
                ) -> Sums:  # fmt: skip
                    tap = gather.vertical.tap(oh, h), gather.horizontal.tap(ow, w)
                    return tuple(
                        total + g[oh, ow, first + j] * weight.real((first + j, *tap, 0))
                        for j, total in enumerate(sums)
                    )

                sums = nest.fold(spans, (nest.real(0.0),) * size, add_products)
                for j, total in enumerate(sums):
                    gx[h, w, first + j] = total * gather.scales[first + j]


@dataclass(frozen=True)
class _WeightSums:
    """Sums over pixels for a block of weight elements of one tap."""

    nest: Nest
    x: Buffer
    zero: int
    g: Buffer
    vertical: Axis
    horizontal: Axis

    def __call__(
        self, tap: tuple[Index, Index], columns: list[Index], inputs: list[list[Index]]
    ) -> list[Sums]:
        """`sum g[oh, ow, columns[i]] (x[ih, iw, inputs[i][j]] - z)` over pixels, by i and j.

        A single row of `inputs` serves all columns.
        """
        kh, kw = tap
        width = len(inputs[0])

        def add_products(sums: Sums, oh: Index, ow: Index) -> Sums:
            gradients = [self.g[oh, ow, column] for column in columns]
            ih, iw = self.vertical.source(oh, kh), self.horizontal.source(ow, kw)
            values = [
                [(self.x[ih, iw, channel] - self.zero).as_float() for channel in row]
                for row in inputs
            ]
            return tuple(
                total + gradients[lane // width] * values[lane // width % len(values)][lane % width]
                for lane, total in enumerate(sums)
            )

        zeros = (self.nest.real(0.0),) * (len(columns) * width)
        pixels = self.vertical.outputs_of_tap(kh), self.horizontal.outputs_of_tap(kw)
        sums = self.nest.fold(pixels, zeros, add_products)
        return [sums[start : start + width] for start in range(0, len(sums), width)]


def weight_gradients(
    nest: Nest,
    op: Any,
    shape: tuple[int, ...],
    begin: Callable[[Index], Any],
    consume: Callable[[Any, tuple[Index, ...], Scalar], None],
) -> None:
    """Compute every element of a weight gradient once and hand it over.

    For each output channel `row = begin(oc)`; then `consume(row, (oc, kh, kw, c), gradient)` with
    the unscaled `sum g[oh, ow, oc] (x[ih, iw, c] - z_x)`, pixels in order.
    """
    _, zero_x = quantization(op.x)
    groups = op.groups.value
    vertical, horizontal = as_one_row(*axes(op, op.x, op.g, shape))
    x = nest.read(op.x, (vertical.input, horizontal.input, shape_of(op.x)[3]))
    g = nest.read(op.g, (vertical.output, horizontal.output, shape_of(op.g)[3]))
    chosen = None
    if "output_channels" in op.attributes:
        chosen = nest.read(np.array(to_list(op.attributes["output_channels"]), np.int16))
    sums = _WeightSums(nest, x, zero_x, g, vertical, horizontal)

    for oc, rows in nest.blocks(shape[0], _ROWS):
        state = [begin(oc + i) for i in range(rows)]
        columns = [oc + i if chosen is None else chosen[oc + i].as_index() for i in range(rows)]
        bases = [first_input(shape, groups, oc + i) for i in range(1 if groups == 1 else rows)]
        for kh in nest.loop(shape[1]):
            for kw in nest.loop(shape[2]):
                for c, width in nest.blocks(shape[3], _WEIGHT_COLUMNS):
                    inputs = [[base + (c + j) for j in range(width)] for base in bases]
                    for i, row in enumerate(sums((kh, kw), columns, inputs)):
                        for j, gradient in enumerate(row):
                            consume(state[i], (oc + i, kh, kw, c + j), gradient)


@register_kernel(Conv2DWeightGrad)
def conv2d_weight_grad(nest: Nest, op: Any, target: Any) -> None:
    """`gw = scales * corr(x - z_x, g)`."""
    scales, gw = nest.read(to_array(op.scales)), nest.write(op.gw)

    def store(scale: Scalar, indices: tuple[Index, ...], gradient: Scalar) -> None:
        gw[indices] = gradient * scale

    weight_gradients(nest, op, shape_of(op.gw), lambda oc: scales[oc], store)


def channel_sums(nest: Nest, g: Buffer, consume: Callable[[Index, Scalar], None]) -> None:
    """`consume(c, sum over pixels of g[:, c])` for every channel, pixels in order."""
    pixels, channels = g.shape
    for c in nest.loop(channels):

        def add_value(total: Scalar, pixel: Index, c: Index = c) -> Scalar:
            return total + g[pixel, c]

        consume(c, nest.fold((pixels,), nest.real(0.0), add_value))


@register_kernel(BiasGrad)
def bias_grad(nest: Nest, op: Any, target: Any) -> None:
    """`gb[c] = scales[c] * sum g[..., c]`."""
    g, scales = nest.read(op.g, by_pixel(op.g)), nest.read(to_array(op.scales))
    gb = nest.write(op.gb)

    def store(c: Index, total: Scalar) -> None:
        gb[c] = total * scales[c]

    channel_sums(nest, g, store)
