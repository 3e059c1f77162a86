"""A line for each column over named places, as SVG: the weight-to-gradient ratios of a network."""

from collections.abc import Sequence
from html import escape

from tiny_pipelines.plot_frame import GRID, INK, opening, round_ticks

_WIDTH, _HEIGHT = 900, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 50, 180
_NAME_WIDTH = 14
"""How far names must stand apart; where there are more, only every second, third, ... is shown."""
_COLOURS = (INK, "#cc6677", "#228833")


def ratio_plot(
    names: Sequence[str], rows: Sequence[Sequence[float | None]], columns: Sequence[str]
) -> str:
    """The SVG text of `rows` (one a name, one value a column, None where there is none)."""
    values = [value for row in rows for value in row if value is not None]
    low, high = min(values, default=0.0) - 0.5, max(values, default=1.0) + 0.5

    def place(index: int, value: float) -> tuple[float, float]:
        x = _LEFT + (index + 0.5) / len(names) * (_WIDTH - _LEFT - _RIGHT)
        share = (value - low) / (high - low)
        return x, _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        *opening(_WIDTH, _HEIGHT, 10),
        _text(_WIDTH / 2, 18, "log10(|w| / |g|)", "middle"),
    ]
    for value in round_ticks(low, high):
        _, y = place(0, value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:g}", "end"))
    for number, column in enumerate(columns):
        colour = _COLOURS[number % len(_COLOURS)]
        known = [(i, v) for i, row in enumerate(rows) if (v := row[number]) is not None]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(i, v) for i, v in known))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        parts.append(_text(_LEFT + 90 * number, 36, column, "start", colour))
    every = -(-len(names) * _NAME_WIDTH // (_WIDTH - _LEFT - _RIGHT))
    for index, name in list(enumerate(names))[::every]:
        x, y = place(index, low)[0] + 3, _HEIGHT - _BOTTOM + 12
        turn = f' transform="rotate(-60 {x:.1f} {y:.1f})"'
        parts.append(_text(x, y, name, "end", extra=turn))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, anchor: str, colour: str = INK, extra: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{extra}'
    return f"<text {place}>{escape(text)}</text>"
