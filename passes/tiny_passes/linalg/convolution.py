"""Convolution and its two adjoints on tensors, in the named forms that IREE compiles well.

Tensors are NHWC with N = 1, weights O·KH·KW·(I/groups). Inputs come already padded; a sum has the
element type asked for, operands are widened to it element by element.
"""

from typing import Any

from tiny_dialect.bindings import load
from tiny_dialect.ops.convolution import ConvGeometry
from tiny_dialect.types import Shape, element_name, shape_of
from tiny_passes.linalg.tensors import (
    collapse,
    dims,
    expand,
    gather,
    generic,
    pad_or_crop,
    reshape,
    transpose,
    zeros,
)

_linalg = load("dialects.linalg")


def pad_spatial(x: Any, pads: tuple[int, int, int, int], fill: float) -> Any:
    """`x` with (top, left, bottom, right) pixels of `fill`; negative amounts crop."""
    top, left, bottom, right = pads
    return pad_or_crop(x, (0, top, left, 0), (0, bottom, right, 0), fill)


def pad_for(x: Any, geometry: ConvGeometry, w: Shape, fill: float) -> Any:
    """`x` padded with `fill`, and cropped to the pixels that the windows of a kernel `w` cover.

    IREE drops loops of one iteration and then wants the input to be no larger than the window.
    """
    _, height, width, _ = shape_of(x)
    _, out_height, out_width, _ = geometry.output_shape(shape_of(x), w)
    top, left, _, _ = geometry.pads
    bottom = (out_height - 1) * geometry.strides[0] + w[1] - height - top
    right = (out_width - 1) * geometry.strides[1] + w[2] - width - left
    return pad_spatial(x, (top, left, bottom, right), fill)


def is_pointwise(geometry: ConvGeometry, w: Shape) -> bool:
    """True where the convolution is one matrix product of pixels and channels."""
    return w[1:3] == (1, 1) and geometry.strides == (1, 1) and geometry.groups == 1


def convolve(x: Any, w: Any, geometry: ConvGeometry, element: str) -> Any:
    """`y[1, oh, ow, o] = sum x * w` over a padded `x`; the pads of `geometry` are ignored."""
    unpadded = ConvGeometry(geometry.strides, (0, 0, 0, 0), geometry.groups)
    shape = unpadded.output_shape(shape_of(x), shape_of(w))
    outputs, kernel_height, kernel_width, inputs = shape_of(w)
    groups, strides = geometry.groups, list(geometry.strides)
    if is_pointwise(unpadded, shape_of(w)):
        pixels = collapse(x, (shape[1] * shape[2], inputs))
        weights = collapse(w, (outputs, inputs))
        pixel, output, i = dims(3)
        rows = (shape[1] * shape[2], outputs)
        product = _product(pixels, [pixel, i], weights, [output, i], rows, element)
        return expand(product, shape)
    if groups == 1:
        target = zeros(shape, element)
        weights = transpose(w, (1, 2, 3, 0))
        return _linalg.conv_2d_nhwc_hwcf(x, weights, outs=[target], strides=strides)
    if inputs == 1 and groups == outputs:
        weights = transpose(collapse(w, (outputs, kernel_height, kernel_width)), (1, 2, 0))
        target = zeros(shape, element)
        return _linalg.depthwise_conv_2d_nhwc_hwc(x, weights, outs=[target], strides=strides)
    grouped_x = expand(x, (*shape_of(x)[:3], groups, inputs))
    grouped_w = reshape(w, (groups, outputs // groups, kernel_height, kernel_width, inputs))
    target = zeros((*shape[:3], groups, outputs // groups), element)
    sums = _linalg.conv_2d_nhwgc_gfhwc(grouped_x, grouped_w, outs=[target], strides=strides)
    return collapse(sums, shape)


def convolve_input_gradient(g: Any, w: Any, geometry: ConvGeometry, input_shape: Shape) -> Any:
    """The adjoint of `convolve` in `x`: the unpadded `input_shape`, elements as in `g` and `w`.

    A convolution of the gradient, spread by the strides, with the flipped weights.
    """
    outputs, kernel_height, kernel_width, inputs = shape_of(w)
    groups = geometry.groups
    spread = _spread(g, geometry.strides)
    top, left = kernel_height - 1 - geometry.pads[0], kernel_width - 1 - geometry.pads[1]
    bottom = input_shape[1] + kernel_height - 1 - top - shape_of(spread)[1]
    right = input_shape[2] + kernel_width - 1 - left - shape_of(spread)[2]
    padded = pad_spatial(spread, (top, left, bottom, right), 0)
    flipped = _flip(w)
    grouped = reshape(flipped, (groups, outputs // groups, kernel_height, kernel_width, inputs))
    swapped = transpose(grouped, (0, 4, 2, 3, 1))
    mirrored = reshape(swapped, (groups * inputs, kernel_height, kernel_width, outputs // groups))
    return convolve(padded, mirrored, ConvGeometry((1, 1), (0, 0, 0, 0), groups), element_name(g))


def _product(
    a: Any, a_index: list[Any], b: Any, b_index: list[Any], shape: Shape, element: str
) -> Any:
    """The matrix product over (rows d0, columns d1, summed d2).

    A `linalg.generic` because bytecode drops the default maps of `linalg.matmul`, without which
    IREE crashes; IREE recognises the contraction.
    """
    return generic(
        [(a, a_index), (b, b_index)],
        [(zeros(shape, element), dims(2))],
        "ppr",
        lambda x, y, total: total + x.to(element) * y.to(element),
    )


def _flip(w: Any) -> Any:
    """`w` turned by half a circle in its plane."""
    _, height, width, _ = shape_of(w)
    if height > 1:
        w = gather(w, 1, range(height - 1, -1, -1))
    return gather(w, 2, range(width - 1, -1, -1)) if width > 1 else w


def _spread(g: Any, strides: tuple[int, int]) -> Any:
    """`g` with `stride - 1` zeros after every row and column."""
    if strides == (1, 1):
        return g
    _, height, width, channels = shape_of(g)
    split = expand(g, (1, height, 1, width, 1, channels))
    spread = pad_or_crop(split, [0] * 6, (0, 0, strides[0] - 1, 0, strides[1] - 1, 0), 0)
    return collapse(spread, (1, height * strides[0], width * strides[1], channels))


def convolve_weight_gradient(x: Any, g: Any, geometry: ConvGeometry, weight_shape: Shape) -> Any:
    """The adjoint of `convolve` in `w` over a padded `x`: `weight_shape`, elements as in both."""
    outputs, kernel_height, kernel_width, inputs = weight_shape
    groups = geometry.groups
    _, height, width, _ = shape_of(g)
    element = element_name(g)
    if is_pointwise(geometry, weight_shape):
        pixels = collapse(x, (height * width, inputs))
        gradients = collapse(g, (height * width, outputs))
        output, i, pixel = dims(3)
        rows = (outputs, inputs)
        product = _product(gradients, [pixel, output], pixels, [pixel, i], rows, element)
        return reshape(product, weight_shape)
    if inputs == 1 and groups == outputs:
        return _depthwise_weight_gradient(x, g, geometry, weight_shape)
    grouped_x = expand(x, (*shape_of(x)[:3], groups, inputs))
    grouped_g = expand(g, (1, height, width, groups, outputs // groups))
    group, output, row, column, channel, y, z = dims(7)
    stride_y, stride_z = geometry.strides
    window = [
        y * 0,
        y * stride_y + row,
        z * stride_z + column,
        group,
        channel,
    ]
    shape = (groups, outputs // groups, kernel_height, kernel_width, inputs)
    sums = generic(
        [(grouped_x, window), (grouped_g, [y * 0, y, z, group, output])],
        [(zeros(shape, element), [group, output, row, column, channel])],
        "ppppprr",
        lambda a, b, total: total + a * b,
    )
    return collapse(sums, weight_shape)


def _depthwise_weight_gradient(x: Any, g: Any, geometry: ConvGeometry, weight_shape: Shape) -> Any:
    """One correlation a channel, computed with channels innermost: [C, KH, KW, 1]."""
    channels, kernel_height, kernel_width, _ = weight_shape
    row, column, channel, y, z = dims(5)
    stride_y, stride_z = geometry.strides
    sums = generic(
        [
            (
                collapse(x, shape_of(x)[1:]),
                [y * stride_y + row, z * stride_z + column, channel],
            ),
            (collapse(g, shape_of(g)[1:]), [y, z, channel]),
        ],
        [(zeros((kernel_height, kernel_width, channels), element_name(g)), [row, column, channel])],
        "ppprr",
        lambda a, b, total: total + a * b,
    )
    return expand(transpose(sums, (2, 0, 1)), weight_shape)
