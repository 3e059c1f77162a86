"""Elementwise ops: residual add, channel gather, dequantize, scaling and sum of gradients.

Each element is loaded before its result is stored and never read again, so a result may lie where
an operand of the same element size lies.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.fixed_point import paired_multipliers
from tiny_dialect.ops import Add, AddGradients, Dequantize, GatherChannels, ScaleGradient
from tiny_dialect.types import quantization, shape_of
from tiny_targets.kernels.masks import read_masked, write_masked
from tiny_targets.kernels.nest import Buffer, Nest, image_shape
from tiny_targets.kernels.numerics import rounding_shift
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index, Scalar, clamp, select


def by_pixel(value: Any) -> tuple[int, int]:
    """(pixels, channels) of a tensor."""
    *outer, channels = shape_of(value)
    return prod(outer), channels


def flat(value: Any) -> tuple[int]:
    """(elements,) of a tensor."""
    return (prod(shape_of(value)),)


class Addition:
    """A residual addition, emitted row by row.

    Scales and zero points are a table, so that all additions of one shape share a kernel.
    """

    def __init__(self, nest: Nest, op: Any) -> None:
        (scale_a, zero_a), (scale_b, zero_b) = quantization(op.a), quantization(op.b)
        scale_y, zero_y = quantization(op.y)
        m_a, m_b, shift = paired_multipliers(scale_a / scale_y, scale_b / scale_y)
        self._nest = nest
        self._clamp = to_list(op.attributes["clamp"])
        self._size = image_shape(op.y)
        self._table = nest.read(np.array([m_a, m_b, shift, zero_a, zero_b, zero_y], np.int32))

    def emit_row(self, row: Index, a: Rows, b: Rows, y: Rows, mask: Buffer | None) -> None:
        """`clamp(((a - z_a) m_a + (b - z_b) m_b + half) >> shift) + z_y)`, rounded once.

        64 bits. `y` may be `a` or `b`.
        """
        nest, (_, columns, channels) = self._nest, self._size
        factor_a, factor_b, shift, offset_a, offset_b, offset_y = (self._table[i] for i in range(6))
        for column in nest.loop(columns):

            def output(c: Index, column: Index = column) -> Scalar:
                first = (a[row, column, c] - offset_a).as_wide() * factor_a.as_wide()
                second = (b[row, column, c] - offset_b).as_wide() * factor_b.as_wide()
                value = rounding_shift(nest, first + second, shift) + offset_y.as_wide()
                clamped = clamp(value, *self._clamp)
                y[row, column, c] = clamped
                return clamped.equals(value)

            write_masked(nest, channels, mask, row * columns + column, output)


@register_kernel(Add)
def add(nest: Nest, op: Any, target: Any) -> None:
    """The residual addition of two images."""
    a, b = (Rows(nest.read(value, image_shape(value))) for value in (op.a, op.b))
    addition = Addition(nest, op)
    y = Rows(nest.write(op.y, image_shape(op.y)))
    mask = None if op.mask is None else nest.write(op.mask)
    for row in nest.loop(image_shape(op.y)[0]):
        addition.emit_row(row, a, b, y, mask)


class Gathering:
    """A copy of chosen channels, emitted row by row."""

    def __init__(self, nest: Nest, op: Any) -> None:
        chosen = to_list(op.attributes["channels"])
        self._nest = nest
        self._columns, self._count = image_shape(op.x)[1], len(chosen)
        self._channels = nest.read(np.array(chosen, np.int16))

    def emit_row(self, row: Index, x: Rows, y: Rows) -> None:
        """Copy one row."""
        for column in self._nest.loop(self._columns):
            for j in self._nest.loop(self._count):
                y[row, column, j] = x[row, column, self._channels[j]]


@register_kernel(GatherChannels)
def gather_channels(nest: Nest, op: Any, target: Any) -> None:
    """Copy the chosen channels of every pixel."""
    x = Rows(nest.read(op.x, image_shape(op.x)))
    gathering = Gathering(nest, op)
    y = Rows(nest.write(op.y, image_shape(op.y)))
    for row in nest.loop(image_shape(op.x)[0]):
        gathering.emit_row(row, x, y)


@register_kernel(Dequantize)
def dequantize(nest: Nest, op: Any, target: Any) -> None:
    """`(x - z) * s`, one float32 product."""
    scale, zero = quantization(op.x)
    x = nest.read(op.x, flat(op.x))
    y = nest.write(op.y, flat(op.y))
    for i in nest.loop(flat(op.x)[0]):
        y[i] = (x[i] - zero).as_float() * float(np.float32(scale))


@register_kernel(ScaleGradient)
def scale_gradient(nest: Nest, op: Any, target: Any) -> None:
    """`g * factor`, zero where the mask is false."""
    factors = np.array([op.factor.value], np.float32)
    if op.mask is None:
        _map(nest, op, (op.g,), factors, lambda g, factor: g * factor)
        return
    pixels, channels = view = by_pixel(op.g)
    g, mask = nest.read(op.g, view), nest.read(op.mask)
    factor = nest.read(factors)[0]
    gx = nest.write(op.gx, view)
    for pixel in nest.loop(pixels):

        def output(c: Index, inside: Scalar, pixel: Index = pixel) -> None:
            gx[pixel, c] = select(inside, g[pixel, c] * factor, 0.0)

        read_masked(nest, channels, mask, pixel, output)


@register_kernel(AddGradients)
def add_gradients(nest: Nest, op: Any, target: Any) -> None:
    """`a + b`."""
    _map(nest, op, (op.a, op.b), None, lambda a, b: a + b)


def _map(
    nest: Nest,
    op: Any,
    operands: tuple[Any, ...],
    table: Any | None,
    function: Callable[..., Scalar],
) -> None:
    """`gx[i] = function(*operands[i], *table)` for every element of the flattened tensors."""
    inputs = [nest.read(operand, flat(operand)) for operand in operands]
    constants = nest.read(table) if table is not None else None
    gx = nest.write(op.gx, flat(op.gx))
    extra = () if constants is None else (constants[0],)
    for i in nest.loop(flat(op.gx)[0]):
        gx[i] = function(*(values[i] for values in inputs), *extra)
