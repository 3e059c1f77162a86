"""ONNX operators that change nothing but how a tensor is seen, and the table of all operators."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tiny_pipelines.frontends.onnx_file import Node
from tiny_pipelines.frontends.onnx_reader import (
    Ended,
    Pending,
    Quantized,
    RawInput,
    Reader,
    Real,
    Rule,
    Tensor,
    Weights,
)
from tiny_pipelines.frontends.values import Value

RULES: dict[str, Rule] = {}


def reads(*names: str) -> Callable[[Rule], Rule]:
    """Make the decorated function the rule of these operators."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def integers_of(read: Reader, node: Node, number: int) -> list[int]:
    """A short constant list."""
    found = read.constant(node, number)
    if found.dtype != np.int64 or found.size > 8:
        read.fail(f"expects a few int64 numbers as input {number}")
    return [int(value) for value in found.reshape(-1)]


def _view(read: Reader, node: Node, view: Callable[[Value], Value]) -> Tensor:
    """A change of shape, of whatever stands in front."""
    found = read.operand(node, 0)
    if isinstance(found, Pending):
        read.once(node, 0)
        return replace(found, views=(*found.views, view), with_bias=None)
    if isinstance(found, RawInput | Ended):
        return replace(found, value=view(found.value))
    return Real(view(read.real(node)))


def _flattened(axis: int, x: Value) -> list[int]:
    axis = axis + len(x.logical) if axis < 0 else axis
    shape = x.logical
    return [int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))]


@reads("Flatten")
def _flatten(read: Reader, node: Node) -> Tensor:
    axis = node.integer("axis", 1)
    return _view(read, node, lambda x: read.build.reshape(x, _flattened(axis, x)))


@reads("Reshape")
def _reshape(read: Reader, node: Node) -> Tensor:
    wanted = integers_of(read, node, 1)
    if node.integer("allowzero", 0) and 0 in wanted:
        read.fail(f"reshapes to {wanted}, which has no elements")

    def view(x: Value) -> Value:
        if any(size == 0 and i >= len(x.logical) for i, size in enumerate(wanted)):
            read.fail(f"reshapes {list(x.logical)} to {wanted}")
        shape = [x.logical[i] if size == 0 else size for i, size in enumerate(wanted)]
        return read.build.reshape(x, shape)

    return _view(read, node, view)


def _axes(read: Reader, node: Node) -> list[int] | None:
    return integers_of(read, node, 1) if len(node.inputs) > 1 else node.integers("axes", None)


@reads("Squeeze")
def _squeeze(read: Reader, node: Node) -> Tensor:
    axes = _axes(read, node)

    def view(x: Value) -> Value:
        rank = len(x.logical)
        gone = {axis % rank for axis in axes} if axes and rank else None
        if gone is None:
            gone = {i for i, size in enumerate(x.logical) if size == 1}
        kept = [size for i, size in enumerate(x.logical) if i not in gone]
        return read.build.reshape(x, kept)

    return _view(read, node, view)


@reads("Unsqueeze")
def _unsqueeze(read: Reader, node: Node) -> Tensor:
    axes = _axes(read, node) or []

    def view(x: Value) -> Value:
        rank = len(x.logical) + len(axes)
        added, left = {axis % rank for axis in axes}, list(x.logical)
        if len(added) != len(axes):
            read.fail(f"has axes {axes}")
        return read.build.reshape(x, [1 if i in added else left.pop(0) for i in range(rank)])

    return _view(read, node, view)


@reads("Transpose")
def _transpose(read: Reader, node: Node) -> Tensor:
    order = node.integers("perm", None)
    found = read.operand(node, 0)
    if isinstance(found, Weights):
        return _transposed(read, found, order)

    def view(x: Value) -> Value:
        chosen = list(reversed(range(len(x.logical)))) if order is None else order
        return read.build.transpose(x, chosen)

    return _view(read, node, view)


def _transposed(read: Reader, weights: Weights, order: list[int] | None) -> Weights:
    rank = weights.integers.ndim
    chosen = list(reversed(range(rank))) if order is None else order
    if sorted(chosen) != list(range(rank)):
        read.fail(f"transposes {list(weights.integers.shape)} by {chosen}")
    axis = chosen.index(weights.axis) if weights.scales.size > 1 else weights.axis
    return replace(weights, integers=weights.integers.transpose(chosen), axis=axis)


@reads("Shape")
def _shape(read: Reader, node: Node) -> Tensor:
    """The shape of an activation, a constant; a batch that is not fixed counts as 1."""
    found = read.operand(node, 0)
    if not isinstance(found, Real | RawInput | Quantized):
        found = Real(read.real(node))
    ends = [node.integer("start", 0), node.integer("end", len(found.value.logical))]
    return np.array(found.value.logical[slice(*ends)], np.int64)


@reads("Identity", "Dropout")
def _identity(read: Reader, node: Node) -> Tensor:
    return _view(read, node, lambda x: x)
