"""Meaning of the update ops: each writes its first operand array in place and returns nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array
from tiny_dialect.rounding import random_words, round_stochastic, truncated_difference
from tiny_dialect.semantics.backward import channel_sums, weight_gradient

Array = NDArray[Any]

TRUNCATE = "truncate"
STEP_LIMIT = np.float32(2.0**22)
BIAS_LIMIT = 2**30
MASTER_UNIT = 256


def _limited(step: Array) -> Array:
    """Within +-2^22; NaN counts as +2^22 (the order of the comparisons)."""
    step = np.where(step < STEP_LIMIT, step, STEP_LIMIT)
    return np.where(step > -STEP_LIMIT, step, -STEP_LIMIT)


def _rounded_step(step: Array) -> Array:
    """Half to even."""
    return np.rint(_limited(step)).astype(np.int64)


def subtract_step(parameter: Array, delta: Array) -> None:
    """`parameter -= delta` in place; float32, in units of the int8 weight, bias or float."""
    if parameter.dtype == np.float32:
        parameter -= delta
        return
    unit, low, high = {
        np.dtype(np.int8): (1, -128, 127),
        np.dtype(np.int16): (MASTER_UNIT, -(2**15), 2**15 - 1),
        np.dtype(np.int32): (1, -BIAS_LIMIT, BIAS_LIMIT),
    }[parameter.dtype]
    with np.errstate(over="ignore"):
        step = delta * np.float32(unit)
    moved = parameter.astype(np.int64) - _rounded_step(step)
    # A step of zero leaves any value alone: frozen channels hold biases beyond the limit.
    limited = np.where(moved == parameter, parameter, np.clip(moved, low, high))
    parameter[...] = limited.astype(parameter.dtype)


def _delta(op: Any, parameter: Array, gradient: Array, rate: Array) -> Array:
    factors = to_array(op.attributes["factors"]) * np.float32(rate)
    shaped = factors.reshape(-1, *([1] * (parameter.ndim - 1)))
    with np.errstate(over="ignore", invalid="ignore"):
        return gradient.astype(np.float32) * shaped


def _apply(op: Any, parameter: Array, gradient: Array, rate: Array) -> list[Array]:
    subtract_step(parameter, _delta(op, parameter, gradient, rate))
    return []


def apply_update(op: Any, parameter: Array, gradient: Array, rate: Array) -> list[Array]:
    """`parameter -= gradient * (factors * rate)`."""
    if "rounding" in op.attributes and op.attributes["rounding"].value == TRUNCATE:
        step = _limited(_delta(op, parameter, gradient, rate))
        parameter[...] = truncated_difference(parameter, step)
        return []
    return _apply(op, parameter, gradient, rate)


def stochastic_update(
    op: Any, parameter: Array, gradient: Array, rate: Array, counter: Array
) -> list[Array]:
    """The same, with a step rounded up with a probability of its fraction."""
    step = _limited(_delta(op, parameter, gradient, rate))
    stream = op.attributes["stream"].value
    words = random_words(stream, int(counter[0]), parameter.size).reshape(parameter.shape)
    moved = parameter.astype(np.int64) - round_stochastic(step, words)
    parameter[...] = np.clip(moved, -128, 127).astype(np.int8)
    return []


def stochastic_conv2d_weight_update(
    op: Any, parameter: Array, x: Array, g: Array, rate: Array, counter: Array
) -> list[Array]:
    """The unscaled weight gradient, applied so."""
    gradient = weight_gradient(op, x, g, parameter.shape)
    return stochastic_update(op, parameter, gradient, rate, counter)


def clear(_: Any, parameter: Array) -> list[Array]:
    """Zero everywhere."""
    parameter[...] = 0
    return []


def advance_counter(_: Any, counter: Array) -> list[Array]:
    """`counter += 1` modulo 2^32."""
    counter += np.int32(1)
    return []


def conv2d_weight_update(op: Any, parameter: Array, x: Array, g: Array, rate: Array) -> list[Array]:
    """The unscaled weight gradient, applied."""
    return _apply(op, parameter, weight_gradient(op, x, g, parameter.shape), rate)


def bias_update(op: Any, parameter: Array, g: Array, rate: Array) -> list[Array]:
    """The channel sums, applied."""
    return _apply(op, parameter, channel_sums(g), rate)


def linear_weight_update(op: Any, parameter: Array, x: Array, g: Array, rate: Array) -> list[Array]:
    """The outer product, applied."""
    return _apply(op, parameter, np.outer(g.reshape(-1), x.reshape(-1)), rate)
