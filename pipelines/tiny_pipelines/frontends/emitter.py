"""Checked construction of the `model` stage from layer records; shared by all importers.

Every violation is an `InvalidModel` at `FILE:LAYER`, raised before the module is handed out.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer, integers, string
from tiny_dialect.bindings import ir, load
from tiny_dialect.dialect import first_diagnostic
from tiny_dialect.errors import InvalidModel
from tiny_dialect.ops.convolution import ConvGeometry
from tiny_dialect.types import Shape, is_quantized, quantization, quantized, shape_of, tensor
from tiny_pipelines.frontends import between_layers
from tiny_pipelines.frontends.layers import (
    INPUT,
    AddLayer,
    ConvLayer,
    GlobalAveragePoolLayer,
    Layer,
    LinearLayer,
    Network,
    Quantization,
)

_MAX_ELEMENTS = 2**31 - 1
_MAX_FACTOR = 2.0**30
_MIN_SCALE, _MAX_SCALE = 2.0**-126, float(np.finfo(np.float32).max)


def emit(network: Network) -> Any:
    """The verified module with `@infer` for `network`, built in the current MLIR context.

    Raises `InvalidModel` naming the layer for any record that is inconsistent, out of range or
    not finite.
    """
    # The file's name alone, so that the same file gives the same bytes wherever it lies.
    with ir.Location.file(Path(network.source).name, 0, 0) as file:
        return Emission(network, file).module()


class Emission:
    """One run of the emitter: the values made so far and the place of the current layer."""

    def __init__(self, network: Network, file: Any) -> None:
        self.network = network
        self.file = file
        self.values: dict[str, Any] = {}
        self.layer = INPUT

    def fail(self, message: str) -> NoReturn:
        """Raise `InvalidModel` at the current layer."""
        raise InvalidModel(message, f"{self.network.source}:{self.layer}")

    def require(self, condition: bool, message: str) -> None:
        """Fail unless `condition` holds."""
        if not condition:
            self.fail(message)

    def module(self) -> Any:
        """The verified module."""
        func = load("dialects.func")
        network = self.network
        input_type = self.activation_type(network.input_shape, network.input_quantization)
        module = ir.Module.create(self.file)
        with ir.InsertionPoint(module.body):
            function = func.FuncOp("infer", ir.FunctionType.get([input_type], []))
            function.attributes["tiny.model"] = string(network.name)
            function.attributes["tiny.stage"] = string("model")
            if network.preprocess:
                function.attributes["tiny.preprocess"] = string(network.preprocess)
            with ir.InsertionPoint(function.add_entry_block()):
                result = self.body(function.arguments[0])
                func.ReturnOp([result])
            signature = ir.FunctionType.get([input_type], [result.type])
            function.attributes["function_type"] = ir.TypeAttr.get(signature)
        self.verify(module)
        return module

    def body(self, argument: Any) -> Any:
        """Emit every layer in order; the value named by `network.output`."""
        self.values[INPUT] = argument
        for layer in self.network.layers:
            self.layer = layer.name or "(unnamed layer)"
            self.require(bool(layer.name), "has no name")
            self.require(layer.name not in self.values, "is the name of more than one layer")
            operands = [self.operand(name) for name in layer.inputs]
            with ir.Location.name(layer.name, self.file):
                self.values[layer.name] = _RULES[type(layer)](self, layer, *operands)
        self.layer = self.network.output
        self.require(
            self.network.output in self.values, "is named as the output, but no layer has that name"
        )
        self.require(self.network.output != INPUT, "is both the input and the output")
        return self.values[self.network.output]

    def operand(self, name: str) -> Any:
        """The value that layer `name` computes."""
        if name not in self.values:
            self.fail(f"reads {name!r}, which no earlier layer computes")
        return self.values[name]

    def verify(self, module: Any) -> None:
        """Let MLIR verify; its first diagnostic becomes an `InvalidModel`."""
        try:
            module.operation.verify()
        except ir.MLIRError as error:
            raise InvalidModel(*first_diagnostic(error, self.network.source)) from error

    def activation_type(self, shape: Shape, quantization: Quantization) -> Any:
        """The checked tensor type of an activation."""
        self.require(
            len(shape) == 4 and shape[0] == 1 and min(shape) >= 1,
            f"expects a non-empty NHWC shape with N = 1, got {list(shape)}",
        )
        self.require(
            math.prod(shape) <= _MAX_ELEMENTS, f"has a tensor of too many elements: {list(shape)}"
        )
        self.check_quantization(quantization)
        return quantized(shape, quantization.scale, quantization.zero_point)

    def check_quantization(self, quantization: Quantization) -> None:
        """Scale and zero point are ones that the dialect can hold."""
        scale, zero_point = quantization.scale, quantization.zero_point
        self.require(
            _MIN_SCALE <= scale <= _MAX_SCALE,
            f"has activation scale {scale}; a scale is positive, finite and within float32",
        )
        self.require(-128 <= zero_point <= 127, f"has zero point {zero_point} outside [-128, 127]")

    def check_input(self, producer: str, value: Any, declared: Quantization) -> None:
        """The layer reads the value with the quantization that its producer wrote."""
        self.check_quantization(declared)
        self.require_quantized(producer, value)
        actual = quantization(value)
        self.require(
            actual == (declared.scale, declared.zero_point),
            f"reads {producer!r} with scale {declared.scale} and zero point {declared.zero_point}, "
            f"but it is written with {actual[0]} and {actual[1]}",
        )

    def require_quantized(self, producer: str, value: Any) -> None:
        """The value is an activation, not float32."""
        self.require(is_quantized(value), f"reads {producer!r}, which is float32 already")

    def check_clamp(self, clamp: Sequence[int]) -> None:
        """The clamp is a range within int8."""
        self.require(
            len(clamp) == 2 and -128 <= clamp[0] < clamp[1] <= 127,
            f"has clamp {list(clamp)}; expected low < high within [-128, 127]",
        )

    def named(self, op: Any) -> Any:
        """The op, made to belong to the current layer."""
        op.attributes["layer"] = string(self.layer)
        return op

    def parameter(self, suffix: str, values: Any, element: str) -> Any:
        """A frozen parameter `LAYER.SUFFIX`."""
        op = ops.Parameter(
            tensor(values.shape, element), string(f"{self.layer}.{suffix}"), dense(values)
        )
        return self.named(op).result

    def conv(self, layer: ConvLayer, x: Any) -> Any:
        """A convolution."""
        self.check_input(layer.inputs[0], x, layer.input_quantization)
        self.check_weights(layer)
        self.check_clamp(layer.clamp)
        geometry = self.checked_geometry(layer, shape_of(x))
        shape = geometry.output_shape(shape_of(x), layer.weight.shape)
        self.require(
            min(shape) >= 1,
            f"has an empty output: kernel {list(layer.weight.shape[1:3])} "
            f"over {list(shape_of(x)[1:3])}",
        )
        result = self.activation_type(shape, layer.output_quantization)
        self.check_factors(layer)
        op = ops.Conv2D(
            x,
            self.parameter("weight", layer.weight, "i8"),
            self.parameter("bias", layer.bias, "i32"),
            result,
            dense(layer.weight_scales),
            strides=integers(layer.strides),
            pads=integers(layer.pads),
            groups=integer(layer.groups),
            clamp=integers(layer.clamp),
        )
        return self.named(op).y

    def check_weights(self, layer: ConvLayer) -> None:
        """Weights, scales and biases fit together."""
        weight, scales, bias = layer.weight, layer.weight_scales, layer.bias
        self.require(
            weight.dtype == np.int8 and weight.ndim == 4 and weight.size > 0,
            f"expects non-empty int8 weights of rank 4, got {weight.dtype} {list(weight.shape)}",
        )
        channels = weight.shape[0]
        self.require(
            scales.dtype == np.float64 and scales.shape == (channels,),
            f"expects {channels} float64 weight scales, got {scales.dtype} {list(scales.shape)}",
        )
        bad = np.flatnonzero(~(np.isfinite(scales) & (scales > 0)))
        if bad.size:
            value = float(scales[bad[0]])
            self.fail(
                f"has weight scale {value} in channel {bad[0]}; a scale is positive and finite"
            )
        self.require(
            bias.dtype == np.int32 and bias.shape == (channels,),
            f"expects {channels} int32 biases, got {bias.dtype} {list(bias.shape)}",
        )

    def check_factors(self, layer: ConvLayer) -> None:
        """Each `s_x * s_w / s_y` is a requantization factor that Q31 arithmetic can hold."""
        with np.errstate(over="ignore", under="ignore"):
            ratio = np.float64(layer.input_quantization.scale) * layer.weight_scales
            factors = ratio / layer.output_quantization.scale
        bad = np.flatnonzero(~((factors > 0) & (factors < _MAX_FACTOR)))
        if bad.size:
            value = float(factors[bad[0]])
            self.fail(
                f"has requantization factor {value} in channel {bad[0]}; expected within (0, 2^30)"
            )

    def checked_geometry(self, layer: ConvLayer, x_shape: Shape) -> ConvGeometry:
        """Strides, pads and groups fit weights and input."""
        groups, weight = layer.groups, layer.weight.shape
        self.require(
            len(layer.strides) == 2 and min(layer.strides) >= 1,
            f"has strides {list(layer.strides)}; expected two of at least 1",
        )
        self.require(
            len(layer.pads) == 4 and min(layer.pads) >= 0,
            f"has pads {list(layer.pads)}; expected four of at least 0",
        )
        self.require(
            groups >= 1 and weight[3] * groups == x_shape[3],
            f"has weights for {weight[3]} channels in {groups} groups, "
            f"but its input has {x_shape[3]} channels",
        )
        self.require(
            weight[0] % groups == 0,
            f"has {weight[0]} output channels, not a multiple of {groups} groups",
        )
        return ConvGeometry(layer.strides, layer.pads, groups)

    def add(self, layer: AddLayer, a: Any, b: Any) -> Any:
        """A residual addition."""
        for producer, value, declared in zip(
            layer.inputs, (a, b), layer.input_quantizations, strict=True
        ):
            self.check_input(producer, value, declared)
        self.require(
            shape_of(a) == shape_of(b),
            f"adds {layer.inputs[0]!r} of shape {list(shape_of(a))} "
            f"and {layer.inputs[1]!r} of shape {list(shape_of(b))}",
        )
        self.check_clamp(layer.clamp)
        result = self.activation_type(shape_of(a), layer.output_quantization)
        return self.named(ops.Add(a, b, result, clamp=integers(layer.clamp))).y

    def pool(self, layer: GlobalAveragePoolLayer, x: Any) -> Any:
        """A global average pool."""
        self.require_quantized(layer.inputs[0], x)
        result = self.activation_type((1, 1, 1, shape_of(x)[3]), Quantization(*quantization(x)))
        return self.named(ops.GlobalAveragePool(x, result)).y

    def linear(self, layer: LinearLayer, x: Any) -> Any:
        """A float32 head behind a dequantization."""
        weight, bias = layer.weight, layer.bias
        self.require_quantized(layer.inputs[0], x)
        features = math.prod(shape_of(x))
        self.require(
            weight.dtype == np.float32 and weight.ndim == 2 and weight.shape[1] == features,
            f"expects float32 weights of {features} features, "
            f"got {weight.dtype} {list(weight.shape)}",
        )
        self.require(
            bias.dtype == np.float32 and bias.shape == weight.shape[:1],
            f"expects {weight.shape[0]} float32 biases, got {bias.dtype} {list(bias.shape)}",
        )
        self.require(
            bool(np.isfinite(weight).all() and np.isfinite(bias).all()),
            "has weights or biases that are not finite",
        )
        real = self.named(ops.Dequantize(x, tensor(shape_of(x), "f32"))).y
        operands = (self.parameter("weight", weight, "f32"), self.parameter("bias", bias, "f32"))
        return self.named(ops.Linear(real, *operands, tensor((1, weight.shape[0]), "f32"))).y


_RULES: dict[type[Layer], Callable[..., Any]] = {
    ConvLayer: Emission.conv,
    AddLayer: Emission.add,
    GlobalAveragePoolLayer: Emission.pool,
    LinearLayer: Emission.linear,
    **between_layers.RULES,
}
