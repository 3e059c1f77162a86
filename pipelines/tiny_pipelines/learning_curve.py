"""Loss and accuracy over the epochs of a run as an SVG, written by hand: no plotting library."""

from collections.abc import Sequence
from typing import Any

from tiny_pipelines.plot_frame import GRID, INK, opening

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 56, 40, 44
_LOSS, _ACCURACY = "#b3261e", "#1a5fb4"
_TICKS = 5


def learning_curve(epochs: Sequence[dict[str, Any]], title: str) -> str:
    """The SVG text: mean training loss an epoch, and accuracy where the records have it."""
    loss = [(record["epoch"], record["loss"]) for record in epochs]
    accuracy = [(record["epoch"], record["accuracy"]) for record in epochs if "accuracy" in record]
    last = max([epoch for epoch, _ in loss], default=1)
    highest = max([value for _, value in loss], default=1.0) * 1.05 or 1.0
    parts = [
        *opening(_WIDTH, _HEIGHT, 11),
        _text(_WIDTH / 2, 20, _escaped(title), "middle", INK, 13),
        *_grid(last, highest, bool(accuracy)),
        _line(loss, last, highest, _LOSS),
        _line(accuracy, last, 1.0, _ACCURACY),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _x(epoch: float, last: int) -> float:
    """The place of an epoch; a run of one epoch is a point in the middle."""
    share = 0.5 if last <= 1 else (epoch - 1) / (last - 1)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, highest: float) -> float:
    return _HEIGHT - _BOTTOM - value / highest * (_HEIGHT - _TOP - _BOTTOM)


def _grid(last: int, highest: float, accuracy: bool) -> list[str]:
    parts = []
    for tick in range(_TICKS + 1):
        share = tick / _TICKS
        y = _y(share, 1.0)
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{GRID}" stroke-width="1"/>'
        )
        parts.append(_text(_LEFT - 6, y + 4, f"{share * highest:.2f}", "end", _LOSS))
        if accuracy:
            parts.append(_text(_WIDTH - _RIGHT + 6, y + 4, f"{share:.0%}", "start", _ACCURACY))
    for epoch in sorted({round(1 + (last - 1) * tick / _TICKS) for tick in range(_TICKS + 1)}):
        parts.append(_text(_x(epoch, last), _HEIGHT - _BOTTOM + 16, str(epoch), "middle", INK))
    parts.append(_text(_WIDTH / 2, _HEIGHT - 8, "epoch", "middle", INK))
    parts.append(_text(_LEFT, _TOP - 8, "training loss", "start", _LOSS))
    if accuracy:
        parts.append(_text(_WIDTH - _RIGHT, _TOP - 8, "test accuracy", "end", _ACCURACY))
    return parts


def _line(points: list[tuple[int, float]], last: int, highest: float, colour: str) -> str:
    if not points:
        return ""
    places = [f"{_x(epoch, last):.1f},{_y(value, highest):.1f}" for epoch, value in points]
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>'
        for x, y in (place.split(",") for place in places)
    )
    path = f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}"/>'
    return path + dots


def _text(x: float, y: float, text: str, anchor: str, colour: str, size: int | None = None) -> str:
    font = f' font-size="{size}"' if size else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{font}'
    return f"<text {place}>{text}</text>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
