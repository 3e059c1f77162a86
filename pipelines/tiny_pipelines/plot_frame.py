"""What SVG plots share: the opening with its colours by day and by night, and round axis values."""

import math

INK, GRID, PAPER = "#333333", "#dddddd", "white"

_NIGHT = {INK: "#d7dae0", GRID: "#3b4048", PAPER: "#16181d", "#223366": "#dbe6ff"}
"""Colours that need another where the page is dark; the others read on both."""


def opening(width: int, height: int, font_size: int) -> list[str]:
    """The first lines of an SVG text: its frame and its paper. `</svg>` closes it."""
    rules = "".join(
        f'[{name}="{day}"]{{{name}:{night}}}'
        for day, night in _NIGHT.items()
        for name in ("fill", "stroke")
    )
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{font_size}">',
        f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
    ]


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
