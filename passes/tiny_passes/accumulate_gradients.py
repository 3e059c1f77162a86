"""Sum gradients over several samples; a second function applies the sums.

Before:  func @train_step(%x, %label, %rate) { ... "tiny.apply_update"(%w, %gw, %rate) {factors} }
After:   func @train_step(%x, %label, %weight) {
           %s = "tiny.parameter"() {symbol = "c.w.gradient", trained, value = dense<0.0>}
           "tiny.apply_update"(%s, %gw, %weight) {factors = dense<-1.0>} ... }   %s += weight * %gw
         func @apply_updates(%rate) {
           "tiny.apply_update"(%w, %s, %rate) {factors}
           "tiny.clear"(%s) }

The weights stand still between two calls of `@apply_updates`; `@train_step` with a weight of 1
leaves the plain sum. Random rounding and its counter go to `@apply_updates`. On a device this costs
four bytes of state for every trained value, and no arena.

Cost: one walk. It runs after `tiny-rescale-gradients` and before `tiny-fuse-updates`.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import dense, string
from tiny_dialect.bindings import ir, load
from tiny_dialect.ops import ApplyUpdate, Clear, Parameter
from tiny_dialect.types import shape_of, tensor
from tiny_passes.graph import (
    TRAIN_STEP,
    body,
    copy_layer,
    find_function,
    functions,
    parameters,
)
from tiny_passes.prune_backward import updated_symbol, updates_of
from tiny_passes.registry import PassError, register_pass

APPLY_UPDATES = "apply_updates"
SUM_SUFFIX = ".gradient"
_WITH_GRADIENT = ("tiny.apply_update", "tiny.stochastic_update")


@register_pass("tiny-accumulate-gradients", anchor="builtin.module")
def accumulate_gradients(module: Any) -> None:
    """Turn every update of `@train_step` into a sum, and add `@apply_updates`.

    Raises `PassError` for an update without a stored gradient, and beside an `@apply_updates`.
    """
    step = find_function(module, TRAIN_STEP)
    if APPLY_UPDATES in functions(module):
        raise PassError(functions(module)[APPLY_UPDATES], "the gradients are summed already")
    apply = _empty_apply(module, step)
    with ir.InsertionPoint(apply.entry_block):
        rounding = _Moved(step, apply)
        sums = [rounding.update(update) for update in updates_of(step)]
        for counted in [op for op in body(step) if op.operation.name == "tiny.advance_counter"]:
            rounding.move(counted)
        for total in sums:
            copy_layer(total, Clear(total.result, loc=total.location))
        load("dialects.func").ReturnOp([], loc=step.location)


def _empty_apply(module: Any, step: Any) -> Any:
    """`@apply_updates(%rate)` without a body, at the end of the module."""
    types = ir.FunctionType.get(inputs=[tensor((), "f32")], results=[])
    point = ir.InsertionPoint(module.body)
    apply = load("dialects.func").FuncOp(APPLY_UPDATES, types, loc=step.location, ip=point)
    for name in step.attributes:
        if name.startswith("tiny."):
            apply.attributes[name] = step.attributes[name]
    apply.add_entry_block([step.location])
    return apply


class _Moved:
    """Ops of the step on their way to the other function, with the parameters that they use."""

    def __init__(self, step: Any, apply: Any) -> None:
        self._known = parameters(step)
        self._rate = apply.entry_block.arguments[0]
        self._copies: dict[Any, Any] = {}

    def update(self, update: Any) -> Any:
        """Sum in the step, apply in the other function; the sum's parameter there."""
        if update.operation.name not in _WITH_GRADIENT:
            raise PassError(update, "has no stored gradient to sum; run before tiny-fuse-updates")
        total = self._sum(update)
        parameter, _, _, *rest = update.operands
        copied = [self._copy(parameter), total.result, self._rate, *map(self._copy, rest)]
        self._clone(update, copied)
        return total

    def move(self, op: Any) -> None:
        """An op on parameters alone."""
        self._clone(op, [self._copy(operand) for operand in op.operands])

    def _sum(self, update: Any) -> Any:
        """Replace the update by a sum before it; the copy of the sum's parameter."""
        parameter, gradient, weight, *_ = update.operands
        symbol = updated_symbol(update) + SUM_SUFFIX
        if symbol in self._known:
            raise PassError(update, f"a parameter {symbol} exists already")
        zeros = dense(np.zeros(shape_of(parameter), np.float32))
        minus = dense(np.full(shape_of(parameter)[0], -1, np.float32))
        with ir.InsertionPoint(update), update.location:
            total = Parameter(zeros.type, string(symbol), zeros)
            total.operation.attributes["trained"] = ir.UnitAttr.get()
            summing = ApplyUpdate(total.result, gradient, weight, factors=minus)
        for op in (total, summing):
            copy_layer(update, op)
        return self._copy(total.result).owner.opview

    def _copy(self, value: Any) -> Any:
        if value not in self._copies:
            self._copies[value] = value.owner.clone().results[0]
        return self._copies[value]

    def _clone(self, op: Any, operands: list[Any]) -> None:
        copy = op.operation.clone()
        for index, operand in enumerate(operands):
            copy.operands[index] = operand
        op.operation.erase()
