"""Global average pooling and its gradient."""

from typing import Any

import numpy as np

from tiny_dialect.ops import GlobalAveragePool, GlobalAveragePoolGrad
from tiny_targets.kernels.elementwise import by_pixel, flat
from tiny_targets.kernels.nest import Nest, image_shape
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar

_OFFSET = 128


@register_kernel(GlobalAveragePool)
def global_average_pool(nest: Nest, op: Any, target: Any) -> None:
    """The mean of the raw values of each channel, rounded half to even, in integers."""
    height, width, channels = image_shape(op.x)
    pixels = height * width
    x = nest.read(op.x, (pixels, channels))
    y = nest.write(op.y, (channels,))
    for c in nest.loop(channels):
        # Counted from -128 the sum is not negative, so that an unsigned division rounds down.
        def add_value(total: Scalar, pixel: Index, c: Index = c) -> Scalar:
            return total + x[pixel, c]

        total = nest.fold((pixels,), nest.number(_OFFSET * pixels), add_value)
        quotient = total // pixels
        twice_rest = (total - quotient * pixels) * 2
        # Adding the parity (128 is even) to twice the remainder decides a tie towards even.
        rounds_up = (twice_rest + (quotient & 1)) > pixels
        y[c] = quotient + rounds_up.as_integer() - _OFFSET


@register_kernel(GlobalAveragePoolGrad)
def global_average_pool_grad(nest: Nest, op: Any, target: Any) -> None:
    """`g / (H W)` at every pixel: one product with the float32 reciprocal a channel."""
    pixels, channels = by_pixel(op.gx)
    g = nest.read(op.g, flat(op.g))
    gx = nest.write(op.gx, (pixels, channels))
    reciprocal = float(np.float32(1.0 / pixels))
    for c in nest.loop(channels):
        share = g[c] * reciprocal
        for pixel in nest.loop(pixels):
            gx[pixel, c] = share
