"""Round values for the axis of a plot."""

import math


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten in [low, high]: as many as `most` allows."""
    if not high > low:
        return [low]
    power = math.floor(math.log10((high - low) / most))
    steps = [factor * 10.0**exponent for exponent in (power, power + 1) for factor in (1, 2, 5)]
    step = next(one for one in steps if len(_multiples(low, high, one)) <= most)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) for number in _multiples(low, high, step)]


def _multiples(low: float, high: float, step: float) -> range:
    """The whole numbers of steps in [low, high], its ends included where they are multiples."""
    return range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
