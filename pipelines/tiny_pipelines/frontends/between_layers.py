"""How the emitter turns pools, means, borders, rescalings and reshapes into ops, all checked."""

import math
from typing import Any

from tiny_dialect import ops
from tiny_dialect.attributes import integers
from tiny_dialect.ops.pooling import MEAN_AXES, Window
from tiny_dialect.types import quantization, shape_of
from tiny_pipelines.frontends.emission import MAX_FACTOR, Emission, Rule
from tiny_pipelines.frontends.layers import (
    Layer,
    MeanLayer,
    PadLayer,
    PoolLayer,
    Quantization,
    RequantizeLayer,
    ReshapeLayer,
)

_MAX_TAPS = 2**15


def _same_quantization(emission: Emission, layer: Any, x: Any, shape: Any) -> Any:
    """The type of a result of `shape` with the quantization of the input."""
    emission.require_quantized(layer.inputs[0], x)
    return emission.activation_type(shape, Quantization(*quantization(x)))


def _check_factor(emission: Emission, factor: float) -> None:
    emission.require(
        0 < factor < MAX_FACTOR,
        f"has requantization factor {factor}; expected within (0, 2^30)",
    )


def _check_pads(emission: Emission, pads: Any) -> None:
    emission.require(
        len(pads) == 4 and min(pads) >= 0, f"has pads {list(pads)}; expected four of at least 0"
    )


def _pool(emission: Emission, layer: PoolLayer, x: Any) -> Any:
    window = Window(layer.kernel, layer.strides, layer.pads)
    _check_pads(emission, layer.pads)
    emission.require(
        min(*layer.kernel, *layer.strides) >= 1,
        f"has kernel {list(layer.kernel)} and strides {list(layer.strides)}; expected at least 1",
    )
    emission.require(
        layer.kind != "max" or window.taps <= _MAX_TAPS,
        f"has kernel {list(layer.kernel)}; a maximum is of at most {_MAX_TAPS} values",
    )
    top, left, bottom, right = layer.pads
    emission.require(
        max(top, bottom) < layer.kernel[0] and max(left, right) < layer.kernel[1],
        f"has pads {list(layer.pads)}, not smaller than its kernel {list(layer.kernel)}",
    )
    shape = window.output_shape(shape_of(x))
    emission.require(
        min(shape) >= 1,
        f"has an empty output: kernel {list(layer.kernel)} over {list(shape_of(x)[1:3])}",
    )
    kind = _same_quantization(emission, layer, x, shape)
    attributes = {
        "kernel": integers(layer.kernel),
        "strides": integers(layer.strides),
        "pads": integers(layer.pads),
    }
    op_class = {"max": ops.MaxPool2D, "average": ops.AveragePool2D}[layer.kind]
    return emission.named(op_class(x, kind, **attributes)).y


def _mean(emission: Emission, layer: MeanLayer, x: Any) -> Any:
    emission.require_quantized(layer.inputs[0], x)
    emission.check_clamp(layer.clamp)
    axes = list(layer.axes)
    emission.require(axes in MEAN_AXES, f"is a mean over axes {axes}; expected height or width")
    shape = [1 if axis in axes else n for axis, n in enumerate(shape_of(x))]
    kind = emission.activation_type(tuple(shape), layer.output_quantization)
    count = math.prod(shape_of(x)[axis] for axis in axes)
    scale = layer.output_quantization.scale
    _check_factor(emission, quantization(x)[0] / (scale * count))
    op = ops.Mean(x, kind, integers(axes), clamp=integers(layer.clamp))
    return emission.named(op).y


def _requantize(emission: Emission, layer: RequantizeLayer, x: Any) -> Any:
    emission.require_quantized(layer.inputs[0], x)
    emission.check_clamp(layer.clamp)
    kind = emission.activation_type(shape_of(x), layer.output_quantization)
    _check_factor(emission, quantization(x)[0] / layer.output_quantization.scale)
    return emission.named(ops.Requantize(x, kind, clamp=integers(layer.clamp))).y


def _pad(emission: Emission, layer: PadLayer, x: Any) -> Any:
    _check_pads(emission, layer.pads)
    top, left, bottom, right = layer.pads
    _, height, width, channels = shape_of(x)
    shape = (1, height + top + bottom, width + left + right, channels)
    kind = _same_quantization(emission, layer, x, shape)
    return emission.named(ops.Pad(x, kind, integers(layer.pads))).y


def _reshape(emission: Emission, layer: ReshapeLayer, x: Any) -> Any:
    emission.require(
        math.prod(layer.shape) == math.prod(shape_of(x)),
        f"reshapes {list(shape_of(x))} to {list(layer.shape)}, another number of elements",
    )
    kind = _same_quantization(emission, layer, x, layer.shape)
    return emission.named(ops.Reshape(x, kind)).y


RULES: dict[type[Layer], Rule] = {
    PoolLayer: _pool,
    MeanLayer: _mean,
    RequantizeLayer: _requantize,
    PadLayer: _pad,
    ReshapeLayer: _reshape,
}
