"""Requantization in one multiply: constants that give the exact result for every accumulator.

The exact result is `clamp(round(acc * m * 2^-shift) + zero)`, rounded once in 64 bits. Two forms
need only the upper word of a 32-bit product:

    channel form  clamp(((((acc * m) >> 32) + 2^(s-1)) >> s) + zero)    s = shift - 32, a channel
    layer form    clamp((((acc * m') >> 32) + c) >> s)           one s, c = 2^(s-1) + zero 2^s

The channel form drops nothing but bits below the rounding position. The layer form has a shorter
multiplier. Both it and the exact result are staircases in `acc` that never fall, so they are equal
where their 256 steps lie at the same accumulators: that is checked here for every channel and all
accumulators that can occur, and the layer form is used only where it holds.

A sum that may leave 32 bits needs no wider arithmetic: it is enough to limit the bias, if no step
lies so far out. Published networks have dead channels with biases near 2^31.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.fixed_point import quantize_multipliers
from tiny_dialect.types import quantization
from tiny_targets.kernels.weights import bias_range, sum_bounds

Int64s = NDArray[np.int64]

_LARGEST_LAYER_SHIFT = 22
"""Beyond it `zero * 2^s` and the product together could exceed 32 bits."""

_SAFE_SHIFT = 52
"""Up to it a step times a power of two fits in 64 bits."""

_ADJUSTMENTS = (0, 1, -1, 2, -2)
_LOWEST, _HIGHEST = -(2**31), 2**31 - 1


@dataclass(frozen=True)
class Rescaling:
    """The constants of one layer."""

    multipliers: NDArray[np.int32]
    """A channel each."""
    shifts: NDArray[np.int32]
    """A channel each, 1 to 30; all equal in the layer form."""
    uniform: bool
    """The layer form; else the channel form."""
    zero: int
    bias_limit: int | None
    """Where not None, biases are to be clamped to this magnitude before they are added."""

    @property
    def shift(self) -> int:
        """Of the layer form."""
        return int(self.shifts[0])

    @property
    def offset(self) -> int:
        """The constant `c` of the layer form; of the channel form the zero point."""
        if not self.uniform:
            return self.zero
        return (1 << (self.shift - 1)) + self.zero * (1 << self.shift)


def rescaling_of(op: Any) -> Rescaling | None:
    """The short form of a convolution's requantization, or None where only 64 bits will do.

    That is: a factor of 1/4 or more, a product sum beyond 32 bits, or a step beyond them.
    """
    (scale_x, _), (scale_y, zero) = quantization(op.x), quantization(op.y)
    factors = scale_x * to_array(op.weight_scales) / scale_y
    sums = sum_bounds(op)
    if int(sums.max()) > _HIGHEST:
        return None
    low, high = to_list(op.attributes["clamp"])
    lowest, highest = bias_range(op)
    arrays = (factors.tobytes(), sums.tobytes(), lowest.tobytes(), highest.tobytes())
    return _rescaling(*arrays, int(zero), low, high)


@lru_cache(maxsize=1024)
def _rescaling(
    factors: bytes, sums: bytes, lowest: bytes, highest: bytes, zero: int, low: int, high: int
) -> Rescaling | None:
    """`rescaling_of` numbers; kept, for a schedule asks many times for the layers of a block."""
    return _searched(
        np.frombuffer(factors, np.float64),
        np.frombuffer(sums, np.int64),
        (np.frombuffer(lowest, np.int64), np.frombuffer(highest, np.int64)),
        zero,
        np.arange(low, high + 2, dtype=np.int64) - zero,
    )


def _searched(
    factors: NDArray[np.float64],
    sums: Int64s,
    biases: tuple[Int64s, Int64s],
    zero: int,
    values: Int64s,
) -> Rescaling | None:
    multipliers, shifts = (a.astype(np.int64) for a in quantize_multipliers(factors))
    if int(shifts.min()) < 33:
        return None
    steps = _exact_steps(multipliers, shifts, values)
    lowest, highest = biases[0] - sums, biases[1] + sums
    limit = None
    if int(lowest.min()) < _LOWEST or int(highest.max()) > _HIGHEST:
        limit = _HIGHEST - int(sums.max())
        if _differ_beyond(steps, limit - sums, lowest, highest):
            return None
        lowest, highest = np.maximum(lowest, -limit - sums), np.minimum(highest, limit + sums)
    smallest = int(shifts.min()) - 32
    # Round shifts first: layers whose shifts are equal share their code.
    for common in sorted({smallest & ~3, smallest & ~1, smallest} - {0}):
        layer = _layer_form(multipliers, shifts, common, values, steps, (lowest, highest))
        if layer is not None:
            uniform = np.full(layer.shape, common, np.int32)
            return Rescaling(layer.astype(np.int32), uniform, True, zero, limit)
    own = (shifts - 32).astype(np.int32)
    return Rescaling(multipliers.astype(np.int32), own, False, zero, limit)


def _differ_beyond(steps: Int64s, inner: Int64s, lowest: Int64s, highest: Int64s) -> bool:
    """True where a channel has a step in `[lowest, -inner]` or `[inner, highest]`."""
    above = (steps > inner[:, None]) & (steps <= highest[:, None])
    below = (steps > lowest[:, None]) & (steps <= -inner[:, None])
    return bool((above | below).any())


def _layer_form(
    multipliers: Int64s,
    shifts: Int64s,
    common: int,
    values: Int64s,
    steps: Int64s,
    interval: tuple[Int64s, Int64s],
) -> Int64s | None:
    """Multipliers for the shift `common` that move no step within the interval, or None."""
    if common > _LARGEST_LAYER_SHIFT:
        return None
    dropped = np.minimum(shifts - 32 - common, 40)
    half = np.where(dropped > 0, np.int64(1) << np.maximum(dropped - 1, 0), 0)
    rounded = (multipliers + half) >> dropped
    wanted = _within(steps, interval)
    found = np.full_like(rounded, -1)
    for adjustment in _ADJUSTMENTS:
        candidate = np.clip(rounded + adjustment, 0, _HIGHEST)
        reached = (values << common) - (1 << (common - 1))
        short = _least(reached[None, :] << 32, candidate)
        equal = (_within(short, interval) == wanted).all(axis=1)
        found = np.where((found < 0) & equal, candidate, found)
    return None if (found < 0).any() else found


def _exact_steps(multipliers: Int64s, shifts: Int64s, values: Int64s) -> Int64s:
    """[channel, value]: the smallest accumulator whose exact result reaches the value."""
    odd = 2 * values - 1
    wide = shifts > _SAFE_SHIFT
    narrow = np.where(wide, 33, shifts)[:, None]
    steps = _least(odd[None, :] << (narrow - 1), multipliers)
    for channel in np.flatnonzero(wide):
        # Factors below 2^-21 are rare. Python's integers hold what 64 bits do not.
        power, m = 1 << (int(shifts[channel]) - 1), int(multipliers[channel])
        exact = [_never(int(v)) if m == 0 else -(-int(v) * power // m) for v in odd]
        steps[channel] = [min(max(step, -(2**40)), 2**40) for step in exact]
    return steps


def _least(products: Int64s, multipliers: Int64s) -> Int64s:
    """[channel, value]: the least `a` with `a * multiplier >= product`."""
    quotients = -((-products) // np.maximum(multipliers, 1)[:, None])
    never = np.where(products > 0, np.int64(_never(1)), np.int64(_never(-1)))
    return np.where((multipliers == 0)[:, None], never, quotients)


def _never(sign: int) -> int:
    """Beyond any accumulator."""
    return 2**40 if sign > 0 else -(2**40)


def _within(steps: Int64s, interval: tuple[Int64s, Int64s]) -> Int64s:
    """Steps outside the interval of accumulators moved to its ends."""
    lowest, highest = interval
    return np.clip(steps, lowest[:, None], highest[:, None] + 1)
