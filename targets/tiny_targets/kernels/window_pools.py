"""Maximum and average over windows, means over axes, and the gradients of all of them.

A gradient is gathered: each pixel of the input sums over the windows that hold it, so nothing has
to be cleared first. Only taps inside the input are visited; padding costs nothing.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.block_float import MANTISSA_BITS
from tiny_dialect.fixed_point import quantize_multiplier
from tiny_dialect.ops import (
    AveragePool2D,
    AveragePool2DGrad,
    IntegerPool2DGrad,
    MaxPool2D,
    MaxPool2DGrad,
    Mean,
)
from tiny_dialect.ops.pooling import index_element, mean_count, mean_factor, window_of
from tiny_dialect.semantics.pooling import valid_counts
from tiny_dialect.types import quantization, shape_of
from tiny_targets.kernels.address import address_of
from tiny_targets.kernels.integer_header import EXPONENT, Result, limit_mantissa, round_shift
from tiny_targets.kernels.masks import as_i32, write_masked
from tiny_targets.kernels.nest import Buffer, Nest, Span, image_shape
from tiny_targets.kernels.numerics import rounding_shift
from tiny_targets.kernels.primitives import Primitives, primitives_of
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, clamp, select
from tiny_targets.kernels.windows import Axis

_WORD = 4
_EVERY_BYTE = 0x01010101


def _axes(op: Any, source: Any, output: Any) -> tuple[Axis, Axis]:
    """The vertical and the horizontal axis of the windows over `source`."""
    window = window_of(op)
    (height, width, _), (rows, columns, _) = image_shape(source), image_shape(output)
    return (
        Axis(height, rows, window.kernel[0], window.strides[0], window.pads[0]),
        Axis(width, columns, window.kernel[1], window.strides[1], window.pads[1]),
    )


@register_kernel(MaxPool2D)
def max_pool2d(nest: Nest, op: Any, target: Any) -> None:
    """The largest value of each window and, where it is asked for, its first tap."""
    _MaxPool(nest, op, primitives_of(target)).emit()


class _MaxPool:
    """One output pixel at a time: four channels a word where the core compares bytes, then one."""

    def __init__(self, nest: Nest, op: Any, core: Primitives) -> None:
        self._nest, self._core = nest, core
        self._vertical, self._horizontal = _axes(op, op.x, op.y)
        self._x = nest.read(op.x, image_shape(op.x))
        self._y = nest.write(op.y, image_shape(op.y))
        indexed = op.argmax is not None
        self._taps = nest.write(op.argmax, image_shape(op.y)) if indexed else None

    def emit(self) -> None:
        """All pixels."""
        channels = self._y.shape[2]
        words = channels // _WORD * _WORD if self._by_words else 0
        for oh in self._nest.loop(self._vertical.output):
            for ow in self._nest.loop(self._horizontal.output):
                spans = (self._vertical.taps_of_output(oh), self._horizontal.taps_of_output(ow))
                if words:
                    for c in self._nest.loop(Span(0, words), _WORD):
                        self._word(oh, ow, c, spans)
                if words < channels:
                    for c in self._nest.loop(Span(words, channels)):
                        self._element(oh, ow, c, spans)

    @property
    def _by_words(self) -> bool:
        bytes_only = self._taps is None or self._taps.element == "i8"
        return bytes_only and self._core.has_bytewise_select and self._core.unaligned_words

    def _tap(self, kh: Index, kw: Index) -> Scalar:
        return as_i32(self._nest, kh * self._horizontal.kernel + kw)

    def _word(self, oh: Index, ow: Index, c: Index, spans: tuple[Span, Span]) -> None:
        """Four channels from `c` on. What is chosen first is the first tap inside the input."""
        x = address_of(self._x)
        _, width, channels = self._x.shape

        def load(kh: Index, kw: Index) -> Scalar:
            row, column = self._vertical.source(oh, kh), self._horizontal.source(ow, kw)
            # Volatile: neighbours must not become one load that asks for an aligned address.
            return (x + ((row * width + column) * channels + c)).load("i32", volatile=True)

        def larger(best: tuple[Scalar, ...], kh: Index, kw: Index) -> tuple[Scalar, ...]:
            others = [(self._tap(kh, kw) * _EVERY_BYTE, kept) for kept in best[1:]]
            return self._core.select_larger(load(kh, kw), best[0], others)

        first = tuple(span.lower for span in spans)
        start = [load(*first)]
        if self._taps is not None:
            start.append(self._tap(*first) * _EVERY_BYTE)
        found = self._nest.fold(spans, tuple(start), larger)
        place = (oh * self._horizontal.output + ow) * channels + c
        (address_of(self._y) + place).store(found[0], "i32", volatile=True)
        if self._taps is not None:
            (address_of(self._taps) + place).store(found[1], "i32", volatile=True)

    def _element(self, oh: Index, ow: Index, c: Index, spans: tuple[Span, Span]) -> None:
        """Channel `c`."""
        start = (self._nest.number(-129), self._nest.number(0))

        def larger(best: tuple[Scalar, ...], kh: Index, kw: Index) -> tuple[Scalar, ...]:
            value = self._x[self._vertical.source(oh, kh), self._horizontal.source(ow, kw), c]
            better = value > best[0]
            chosen = select(better, value, best[0])
            return chosen, *(select(better, self._tap(kh, kw), tap) for tap in best[1:])

        found = self._nest.fold(spans, start if self._taps is not None else start[:1], larger)
        self._y[oh, ow, c] = found[0]
        if self._taps is not None:
            self._taps[oh, ow, c] = found[1]


@register_kernel(AveragePool2D)
def average_pool2d(nest: Nest, op: Any, target: Any) -> None:
    """The mean of the valid elements of each window, half away from zero."""
    vertical, horizontal = _axes(op, op.x, op.y)
    x, y = nest.read(op.x, image_shape(op.x)), nest.write(op.y, image_shape(op.y))
    counts = nest.read(valid_counts(window_of(op), shape_of(op.x))[..., 0].astype(np.int32))
    for oh in nest.loop(vertical.output):
        for ow in nest.loop(horizontal.output):
            spans = (vertical.taps_of_output(oh), horizontal.taps_of_output(ow))
            count = counts[oh, ow]
            for c in nest.loop(image_shape(op.x)[2]):

                def add_value(
                    total: Scalar, kh: Index, kw: Index, c: Index = c,
                    oh: Index = oh, ow: Index = ow,
                ) -> Scalar:  # fmt: skip
                    return total + x[vertical.source(oh, kh), horizontal.source(ow, kw), c]

                total = nest.fold(spans, nest.number(0), add_value)
                negative = total < 0
                size = select(negative, 0 - total, total)
                rounded = (size * 2 + count) // (count * 2)
                y[oh, ow, c] = select(negative, 0 - rounded, rounded)


@register_kernel(Mean)
def mean(nest: Nest, op: Any, target: Any) -> None:
    """The sum over whole axes without zero points, rescaled with one rounding, clamped."""
    (height, width, channels), (rows, columns, _) = image_shape(op.x), image_shape(op.y)
    (_, zero_x), (_, zero_y) = quantization(op.x), quantization(op.y)
    multiplier, shift = quantize_multiplier(mean_factor(op))
    low_high = to_list(op.attributes["clamp"])
    # As an argument, so that means of one shape share the code.
    table = nest.read(np.array([multiplier, shift, mean_count(op) * zero_x, zero_y], np.int32))
    x, y = nest.read(op.x, image_shape(op.x)), nest.write(op.y, image_shape(op.y))
    mask = None if op.mask is None else nest.write(op.mask)
    for row in nest.loop(rows):
        for column in nest.loop(columns):
            spans = (
                Span(0, height) if rows == 1 else Span.one(row),
                Span(0, width) if columns == 1 else Span.one(column),
            )

            def output(
                c: Index, row: Index = row, column: Index = column, spans: Any = spans
            ) -> Scalar:
                def add_value(total: Scalar, h: Index, w: Index) -> Scalar:
                    return total + x[h, w, c]

                total = nest.fold(spans, nest.number(0), add_value) - table[2]
                product = total.as_wide() * table[0].as_wide()
                value = rounding_shift(nest, product, table[1]) + table[3].as_wide()
                clamped = clamp(value, *low_high)
                y[row, column, c] = clamped
                return clamped.equals(value)

            write_masked(nest, channels, mask, row * columns + column, output)


class _Gathering:
    """Sums over the windows that hold a pixel, of all of them or of those it was the largest of."""

    def __init__(self, nest: Nest, op: Any) -> None:
        self._nest = nest
        self._vertical, self._horizontal = _axes(op, op.gx, op.g)
        self.size = image_shape(op.gx)
        self._g = nest.read(op.g, image_shape(op.g))
        self._taps: Buffer | None = None
        if getattr(op, "argmax", None) is not None:
            self._taps = nest.read(op.argmax, image_shape(op.g))
            assert self._taps.element == index_element(window_of(op))

    def sum(self, h: Index, w: Index, c: Index, zero: Scalar, counts: Buffer | None) -> Scalar:
        """The sum for pixel (h, w, c), each term times the factor of its window in `counts`."""
        vertical, horizontal = self._vertical, self._horizontal
        spans = (vertical.outputs_of_source(h), horizontal.outputs_of_source(w))

        def add_window(total: Scalar, oh: Index, ow: Index) -> Scalar:
            term = self._g[oh, ow, c]
            if counts is not None:
                term = term * counts[oh, ow]
            if self._taps is None:
                return total + term
            tap = vertical.tap(oh, h) * horizontal.kernel + horizontal.tap(ow, w)
            own = self._taps[oh, ow, c].equals(as_i32(self._nest, tap))
            return total + select(own, term, 0.0 if term.is_float else 0)

        return self._nest.fold(spans, zero, add_window)

    def emit(self, gx: Buffer, counts: Buffer | None) -> None:
        """Write every pixel's float sum."""
        height, width, channels = self.size
        for h in self._nest.loop(height):
            for w in self._nest.loop(width):
                for c in self._nest.loop(channels):
                    gx[h, w, c] = self.sum(h, w, c, self._nest.real(0.0), counts)


@register_kernel(MaxPool2DGrad)
def max_pool2d_grad(nest: Nest, op: Any, target: Any) -> None:
    """The gradient of each window at its largest value."""
    gathering = _Gathering(nest, op)
    gathering.emit(nest.write(op.gx, image_shape(op.gx)), None)


@register_kernel(AveragePool2DGrad)
def average_pool2d_grad(nest: Nest, op: Any, target: Any) -> None:
    """The gradient of each window times the float32 reciprocal of its count."""
    counts = np.maximum(valid_counts(window_of(op), shape_of(op.gx))[..., 0], 1)
    gathering = _Gathering(nest, op)
    shares = nest.read((1.0 / counts).astype(np.float32))
    gathering.emit(nest.write(op.gx, image_shape(op.gx)), shares)


@register_kernel(IntegerPool2DGrad)
def integer_pool2d_grad(nest: Nest, op: Any, target: Any) -> None:
    """Sums of mantissas in 32 bits, shifted into i16."""
    core, shift = primitives_of(target), op.shift.value
    gathering = _Gathering(nest, op)
    g_header = nest.read(op.g_header)
    result = Result(nest, core, op)
    height, width, channels = gathering.size
    for h in nest.loop(height):
        for w in nest.loop(width):
            for c in nest.loop(channels):
                total = gathering.sum(h, w, c, nest.number(0), None)
                value = round_shift(total, shift)
                if shift == 0 and window_of(op).cover > 1:
                    value = limit_mantissa(core, value, MANTISSA_BITS)
                elif shift:
                    value = limit_mantissa(core, value)
                place = (h * width + w) * channels + c
                (result.start + place * result.bytes).store(value, result.element)
    result.finish(g_header[EXPONENT] + shift)
