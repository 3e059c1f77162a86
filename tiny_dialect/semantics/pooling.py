"""Meaning of the pooling ops; each function takes the op and its operand arrays, in order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_list
from tiny_dialect.block_float import MANTISSA_BITS, header, round_shift, saturate
from tiny_dialect.fixed_point import quantize_multiplier, requantize
from tiny_dialect.ops.pooling import Window, mean_factor, window_of
from tiny_dialect.semantics.forward import clamp_with_mask
from tiny_dialect.types import numpy_type, quantization, shape_of

Array = NDArray[Any]

_OUTSIDE = -(2**15)
"""Below every int8: what lies outside the input is never the largest."""


def windows(x: Array, window: Window, fill: float) -> Array:
    """[OH, OW, C, KH·KW] of the values of each window, `fill` outside the input."""
    top, left, bottom, right = window.pads
    pads = ((top, bottom), (left, right), (0, 0))
    padded = np.pad(x[0], pads, constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(padded, window.kernel, axis=(0, 1))
    views = views[:: window.strides[0], :: window.strides[1]]
    return views.reshape(*views.shape[:3], window.taps)


def valid_counts(window: Window, x_shape: tuple[int, ...]) -> Array:
    """[OH, OW, 1]: how many elements of each window lie inside the input."""
    inside = np.ones((1, *x_shape[1:3], 1), np.int64)
    return windows(inside, window, 0).sum(axis=-1)


def max_pool2d(op: Any, x: Array) -> list[Array]:
    """The largest value of each window, and its first tap where the op has a second result."""
    values = windows(x.astype(np.int16), window_of(op), _OUTSIDE)
    results: list[Array] = [values.max(axis=-1).astype(np.int8)[None]]
    if len(op.results) == 2:
        results.append(values.argmax(axis=-1).astype(numpy_type(op.results[1]))[None])
    return results


def average_pool2d(op: Any, x: Array) -> list[Array]:
    """The mean of the valid elements of each window, half away from zero."""
    window = window_of(op)
    total = windows(x.astype(np.int64), window, 0).sum(axis=-1)
    count = valid_counts(window, x.shape)
    rounded = (2 * np.abs(total) + count) // (2 * count)
    return [(np.sign(total) * rounded).astype(np.int8)[None]]


def mean(op: Any, x: Array) -> list[Array]:
    """The sum without zero points, rescaled by a Q31 multiplier, clamped."""
    (_, zero_x), (_, zero_y) = quantization(op.operands[0]), quantization(op.results[0])
    axes = tuple(to_list(op.attributes["axes"]))
    total = (x.astype(np.int64) - zero_x).sum(axis=axes, keepdims=True)
    scaled = requantize(total, *quantize_multiplier(mean_factor(op)))
    return clamp_with_mask(op, scaled + zero_y)


def _taps(window: Window, y_shape: tuple[int, ...]) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """(number, place in the padded input) of each tap of all windows."""
    (rows, columns), (down, across) = y_shape[1:3], window.strides
    for tap in range(window.taps):
        row, column = divmod(tap, window.kernel[1])
        yield (
            tap,
            (
                slice(row, row + down * rows, down),
                slice(column, column + across * columns, across),
            ),
        )


def _scatter(op: Any, g: Array, argmax: Array | None) -> Array:
    """Sums of `g` over the windows that hold each input pixel, in the type of `g`."""
    window, shape = window_of(op), shape_of(op.results[0])
    top, left, bottom, right = window.pads
    padded = np.zeros((shape[1] + top + bottom, shape[2] + left + right, shape[3]), g.dtype)
    for tap, place in _taps(window, g.shape):
        part = g[0] if argmax is None else np.where(argmax[0] == tap, g[0], 0)
        padded[place] += part
    return padded[None, top : top + shape[1], left : left + shape[2]]


def max_pool2d_grad(op: Any, g: Array, argmax: Array) -> list[Array]:
    """The gradient of each window at its largest value."""
    return [_scatter(op, g.astype(np.float64), argmax).astype(np.float32)]


def average_pool2d_grad(op: Any, g: Array) -> list[Array]:
    """The gradient of each window, shared by its valid elements."""
    # A window that sees nothing but padding reaches no pixel.
    count = np.maximum(valid_counts(window_of(op), shape_of(op.results[0])), 1)
    shares = g.astype(np.float64) * (1.0 / count).astype(np.float32)
    return [_scatter(op, shares, None).astype(np.float32)]


def integer_pool2d_grad(
    op: Any, g: Array, g_header: Array, argmax: Array | None = None
) -> list[Array]:
    """The sums of mantissas, shifted into i16."""
    shift = op.attributes["shift"].value
    total = _scatter(op, g.astype(np.int64), argmax)
    stored = saturate(round_shift(total, shift), MANTISSA_BITS).astype(np.int16)
    return [stored, header(int(g_header[0]) + shift, stored)]
