"""Quantized convolution, NHWC: any kernel, stride, pads and groups; trained channels; clamp mask.

For each output pixel and block of channels: the product sums over the taps inside the input, input
channels innermost, then bias, requantization and clamp. Padding contributes real zeros, so absent
taps are skipped.

Output rows come one after the other, each whole before the next begins; `Convolution.emit_row` is
what a fused block repeats.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.fixed_point import quantize_multipliers
from tiny_dialect.types import quantization, shape_of
from tiny_targets.kernels.channel_plane import ChannelPlane, Image
from tiny_targets.kernels.masks import put_bits
from tiny_targets.kernels.nest import Buffer, Nest, Span, image_shape
from tiny_targets.kernels.numerics import Requantizer
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index, Scalar, clamp
from tiny_targets.kernels.weights import Overlay, Weight, accumulator_bounds, weights_of
from tiny_targets.kernels.windows import Axis, axes

LANES = 4
"""More accumulators than this would spill: six live ones are the limit on Cortex-M."""

_I32_LIMIT = 2**31

Position = tuple[Index, Index]
Sums = tuple[Scalar, ...]


def first_input(weight: tuple[int, ...], groups: int, output: Index) -> Index:
    """The first input channel that output channel `output` reads."""
    if groups == 1:
        return 0
    return (output // (weight[0] // groups)) * weight[3]


def lanes(weight: tuple[int, ...], groups: int) -> int:
    """Output channels computed side by side: they share a loop, and within a group the input too.

    A block never straddles two groups, nor two bytes of a mask.
    """
    group_outputs = weight[0] // groups
    return LANES if groups == 1 or group_outputs == 1 or group_outputs % LANES == 0 else 1


@dataclass(frozen=True)
class _Accumulation:
    """What the product sums of some outputs need, all but the outputs' position."""

    nest: Nest
    x: Image
    zero: int
    weight: Weight
    overlay: Overlay | None
    vertical: Axis
    horizontal: Axis
    shape: tuple[int, ...]
    groups: int
    wide: bool

    def __call__(self, position: Position, oc: Index, count: int) -> Sums:
        """The sums of all products of `count` channels from `oc` on, at one output position."""
        zeros = ((self.nest.wide(0) if self.wide else self.nest.number(0)),) * count
        overlay = self.overlay
        if overlay is None:
            return self._frozen(zeros, position, oc)
        if not overlay.depthwise:
            return self._trained_inputs(self._frozen(zeros, position, oc), position, oc)
        row = overlay.table[oc]
        return self.nest.branch(
            row >= 0,
            lambda: self._sum(zeros, position, self._inputs(oc, 1), overlay.trained, row),
            lambda: self._frozen(zeros, position, oc),
            like=zeros,
        )

    def _inputs(self, oc: Index, count: int) -> list[Index]:
        """The first input channel of each lane; a single one where all lanes share it."""
        if self.groups > 1 and self.shape[0] == self.groups:
            return [first_input(self.shape, self.groups, oc + j) for j in range(count)]
        return [first_input(self.shape, self.groups, oc)]

    def _frozen(self, start: Sums, position: Position, oc: Index) -> Sums:
        return self._sum(start, position, self._inputs(oc, len(start)), self.weight, oc)

    def _sum(
        self, start: Sums, position: Position, inputs: list[Index], weight: Weight, row: Index
    ) -> Sums:
        """`start` plus the products with the rows of `weight` from `row` on."""

        def add_products(totals: Sums, kh: Index, kw: Index, c: Index) -> Sums:
            values = [self._value(position, kh, kw, first + c) for first in inputs]
            return tuple(
                total + self._product(values[j % len(values)], weight[row + j, kh, kw, c])
                for j, total in enumerate(totals)
            )

        return self.nest.fold((*self._taps(position), self.shape[3]), start, add_products)

    def _trained_inputs(self, start: Sums, position: Position, oc: Index) -> Sums:
        """`start` plus the products of the chosen input channels with their trained weights."""
        assert self.overlay is not None
        trained, channels = self.overlay.trained, self.overlay.table
        inputs = self._inputs(oc, len(start))

        def add_products(totals: Sums, kh: Index, kw: Index, i: Index) -> Sums:
            channel = channels[i].as_index()
            values = [self._value(position, kh, kw, channel + first) for first in inputs]
            return tuple(
                total + self._product(values[j % len(values)], trained[oc + j, kh, kw, i])
                for j, total in enumerate(totals)
            )

        count = len(self.overlay.channels)
        return self.nest.fold((*self._taps(position), count), start, add_products)

    def _taps(self, position: Position) -> tuple[Span, Span]:
        oh, ow = position
        return self.vertical.taps_of_output(oh), self.horizontal.taps_of_output(ow)

    def _value(self, position: Position, kh: Index, kw: Index, channel: Index) -> Scalar:
        oh, ow = position
        ih, iw = self.vertical.source(oh, kh), self.horizontal.source(ow, kw)
        return self.x[ih, iw, channel] - self.zero

    def _product(self, value: Scalar, weight: Scalar) -> Scalar:
        product = value * weight
        return product.as_wide() if self.wide else product


class Convolution:
    """A convolution whose weights and tables are arguments of a nest, emitted row by row."""

    def __init__(self, nest: Nest, op: Any) -> None:
        self._nest = nest
        self._weight_shape, self._groups = shape_of(op.w), op.groups.value
        self.vertical, self.horizontal = axes(op, op.x, op.y, self._weight_shape)
        (scale_x, self._zero_x), (scale_y, self._zero_y) = quantization(op.x), quantization(op.y)
        factors = scale_x * to_array(op.weight_scales) / scale_y
        self._clamp = to_list(op.attributes["clamp"])
        sum_bound, total_bound = accumulator_bounds(op)
        self._wide_sums, self._wide_totals = sum_bound >= _I32_LIMIT, total_bound >= _I32_LIMIT
        self._weight, self._overlay = weights_of(nest, op, self._groups)
        self._bias = nest.read(op.bias)
        self._requantize = Requantizer(nest, *quantize_multipliers(factors))

    def prepare(self) -> None:
        """Nothing comes before the rows."""

    def emit_rows(self, first: Index, count: Index, x: Rows, y: Rows, mask: Buffer | None) -> None:
        """Compute `count` rows, one after the other."""
        for row in self._nest.loop(
            Span(first, first + count, count if isinstance(count, int) else None)
        ):
            self.emit_row(row, x, y, mask)

    def emit_row(self, oh: Index, x: Rows, y: Rows, mask: Buffer | None) -> None:
        """Compute row `oh` of `y`, and of the clamp mask where there is one.

        Of `x` the rows `vertical.taps_of_output(oh)` are read, and no others.
        """
        self.emit_channels(oh, x, y, mask, Span(0, self._weight_shape[0]))

    def emit_channels(
        self, oh: Index, x: Image, y: Rows, mask: Buffer | None, channels: Span
    ) -> None:
        """Some channels of the row, all of them or one."""
        overlay = self._overlay
        depthwise_overlay = overlay is not None and overlay.depthwise
        block = 1 if depthwise_overlay else lanes(self._weight_shape, self._groups)
        accumulate = _Accumulation(
            self._nest, x, self._zero_x, self._weight, overlay, self.vertical, self.horizontal,
            self._weight_shape, self._groups, self._wide_sums,
        )  # fmt: skip
        for ow in self._nest.loop(self.horizontal.output):
            for oc, count in self._blocks(channels, block):
                inside = []
                for j, total in enumerate(accumulate((oh, ow), oc, count)):
                    clamped, unclamped = self._finish(total, oc + j)
                    y[oh, ow, oc + j] = clamped
                    if mask is not None:
                        inside.append(clamped.equals(unclamped))
                if mask is not None:
                    put_bits(self._nest, mask, oh * self.horizontal.output + ow, oc, inside)

    def _blocks(self, channels: Span, size: int) -> Iterable[tuple[Index, int]]:
        if channels.count == 1:
            return [(channels.lower, 1)]
        return self._nest.blocks(channels.trips or 0, size)

    def _finish(self, total: Scalar, channel: Index) -> tuple[Scalar, Scalar]:
        """(the clamped output, the same before the clamp) of one product sum."""
        offset = self._bias[channel]
        if self._wide_totals:
            total, offset = total.as_wide(), offset.as_wide()
        value = self._requantize(total + offset, channel) + self._zero_y
        return clamp(value, *self._clamp), value


def emit_convolution(nest: Nest, op: Any) -> None:
    """`y = clamp(round((sum((x - z_x) w) + bias) * factor) + z_y)`, and the mask of the clamp."""
    x = Rows(nest.read(op.x, image_shape(op.x)))
    convolution = Convolution(nest, op)
    y = Rows(nest.write(op.y, image_shape(op.y)))
    mask = None if op.mask is None else nest.write(op.mask)
    for oh in nest.loop(convolution.vertical.output):
        convolution.emit_row(oh, x, y, mask)


def emit_in_planes(nest: Nest, op: Any) -> None:
    """The same of a depthwise convolution, channel to channel, possibly over its own input."""
    x, convolution = ChannelPlane(nest, op.x), Convolution(nest, op)
    y = Rows(nest.write(op.y, image_shape(op.y)))
    mask = None if op.mask is None else nest.write(op.mask)
    for channel in nest.loop(image_shape(op.x)[2]):
        x.copy(channel)
        for oh in nest.loop(convolution.vertical.output):
            convolution.emit_channels(oh, x, y, mask, Span.one(channel))
