"""Accuracy of every task along the stream as an SVG, a panel a strategy; no plotting library."""

from collections.abc import Mapping, Sequence
from typing import Any

from tiny_pipelines.plot_frame import GRID, INK, opening

_WIDTH, _PANEL = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 104, 36, 32
_COLOURS = ("#1a5fb4", "#b3261e", "#2b7a3d", "#8a5a00")
_TICKS = 5

Points = Sequence[dict[str, Any]]


def accuracy_curve(curves: Mapping[str, Points], tasks: Sequence[str]) -> str:
    """The SVG text; a point has `sample`, `stage` and `accuracy`, one value a task."""
    parts = [
        *opening(_WIDTH, _PANEL * len(curves), 11),
    ]
    for number, (name, points) in enumerate(curves.items()):
        parts.append(f'<g transform="translate(0 {number * _PANEL})">')
        parts += [*_frame(name, points), *_lines(points, tasks), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(sample: float, last: int) -> float:
    return _LEFT + sample / max(last, 1) * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _PANEL - _BOTTOM - share * (_PANEL - _TOP - _BOTTOM)


def _frame(name: str, points: Points) -> list[str]:
    """Title, grid, and a line where a stage ends."""
    last = points[-1]["sample"]
    parts = [_text(_LEFT, 20, name, "start", INK)]
    for tick in range(_TICKS + 1):
        y = _y(tick / _TICKS)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tick / _TICKS:.0%}", "end", INK))
    ends = {point["stage"]: point["sample"] for point in points}
    for sample in ends.values():
        x = _x(sample, last)
        parts.append(
            f'<path d="M{x:.1f} {_TOP}V{_PANEL - _BOTTOM}" stroke="{INK}" stroke-dasharray="3 3"/>'
        )
        parts.append(_text(x, _PANEL - _BOTTOM + 16, f"sample {sample}", "middle", INK))
    return parts


def _lines(points: Points, tasks: Sequence[str]) -> list[str]:
    last = points[-1]["sample"]
    parts: list[str] = []
    for number, task in enumerate(tasks):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [
            f"{_x(point['sample'], last):.1f},{_y(point['accuracy'][number]):.1f}"
            for point in points
        ]
        parts.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}"/>')
        parts.append(_text(_WIDTH - _RIGHT + 8, _TOP + 12 + 16 * number, task, "start", colour))
    return parts


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
