"""Numbers shared by the kernels: requantization, rounding, exponential and logarithm.

Everything is plain integer and float arithmetic, so no library call remains on any target and all
targets give the same bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.elementary import (
    EXP_COEFFICIENTS,
    EXP_FLOOR,
    EXPONENT_BIAS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_COEFFICIENTS,
    MANTISSA_BITS,
    MANTISSA_MASK,
    ONE_BITS,
    SQRT_HALF_BITS,
)
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.scalar import Operand, Scalar, maximum

ROUNDING_MAGIC = 1.5 * 2.0**23
"""Adding it to a float of magnitude up to 2^22 leaves an integer: the sum has no fraction bits."""

_HIGH_WORD_SHIFT = 33
"""From this shift on the rounding constant lies in the high word of the 64-bit product."""


class Requantizer:
    """Per-channel `(acc * m + 2^(shift-1)) >> shift`, exact in 64 bits; a Q31 multiplier a channel.

    Where every shift is at least 33, only the high word of the product matters:
    `(high + 2^(shift-33)) >> (shift-32)` drops nothing but bits below the rounding position.
    """

    def __init__(
        self, nest: Nest, multipliers: NDArray[np.int32], shifts: NDArray[np.int32]
    ) -> None:
        self._nest = nest
        self._high_word = bool((shifts >= _HIGH_WORD_SHIFT).all())
        self._multipliers = nest.read(multipliers)
        stored = shifts - 32 if self._high_word else shifts
        self._shifts = nest.read(stored.astype(np.int8))

    def __call__(self, accumulator: Scalar, channel: Operand) -> Scalar:
        """The rescaled accumulator (`i32` or `i64`) as `i32`, or as `i64` for factors near 1."""
        product = accumulator.as_wide() * self._multipliers[channel].as_wide()
        shift = self._shifts[channel]
        if not self._high_word:
            return rounding_shift(self._nest, product, shift)
        high = (product >> 32).as_integer()
        return (high + ((self._nest.number(1) << shift) >> 1)) >> shift


def rounding_shift(nest: Nest, product: Scalar, shift: Scalar) -> Scalar:
    """`(product + 2^(shift-1)) >> shift` in 64 bits."""
    wide = shift.as_wide()
    return (product + (nest.wide(1) << (wide - 1))) >> wide


def round_half_even(value: Scalar) -> Scalar:
    """The integer nearest to an `f32` of magnitude up to 2^22, as `f32`."""
    return (value + ROUNDING_MAGIC) - ROUNDING_MAGIC


def _polynomial(x: Scalar, coefficients: tuple[float, ...]) -> Scalar:
    total = x.like(coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def exponential(x: Any) -> Scalar:
    """`exp(x)` for `x <= 0`, relative error below 2^-22; anything smaller becomes exp(-87)."""
    bounded = maximum(x, EXP_FLOOR)
    power = round_half_even(bounded * LOG2_E)
    rest = (bounded - power * LN2_HIGH) - power * LN2_LOW
    mantissa = _polynomial(rest, EXP_COEFFICIENTS) * (rest * rest) + rest + 1.0
    scale = ((power.as_integer() + EXPONENT_BIAS) << MANTISSA_BITS).bits()
    return mantissa * scale


def logarithm(x: Scalar) -> Scalar:
    """`log(x)` for a finite `x >= 1`, absolute error below 2^-22 and relative error below 2^-22."""
    # Split x into 2^power * m with m in [sqrt(1/2), sqrt(2)).
    shifted = x.bits() + (ONE_BITS - SQRT_HALF_BITS)
    power = ((shifted >> MANTISSA_BITS) - EXPONENT_BIAS).as_float()
    m = ((shifted & MANTISSA_MASK) + SQRT_HALF_BITS).bits() - 1.0
    square = m * m
    tail = _polynomial(m, LOG_COEFFICIENTS) * (square * m) + power * LN2_LOW - square * 0.5
    return (m + tail) + power * LN2_HIGH
