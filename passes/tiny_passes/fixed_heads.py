"""Store the float head of a training step in fixed point, where the step is integer.

Before:  %w = "tiny.parameter"() {symbol = "h.w", trained, value = dense<0.5> : tensor<3x2xf32>}
After:   %w = "tiny.parameter"() {symbol = "h.w", trained, value = dense<8388608> : tensor<3x2xi32>}

in `@train_step` and, where gradients are summed over samples, in `@apply_updates`, whose float32
steps then count in units of the fixed point. The ops that read them are the caller's to replace.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_dialect.attributes import dense, to_array
from tiny_dialect.block_float import LOGIT_FRACTION
from tiny_passes.accumulate_gradients import APPLY_UPDATES
from tiny_passes.graph import body, parameters, producer, users
from tiny_passes.rebuild import rebuilt, replace
from tiny_passes.registry import PassError

HEAD_FRACTION = 24
SUMMED_HEAD_FRACTION = 18
"""Of a head that takes sums of gradients: one float32 step ends at 2^22 units, so at 16."""
_HEAD_BITS = 28
"""The initial head fits in these, so that it may grow fourfold before it saturates."""


def quantize_heads(step: Any) -> dict[str, int]:
    """Turn the parameters of every `linear` into fixed point; fraction bits by symbol.

    Raises `PassError` for a head whose parameters are shared, computed or too large.
    """
    summed = _summed(step)
    most = HEAD_FRACTION if summed is None else SUMMED_HEAD_FRACTION
    fractions = _fix_parameters(step, most)
    if summed is not None:
        _apply_to_heads(summed, fractions)
    return fractions


def _summed(step: Any) -> Any | None:
    """The `@apply_updates` beside the step, if there is one."""
    for op in step.operation.block:
        name = op.attributes["sym_name"].value if "sym_name" in op.attributes else ""
        if op.operation.name == "func.func" and name == APPLY_UPDATES:
            return op
    return None


def _fix_parameters(step: Any, most: int) -> dict[str, int]:
    fractions: dict[str, int] = {}
    named = parameters(step)
    for head in [op for op in body(step) if op.operation.name == "tiny.linear"]:
        values = [_head_parameter(head, value) for value in (head.w, head.bias)]
        symbols = [op.symbol.value for op in values]
        known = {fractions[symbol] for symbol in symbols if symbol in fractions}
        if known:
            raise PassError(head, "shares its parameters with another head; train one of them")
        fraction = min(most, _head_fraction(head, [to_array(op.value) for op in values]))
        for symbol in symbols:
            _make_fixed(named[symbol], fraction)
            fractions[symbol] = fraction
    return fractions


def _make_fixed(parameter: Any, fraction: int) -> None:
    """Store a float parameter as i32 with `fraction` bits behind the point."""
    fixed = np.rint(np.ldexp(to_array(parameter.value).astype(np.float64), fraction))
    value = dense(fixed.astype(np.int32))
    replace(parameter, rebuilt(parameter, results=[value.type], attributes={"value": value}))


def _apply_to_heads(apply: Any, fractions: dict[str, int]) -> None:
    """Let `@apply_updates` move heads in fixed point: float32 sums, steps in their units."""
    for symbol, parameter in parameters(apply).items():
        if symbol not in fractions:
            continue
        unit = np.float32(2.0 ** fractions[symbol])
        for update in users(parameter.result):
            factors = to_array(update.attributes["factors"])
            update.operation.attributes["factors"] = dense(factors * unit)
        _make_fixed(parameter, fractions[symbol])


def _head_parameter(head: Any, value: Any) -> Any:
    parameter = producer(value)
    if parameter is None or parameter.operation.name != "tiny.parameter":
        raise PassError(head, "expects weights and bias to be tiny.parameter results")
    return parameter


def _head_fraction(head: Any, values: Sequence[Any]) -> int:
    """Fraction bits of a head: HEAD_FRACTION, fewer where its initial values are large."""
    largest = max(float(np.abs(value).max(initial=0.0)) for value in values)
    whole = int(np.frexp(largest)[1]) if largest else 0
    fraction = min(HEAD_FRACTION, _HEAD_BITS - whole)
    if fraction < LOGIT_FRACTION:
        raise PassError(head, f"has a weight or bias of {largest:g}; the integer head ends at 4096")
    return fraction
