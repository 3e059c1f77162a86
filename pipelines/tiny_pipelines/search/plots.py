"""Plots of a search as SVG: what each part is worth, and the front of worth against memory."""

from collections.abc import Sequence
from html import escape

from tiny_pipelines.plot_frame import GRID, INK, opening, round_ticks
from tiny_pipelines.search.contributions import Contributions

_WIDTH, _HEIGHT = 900, 560
_LEFT, _RIGHT, _GAP = 70, 20, 60
_BIAS, _BEST, _GIVEN = "#4477aa", "#228833", "#cc6677"
_SHADES = ("#bbccee", "#88aadd", "#5577bb", "#223366", "#111133", "#000011")


def contribution_plot(table: Contributions, title: str) -> str:
    """The SVG text: above, the worth of the last k biases; below, that of weights by ratio."""
    top, middle, bottom = 50, _HEIGHT // 2 - 20, _HEIGHT - 60
    counts = list(table.biases)
    parts = [*_frame(title)]
    values = list(table.biases.values())
    scale = _Scale(min(0.0, *values), max(1e-9, *values), top, middle)
    parts += scale.axis("worth of the biases of the last k")
    width = (_WIDTH - _LEFT - _RIGHT) / len(counts)
    for place, (count, value) in enumerate(table.biases.items()):
        x = _LEFT + place * width
        parts.append(scale.bar(x + width * 0.15, width * 0.7, value, _BIAS))
        parts.append(_text(x + width / 2, middle + 14, str(count), "middle"))
    values = list(table.weights.values())
    scale = _Scale(min(0.0, *values), max(1e-9, *values), middle + _GAP, bottom)
    candidates, ratios = table.space.candidates, table.space.ratios
    shares = ", ".join(f"{ratio:g}" for ratio in ratios)
    parts += scale.axis(f"worth of each convolution's weight, shares {shares}, light to dark")
    width = (_WIDTH - _LEFT - _RIGHT) / len(candidates)
    for place, index in enumerate(candidates):
        x, each = _LEFT + place * width, width * 0.8 / len(ratios)
        for number, ratio in enumerate(ratios):
            value, shade = table.weights[index, ratio], _SHADES[number % len(_SHADES)]
            parts.append(scale.bar(x + width * 0.1 + number * each, each, value, shade))
        parts.append(_text(x + width / 2, bottom + 14, str(index), "middle"))
    parts.append(_text(_WIDTH / 2, bottom + 32, "convolution", "middle"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def front_plot(
    found: Sequence[tuple[float, float]],
    given: Sequence[tuple[str, float, float]],
    title: str,
    unit: str = "worth",
) -> str:
    """The SVG text: (bytes, worth) of the best selections, and of named other schemes."""
    sizes = [size for size, _ in found] + [size for _, size, _ in given]
    worth = [value for _, value in found] + [value for *_, value in given]
    top, bottom = 50, _HEIGHT - 60
    scale = _Scale(min(0.0, *worth), max(1e-9, *worth), top, bottom)
    low, high = min(sizes) * 0.95, max(sizes) * 1.05

    def x(size: float) -> float:
        return _LEFT + (size - low) / max(high - low, 1e-9) * (_WIDTH - _LEFT - _RIGHT - 60)

    line = " ".join(f"{x(size):.1f},{scale.y(value):.1f}" for size, value in sorted(found))
    parts = [*_frame(title), *scale.axis(unit)]
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_BEST}"/>')
    for size, value in found:
        parts.append(_dot(x(size), scale.y(value), _BEST))
        parts.append(_text(x(size), bottom + 14, f"{size / 1024:.0f}", "middle"))
    for name, size, value in given:
        parts.append(_dot(x(size), scale.y(value), _GIVEN))
        parts.append(_text(x(size) + 8, scale.y(value) + 4, name, "start"))
    parts.append(_text(_WIDTH / 2, bottom + 34, "SRAM (arena and state) in KiB", "middle"))
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """A vertical axis from `low` to `high` between two heights of the picture."""

    def __init__(self, low: float, high: float, top: float, bottom: float) -> None:
        self.low, self.high, self.top, self.bottom = low, high, top, bottom

    def y(self, value: float) -> float:
        """The height of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)

    def bar(self, x: float, width: float, value: float, colour: str) -> str:
        """A bar from 0 to `value`."""
        ends = sorted((self.y(value), self.y(0)))
        return (
            f'<rect x="{x:.1f}" y="{ends[0]:.1f}" width="{width:.1f}" '
            f'height="{max(ends[1] - ends[0], 0.5):.1f}" fill="{colour}"/>'
        )

    def axis(self, name: str) -> list[str]:
        """Ticks, the line of 0, and a name above."""
        parts = [_text(_LEFT, self.top - 8, name, "start")]
        for value in round_ticks(self.low, self.high):
            parts.append(_text(_LEFT - 6, self.y(value) + 4, f"{value:g}", "end"))
            parts.append(_rule(self.y(value), GRID))
        return [*parts, _rule(self.y(0), INK)]


def _frame(title: str) -> list[str]:
    return [
        *opening(_WIDTH, _HEIGHT, 11),
        _text(_WIDTH / 2, 20, title, "middle"),
    ]


def _rule(y: float, colour: str) -> str:
    return f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{colour}" stroke-width="0.7"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}"'
    return f"<text {place}>{escape(text)}</text>"
