"""Integer gradients: mantissas with one shared exponent, and the fixed-point parts of their head.

A gradient is a tensor of *mantissas* (i16 or i8) and a *header* `tensor<2xi32>` = (exponent,
width): its value is `mantissa * 2^exponent`; `width` is the number of bits of the narrowest two's
complement field that holds every mantissa, sign included, and 0 where all are zero. Everything
here is exact integer arithmetic, done in int64; docs/design/integer-gradients.md says why 32 bits
(for the head: 64) suffice on a device.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Int64s = NDArray[np.int64]

MANTISSA_BITS = 16
"""Sign and 15 bits: an i16."""
MULTIPLIER_BITS = 15
"""Channel multipliers lie below 2^15, the largest of a tensor at or above 2^14."""
PRODUCT_SHIFT = 32
"""An update is `(sum * K + 2^31) >> 32`."""
BYTE_FRACTION = 16
"""The step of a weight stored as i8 has this many fraction bits before they are rounded away."""
HEAD_ALIGN = 8
"""The product of a centred int8 and a mantissa is shifted left by this: it has 24 bits of 32."""
LOGIT_FRACTION = 16
"""Logits and loss are i32 with this many fraction bits."""
LOGIT_LIMIT = 2**29
"""Logits lie within this, so that the loss, a difference of two of them, fits an i32."""
EXPONENTIAL_FRACTION = 30
MAX_CLASSES = 2**13
"""The sum of the exponentials of so many classes keeps at least 17 bits."""

# 2^f = sum c[i] f^i on [0, 1], relative error 1e-7, exact at both ends; 30 fraction bits.
EXP2_COEFFICIENTS = (1073741824, 744266012, 257869054, 59934847, 9654008, 2017903)
LOG2_E = round(math.log2(math.e) * 2**LOGIT_FRACTION)
LN_2 = round(math.log(2) * 2**LOGIT_FRACTION)
LOWEST_DIFFERENCE = -(32 << LOGIT_FRACTION)
"""`exp` of a smaller logit difference is 0 to 30 bits, so differences are limited to this."""


def round_shift(value: Any, shift: Any) -> Int64s:
    """`value * 2^-shift` rounded half up; a shift of 0 or less moves left and is exact."""
    wide, amount = np.asarray(value, np.int64), np.asarray(shift, np.int64)
    right, left = np.maximum(amount, 0), np.maximum(-amount, 0)
    half = (np.int64(1) << right) >> 1
    return ((wide << left) + half) >> right


def saturate(value: Int64s, bits: int) -> Int64s:
    """`value` limited to two's complement of `bits` bits."""
    return np.clip(value, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def width_of(mantissas: Array) -> int:
    """The header's width: 0 for zeros, 1 for -1, 2 for 1, 16 for 32767 and for -32768.

    The bit length of the OR of `m ^ 2m` over all mantissas.
    """
    wide = mantissas.astype(np.int64).reshape(-1)
    return int(np.bitwise_or.reduce(wide ^ (wide << 1), initial=np.int64(0))).bit_length()


def header(exponent: int, mantissas: Array) -> Array:
    """`[exponent, width]` as int32."""
    return np.array([exponent, width_of(mantissas)], np.int32)


def normalizing_shift(width: int, bits: int, overshoot: int) -> int:
    """The right shift after a product with a multiplier, so that `bits` bits hold the result.

    `overshoot` bits less where the largest products are rare: they saturate, the rest gain.
    """
    return max(MULTIPLIER_BITS + width - bits - overshoot, 1)


def sum_exponent(a: Array, b: Array) -> int:
    """The exponent of a sum: 15 bits for the larger operand, so that 16 hold the sum.

    `a` and `b` are headers; an operand of zeros has no say.
    """
    tops = [int(e) + int(width) for e, width in (a, b) if width > 0]
    return max(tops) - (MANTISSA_BITS - 1) if tops else int(a[0])


def aligning_shift(exponent: int, target: int) -> int:
    """The right shift from `exponent` to `target`, limited to [-15, 31]."""
    return min(max(target - exponent, -15), 31)


def _parts(value: Any) -> tuple[Int64s, Int64s]:
    """(mantissa, exponent field) of float32: `mantissa * 2^(field - 150)`, subnormals as 0."""
    bits = np.asarray(value, np.float32).view(np.int32).astype(np.int64)
    field = (bits >> 23) & 255
    mantissa = np.where(field == 0, 0, (bits & 0x7FFFFF) | 0x800000)
    return np.where(bits < 0, -mantissa, mantissa), field


def step_multipliers(factors: Array, rate: Any, exponent: int, align: int = 0) -> Int64s:
    """`K[c] = round(factors[c] * rate * 2^(exponent + 32 - align))`, limited to +-(2^31 - 1).

    From the bits of both float32s, with one rounding (half up): a subnormal counts as 0, infinity
    and NaN as 2^128 and more.
    """
    factor, factor_field = _parts(factors)
    speed, speed_field = _parts(rate)
    shift = 300 - PRODUCT_SHIFT + align - exponent - factor_field - speed_field
    product = factor * speed
    # 49 bits hold the product: a shift of 0 or less leaves no room for anything but zero.
    limited = np.where(shift < 1, np.sign(product) << 50, product)
    rounded = round_shift(limited, np.clip(shift, 1, 62))
    return np.clip(rounded, -(2**31 - 1), 2**31 - 1)


def _power(exponent: int) -> np.float32:
    """`2^exponent` with the exponent limited to [-126, 127]."""
    return np.ldexp(np.float32(1), min(max(exponent, -126), 127))


def real_multipliers(factors: Array, rate: Any, exponent: int) -> NDArray[np.float32]:
    """`k[c] = factors[c] * rate * 2^exponent` in float32, within its finite range.

    The power is applied in two halves, so that it lies in the range of float32 where `k` does; NaN
    becomes the largest number.
    """
    half = exponent >> 1
    largest = np.finfo(np.float32).max
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        k = factors * np.float32(rate) * _power(half) * _power(exponent - half)
        return np.maximum(np.where(k < largest, k, largest), -largest)


def step_of(total: Int64s, multipliers: Int64s) -> Int64s:
    """`(total * K + 2^31) >> 32`: what an update subtracts, in units of the storage."""
    return (total * multipliers + (1 << (PRODUCT_SHIFT - 1))) >> PRODUCT_SHIFT


def logit_shift(features: int) -> int:
    """The shift after which 32 bits hold `sum w (x - z)` of `features` weights below 2^30."""
    return 30 + 8 + ceil_log2(features) - 31


def ceil_log2(count: int) -> int:
    """The least `n` with `2^n >= count`."""
    return (count - 1).bit_length()


def exponential_fraction(classes: int) -> int:
    """The fraction bits of an exponential such that 31 bits hold the sum over the classes."""
    return EXPONENTIAL_FRACTION - ceil_log2(classes)


def exponentials(logits: Int64s) -> Int64s:
    """`exp(logit - max)` with `exponential_fraction(len(logits))` fraction bits, rounded down."""
    difference = np.maximum(logits - logits.max(), LOWEST_DIFFERENCE)
    power = round_shift(difference * LOG2_E, LOGIT_FRACTION)
    fraction = power & ((1 << LOGIT_FRACTION) - 1)
    result = np.full_like(power, EXP2_COEFFICIENTS[-1])
    for coefficient in reversed(EXP2_COEFFICIENTS[:-1]):
        result = coefficient + ((result * fraction) >> LOGIT_FRACTION)
    lost = EXPONENTIAL_FRACTION - exponential_fraction(len(logits))
    return result >> np.minimum(lost - (power >> LOGIT_FRACTION), 31)


def log2(value: int) -> int:
    """`log2(value)` of a positive 31-bit integer, LOGIT_FRACTION fraction bits, rounded down.

    One squaring a bit of a mantissa in [2^30, 2^31).
    """
    whole = value.bit_length() - 1
    mantissa = value << (EXPONENTIAL_FRACTION - whole)
    result = whole
    for _ in range(LOGIT_FRACTION):
        mantissa = (mantissa * mantissa) >> EXPONENTIAL_FRACTION
        above = mantissa >> (EXPONENTIAL_FRACTION + 1)
        mantissa >>= above
        result = 2 * result + above
    return result
