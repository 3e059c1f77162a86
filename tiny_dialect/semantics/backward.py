"""Meaning of the backward ops; gradients are float32 in units of the quantized values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.semantics.convolution import (
    convolve_input_gradient,
    convolve_weight_gradient,
    effective_weight,
)
from tiny_dialect.semantics.forward import trained_channels
from tiny_dialect.types import quantization, shape_of

Array = NDArray[Any]


def softmax_cross_entropy_grad(op: Any, logits: Array, label: Array) -> list[Array]:
    """`softmax(logits) - onehot(label)`."""
    shifted = logits.reshape(-1).astype(np.float64)
    probabilities = np.exp(shifted - shifted.max())
    probabilities /= probabilities.sum()
    probabilities[int(label)] -= 1.0
    return [probabilities.astype(np.float32).reshape(logits.shape)]


def linear_input_grad(op: Any, g: Array, w: Array) -> list[Array]:
    """`g @ w` in the shape of the forward input."""
    gx = g.reshape(-1).astype(np.float64) @ w
    return [gx.astype(np.float32).reshape(shape_of(op.results[0]))]


def linear_weight_grad(op: Any, x: Array, g: Array) -> list[Array]:
    """The outer product of the gradient and the flattened input."""
    return [np.outer(g.reshape(-1), x.reshape(-1)).astype(np.float32)]


def scale_gradient(op: Any, g: Array, mask: Array | None = None) -> list[Array]:
    """`g * factor`, zero where the mask is false."""
    scaled = g * np.float32(op.attributes["factor"].value)
    return [scaled if mask is None else np.where(mask, scaled, np.float32(0))]


def add_gradients(op: Any, a: Array, b: Array) -> list[Array]:
    """`a + b` in float32."""
    return [a + b]


def global_average_pool_grad(op: Any, g: Array) -> list[Array]:
    """`g / (H W)` everywhere: one product with the float32 reciprocal."""
    shape = shape_of(op.results[0])
    return [np.broadcast_to(g * np.float32(1.0 / (shape[1] * shape[2])), shape).copy()]


def conv2d_input_grad(op: Any, g: Array, w: Array, trained: Array | None = None) -> list[Array]:
    """The transposed convolution of the channel-scaled gradient."""
    geo = geometry(op)
    weight = effective_weight(w, trained, trained_channels(op), geo.groups)
    scaled = g.astype(np.float64) * to_array(op.attributes["scales"])
    return [
        convolve_input_gradient(scaled, weight, geo, shape_of(op.results[0])).astype(np.float32)
    ]


def weight_gradient(op: Any, x: Array, g: Array, shape: tuple[int, ...]) -> Array:
    """The unscaled weight gradient of `conv2d_weight_grad` and `conv2d_weight_update`, float64."""
    _, zero = quantization(op.x)
    if "output_channels" in op.attributes:
        g = g[..., to_list(op.attributes["output_channels"])]
    return convolve_weight_gradient(x.astype(np.int16) - zero, g, geometry(op), shape)


def conv2d_weight_grad(op: Any, x: Array, g: Array) -> list[Array]:
    """`scales * corr(x - z_x, g)`."""
    scales = to_array(op.attributes["scales"]).reshape(-1, 1, 1, 1)
    return [(weight_gradient(op, x, g, shape_of(op.results[0])) * scales).astype(np.float32)]


def channel_sums(g: Array) -> Array:
    """Sums over all axes but the last, float64."""
    return g.reshape(-1, g.shape[-1]).sum(axis=0, dtype=np.float64)


def bias_grad(op: Any, g: Array) -> list[Array]:
    """`scales * channel sums`."""
    return [(channel_sums(g) * to_array(op.attributes["scales"])).astype(np.float32)]
