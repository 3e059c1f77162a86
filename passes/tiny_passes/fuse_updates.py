"""Apply each parameter gradient as it is produced, so that no gradient tensor is ever stored.

Before:  %gw = "tiny.conv2d_weight_grad"(%x, %g) {scales = s}
         %gx = "tiny.conv2d_input_grad"(%g, %w)
         "tiny.apply_update"(%w, %gw, %rate) {factors = f}
After:   %gx = "tiny.conv2d_input_grad"(%g, %w)
         "tiny.conv2d_weight_update"(%w, %x, %g, %rate) {factors = s * f}

The fused op stands behind every other use of its parameter, so all gradients are those of the
weights before the step. The gradient of a parameter that two layers share is a sum of two ops; it
keeps its `apply_update`. The int8 and int16 results can differ from the unfused ones only by the
rounding of the float32 product `s * f`.

A fused update waits for every other use of its parameter, and what it reads lives on till then.
With `by_cost` those gradients stay stored that are smaller than what so lived through the peak.

Cost: one walk, with `by_cost` some order searches. Input and output are valid IR.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import dense, to_array
from tiny_dialect.bindings import ir
from tiny_passes.graph import body, producer, users
from tiny_passes.liveness import label_steps, read_function
from tiny_passes.prune_backward import UPDATES, updated_symbol
from tiny_passes.rebuild import rebuilt
from tiny_passes.registry import PassError, register_pass
from tiny_passes.update_costs import Update, updates_to_store

# By update op: gradient op -> fused update op, which takes the gradient op's operands in their
# order in place of the gradient.
_FUSED = {
    "tiny.apply_update": {
        "tiny.conv2d_weight_grad": "tiny.conv2d_weight_update",
        "tiny.linear_weight_grad": "tiny.linear_weight_update",
        "tiny.bias_grad": "tiny.bias_update",
    },
    "tiny.stochastic_update": {
        "tiny.conv2d_weight_grad": "tiny.stochastic_conv2d_weight_update",
    },
}


def _folded(factors: Any, gradient: Any) -> Any:
    """The update's factors times the gradient's scales, rounded once to float32."""
    if "scales" not in gradient.attributes:
        return factors
    scales = to_array(gradient.attributes["scales"]).astype(np.float64)
    return dense((scales * to_array(factors)).astype(np.float32))


def _fused_name(update: Any, gradient: Any) -> str:
    """The op that is both; empty where there is none. Truncation is left apart."""
    if "rounding" in update.attributes:
        return ""
    return _FUSED[update.operation.name].get(gradient.operation.name, "")


def _fuse(update: Any, gradient: Any, after: Any) -> None:
    parameter, _, *rest = update.operands
    stream = {"stream": update.attributes["stream"]} if "stream" in update.attributes else {}
    factors = _folded(update.attributes["factors"], gradient)
    rebuilt(
        gradient,
        name=_fused_name(update, gradient),
        operands=[parameter, *gradient.operands, *rest],
        results=[],
        attributes={"scales": None, "factors": factors, **stream},
        at=ir.InsertionPoint.after(after.operation),
    )
    update.operation.erase()
    if not list(gradient.results[0].uses):
        gradient.operation.erase()


def _cheaper_stored(step: Any) -> set[Any]:
    """The `apply_update` ops that need less of the arena as they are."""
    backward = label_steps(step)
    if not backward:
        return set()
    source = read_function(step, row_overlap=True)
    step_of = {op.operation: index for index, op in enumerate(source.ops) if op is not None}
    updates: dict[Update, Any] = {}
    for op in source.ops[1:]:
        if op.operation.name not in _FUSED:
            continue
        gradient = producer(op.operands[1])
        if gradient is None or not _fused_name(op, gradient):
            continue
        if len(users(gradient.results[0])) == 1:
            apply = step_of[op.operation]
            updates[Update(step_of[gradient.operation], apply)] = op.operation
    chosen = updates_to_store(source.graph, frozenset(backward), updates)
    return {updates[update] for update in chosen}


@register_pass("tiny-fuse-updates", anchor="func.func", only="train_step")
def fuse_updates(step: Any, *, by_cost: bool = False) -> None:
    """Turn each gradient and its `apply_update` into one update op, as early as both allow.

    With `by_cost` a gradient stays stored where that lowers the peak of the backward pass.
    Raises `PassError` for a parameter with two updates.
    """
    stored = _cheaper_stored(step) if by_cost else set()
    ops = body(step)
    order = {op.operation: index for index, op in enumerate(ops)}
    for update in [op for op in ops if op.operation.name in _FUSED]:
        gradient = producer(update.operands[1])
        if gradient is None or not _fused_name(update, gradient) or update.operation in stored:
            continue
        readers = [op for op in users(update.operands[0]) if op != update]
        if any(op.operation.name in UPDATES for op in readers):
            raise PassError(update, f"{updated_symbol(update)} is updated by another op as well")
        sources = [producer(value) for value in [update.operands[0], *gradient.operands]]
        last = max(order[op.operation] for op in [*readers, *sources] if op is not None)
        _fuse(update, gradient, ops[last])
