"""How the emitter turns convolutions, additions, global pools and heads into ops, all checked."""

import math
from typing import Any

import numpy as np

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer, integers
from tiny_dialect.ops.convolution import ConvGeometry
from tiny_dialect.types import Shape, quantization, shape_of, tensor
from tiny_pipelines.frontends.emission import MAX_FACTOR, Emission, Rule
from tiny_pipelines.frontends.layers import (
    AddLayer,
    ConvLayer,
    GlobalAveragePoolLayer,
    Layer,
    LinearLayer,
    Quantization,
)


def _conv(emission: Emission, layer: ConvLayer, x: Any) -> Any:
    """A convolution."""
    emission.check_input(layer.inputs[0], x, layer.input_quantization)
    _check_weights(emission, layer)
    emission.check_clamp(layer.clamp)
    geometry = _checked_geometry(emission, layer, shape_of(x))
    shape = geometry.output_shape(shape_of(x), layer.weight.shape)
    emission.require(
        min(shape) >= 1,
        f"has an empty output: kernel {list(layer.weight.shape[1:3])} "
        f"over {list(shape_of(x)[1:3])}",
    )
    result = emission.activation_type(shape, layer.output_quantization)
    _check_factors(emission, layer)
    op = ops.Conv2D(
        x,
        emission.parameter("weight", layer.weight, "i8"),
        emission.parameter("bias", layer.bias, "i32"),
        result,
        dense(layer.weight_scales),
        strides=integers(layer.strides),
        pads=integers(layer.pads),
        groups=integer(layer.groups),
        clamp=integers(layer.clamp),
    )
    return emission.named(op).y


def _check_weights(emission: Emission, layer: ConvLayer) -> None:
    """Weights, scales and biases fit together."""
    weight, scales, bias = layer.weight, layer.weight_scales, layer.bias
    emission.require(
        weight.dtype == np.int8 and weight.ndim == 4 and weight.size > 0,
        f"expects non-empty int8 weights of rank 4, got {weight.dtype} {list(weight.shape)}",
    )
    channels = weight.shape[0]
    emission.require(
        scales.dtype == np.float64 and scales.shape == (channels,),
        f"expects {channels} float64 weight scales, got {scales.dtype} {list(scales.shape)}",
    )
    bad = np.flatnonzero(~(np.isfinite(scales) & (scales > 0)))
    if bad.size:
        value = float(scales[bad[0]])
        emission.fail(
            f"has weight scale {value} in channel {bad[0]}; a scale is positive and finite"
        )
    emission.require(
        bias.dtype == np.int32 and bias.shape == (channels,),
        f"expects {channels} int32 biases, got {bias.dtype} {list(bias.shape)}",
    )


def _check_factors(emission: Emission, layer: ConvLayer) -> None:
    """Each `s_x * s_w / s_y` is a requantization factor that Q31 arithmetic can hold."""
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.float64(layer.input_quantization.scale) * layer.weight_scales
        factors = ratio / layer.output_quantization.scale
    bad = np.flatnonzero(~((factors > 0) & (factors < MAX_FACTOR)))
    if bad.size:
        value = float(factors[bad[0]])
        emission.fail(
            f"has requantization factor {value} in channel {bad[0]}; expected within (0, 2^30)"
        )


def _checked_geometry(emission: Emission, layer: ConvLayer, x_shape: Shape) -> ConvGeometry:
    """Strides, pads and groups fit weights and input."""
    groups, weight = layer.groups, layer.weight.shape
    emission.require(
        len(layer.strides) == 2 and min(layer.strides) >= 1,
        f"has strides {list(layer.strides)}; expected two of at least 1",
    )
    emission.require(
        len(layer.pads) == 4 and min(layer.pads) >= 0,
        f"has pads {list(layer.pads)}; expected four of at least 0",
    )
    emission.require(
        groups >= 1 and weight[3] * groups == x_shape[3],
        f"has weights for {weight[3]} channels in {groups} groups, "
        f"but its input has {x_shape[3]} channels",
    )
    emission.require(
        weight[0] % groups == 0,
        f"has {weight[0]} output channels, not a multiple of {groups} groups",
    )
    return ConvGeometry(layer.strides, layer.pads, groups)


def _add(emission: Emission, layer: AddLayer, a: Any, b: Any) -> Any:
    """A residual addition."""
    for producer, value, declared in zip(
        layer.inputs, (a, b), layer.input_quantizations, strict=True
    ):
        emission.check_input(producer, value, declared)
    emission.require(
        shape_of(a) == shape_of(b),
        f"adds {layer.inputs[0]!r} of shape {list(shape_of(a))} "
        f"and {layer.inputs[1]!r} of shape {list(shape_of(b))}",
    )
    emission.check_clamp(layer.clamp)
    result = emission.activation_type(shape_of(a), layer.output_quantization)
    return emission.named(ops.Add(a, b, result, clamp=integers(layer.clamp))).y


def _pool(emission: Emission, layer: GlobalAveragePoolLayer, x: Any) -> Any:
    """A global average pool."""
    emission.require_quantized(layer.inputs[0], x)
    result = emission.activation_type((1, 1, 1, shape_of(x)[3]), Quantization(*quantization(x)))
    return emission.named(ops.GlobalAveragePool(x, result)).y


def _linear(emission: Emission, layer: LinearLayer, x: Any) -> Any:
    """A float32 head behind a dequantization."""
    weight, bias = layer.weight, layer.bias
    emission.require_quantized(layer.inputs[0], x)
    features = math.prod(shape_of(x))
    emission.require(
        weight.dtype == np.float32 and weight.ndim == 2 and weight.shape[1] == features,
        f"expects float32 weights of {features} features, got {weight.dtype} {list(weight.shape)}",
    )
    emission.require(
        bias.dtype == np.float32 and bias.shape == weight.shape[:1],
        f"expects {weight.shape[0]} float32 biases, got {bias.dtype} {list(bias.shape)}",
    )
    emission.require(
        bool(np.isfinite(weight).all() and np.isfinite(bias).all()),
        "has weights or biases that are not finite",
    )
    real = emission.named(ops.Dequantize(x, tensor(shape_of(x), "f32"))).y
    operands = (
        emission.parameter("weight", weight, "f32"),
        emission.parameter("bias", bias, "f32"),
    )
    return emission.named(ops.Linear(real, *operands, tensor((1, weight.shape[0]), "f32"))).y


RULES: dict[type[Layer], Rule] = {
    ConvLayer: _conv,
    AddLayer: _add,
    GlobalAveragePoolLayer: _pool,
    LinearLayer: _linear,
}
