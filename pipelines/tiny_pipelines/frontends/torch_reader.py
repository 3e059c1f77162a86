"""One walk over a `TorchGraph`: what each value is so far, and the kinds of values there are."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.activations import quantized_clamp
from tiny_pipelines.frontends.builder import NetworkBuilder
from tiny_pipelines.frontends.calibration import (
    Range,
    activation_quantization,
    evaluated_constant,
)
from tiny_pipelines.frontends.layers import FULL_RANGE, Network, Quantization
from tiny_pipelines.frontends.torch_graph import (
    Ref,
    TorchGraph,
    TorchNode,
    shown,
)
from tiny_pipelines.frontends.values import NCHW, NHWC, Value

Bounds = tuple[float, float]
Clamp = tuple[int, int]
Finish = Callable[[Quantization, Clamp], Value]
Channelwise = NDArray[np.float64]

UNBOUNDED: Bounds = (-np.inf, np.inf)


@dataclass(frozen=True)
class Real:
    """An activation that a layer computes."""

    value: Value


@dataclass(frozen=True)
class Pending:
    """A layer that is not quantized yet; `bounds` are those of ReLU and clamps behind it."""

    finish: Finish
    node: TorchNode
    bounds: Bounds = UNBOUNDED
    views: tuple[Callable[[Value], Value], ...] = ()
    scaled: Callable[[Channelwise, Channelwise], "Pending"] | None = None
    """The same layer with its channels times a factor, plus an offset: a batch norm folded."""


@dataclass(frozen=True)
class Ended:
    """What a softmax or sigmoid at the end computes."""

    value: Value


Tensor = Real | Pending | Ended | NDArray[Any] | int


Rule = Callable[["Reader", TorchNode], Tensor]
"""What a node computes, from what the reader knows."""


class Reader:
    """One walk over the nodes: what each value is so far."""

    def __init__(
        self, graph: TorchGraph, ranges: dict[str, Range], rules: Mapping[str, Rule]
    ) -> None:
        self.graph, self.ranges, self.rules = graph, ranges, rules
        self.build = NetworkBuilder(graph.source)
        self.uses = Counter(name for node in graph.nodes for name in node.operands())
        self.uses[graph.output] += 1
        self.values: dict[str, Tensor] = dict(graph.constants)

    def fail(self, message: str) -> NoReturn:
        """Raise `InvalidModel` at the current node."""
        self.build.fail(shown(message))

    def network(self, name: str) -> Network:
        """The whole network."""
        self.values[self.graph.input_name] = Real(self._input())
        for node in self.graph.nodes:
            self.at(node)
            if self._is_constant(node):
                self.values[node.name] = evaluated_constant(self.graph, node, self.values)
                continue
            self.values[node.name] = self.rules[node.kind](self, node)
        self.build.place = f"output {self.graph.output}"
        found = self.values[self.graph.output]
        value = found.value if isinstance(found, Ended) else self.activation(self.graph.output)
        return self.build.network(name, value)

    def _is_constant(self, node: TorchNode) -> bool:
        """True where a node reads arrays that are known, and perhaps sizes, but no activation."""
        operands = [self.values[name] for name in node.operands()]
        known = all(isinstance(found, np.ndarray | int) for found in operands)
        return known and any(isinstance(found, np.ndarray) for found in operands)

    def at(self, node: TorchNode) -> None:
        """Make `node` the place of errors and the name of the next layer."""
        self.build.place, self.build.layer_name = node.place, node.layer

    def _input(self) -> Value:
        logical = self.graph.input_shape
        self.build.place = f"input {self.graph.input_name}"
        last = len(logical) == 2 or self._is_channels_last(len(logical))
        inner = [*logical[1:]] if last else [*logical[2:], logical[1]]
        shape = (1, *[1] * (3 - len(inner)), *inner)
        order = NHWC if last else NCHW
        found = activation_quantization(self.ranges[self.graph.input_name])
        x = self.build.input((1, shape[1], shape[2], shape[3]), found, logical, order)
        return self.build.quantize_input(x, found, "float")

    def _is_channels_last(self, rank: int) -> bool:
        """True where all that read the input take its last axis as channels."""
        name, to_front = self.graph.input_name, [0, rank - 1, *range(1, rank - 1)]
        readers = [node for node in self.graph.nodes if name in node.operands()]
        return all(_moves_axes(node, rank) == to_front for node in readers)

    # Operands.

    def name_of(self, node: TorchNode, argument: str) -> str:
        """The name of the value that an argument is."""
        found = node.arguments[argument]
        if not isinstance(found, Ref):
            self.fail(f"has {found!r} as {argument}; expected an activation")
        return found.name

    def operand(self, node: TorchNode, argument: str) -> Tensor:
        """What an argument is so far."""
        return self.values[self.name_of(node, argument)]

    def real(self, node: TorchNode, argument: str) -> Value:
        """The activation that an argument is, quantized now at the latest."""
        return self.activation(self.name_of(node, argument))

    def activation(self, name: str) -> Value:
        """The activation called `name`, quantized now at the latest."""
        found = self.values[name]
        if isinstance(found, Pending):
            found = Real(self._finished(name, found))
            self.values[name] = found
        if isinstance(found, Ended):
            self.fail(f"reads {name}, a softmax or sigmoid, which is only allowed at the end")
        if not isinstance(found, Real):
            self.fail(f"reads {name}, a constant; expected an activation")
        return found.value

    def _finished(self, name: str, pending: Pending) -> Value:
        """The value of a layer, with the range of `name`, the last node fused into it."""
        here = self.build.place, self.build.layer_name
        self.at(pending.node)
        output = activation_quantization(self.ranges[name])
        value = pending.finish(output, quantized_clamp(pending.bounds, output))
        for view in pending.views:
            value = view(value)
        self.build.place, self.build.layer_name = here
        return value

    def fusable(self, node: TorchNode, argument: str) -> Pending | None:
        """The layer in front, if nothing but this node reads its result."""
        found = self.operand(node, argument)
        alone = self.uses[self.name_of(node, argument)] == 1
        return found if isinstance(found, Pending) and alone else None

    def constant(self, node: TorchNode, argument: str) -> NDArray[np.float64] | None:
        """A constant in float64; None where it is absent."""
        if node.arguments[argument] is None:
            return None
        found = self.operand(node, argument)
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
            self.fail(f"expects float weights as {argument}")
        if not np.isfinite(found).all():
            self.fail(f"has values in {argument} that are not finite")
        return found.astype(np.float64)

    def integers(self, node: TorchNode, argument: str) -> list[int]:
        """A list of integers, some of which may be computed sizes."""
        found: list[int] = []
        given = node.arguments[argument]
        for item in given if isinstance(given, list | tuple) else [given]:
            value = self.values[item.name] if isinstance(item, Ref) else item
            if isinstance(value, bool) or not isinstance(value, int):
                self.fail(f"has {argument} {given!r}; expected integers")
            found.append(value)
        return found

    def clamped(self, node: TorchNode, argument: str, bounds: Bounds) -> Tensor:
        """An activation within real bounds: fused into the layer in front where that is alone."""
        pending = self.fusable(node, argument)
        if pending is not None:
            low, high = max(pending.bounds[0], bounds[0]), min(pending.bounds[1], bounds[1])
            return replace(pending, bounds=(low, high), scaled=None)
        x = self.real(node, argument)
        if quantized_clamp(bounds, x.quantization) == FULL_RANGE:
            return Real(x)
        alone = Pending(lambda output, clamp: self.build.requantize(x, output, clamp), node)
        return replace(alone, bounds=bounds)

    def view(self, node: TorchNode, argument: str, view: Callable[[Value], Value]) -> Tensor:
        """A change of shape, behind whatever stands in front."""
        found = self.operand(node, argument)
        pending = self.fusable(node, argument)
        if pending is not None:
            return replace(pending, views=(*pending.views, view), scaled=None)
        if isinstance(found, Ended):
            return replace(found, value=view(found.value))
        return Real(view(self.real(node, argument)))


def _moves_axes(node: TorchNode, rank: int) -> list[int]:
    """The order of axes that a reader of the input brings about, or stands for."""
    order = list(range(rank))
    given = [node.arguments.get(name) for name in ("dim0", "dim1")]
    if node.kind == "linear":
        return [0, rank - 1, *order[1:-1]]
    if node.kind == "permute":
        return [axis % rank for axis in node.arguments["dims"] if isinstance(axis, int)]
    if node.kind == "transpose" and all(isinstance(axis, int) for axis in given):
        a, b = (int(axis) % rank for axis in given if axis is not None)
        order[a], order[b] = order[b], order[a]
    return order
