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
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.numerics import rounding_shift
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, clamp, select


def by_pixel(value: Any) -> tuple[int, int]:
    """(pixels, channels) of a tensor."""
    *outer, channels = shape_of(value)
    return prod(outer), channels


def flat(value: Any) -> tuple[int]:
    """(elements,) of a tensor."""
    return (prod(shape_of(value)),)


@register_kernel(Add)
def add(nest: Nest, op: Any, target: Any) -> None:
    """`clamp(((a - z_a) m_a + (b - z_b) m_b + half) >> shift) + z_y)` in 64 bits, rounded once.

    Scales and zero points are a table, so that all additions of one shape share a kernel.
    """
    (scale_a, zero_a), (scale_b, zero_b) = quantization(op.a), quantization(op.b)
    scale_y, zero_y = quantization(op.y)
    m_a, m_b, shift = paired_multipliers(scale_a / scale_y, scale_b / scale_y)
    low, high = to_list(op.attributes["clamp"])
    pixels, channels = view = by_pixel(op.y)
    a, b = nest.read(op.a, view), nest.read(op.b, view)
    table = nest.read(np.array([m_a, m_b, shift, zero_a, zero_b, zero_y], np.int32))
    y = nest.write(op.y, view)
    mask = None if op.mask is None else nest.write(op.mask)

    factor_a, factor_b, shift_by, offset_a, offset_b, offset_y = (table[i] for i in range(6))
    for pixel in nest.loop(pixels):

        def output(c: Index, pixel: Index = pixel) -> Scalar:
            first = (a[pixel, c] - offset_a).as_wide() * factor_a.as_wide()
            second = (b[pixel, c] - offset_b).as_wide() * factor_b.as_wide()
            value = rounding_shift(nest, first + second, shift_by) + offset_y.as_wide()
            clamped = clamp(value, low, high)
            y[pixel, c] = clamped
            return clamped.equals(value)

        write_masked(nest, channels, mask, pixel, output)


@register_kernel(GatherChannels)
def gather_channels(nest: Nest, op: Any, target: Any) -> None:
    """Copy the chosen channels of every pixel."""
    chosen = to_list(op.attributes["channels"])
    x = nest.read(op.x, by_pixel(op.x))
    channels = nest.read(np.array(chosen, np.int16))
    y = nest.write(op.y, by_pixel(op.y))
    for pixel in nest.loop(by_pixel(op.x)[0]):
        for j in nest.loop(len(chosen)):
            y[pixel, j] = x[pixel, channels[j]]


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
