"""Multiply-accumulates of each op, from its shapes: the denominator of every speed figure."""

from math import prod
from typing import Any

from tiny_dialect.types import shape_of
from tiny_passes.graph import FUSED_BLOCK, body

FORWARD, BACKWARD = "forward", "backward"


def _conv_macs(outputs: Any, weight: Any) -> int:
    return prod(shape_of(outputs)) * prod(shape_of(weight)[1:])


def macs(op: Any) -> int:
    """Multiply-accumulates of one op, padding counted as work; 0 for ops that have none."""
    name = op.operation.name
    operands, results = op.operands, op.results
    if name == FUSED_BLOCK:
        return sum(macs(inner) for inner in op.regions[0].blocks[0])
    if name == "tiny.conv2d":
        return _conv_macs(results[0], operands[1])
    if name == "tiny.conv2d_input_grad":
        return _conv_macs(operands[0], operands[1])
    if name == "tiny.conv2d_weight_grad":
        return _conv_macs(operands[1], results[0])
    if name == "tiny.conv2d_weight_update":
        shape = shape_of(operands[0])
        return prod(shape_of(operands[2])[1:3]) * prod(shape)
    if name == "tiny.linear_weight_update":
        return prod(shape_of(operands[0]))
    if name == "tiny.linear_weight_grad":
        return prod(shape_of(results[0]))
    if name in ("tiny.linear", "tiny.linear_input_grad"):
        return prod(shape_of(operands[1]))
    return 0


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
