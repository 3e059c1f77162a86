"""Meaning of the integer updates: each writes its first operand array in place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array
from tiny_dialect.block_float import (
    BYTE_FRACTION,
    HEAD_ALIGN,
    Int64s,
    real_multipliers,
    round_shift,
    step_multipliers,
    step_of,
)
from tiny_dialect.rounding import WORD_BITS, random_words
from tiny_dialect.semantics.backward import weight_gradient
from tiny_dialect.semantics.update import BIAS_LIMIT
from tiny_dialect.types import quantization

Array = NDArray[Any]

_RANGES = {
    np.dtype(np.int8): (-128, 127),
    np.dtype(np.int16): (-(2**15), 2**15 - 1),
    np.dtype(np.int32): (-BIAS_LIMIT, BIAS_LIMIT),
}


def _by_channel(values: Array, parameter: Array) -> Array:
    return values.reshape(-1, *([1] * (parameter.ndim - 1)))


def _steps(
    op: Any, parameter: Array, total: Int64s, g_header: Array, rate: Array, align: int
) -> Int64s:
    """What is subtracted, in units of the storage."""
    factors = to_array(op.attributes["factors"])
    multipliers = step_multipliers(factors, rate, int(g_header[0]), align)
    return step_of(total << align, _by_channel(multipliers, parameter))


def _subtract(parameter: Array, step: Int64s) -> list[Array]:
    """`parameter -= step` within the range of the storage."""
    moved = np.clip(parameter.astype(np.int64) - step, *_RANGES[parameter.dtype])
    parameter[...] = np.where(step == 0, parameter, moved).astype(parameter.dtype)
    return []


def _apply(
    op: Any, parameter: Array, total: Int64s, g_header: Array, rate: Array, align: int
) -> list[Array]:
    if parameter.dtype == np.float32:
        return _apply_real(op, parameter, total, g_header, rate)
    step = _steps(op, parameter, total, g_header, rate, align)
    if parameter.dtype == np.int8:
        step = round_shift(step, BYTE_FRACTION)
    return _subtract(parameter, step)


def _apply_real(
    op: Any, parameter: Array, total: Int64s, g_header: Array, rate: Array
) -> list[Array]:
    factors = to_array(op.attributes["factors"])
    k = _by_channel(real_multipliers(factors, rate, int(g_header[0])), parameter)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        moved = parameter - total.astype(np.float32) * k
    parameter[...] = np.where(total == 0, parameter, moved)
    return []


def _sums(op: Any, parameter: Array, x: Array, g: Array) -> Int64s:
    """The weight gradient of the mantissas, exact."""
    return np.rint(weight_gradient(op, x, g, parameter.shape)).astype(np.int64)


def integer_conv2d_weight_update(
    op: Any, parameter: Array, x: Array, g: Array, g_header: Array, rate: Array
) -> list[Array]:
    """The weight gradient of the mantissas, stepped into the weight."""
    return _apply(
        op, parameter, _sums(op, parameter, x, g), g_header, rate, op.attributes["align"].value
    )


def integer_stochastic_conv2d_weight_update(
    op: Any, parameter: Array, x: Array, g: Array, g_header: Array, rate: Array, counter: Array
) -> list[Array]:
    """The same, with a step rounded up with a probability of its fraction."""
    sums = _sums(op, parameter, x, g)
    step = _steps(op, parameter, sums, g_header, rate, op.attributes["align"].value)
    words = random_words(op.attributes["stream"].value, int(counter[0]), parameter.size)
    chance = (words >> np.uint32(WORD_BITS - BYTE_FRACTION)).astype(np.int64)
    return _subtract(parameter, (step + chance.reshape(parameter.shape)) >> BYTE_FRACTION)


def integer_bias_update(
    op: Any, parameter: Array, g: Array, g_header: Array, rate: Array
) -> list[Array]:
    """The channel sums of the mantissas, stepped into the bias."""
    sums = g.reshape(-1, g.shape[-1]).sum(axis=0, dtype=np.int64)
    return _apply(op, parameter, sums, g_header, rate, op.attributes["align"].value)


def integer_linear_weight_update(
    op: Any, parameter: Array, x: Array, g: Array, g_header: Array, rate: Array
) -> list[Array]:
    """The outer product of the mantissas and the centred input, stepped into the head."""
    _, zero = quantization(op.x)
    products = np.outer(g.reshape(-1), x.reshape(-1).astype(np.int64) - zero)
    return _apply(op, parameter, products, g_header, rate, HEAD_ALIGN)
