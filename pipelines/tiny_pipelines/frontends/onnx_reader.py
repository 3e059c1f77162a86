"""One walk over an ONNX graph: what each tensor is so far, and the kinds of tensors there are."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.activations import quantized_clamp
from tiny_pipelines.frontends.builder import NetworkBuilder
from tiny_pipelines.frontends.layers import INPUT, Network, Quantization
from tiny_pipelines.frontends.onnx_constants import folded, quantized
from tiny_pipelines.frontends.onnx_file import KINDS, Node, constant_of, input_shape
from tiny_pipelines.frontends.values import NCHW, NHWC, Value, as_float64

Bounds = tuple[float, float]
Clamp = tuple[int, int]
Finish = Callable[[Quantization, Clamp], Value]

UNBOUNDED: Bounds = (-np.inf, np.inf)
_KINDS = {1: "float", 2: "uint8", 3: "int8"}
_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))
_WORD = np.dtype(np.int32)
_PLACEHOLDER = Quantization(1.0, 0)

OWN_OPERATORS = ("Constant", "DequantizeLinear", "QuantizeLinear")
"""What the reader itself reads."""
_OTHER_FORMS = (
    *("QLinear", "com.microsoft::QLinear", "com.microsoft::QGemm", "com.microsoft::Dynamic"),
    *("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"),
)
"""How the operators of quantized graphs that are not QDQ begin."""


@dataclass(frozen=True)
class Quantized:
    """The integers that a QuantizeLinear computes; `kind` is their type in the file."""

    value: Value
    kind: Any


@dataclass(frozen=True)
class Real:
    """The real values of an activation: what DequantizeLinear computes."""

    value: Value


@dataclass(frozen=True)
class RawInput:
    """The input of the graph as it is given: `kind` is `float`, `int8` or `uint8`."""

    value: Value
    kind: str


@dataclass(frozen=True, eq=False)
class Weights:
    """Dequantized constants: integers less their zero points, and their scales along `axis`.

    int8 where the zero points are in the middle of the range, int16 elsewhere; int32 biases.
    """

    integers: NDArray[Any]
    scales: NDArray[np.float64]
    axis: int

    @property
    def real(self) -> NDArray[np.float64]:
        """What the constants stand for."""
        shape = [1] * self.integers.ndim
        if self.scales.size > 1:
            shape[self.axis] = self.scales.size
        return self.integers * self.scales.reshape(shape)


@dataclass(frozen=True)
class Pending:
    """The result of an op before its QuantizeLinear; `bounds` are those of Relu and Clip."""

    finish: Finish
    layer: str
    place: str
    bounds: Bounds = UNBOUNDED
    views: tuple[Callable[[Value], Value], ...] = ()
    with_bias: Callable[[Any], "Pending"] | None = None
    """The same op with a bias added, of a matrix product without one."""


@dataclass(frozen=True)
class Ended:
    """What a Softmax or Sigmoid at the end computes, rounded or not."""

    value: Value
    by: str


_INSTEAD: tuple[tuple[type[Any], str], ...] = (
    (Pending, "a float result that no QuantizeLinear has rounded"),
    (RawInput, "the input; expected QuantizeLinear and DequantizeLinear behind it"),
    (Quantized, "integers without DequantizeLinear"),
    (Ended, "the result of a Softmax or Sigmoid, which is only allowed at the end"),
)
"""What stands where an activation should, in words."""

Tensor = Quantized | Real | RawInput | Weights | Pending | Ended | NDArray[Any]


Rule = Callable[["Reader", Node], Tensor]
"""What a node computes, from what the reader knows."""


class Reader:
    """One walk over the nodes: what each tensor is so far."""

    def __init__(self, graph: Any, source: str, rules: Mapping[str, Rule]) -> None:
        self.source, self.graph, self.rules = source, graph, rules
        self.build = NetworkBuilder(source)
        self.nodes = [Node(index, proto, source) for index, proto in enumerate(graph.node)]
        self.uses = Counter(name for node in self.nodes for name in node.inputs)
        self.uses.update(str(output.name) for output in graph.output)
        self.tensors: dict[str, Tensor] = {
            str(proto.name): constant_of(proto, f"{source}:initializer {proto.name}")
            for proto in graph.initializer
        }

    def fail(self, message: str) -> NoReturn:
        """Raise `InvalidModel` at the current node."""
        self.build.fail(message)

    def network(self, name: str) -> Network:
        """The whole network."""
        self._input()
        for node in self.nodes:
            self.build.place = node.title
            self.build.layer_name = f"{node.type.lower()}.{node.index}"
            self._node(node)
        if len(self.graph.output) != 1:
            self.build.fail(f"has {len(self.graph.output)} outputs; expected one", "")
        output = str(self.graph.output[0].name)
        self.build.place = f"output {output}"
        result = self.tensors.get(output)
        if isinstance(result, Pending):
            self.fail("is a float result: no QuantizeLinear follows the last op")
        if not isinstance(result, Quantized | Real | Ended):
            self.fail("no node computes it from the input")
        return self.build.network(name, result.value)

    def _input(self) -> None:
        inputs = [proto for proto in self.graph.input if str(proto.name) not in self.tensors]
        if len(inputs) != 1:
            self.build.fail(f"has {len(inputs)} inputs; expected one", "")
        name = str(inputs[0].name)
        self.build.place = f"input {name}"
        kind, logical = input_shape(inputs[0], self.source)
        if kind not in _KINDS or not 1 <= len(logical) <= 4 or logical[0] != 1:
            self.fail(
                f"has data type {kind} and shape {list(logical)}; expected float, int8 or uint8, "
                "batch 1 and rank up to 4"
            )
        order = NHWC if self._is_channels_last(name, len(logical)) else NCHW
        inner = [1] * (3 - len(logical[1:])) + list(logical[1:])
        if order == NCHW and len(logical) > 2:
            inner = [1] * (4 - len(logical)) + [*logical[2:], logical[1]]
        shape = (1, inner[0], inner[1], inner[2])
        value = self.build.input(shape, _PLACEHOLDER, logical, order)
        self.tensors[name] = RawInput(value, _KINDS[kind])

    def _is_channels_last(self, name: str, rank: int) -> bool:
        """True where the first op behind the input moves the last axis to the front, or reads it.

        A matrix product of a tensor of rank 3 or 4 is one of its last axis.
        """
        if rank < 3:
            return True
        to_front = [0, rank - 1, *range(1, rank - 1)]
        names = {name}
        for node in self.nodes:
            if not names & set(node.inputs[:1]):
                continue
            if node.type == "Transpose":
                return node.integers("perm", None) == to_front
            if node.type == "MatMul":
                return True
            if node.type in ("QuantizeLinear", "DequantizeLinear", "Identity"):
                names.update(node.outputs)
        return False

    def _node(self, node: Node) -> None:
        known = self._folded(node)
        if known is not None:
            result: Tensor = known
        elif node.type == "Constant":
            result = node.constant()
        elif node.type == "QuantizeLinear":
            result = self._quantize(node)
        elif node.type == "DequantizeLinear":
            result = self._dequantize(node)
        elif node.type in self.rules:
            result = self.rules[node.type](self, node)
        else:
            self._unsupported(node)
        if not node.outputs or not node.outputs[0]:
            self.fail("has no output")
        if any(self.uses[name] for name in node.outputs[1:]):
            self.fail("has more than one output that is read")
        if node.outputs[0] in self.tensors:
            self.fail(f"computes {node.outputs[0]!r} a second time")
        self.tensors[node.outputs[0]] = result

    def _folded(self, node: Node) -> NDArray[Any] | None:
        """What a node computes from constants alone; None for any other node."""
        arrays: list[NDArray[Any] | None] = []
        for name in node.inputs:
            found = self.tensors.get(name) if name else None
            if name and not isinstance(found, np.ndarray):
                return None
            arrays.append(found if isinstance(found, np.ndarray) else None)
        return folded(node, arrays)

    def _unsupported(self, node: Node) -> NoReturn:
        supported = ", ".join(sorted({*self.rules, *OWN_OPERATORS}))
        if node.type.startswith(_OTHER_FORMS):
            self.fail(
                "is of another quantized form; quantize statically in the QDQ form "
                f"(quant_format=QuantFormat.QDQ), of which are supported {supported}"
            )
        self.fail(f"is not supported; supported are {supported}")

    # Operands.

    def operand(self, node: Node, number: int) -> Tensor:
        """What input `number` of a node is."""
        name = node.inputs[number] if number < len(node.inputs) else ""
        if name not in self.tensors:
            self.fail(f"reads {name!r} as input {number}, which nothing computes")
        return self.tensors[name]

    def optional(self, node: Node, number: int) -> Tensor | None:
        """What input `number` is; None where it is absent."""
        given = number < len(node.inputs) and node.inputs[number]
        return self.operand(node, number) if given else None

    def real(self, node: Node, number: int = 0) -> Value:
        """The activation that an input dequantizes."""
        found = self.operand(node, number)
        if isinstance(found, Real):
            return found.value
        what = next((text for kind, text in _INSTEAD if isinstance(found, kind)), "a constant")
        self.fail(f"reads {node.inputs[number]!r} as input {number}: {what}")

    def constant(self, node: Node, number: int) -> NDArray[Any]:
        """A plain constant input."""
        found = self.operand(node, number)
        if not isinstance(found, np.ndarray):
            self.fail(f"expects a constant as input {number}, {node.inputs[number]!r}")
        return found

    def weights(self, node: Node, number: int) -> Weights:
        """Dequantized constant weights."""
        found = self.operand(node, number)
        if not isinstance(found, Weights):
            self.fail(
                f"expects quantized constants behind DequantizeLinear as input {number}, "
                f"{node.inputs[number]!r}"
            )
        return found

    def once(self, node: Node, number: int) -> None:
        """Refuse a float result that something else reads too."""
        name = node.inputs[number]
        if self.uses[name] != 1:
            self.fail(f"reads {name!r}, a float result that {self.uses[name]} nodes read")

    # Quantization.

    def _parameters(self, node: Node, kind: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """(scales, zero points) of a node that (de)quantizes; zeros of `kind` where it has none."""
        scales = self.constant(node, 1)
        zeros = self.optional(node, 2)
        if zeros is None:
            zeros = np.zeros(scales.shape, kind)
        if not isinstance(zeros, np.ndarray) or scales.dtype != np.float32:
            self.fail("expects constant float32 scales and constant zero points")
        if node.integer("block_size", 0) or scales.ndim > 1 or zeros.size != scales.size:
            self.fail("has scales or zero points in blocks, which is not supported")
        return as_float64(scales).reshape(-1), zeros.reshape(-1)

    def _activation(self, node: Node, kind: Any) -> tuple[Quantization, Any]:
        """The int8 quantization of an activation, and its type in the file; `kind` if unsaid."""
        scales, zeros = self._parameters(node, kind)
        if scales.size != 1:
            self.fail(f"has {scales.size} scales; an activation has one")
        if zeros.dtype not in _BYTES:
            self.fail(f"quantizes to {zeros.dtype}; only int8 and uint8 are supported")
        shift = 128 if zeros.dtype == np.uint8 else 0
        return Quantization(float(scales[0]), int(zeros[0]) - shift), zeros.dtype

    def _quantize(self, node: Node) -> Tensor:
        found = self.operand(node, 0)
        default = KINDS.get(node.integer("output_dtype", 0), np.dtype(np.uint8))
        if isinstance(found, np.ndarray):
            return self._quantized_constant(node, found, default)
        if isinstance(found, Ended):
            return found
        output, kind = self._activation(node, default)
        if isinstance(found, RawInput) and found.kind == "float":
            return Quantized(self._quantized_input(found, output), kind)
        if isinstance(found, Real):
            return Quantized(self.build.requantize(found.value, output), kind)
        if not isinstance(found, Pending):
            self.fail(f"quantizes {node.inputs[0]!r}, which is not the result of an op")
        self.once(node, 0)
        clamp = quantized_clamp(found.bounds, output)
        here, self.build.place = self.build.place, found.place
        self.build.layer_name = found.layer
        value = found.finish(output, clamp)
        for view in found.views:
            value = view(value)
        self.build.place = here
        return Quantized(value, kind)

    def _quantized_input(self, found: RawInput, quantization: Quantization) -> Value:
        if found.value.name != INPUT:
            self.fail("quantizes the input behind a change of its shape in memory")
        return self.build.quantize_input(found.value, quantization, found.kind)

    def _dequantize(self, node: Node) -> Tensor:
        found = self.operand(node, 0)
        if isinstance(found, np.ndarray):
            return self._dequantized_constant(node, found)
        if isinstance(found, Ended):
            return found
        if isinstance(found, RawInput) and found.kind != "float":
            output, _ = self._activation(node, np.dtype(found.kind))
            return Real(self._quantized_input(found, output))
        if not isinstance(found, Quantized):
            self.fail(f"reads {node.inputs[0]!r}, which is not quantized")
        output, _ = self._activation(node, found.kind)
        if found.value.quantization != output:
            self.fail(
                f"reads {node.inputs[0]!r} with another scale or zero point than it is written with"
            )
        return Real(found.value)

    def _axis(self, node: Node, values: NDArray[Any], scales: NDArray[Any]) -> int:
        """The axis of `values` that a node has its scales along."""
        axis = node.integer("axis", 1)
        axis = axis + values.ndim if axis < 0 else axis
        fits = 0 <= axis < values.ndim and scales.size == values.shape[axis]
        if scales.size > 1 and not fits:
            self.fail(f"has {scales.size} scales for {list(values.shape)} along axis {axis}")
        return axis

    def _quantized_constant(self, node: Node, values: NDArray[Any], kind: Any) -> NDArray[Any]:
        scales, zeros = self._parameters(node, kind)
        if values.dtype != np.float32 or zeros.dtype not in _BYTES:
            self.fail(f"quantizes a constant, {values.dtype}, to {zeros.dtype}")
        if not (np.isfinite(values).all() and np.isfinite(scales).all() and (scales > 0).all()):
            self.fail("quantizes a constant that is not finite, or by a scale that is not positive")
        axis = self._axis(node, values, scales)
        return quantized(values, scales.astype(np.float32), zeros, axis)

    def _dequantized_constant(self, node: Node, values: NDArray[Any]) -> Weights:
        scales, zeros = self._parameters(node, values.dtype)
        plain = values.dtype in _BYTES and zeros.dtype == values.dtype
        if not plain and not (values.dtype == _WORD and not zeros.any()):
            self.fail(f"dequantizes {values.dtype} by {zeros.dtype} zero points")
        axis = self._axis(node, values, scales)
        if values.dtype == _WORD:
            return Weights(values, scales, axis)
        middle = 128 if values.dtype == np.uint8 else 0
        kind = np.int8 if (zeros == middle).all() else np.int16
        shape = [1] * values.ndim
        if zeros.size > 1:
            shape[axis] = zeros.size
        less = values.astype(np.int16) - zeros.reshape(shape).astype(np.int16)
        return Weights(np.asarray(less, kind), scales, axis)


def narrowed(pending: Pending, bounds: Bounds) -> Pending:
    """`pending` behind another clamp."""
    low, high = max(pending.bounds[0], bounds[0]), min(pending.bounds[1], bounds[1])
    return replace(pending, bounds=(low, high), with_bias=None)
