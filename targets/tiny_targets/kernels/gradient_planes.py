"""The input gradient of a depthwise convolution over its own operand, channel by channel.

`tiny.traversal = "planes"`: a channel of g is copied to scratch memory, and its weights beside it
as floats; then that channel of gx is written, which may lie where g lay. No other channel is
touched. The sums are those of the kernel that writes elsewhere, term by term.
"""

from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.dialect import place_of
from tiny_dialect.errors import InvalidModel
from tiny_dialect.types import shape_of
from tiny_passes.graph import layer_of
from tiny_passes.overwriting import PLANES, possible
from tiny_targets.kernels.nest import Nest, image_shape
from tiny_targets.kernels.scalar import Index, Scalar
from tiny_targets.kernels.weights import Weight
from tiny_targets.kernels.windows import Axis

_FLOAT_BYTES = 4


def input_gradient_in_planes(nest: Nest, op: Any, vertical: Axis, horizontal: Axis) -> None:
    """`gx[h, w, c] = scales[c] * sum g[oh, ow, c] w[c, kh, kw]` for one channel after the other.

    Raises `InvalidModel` where the op has no scratch memory for a plane.
    """
    _require_scratch(op)
    height, width, channels = image_shape(op.gx)
    taps = shape_of(op.w)[1:3]
    g_height, g_width, _ = image_shape(op.g)
    g, weight = nest.read(op.g, (g_height, g_width, channels)), Weight(nest, op.w)
    scales = nest.read(to_array(op.scales))
    gx = nest.write(op.gx, (height, width, channels))
    plane = nest.scratch((g_height, g_width), "f32")
    factors = nest.scratch(taps, "f32", g_height * g_width * _FLOAT_BYTES)
    for c in nest.loop(channels):
        for kh in nest.loop(taps[0]):
            for kw in nest.loop(taps[1]):
                factors[kh, kw] = weight.real((c, kh, kw, 0))
        for h in nest.loop(g_height):
            for w in nest.loop(g_width):
                plane[h, w] = g[h, w, c]
        scale = scales[c]
        for h in nest.loop(height):
            for w in nest.loop(width):
                spans = vertical.outputs_of_source(h), horizontal.outputs_of_source(w)

                def add_product(
                    total: Scalar, oh: Index, ow: Index, h: Index = h, w: Index = w
                ) -> Scalar:
                    tap = vertical.tap(oh, h), horizontal.tap(ow, w)
                    return total + plane[oh, ow] * factors[tap]

                gx[h, w, c] = nest.fold(spans, nest.real(0.0), add_product) * scale


def _require_scratch(op: Any) -> None:
    best, scratch = possible(op), 0
    if "tiny.scratch_bytes" in op.attributes:
        scratch = op.attributes["tiny.scratch_bytes"].value
    if best.traversal != PLANES or scratch < best.scratch_bytes:
        place = layer_of(op) or place_of(op.location)
        raise InvalidModel(f"cannot work in planes with {scratch} bytes of scratch memory", place)
