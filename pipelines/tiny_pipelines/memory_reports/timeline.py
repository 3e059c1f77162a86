"""A picture of the arena: address over step, a rectangle a tensor, coloured by what it is for.

`timeline_svg` is a drawing of its own, light or dark as the viewer prefers, that needs no script
and no font; it can stand in a page as it is, because all its styles are bound to its class.
`timeline_page` is such a page, with the tensors of the peak as a table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from tiny_passes.arena_map import KINDS, ArenaMap, Kind, Placement

_WIDTH, _MAP_HEIGHT, _LOAD_HEIGHT = 1180.0, 460.0, 90.0
_LEFT, _RIGHT, _TOP, _GAP, _BOTTOM = 74.0, 18.0, 76.0, 34.0, 44.0
_LEAST_LABEL = 62.0, 13.0
_CHARACTER = 6.2
_SMALLEST = 0.6

_LIGHT = {
    "activation": "#5b9bd5",
    "saved": "#e6a23c",
    "gradient": "#d9605a",
    "scratch": "#9aa3ad",
    "trained": "#8f78c4",
    "surface": "#ffffff",
    "field": "#f4f6f8",
    "ink": "#1f2933",
    "faint": "#66717d",
    "line": "#d5dbe1",
    "mark": "#111827",
    "label": "#10202e",
}
_DARK = {
    **_LIGHT,
    "activation": "#4a8ac4",
    "saved": "#cf8f2e",
    "gradient": "#c8544f",
    "scratch": "#6f7882",
    "trained": "#7d68b3",
    "surface": "#14181d",
    "field": "#1d232a",
    "ink": "#e6eaee",
    "faint": "#9aa6b2",
    "line": "#38424d",
    "mark": "#ffffff",
    "label": "#0b1117",
}


def _rules(colours: dict[str, str]) -> str:
    root = ".tiny-timeline"
    rules = [f"{root} .{kind}{{fill:{colours[kind]}}}" for kind in KINDS]
    rules += [
        f"{root} .surface{{fill:{colours['surface']}}}",
        f"{root} .field{{fill:{colours['field']}}}",
        f"{root} text{{fill:{colours['ink']}}}",
        f"{root} .faint{{fill:{colours['faint']}}}",
        f"{root} .grid{{stroke:{colours['line']}}}",
        f"{root} .mark{{stroke:{colours['mark']}}}",
        f"{root} .tensor{{stroke:{colours['surface']}}}",
        f"{root} .tensor:hover{{stroke:{colours['mark']}}}",
        f"{root} .name{{fill:{colours['label']}}}",
    ]
    return "".join(rules)


def _style() -> str:
    shapes = (
        ".tiny-timeline text{font:12px system-ui,sans-serif}"
        ".tiny-timeline .title{font-size:17px;font-weight:600}"
        ".tiny-timeline .name{font-size:10px;pointer-events:none}"
        ".tiny-timeline .tensor{stroke-width:.6}.tiny-timeline .tensor:hover{stroke-width:2}"
        ".tiny-timeline .grid{stroke-width:1}"
        ".tiny-timeline .mark{stroke-width:1.4;stroke-dasharray:5 3;fill:none}"
    )
    dark = f"@media (prefers-color-scheme:dark){{{_rules(_DARK)}}}"
    return f"<style>{shapes}{_rules(_LIGHT)}{dark}</style>"


@dataclass(frozen=True)
class _Scale:
    """From steps and bytes to the drawing; the state lies above the arena."""

    found: ArenaMap

    @property
    def total(self) -> int:
        return max(1, self.found.arena_bytes + self.found.state_bytes)

    @property
    def step(self) -> float:
        return (_WIDTH - _LEFT - _RIGHT) / len(self.found.steps)

    def x(self, step: int) -> float:
        """The left edge of a step."""
        return _LEFT + step * self.step

    def y(self, address: int) -> float:
        """The height of an address; that of the state counts on behind the arena."""
        return _TOP + _MAP_HEIGHT * (1 - address / self.total)

    @property
    def load_bottom(self) -> float:
        return _TOP + _MAP_HEIGHT + _GAP + _LOAD_HEIGHT

    def load(self, size: int) -> float:
        """The height of so many bytes in the lower panel."""
        return _LOAD_HEIGHT * size / max(1, self.found.arena_bytes)


def timeline_svg(found: ArenaMap, title: str) -> str:
    """The drawing as one `<svg>` element; `title` heads it."""
    scale = _Scale(found)
    height = scale.load_bottom + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tiny-timeline" role="img" '
        f'viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}" height="{height:g}">',
        f"<title>{escape(title)}</title>",
        _style(),
        f'<rect class="surface" width="{_WIDTH:g}" height="{height:g}"/>',
        _text(_LEFT, 26, title, "title"),
        _text(_LEFT, 46, _summary(found), "faint"),
        *_legend(found),
        *_axes(scale),
        *(_tensor(scale, one, found.arena_bytes) for one in found.trained),
        *(_tensor(scale, one) for one in found.placements),
        *_loads(scale),
        *_marks(scale),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def timeline_page(found: ArenaMap, title: str) -> str:
    """A page with the drawing and the tensors that are live at the peak."""
    rows = "".join(
        f"<tr><td>{escape(one.name)}<td>{one.kind}<td>{escape(one.type_text)}"
        f"<td class=n>{one.size_bytes:,}<td class=n>{one.offset:,}"
        for one in found.live_at(found.peak_step)
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>
:root{{color-scheme:light dark}}
body{{font:14px system-ui,sans-serif;margin:2rem auto;max-width:1180px;padding:0 1rem;
background:{_LIGHT["surface"]};color:{_LIGHT["ink"]}}}
svg{{max-width:100%;height:auto}}table{{border-collapse:collapse}}
th,td{{text-align:left;padding:.2rem 1.2rem .2rem 0;border-bottom:1px solid {_LIGHT["line"]}}}
.n{{text-align:right;font-variant-numeric:tabular-nums}}
@media (prefers-color-scheme:dark){{body{{background:{_DARK["surface"]};color:{_DARK["ink"]}}}
th,td{{border-color:{_DARK["line"]}}}}}
</style>
{timeline_svg(found, title)}
<h2>Live at the peak: {escape(found.steps[found.peak_step])}</h2>
<table><tr><th>tensor<th>kind<th>type<th class=n>bytes<th class=n>address{rows}</table>
</html>
"""


def _summary(found: ArenaMap) -> str:
    text = f"arena {found.arena_bytes:,} B, lower bound {found.bound_bytes:,} B"
    state = f", trained state {found.state_bytes:,} B" if found.state_bytes else ""
    return f"{text}{state}, {len(found.steps) - 2} ops; peak at {found.steps[found.peak_step]}"


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind} text-anchor="{anchor}">{escape(text)}</text>'


def _legend(found: ArenaMap) -> Iterator[str]:
    x = _LEFT
    shown = {one.kind for one in (*found.placements, *found.trained)}
    for kind in (kind for kind in KINDS if kind in shown):
        yield f'<rect class="{kind}" x="{x:.1f}" y="57" width="11" height="11" rx="2"/>'
        yield _text(x + 16, 67, kind, "faint")
        x += 34 + len(kind) * 6.6


def _axes(scale: _Scale) -> Iterator[str]:
    found, right = scale.found, _WIDTH - _RIGHT
    for y, height in ((_TOP, _MAP_HEIGHT), (scale.load_bottom - _LOAD_HEIGHT, _LOAD_HEIGHT)):
        width = right - _LEFT
        yield (
            f'<rect class="field" x="{_LEFT:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'
        )
    spacing = _spacing(scale.total)
    for address in range(0, scale.total + 1, spacing):
        y = scale.y(address)
        yield f'<path class="grid" d="M{_LEFT:g} {y:.1f}H{right:g}"/>'
        yield _text(_LEFT - 8, y + 4, f"{address / 1024:g} KiB", "faint", "end")
    yield _text(_LEFT - 8, scale.load_bottom - _LOAD_HEIGHT + 12, "in use", "faint", "end")
    yield _text(_LEFT - 8, scale.load_bottom, "0", "faint", "end")
    every = max(1, round(len(found.steps) / 12 / 5) * 5)
    for step in range(0, len(found.steps), every):
        yield _text(scale.x(step), scale.load_bottom + 16, str(step), "faint", "middle")
    yield from _phases(scale)


def _spacing(total: int) -> int:
    """Bytes between two lines: a power of two, so that six to twelve lines fit."""
    spacing = 256
    while total / spacing > 12:
        spacing *= 2
    return spacing


def _phases(scale: _Scale) -> Iterator[str]:
    """Where the forward pass ends, below the steps."""
    found, y = scale.found, scale.load_bottom + 34
    gradients = [one.first for one in found.placements if one.kind == "gradient"]
    if not gradients:
        yield _text(scale.x(0), y, "steps: forward")
        return
    turn = min(gradients)
    yield (
        f'<path class="grid" d="M{scale.x(turn):.1f} {_TOP:g}V{scale.load_bottom + 38:g}" '
        'stroke-dasharray="2 3"/>'
    )
    yield _text(scale.x(0), y, "steps: forward")
    yield _text(scale.x(turn) + 6, y, "loss, backward and update")


def _tensor(scale: _Scale, one: Placement, above: int = 0) -> str:
    low, high = scale.y(above + one.offset), scale.y(above + one.offset + one.size_bytes)
    x, width = scale.x(one.first), (one.last - one.first + 1) * scale.step
    height = max(_SMALLEST, low - high)
    text = f"{one.name}\n{one.kind}, {one.type_text}\n{one.size_bytes:,} B at {one.offset:,}"
    if one.kind != "trained":
        text += f"\nsteps {one.first} to {one.last}"
    drawn = (
        f'<rect class="tensor {one.kind}" x="{x:.2f}" y="{high:.2f}" width="{width:.2f}" '
        f'height="{height:.2f}"><title>{escape(text)}</title></rect>'
    )
    if width < _LEAST_LABEL[0] or height < _LEAST_LABEL[1]:
        return drawn
    fits = int((width - 8) / _CHARACTER)
    name = one.name if len(one.name) <= fits else one.name[: fits - 1] + "…"
    return drawn + _text(x + 4, high + min(height / 2 + 4, 14), name, "name")


def _loads(scale: _Scale) -> Iterator[str]:
    """The lower panel: bytes live at each step by kind, one on the other."""
    found = scale.found
    base = [0] * len(found.steps)
    used = [found.used_bytes(step) for step in range(len(found.steps))]
    kinds: tuple[Kind, ...] = ("saved", "activation", "gradient", "scratch")
    for kind in kinds:
        sizes = [0] * len(found.steps)
        for one in found.placements:
            for step in range(one.first, one.last + 1):
                sizes[step] += one.size_bytes if one.kind == kind else 0
        for step, size in enumerate(sizes):
            # What two tensors share is drawn once: as much as fits below the bytes in use.
            shown = min(size, used[step] - base[step])
            if shown > 0:
                base[step] += shown
                y = scale.load_bottom - scale.load(base[step])
                yield (
                    f'<rect class="{kind}" x="{scale.x(step):.2f}" y="{y:.2f}" '
                    f'width="{scale.step + 0.05:.2f}" height="{scale.load(shown):.2f}"/>'
                )


def _marks(scale: _Scale) -> Iterator[str]:
    """The peak, and where the arena ends."""
    found = scale.found
    x = scale.x(found.peak_step) + scale.step / 2
    yield f'<path class="mark" d="M{x:.1f} {_TOP - 6:g}V{scale.load_bottom:.1f}"/>'
    left = x < _WIDTH * 0.75
    used = found.used_bytes(found.peak_step)
    text = f"peak {used / 1024:.1f} KiB"
    place = x + 5 if left else x - 5
    yield _text(place, scale.load_bottom - _LOAD_HEIGHT - 6, text, "", "start" if left else "end")
    if found.state_bytes:
        y = scale.y(found.arena_bytes)
        yield f'<path class="mark" d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}"/>'
        text = f"arena below, {found.arena_bytes / 1024:.1f} KiB; trained state above"
        yield _text(_WIDTH - _RIGHT - 4, y - 5, text, "name", "end")
