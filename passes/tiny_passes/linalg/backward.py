"""Rules of the backward ops: float32; sums in any order, all else as the semantics state it."""

from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import Shape, quantization, shape_of
from tiny_passes.linalg.convolution import (
    convolve_input_gradient,
    convolve_weight_gradient,
    pad_for,
)
from tiny_passes.linalg.elementary import exponential
from tiny_passes.linalg.forward import softmax_parts, trained_channels
from tiny_passes.linalg.scalars import Scalar, number
from tiny_passes.linalg.tensors import (
    channel_sums,
    constant,
    dims,
    elementwise,
    empty,
    flatten,
    gather,
    generic,
    loop_index,
    reshape,
    zeros,
)
from tiny_passes.linalg.weights import effective_weight


def softmax_cross_entropy_grad(op: Any, logits: Any, label: Any) -> list[Any]:
    """`exp(logits - max) / sum - onehot(label)`."""
    shifted, total = softmax_parts(logits)

    def body(value: Scalar, whole: Scalar, wanted: Scalar) -> Scalar:
        probability = exponential(value) * (number(1.0, whole.type) / whole)
        hit = loop_index(0, "i32").compare("eq", wanted)
        return probability - hit.select(number(1.0, whole.type), 0.0)

    gx = elementwise([shifted, total, label], ["f32"], body)
    return [reshape(gx, shape_of(op.results[0]))]


def linear_input_grad(op: Any, g: Any, w: Any) -> list[Any]:
    """`g @ w` in the shape of the forward input."""
    c, k = dims(2)
    gx = generic(
        [(flatten(g), [k]), (w, [k, c])],
        [(zeros((shape_of(w)[1],), "f32"), [c])],
        "pr",
        lambda gradient, weight, total: total + gradient * weight,
    )
    return [reshape(gx, shape_of(op.results[0]))]


def outer_product(g: Any, x: Any) -> Any:
    """`g[k] x[c]` of the flattened operands."""
    k, c = dims(2)
    flat_g, flat_x = flatten(g), flatten(x)
    target = empty((shape_of(flat_g)[0], shape_of(flat_x)[0]), "f32")
    return generic([(flat_g, [k]), (flat_x, [c])], [(target, [k, c])], "pp", lambda a, b, _: a * b)


def linear_weight_grad(op: Any, x: Any, g: Any) -> list[Any]:
    """The outer product of the gradient and the flattened input."""
    return [outer_product(g, x)]


def scale_gradient(op: Any, g: Any, mask: Any | None = None) -> list[Any]:
    """`g * factor`, zero where the mask is zero."""
    factor = float(op.attributes["factor"].value)
    if mask is None:
        return [elementwise([g], ["f32"], lambda value: value * factor)]

    def body(value: Scalar, kept: Scalar) -> Scalar:
        return kept.compare("ne", 0).select(value * factor, 0.0)

    return [elementwise([g, mask], ["f32"], body)]


def add_gradients(op: Any, a: Any, b: Any) -> list[Any]:
    """`a + b`."""
    return [elementwise([a, b], ["f32"], lambda left, right: left + right)]


def global_average_pool_grad(op: Any, g: Any) -> list[Any]:
    """`g * (1 / (H W))` everywhere."""
    shape = shape_of(op.results[0])
    factor = float(np.float32(1.0 / (shape[1] * shape[2])))
    return [elementwise([flatten(g)], ["f32"], lambda value: value * factor, shape=shape)]


def conv2d_input_grad(op: Any, g: Any, w: Any, trained: Any | None = None) -> list[Any]:
    """The transposed convolution of the channel-scaled gradient.

    Where each channel has its own output channel, the sum is scaled instead of its terms, as in
    the kernels: one order of operations, one result.
    """
    geo = geometry(op)
    weight = effective_weight(w, trained, trained_channels(op), geo.groups)
    floats = elementwise([weight], ["f32"], lambda value: value.to("f32"))
    scales = constant(to_array(op.attributes["scales"]))
    shape = shape_of(op.results[0])

    def scaled(value: Any) -> Any:
        return elementwise([value, scales], ["f32"], lambda v, scale: v * scale)

    if trained is None and shape_of(w)[0] == geo.groups and shape_of(w)[3] == 1:
        return [scaled(convolve_input_gradient(g, floats, geo, shape))]
    return [convolve_input_gradient(scaled(g), floats, geo, shape)]


def weight_gradient(op: Any, x: Any, g: Any, shape: Shape) -> Any:
    """The unscaled weight gradient of `conv2d_weight_grad` and `conv2d_weight_update`."""
    _, zero = quantization(op.x)
    geo = geometry(op)
    if "output_channels" in op.attributes:
        g = gather(g, 3, to_list(op.attributes["output_channels"]))
    centred = elementwise([x], ["f32"], lambda q: (q.to("i32") - zero).to("f32"))
    return convolve_weight_gradient(pad_for(centred, geo, shape, 0), g, geo, shape)


def conv2d_weight_grad(op: Any, x: Any, g: Any) -> list[Any]:
    """`scales * corr(x - z_x, g)`."""
    gw = weight_gradient(op, x, g, shape_of(op.results[0]))
    scales = constant(to_array(op.attributes["scales"]))
    return [
        elementwise([gw, scales], ["f32"], lambda value, scale: value * scale, channel_first=True)
    ]


def bias_grad(op: Any, g: Any) -> list[Any]:
    """`scales * channel sums`."""
    scales = constant(to_array(op.attributes["scales"]))
    sums = channel_sums(g, "f32")
    return [elementwise([sums, scales], ["f32"], lambda value, scale: value * scale)]
