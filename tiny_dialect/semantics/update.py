"""Meaning of the update ops: each writes its first operand array in place and returns nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array
from tiny_dialect.semantics.backward import channel_sums, weight_gradient

Array = NDArray[Any]

STEP_LIMIT = np.float32(2.0**22)
BIAS_LIMIT = 2**30
MASTER_UNIT = 256


def _rounded_step(step: Array) -> Array:
    """Half to even after limiting to +-2^22; NaN counts as +2^22 (the order of the comparisons)."""
    step = np.where(step < STEP_LIMIT, step, STEP_LIMIT)
    step = np.where(step > -STEP_LIMIT, step, -STEP_LIMIT)
    return np.rint(step).astype(np.int64)


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
    moved = parameter.astype(np.int64) - _rounded_step(delta * np.float32(unit))
    # A step of zero leaves any value alone: frozen channels hold biases beyond the limit.
    limited = np.where(moved == parameter, parameter, np.clip(moved, low, high))
    parameter[...] = limited.astype(parameter.dtype)


def _apply(op: Any, parameter: Array, gradient: Array, rate: Array) -> list[Array]:
    factors = to_array(op.attributes["factors"]) * np.float32(rate)
    shaped = factors.reshape(-1, *([1] * (parameter.ndim - 1)))
    with np.errstate(over="ignore", invalid="ignore"):
        subtract_step(parameter, gradient.astype(np.float32) * shaped)
    return []


def apply_update(op: Any, parameter: Array, gradient: Array, rate: Array) -> list[Array]:
    """`parameter -= gradient * (factors * rate)`."""
    return _apply(op, parameter, gradient, rate)


def conv2d_weight_update(op: Any, parameter: Array, x: Array, g: Array, rate: Array) -> list[Array]:
    """The unscaled weight gradient, applied."""
    return _apply(op, parameter, weight_gradient(op, x, g, parameter.shape), rate)


def bias_update(op: Any, parameter: Array, g: Array, rate: Array) -> list[Array]:
    """The channel sums, applied."""
    return _apply(op, parameter, channel_sums(g), rate)


def linear_weight_update(op: Any, parameter: Array, x: Array, g: Array, rate: Array) -> list[Array]:
    """The outer product, applied."""
    return _apply(op, parameter, np.outer(g.reshape(-1), x.reshape(-1)), rate)
