"""Rounding of a step for weights stored as int8: the counter-based generator and the two rules.

Every random number is a pure function of (stream, counter, element index), all 32-bit: no generator
state but the step counter exists, and NumPy, host and device draw the same bits in any order.
docs/design/stochastic-rounding.md states the rules and why they are so.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Words = NDArray[np.uint32]

MIX_FACTORS = (0x7FEB352D, 0x846CA68B)
MIX_SHIFTS = (16, 15, 16)
GOLDEN = 0x9E3779B9
"""2^32 divided by the golden ratio: neighbouring elements land far apart."""
FRACTION_BITS = 24
"""Of a step's fraction; a float32 between 0 and 1 has no more where it matters."""
WORD_BITS = 32
WORD = 1 << WORD_BITS


def mix(word: Any) -> Words:
    """A bijection of 32-bit words in which every bit of the result depends on every bit."""
    x = np.asarray(word, np.uint32)
    first, second, third = (np.uint32(shift) for shift in MIX_SHIFTS)
    with np.errstate(over="ignore"):
        x = (x ^ (x >> first)) * np.uint32(MIX_FACTORS[0])
        x = (x ^ (x >> second)) * np.uint32(MIX_FACTORS[1])
    return x ^ (x >> third)


def random_stream(number: int) -> int:
    """The stream of parameter `number`, a compile-time constant below 2^32."""
    return int(mix(number % WORD))


def first_count(seed: int) -> int:
    """Where the step counter starts under `seed`, an int32; 0 under seed 0.

    Seeds far apart in the counter draw other words, and code does not depend on the seed.
    """
    return int(mix(seed % WORD).astype(np.int32))


def random_words(stream: int, counter: int, count: int) -> Words:
    """The random words of elements 0 to `count - 1` at step `counter`."""
    key = mix(np.uint32(stream) ^ mix(int(counter) % WORD))
    with np.errstate(over="ignore"):
        return mix(key + np.arange(count, dtype=np.uint32) * np.uint32(GOLDEN))


def round_stochastic(step: Array, words: Words) -> NDArray[np.int64]:
    """`floor(step)` or one more, the latter with a probability of the fraction; |step| <= 2^22."""
    floor = np.floor(step)
    fraction = (step - floor).astype(np.float32)
    threshold = (fraction * np.float32(1 << FRACTION_BITS)).astype(np.uint32)
    up = (words >> np.uint32(WORD_BITS - FRACTION_BITS)) < threshold
    return floor.astype(np.int64) + up


def truncated_difference(old: NDArray[np.int8], step: Array) -> NDArray[np.int8]:
    """`old - step` in float32, rounded towards zero and wrapped to eight bits; |step| <= 2^22."""
    moved = (old.astype(np.float32) - step.astype(np.float32)).astype(np.int64)
    return moved.astype(np.int8)
