"""Kernels of the ops between layers: another quantization, a border, another shape.

`requantize` and `reshape` load each element before they store its result, so a result may lie where
the operand lies.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.fixed_point import quantize_multiplier
from tiny_dialect.ops import Pad, Requantize, Reshape
from tiny_dialect.types import quantization
from tiny_targets.kernels.elementwise import by_pixel, flat
from tiny_targets.kernels.masks import write_masked
from tiny_targets.kernels.nest import Nest, Span, image_shape
from tiny_targets.kernels.numerics import rounding_shift
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, clamp


@register_kernel(Requantize)
def requantize(nest: Nest, op: Any, target: Any) -> None:
    """`clamp(round((x - z_x) * factor) + z_y)` with a Q31 multiplier in 64 bits."""
    (scale_x, zero_x), (scale_y, zero_y) = quantization(op.x), quantization(op.y)
    multiplier, shift = quantize_multiplier(scale_x / scale_y)
    low_high = to_list(op.attributes["clamp"])
    pixels, channels = by_pixel(op.x)
    table = nest.read(np.array([multiplier, shift, zero_x, zero_y], np.int32))
    x = nest.read(op.x, (pixels, channels))
    y = nest.write(op.y, (pixels, channels))
    mask = None if op.mask is None else nest.write(op.mask)
    factor, amount, offset_x, offset_y = (table[i] for i in range(4))
    for pixel in nest.loop(pixels):

        def output(c: Index, pixel: Index = pixel) -> Scalar:
            product = (x[pixel, c] - offset_x).as_wide() * factor.as_wide()
            value = rounding_shift(nest, product, amount) + offset_y.as_wide()
            clamped = clamp(value, *low_high)
            y[pixel, c] = clamped
            return clamped.equals(value)

        write_masked(nest, channels, mask, pixel, output)


@register_kernel(Pad)
def pad(nest: Nest, op: Any, target: Any) -> None:
    """The zero point around the image."""
    (height, width, channels), (rows, columns, _) = image_shape(op.x), image_shape(op.y)
    top, left, _, _ = to_list(op.pads)
    zero = nest.read(np.array([quantization(op.x)[1]], np.int8))[0]
    x, y = nest.read(op.x, image_shape(op.x)), nest.write(op.y, image_shape(op.y))

    def fill(row_span: Span, column_span: Span) -> None:
        for row in nest.loop(row_span):
            for column in nest.loop(column_span):
                for c in nest.loop(channels):
                    y[row, column, c] = zero

    fill(Span(0, top), Span(0, columns))
    fill(Span(top + height, rows), Span(0, columns))
    fill(Span(top, top + height), Span(0, left))
    fill(Span(top, top + height), Span(left + width, columns))
    for h in nest.loop(height):
        for w in nest.loop(width):
            for c in nest.loop(channels):
                y[h + top, w + left, c] = x[h, w, c]


@register_kernel(Reshape)
def reshape(nest: Nest, op: Any, target: Any) -> None:
    """A copy, element by element."""
    x, y = nest.read(op.x, flat(op.x)), nest.write(op.y, flat(op.y))
    for i in nest.loop(flat(op.x)[0]):
        y[i] = x[i]
