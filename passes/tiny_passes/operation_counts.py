"""Multiply-accumulates of each op, from its shapes: the denominator of every speed figure."""

from collections.abc import Callable
from math import prod
from typing import Any

from tiny_dialect.types import shape_of
from tiny_passes.graph import FUSED_BLOCK, body

FORWARD, BACKWARD = "forward", "backward"


def _conv_macs(outputs: Any, weight: Any) -> int:
    return prod(shape_of(outputs)) * prod(shape_of(weight)[1:])


def _weight_update_macs(op: Any) -> int:
    return prod(shape_of(op.operands[2])[1:3]) * prod(shape_of(op.operands[0]))


def _elements(value: Any) -> int:
    return prod(shape_of(value))


_MACS: dict[str, Callable[[Any], int]] = {
    FUSED_BLOCK: lambda op: sum(macs(inner) for inner in op.regions[0].blocks[0]),
    "tiny.conv2d": lambda op: _conv_macs(op.results[0], op.operands[1]),
    "tiny.conv2d_input_grad": lambda op: _conv_macs(op.operands[0], op.operands[1]),
    "tiny.integer_conv2d_input_grad": lambda op: _conv_macs(op.operands[0], op.operands[2]),
    "tiny.conv2d_weight_grad": lambda op: _conv_macs(op.operands[1], op.results[0]),
    "tiny.conv2d_weight_update": _weight_update_macs,
    "tiny.integer_conv2d_weight_update": _weight_update_macs,
    "tiny.stochastic_conv2d_weight_update": _weight_update_macs,
    "tiny.integer_stochastic_conv2d_weight_update": _weight_update_macs,
    "tiny.linear": lambda op: _elements(op.operands[1]),
    "tiny.integer_linear": lambda op: _elements(op.operands[1]),
    "tiny.linear_input_grad": lambda op: _elements(op.operands[1]),
    "tiny.integer_linear_input_grad": lambda op: _elements(op.operands[2]),
    "tiny.linear_weight_grad": lambda op: _elements(op.results[0]),
    "tiny.linear_weight_update": lambda op: _elements(op.operands[0]),
    "tiny.integer_linear_weight_update": lambda op: _elements(op.operands[0]),
}


def macs(op: Any) -> int:
    """Multiply-accumulates of one op, padding counted as work; 0 for ops that have none."""
    count = _MACS.get(op.operation.name)
    return count(op) if count else 0


def is_backward(op: Any) -> bool:
    """True for gradients and updates."""
    name = op.operation.name
    return name.endswith(("_grad", "_update", "_gradient", "_gradients"))


def count_macs(function: Any) -> dict[str, int]:
    """Multiply-accumulates of a function: `{"forward": ..., "backward": ...}`."""
    counts = {FORWARD: 0, BACKWARD: 0}
    for op in body(function):
        counts[BACKWARD if is_backward(op) else FORWARD] += macs(op)
    return counts
