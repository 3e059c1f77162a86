"""Meaning of the integer updates: each writes its first operand array in place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array
from tiny_dialect.block_float import HEAD_ALIGN, Int64s, step_multipliers, step_of
from tiny_dialect.semantics.backward import weight_gradient
from tiny_dialect.semantics.update import BIAS_LIMIT
from tiny_dialect.types import quantization

Array = NDArray[Any]


def _subtract(parameter: Array, step: Int64s) -> list[Array]:
    """`parameter -= step` within the range of the storage."""
    low, high = {
        np.dtype(np.int16): (-(2**15), 2**15 - 1),
        np.dtype(np.int32): (-BIAS_LIMIT, BIAS_LIMIT),
    }[parameter.dtype]
    moved = np.clip(parameter.astype(np.int64) - step, low, high)
    parameter[...] = np.where(step == 0, parameter, moved).astype(parameter.dtype)
    return []


def _apply(
    op: Any, parameter: Array, total: Int64s, g_header: Array, rate: Array, align: int
) -> list[Array]:
    factors = to_array(op.attributes["factors"])
    multipliers = step_multipliers(factors, rate, int(g_header[0]), align)
    by_channel = multipliers.reshape(-1, *([1] * (parameter.ndim - 1)))
    return _subtract(parameter, step_of(total << align, by_channel))


def integer_conv2d_weight_update(
    op: Any, parameter: Array, x: Array, g: Array, g_header: Array, rate: Array
) -> list[Array]:
    """The weight gradient of the mantissas, stepped into the master."""
    sums = weight_gradient(op, x, g, parameter.shape)
    return _apply(op, parameter, np.rint(sums).astype(np.int64), g_header, rate, 0)


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
