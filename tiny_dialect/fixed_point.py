"""Q31 fixed-point arithmetic shared by the semantics, the host lowering and the kernels.

A positive real factor `s` becomes `(m, shift)` with `2^30 <= m < 2^31` and `s ~ m * 2^-shift`;
`requantize(a) = (a * m + 2^(shift-1)) >> shift` rounds once, half upwards, in 64 bits.
Source: docs/design/arithmetic.md (bit-identical to a double reference on the published models).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SHIFT = 62
ACCUMULATOR_LIMIT = 2**31 - 1

Int64s = NDArray[np.int64]


def quantize_multiplier(scale: float) -> tuple[int, int]:
    """`(multiplier, shift)` of one positive factor; raises `ValueError` outside (0, 2^30)."""
    if not (math.isfinite(scale) and 0.0 < scale < 2.0**30):
        raise ValueError(f"requantization factor {scale!r} is outside (0, 2^30)")
    mantissa, exponent = math.frexp(scale)
    multiplier = round(mantissa * 2**31)
    if multiplier == 2**31:
        multiplier //= 2
        exponent += 1
    shift = 31 - exponent
    if shift > MAX_SHIFT:
        multiplier >>= min(shift - MAX_SHIFT, 31)
        shift = MAX_SHIFT
    return multiplier, shift


def quantize_multipliers(scales: Any) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Vector form of `quantize_multiplier`: (multipliers, shifts), one a channel."""
    pairs = [quantize_multiplier(float(scale)) for scale in np.ravel(scales)]
    multipliers, shifts = zip(*pairs, strict=True)
    return np.array(multipliers, np.int32), np.array(shifts, np.int32)


def paired_multipliers(first: float, second: float) -> tuple[int, int, int]:
    """(m_first, m_second, shift) of two factors on one common shift, for sums rounded once."""
    larger = max(first, second)
    _, shift = quantize_multiplier(larger)
    return round(first * 2.0**shift), round(second * 2.0**shift), shift


def rounding_shift(value: Int64s, shift: Any) -> Int64s:
    """`(value + 2^(shift-1)) >> shift` in int64; shift >= 1."""
    wide_shift = np.asarray(shift, np.int64)
    return (value + (np.int64(1) << (wide_shift - 1))) >> wide_shift


def requantize(accumulator: Int64s, multiplier: Any, shift: Any) -> Int64s:
    """`round(accumulator * multiplier * 2^-shift)`, exact for |accumulator| < 1.5 * 2^31."""
    return rounding_shift(accumulator * np.asarray(multiplier, np.int64), shift)
