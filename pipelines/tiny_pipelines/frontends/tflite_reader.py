"""One walk over the operators of a TFLite graph: the value behind each tensor so far."""

import math
from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidModel
from tiny_pipelines.frontends.activations import (
    RELU,
    RELU6,
    RELU_N1_TO_1,
    quantized_clamp,
    same_padding,
)
from tiny_pipelines.frontends.builder import NetworkBuilder
from tiny_pipelines.frontends.flatbuffer import Damaged
from tiny_pipelines.frontends.layers import FULL_RANGE, Network, Quantization
from tiny_pipelines.frontends.tflite_file import (
    FLOAT32,
    INT8,
    INT32,
    INT64,
    UINT8,
    Graph,
    Operator,
    Tensor,
)
from tiny_pipelines.frontends.values import Pads, Pair, Value, as_float64, image_shape

_ACTIVATIONS = {1: RELU, 2: RELU_N1_TO_1, 3: RELU6}
_SAME = 0

EDGES = ("QUANTIZE", "DEQUANTIZE", "SOFTMAX", "LOG_SOFTMAX", "LOGISTIC")
"""What the reader itself reads, at the edges of the integer part."""

Rule = Callable[["Reader", Operator], Value]
"""What an operator computes, from what the reader knows."""


class Reader:
    """One walk over the operators: the value behind each tensor so far."""

    def __init__(self, graph: Graph, source: str, rules: Mapping[str, Rule]) -> None:
        self.graph, self.rules = graph, rules
        self.build = NetworkBuilder(source)
        self.values: dict[int, Value] = {}
        self.ends: dict[int, tuple[str, Value]] = {}
        self.raw_input: Tensor | None = None

    def fail(self, message: str) -> NoReturn:
        """Raise `InvalidModel` at the current operator."""
        self.build.fail(message)

    def network(self, name: str) -> Network:
        """The whole network."""
        graph = self.graph
        for what, found in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            if len(found) != 1:
                self.fail(f"has {len(found)} {what}; expected one")
        source = graph.tensors[graph.inputs[0]]
        if source.kind == INT8:
            self.input(source, source)
        else:
            self.raw_input = source
        for operator in graph.operators:
            self.operator(operator)
        self.build.place = ""
        output = graph.outputs[0]
        if output in self.ends:
            return self.build.network(name, self.ends[output][1])
        if output not in self.values:
            self.fail(f"no operator computes its output, {graph.tensors[output].title}")
        return self.build.network(name, self.values[output])

    def input(self, source: Tensor, quantized: Tensor) -> None:
        """Let `quantized` be the input of the network; `source` is what the file takes."""
        self.build.place = quantized.title
        shape, quantization = image_shape(quantized.shape), self.quantization(quantized)
        if shape is None:
            self.fail(f"has shape {list(quantized.shape)}; expected batch 1 and rank up to 4")
        kind = {UINT8: "uint8", FLOAT32: "float"}.get(source.kind, "int8")
        x = self.build.input(shape, quantization, quantized.shape)
        self.values[quantized.index] = self.build.quantize_input(x, quantization, kind)

    def operator(self, operator: Operator) -> None:
        """Read one operator; what it computes must have the shape that the file declares."""
        place = f"{operator.name.lower()}.{operator.index}"
        self.build.place = operator.title
        try:
            if operator.name in EDGES and self.edge(operator):
                return
            rule = self.rules.get(operator.name)
            if rule is None:
                supported = sorted({*self.rules, *EDGES})
                self.fail(f"is not supported; supported are {', '.join(supported)}")
            if not operator.inputs or len(operator.outputs) != 1:
                self.fail(f"has {len(operator.inputs)} inputs and {len(operator.outputs)} outputs")
            self.build.layer_name = place
            value = rule(self, operator)
        except Damaged as error:
            raise InvalidModel(f"damaged TFLite file: {error}", self.build.where) from error
        output = self.graph.tensors[operator.outputs[0]]
        if value.logical != output.shape:
            self.fail(f"declares shape {list(output.shape)}, but computes {list(value.logical)}")
        if value.quantization != self.quantization(output):
            self.fail(f"gives {output.title} another quantization than its input has")
        self.values[output.index] = value

    def edge(self, operator: Operator) -> bool:
        """Read an operator at the edge of the integer part; False for one inside."""
        if len(operator.inputs) != 1 or len(operator.outputs) != 1:
            self.fail(f"has {len(operator.inputs)} inputs and {len(operator.outputs)} outputs")
        source, result = operator.inputs[0], operator.outputs[0]
        if source < 0:
            self.fail("has no input")
        tensor = self.graph.tensors[source]
        if self.raw_input is not None and source == self.raw_input.index:
            if operator.name != "QUANTIZE" or tensor.kind not in (FLOAT32, UINT8):
                self.fail(f"reads {tensor.title} of type {tensor.type_name}; expected int8")
            if self.values:
                self.fail("quantizes the input a second time")
            self.input(tensor, self.graph.tensors[result])
            return True
        if source in self.ends:
            self.ends[result] = (operator.name, self.ends[source][1])
            return True
        if operator.name == "QUANTIZE" and self.graph.tensors[result].kind == INT8:
            return False
        self.ends[result] = (operator.name, self.value(operator, 0))
        return True

    def value(self, operator: Operator, number: int) -> Value:
        """The value that input `number` of an operator reads."""
        index = operator.inputs[number] if number < len(operator.inputs) else -1
        if index < 0:
            self.fail(f"has no input {number}")
        tensor = self.graph.tensors[index]
        if index in self.ends:
            self.fail(
                f"reads the result of {self.ends[index][0]}, which is only allowed at the end"
            )
        if index not in self.values:
            if tensor.kind != INT8:
                self.fail(
                    f"reads {tensor.title} of type {tensor.type_name} as input {number}; only "
                    "int8 activations are supported: convert with full integer quantization"
                )
            self.fail(f"reads {tensor.title}: a constant, which is not supported as input {number}")
        return self.values[index]

    def image(self, operator: Operator, number: int = 0) -> Value:
        """An input as the NHWC image of rank 4 that the operator reads."""
        value = self.build.image(self.value(operator, number))
        if len(value.logical) != 4:
            self.fail(f"reads a tensor of rank {len(value.logical)}; expected 4")
        return value

    def quantization(self, tensor: Tensor) -> Quantization:
        """Scale and zero point of an int8 activation."""
        if tensor.kind != INT8:
            self.fail(f"{tensor.title} is {tensor.type_name}; only int8 models are supported")
        if tensor.special:
            self.fail(f"{tensor.title} is {tensor.special}, which is not supported")
        if tensor.scales.size != 1 or tensor.zero_points.size != 1:
            self.fail(
                f"{tensor.title} has {tensor.scales.size} scales and {tensor.zero_points.size} "
                "zero points; an activation has one each"
            )
        scale = float(tensor.scales[0])
        if not 0 < scale < math.inf:
            self.fail(f"{tensor.title} has scale {scale}; a scale is positive and finite")
        return Quantization(scale, int(tensor.zero_points[0]))

    def output(self, operator: Operator) -> Quantization:
        """The quantization of an operator's result."""
        return self.quantization(self.graph.tensors[operator.outputs[0]])

    def shape(self, operator: Operator) -> tuple[int, ...]:
        """The shape that the file declares for an operator's result."""
        return self.graph.tensors[operator.outputs[0]].shape

    def integers(self, operator: Operator, number: int) -> list[int]:
        """A constant input of integers."""
        index = operator.inputs[number] if number < len(operator.inputs) else -1
        if index < 0 or self.graph.tensors[index].kind not in (INT32, INT64):
            self.fail(f"expects constant integers as input {number}")
        tensor = self.graph.tensors[index]
        if tensor.data.size == 0:
            self.fail(f"expects input {number}, {tensor.title}, to be a constant")
        return [int(number) for number in tensor.constant().reshape(-1)]

    def weights(
        self, operator: Operator, rank: int, axis: int
    ) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Symmetric int8 weights and one scale for each channel along `axis`."""
        tensor = self.constant(operator, 1)
        if tensor.kind != INT8 or len(tensor.shape) != rank or 0 in tensor.shape:
            self.fail(
                f"has weights {tensor.type_name} {list(tensor.shape)}; expected int8, rank {rank}"
            )
        channels, scales = tensor.shape[axis], as_float64(tensor.scales)
        if scales.size not in (1, channels) or (scales.size > 1 and tensor.dimension != axis):
            self.fail(
                f"has {scales.size} weight scales along axis {tensor.dimension}; expected one, or "
                f"{channels} along axis {axis}"
            )
        if tensor.zero_points.any():
            self.fail("has asymmetric weights; expected zero points of 0")
        return tensor.constant(), np.broadcast_to(scales, channels).copy()

    def constant(self, operator: Operator, number: int) -> Tensor:
        """The tensor behind a constant input."""
        index = operator.inputs[number] if number < len(operator.inputs) else -1
        if index < 0 or index in self.values or index in self.ends:
            self.fail(f"expects a constant as input {number}")
        tensor = self.graph.tensors[index]
        if tensor.special or tensor.data.size == 0:
            self.fail(f"expects {tensor.title}, input {number}, to be a plain constant")
        return tensor

    def bias(self, operator: Operator, channels: int) -> NDArray[np.int32]:
        """The int32 biases, or zeros where the operator has none."""
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return np.zeros(channels, np.int32)
        tensor = self.constant(operator, 2)
        if tensor.kind != INT32 or tensor.shape != (channels,):
            self.fail(
                f"has biases {tensor.type_name} {list(tensor.shape)}; expected {channels} of int32"
            )
        return tensor.constant().astype(np.int32)

    def clamp(self, operator: Operator, field: int) -> Pair:
        """The int8 clamp of the fused activation function."""
        number = operator.option(field, "i8")
        if number == 0:
            return FULL_RANGE
        if number not in _ACTIVATIONS:
            self.fail(f"has fused activation function {number}, which is not supported")
        return quantized_clamp(_ACTIVATIONS[number], self.output(operator))

    def strides(self, operator: Operator, field: int = 1) -> Pair:
        """(vertical, horizontal) strides; the file has width first."""
        width, height = (operator.option(field + i, "i32") for i in (0, 1))
        if min(width, height) < 1:
            self.fail(f"has strides {[height, width]}; expected at least 1")
        return height, width

    def padding(self, operator: Operator, x: Value, kernel: Pair, strides: Pair) -> Pads:
        """Top, left, bottom, right for SAME or VALID padding of `x` and the zeros around it."""
        if operator.option(0, "i8") != _SAME:
            return (0, 0, 0, 0)
        height, width = x.logical[1:3]
        top, bottom = same_padding(height, kernel[0], strides[0])
        left, right = same_padding(width, kernel[1], strides[1])
        return top, left, bottom, right

    def no_dilation(self, operator: Operator, field: int) -> None:
        """Refuse kernels with holes."""
        width, height = (operator.option(field + i, "i32", 1) for i in (0, 1))
        if (width, height) != (1, 1):
            self.fail(f"has dilation {[height, width]}, which is not supported")
