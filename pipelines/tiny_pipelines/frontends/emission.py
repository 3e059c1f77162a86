"""What all rules of the emitter share: the values made so far, the current layer, and checks."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from tiny_dialect import ops
from tiny_dialect.attributes import dense, string
from tiny_dialect.bindings import ir, load
from tiny_dialect.dialect import first_diagnostic
from tiny_dialect.errors import InvalidModel
from tiny_dialect.types import Shape, is_quantized, quantization, quantized, tensor
from tiny_pipelines.frontends.layers import INPUT, Layer, Network, Quantization

MAX_FACTOR = 2.0**30
"""What a requantization factor stays below, for Q31 arithmetic."""
_MAX_ELEMENTS = 2**31 - 1
_MIN_SCALE, _MAX_SCALE = 2.0**-126, 2.0**128 - 2.0**104

Rule = Callable[..., Any]
"""Makes the ops of a layer: called with the emission, the layer and its operands."""


class Emission:
    """One run of the emitter: the values made so far and the place of the current layer."""

    def __init__(self, network: Network, file: Any, rules: Mapping[type[Layer], Rule]) -> None:
        self.network, self.file, self.rules = network, file, rules
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
                self.values[layer.name] = self.rules[type(layer)](self, layer, *operands)
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
