"""Convolution and its two adjoints on plain arrays; NHWC with N = 1, weights O·KH·KW·(I/groups).

Work is done in float64: sums of int8 products stay far below 2^53, so integers are exact.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.ops.convolution import ConvGeometry, trained_axis

Array = NDArray[Any]


def stored_weight(stored: Array) -> Array:
    """The int8 weight that the forward pass reads from an i8, i16 master or f32 master."""
    if stored.dtype == np.int16:
        return (stored >> 8).astype(np.int8)
    if stored.dtype == np.float32:
        return np.clip(np.rint(stored), -128, 127).astype(np.int8)
    return stored


def effective_weight(w: Array, trained: Array | None, channels: list[int], groups: int) -> Array:
    """The int8 weight with the trained channels in place of the frozen ones."""
    full = stored_weight(w)
    if trained is None:
        return full
    full = full.copy()
    index: list[Any] = [slice(None)] * 4
    index[trained_axis(groups, full.shape)] = channels
    full[tuple(index)] = stored_weight(trained)
    return full


def _patches(x: Array, geometry: ConvGeometry, kernel: tuple[int, int], groups: int) -> Array:
    """[groups, OH*OW, KH*KW*(I/groups)] of the zero-padded input."""
    top, left, bottom, right = geometry.pads
    padded = np.pad(x[0].astype(np.float64), ((top, bottom), (left, right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(0, 1))
    windows = windows[:: geometry.strides[0], :: geometry.strides[1]]
    height, width, channels = windows.shape[:3]
    split = windows.reshape(height * width, groups, channels // groups, *kernel)
    return split.transpose(1, 0, 3, 4, 2).reshape(groups, height * width, -1)


def _by_group(w: Array, groups: int) -> Array:
    """[groups, O/groups, KH*KW*(I/groups)]."""
    return w.astype(np.float64).reshape(groups, w.shape[0] // groups, -1)


def convolve(x: Array, w: Array, geometry: ConvGeometry) -> Array:
    """`y[1, oh, ow, o] = sum x * w` over zero-padded `x`, float64."""
    shape = geometry.output_shape(x.shape, w.shape)
    patches = _patches(x, geometry, w.shape[1:3], geometry.groups)
    sums = np.matmul(patches, _by_group(w, geometry.groups).transpose(0, 2, 1))
    return sums.transpose(1, 0, 2).reshape(shape)


def convolve_input_gradient(
    g: Array, w: Array, geometry: ConvGeometry, input_shape: tuple[int, ...]
) -> Array:
    """The adjoint of `convolve` in `x`: float64 of `input_shape`."""
    groups = geometry.groups
    _, height, width, channels = input_shape
    _, out_height, out_width, _ = g.shape
    kernel_height, kernel_width = w.shape[1:3]
    top, left, bottom, right = geometry.pads
    padded = np.zeros((height + top + bottom, width + left + right, channels))
    by_group = (
        g[0].reshape(out_height * out_width, groups, -1).transpose(1, 0, 2).astype(np.float64)
    )
    spread = np.matmul(by_group, _by_group(w, groups))
    spread = spread.reshape(groups, out_height, out_width, kernel_height, kernel_width, w.shape[3])
    stride_h, stride_w = geometry.strides
    for row in range(kernel_height):
        for column in range(kernel_width):
            part = spread[:, :, :, row, column].transpose(1, 2, 0, 3)
            padded[
                row : row + stride_h * out_height : stride_h,
                column : column + stride_w * out_width : stride_w,
            ] += part.reshape(out_height, out_width, channels)
    return padded[None, top : top + height, left : left + width]


def convolve_weight_gradient(
    x: Array, g: Array, geometry: ConvGeometry, weight_shape: tuple[int, ...]
) -> Array:
    """The adjoint of `convolve` in `w`: float64 of `weight_shape`."""
    groups = geometry.groups
    patches = _patches(x, geometry, (weight_shape[1], weight_shape[2]), groups)
    by_group = g[0].reshape(-1, groups, g.shape[3] // groups).transpose(1, 2, 0).astype(np.float64)
    return np.matmul(by_group, patches).reshape(weight_shape)
