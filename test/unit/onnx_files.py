"""Builds small QDQ ONNX graphs, as quantizers write them."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class QdqGraph:
    """A graph under construction; activations are uint8 or int8."""

    def __init__(self, seed: int = 0, kind: Any = np.uint8, constants_as_nodes: bool = False):
        self.rng = np.random.default_rng(seed)
        self.kind = kind
        self.constants_as_nodes = constants_as_nodes
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.shape: list[int] = []
        self.count = 0

    def name(self, what: str) -> str:
        self.count += 1
        return f"{what}_{self.count}"

    def constant(self, array: Any) -> str:
        array, name = np.asarray(array), self.name("constant")
        proto = numpy_helper.from_array(array, name)
        if self.constants_as_nodes:
            self.nodes.append(helper.make_node("Constant", [], [name], value=proto))
        else:
            self.initializers.append(proto)
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = self.name(kind.lower())
        node = helper.make_node(kind, list(inputs), [output], name=f"/{output}", **attributes)
        self.nodes.append(node)
        return output

    def quantize(self, x: str, scale: float, zero: int) -> str:
        """QuantizeLinear and DequantizeLinear of an activation; `zero` is in int8."""
        stored = zero + 128 if self.kind == np.uint8 else zero
        parameters = [self.constant(np.float32(scale)), self.constant(np.array(stored, self.kind))]
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *parameters), *parameters)

    def weights(self, shape: Any, axis: int = 0, per_channel: bool = True) -> tuple[str, Any]:
        """Random int8 weights behind DequantizeLinear, and their scales."""
        array = self.rng.integers(-127, 128, shape).astype(np.int8)
        channels = shape[axis] if per_channel else 1
        scales = self.rng.uniform(0.002, 0.01, channels).astype(np.float32)
        zeros = np.zeros(channels, np.int8)
        if not per_channel:
            scales, zeros = scales[0], zeros[0]
        inputs = [self.constant(array), self.constant(scales), self.constant(zeros)]
        attributes = {"axis": axis} if per_channel else {}
        return self.op("DequantizeLinear", *inputs, **attributes), scales

    def bias(self, scales: Any, input_scale: float, channels: int) -> str:
        """Random int32 biases behind DequantizeLinear."""
        array = self.rng.integers(-9000, 9000, channels).astype(np.int32)
        unit = (np.broadcast_to(scales, channels) * np.float32(input_scale)).astype(np.float32)
        inputs = [
            self.constant(array),
            self.constant(unit),
            self.constant(np.zeros(channels, np.int32)),
        ]
        return self.op("DequantizeLinear", *inputs, axis=0)

    def model(self, shape: Any, output: str, output_shape: Any) -> bytes:
        kind = TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info("x", kind, list(shape))],
            [helper.make_tensor_value_info(output, kind, list(output_shape))],
            self.initializers,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()


SCALE, ZERO = 0.02, -7


def spread(fan_in: int) -> float:
    """An output scale for which the results fill int8 and clamp now and then."""
    return float(np.sqrt(fan_in) * 74 * 74 * SCALE * 0.006 / 50)
