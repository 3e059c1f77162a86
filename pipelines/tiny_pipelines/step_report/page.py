"""The report as one web page: no script, no font, no network; light and dark.

Figures are those of the record, which the page carries as JSON (`<script type="application/json">`)
for whoever wants to read it by machine.
"""

import json
from collections.abc import Iterator
from html import escape

from tiny_pipelines.memory_reports.arena_ladder import Rung
from tiny_pipelines.memory_reports.timeline import timeline_svg
from tiny_pipelines.step_report.collect import LayerReport, StepReport

_KIB = 1024
_STYLE = """
:root{color-scheme:light dark;--surface:#fff;--field:#f4f6f8;--ink:#1f2933;--faint:#66717d;
--line:#d5dbe1;--forward:#5b9bd5;--backward:#d9605a;--flash:#8f78c4;--trained:#e6a23c;--area:#5b9bd5}
@media (prefers-color-scheme:dark){:root{--surface:#14181d;--field:#1d232a;--ink:#e6eaee;
--faint:#9aa6b2;--line:#38424d;--forward:#4a8ac4;--backward:#c8544f;--flash:#7d68b3;
--trained:#cf8f2e;--area:#4a8ac4}}
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1180px;padding:0 1rem;
background:var(--surface);color:var(--ink)}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
p{color:var(--faint);max-width:60rem}svg{max-width:100%;height:auto}
dl{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}
dl div{background:var(--field);border-radius:8px;padding:.7rem 1.1rem}
dt{color:var(--faint);font-size:12px}dd{margin:0;font-size:1.25rem;font-weight:600}
dd small{font-size:12px;font-weight:400;color:var(--faint)}
table{border-collapse:collapse;width:100%}
th,td{text-align:right;padding:.18rem .6rem;border-bottom:1px solid var(--line);
font-variant-numeric:tabular-nums;white-space:nowrap}
th{font-size:12px;color:var(--faint);font-weight:500}
th:first-child,td:first-child,#ops td:nth-child(2),#ops th:nth-child(2){text-align:left}
tr.peak td{font-weight:600}
td.bar{width:30%;text-align:left}td.bar i{display:inline-block;height:11px;vertical-align:middle}
.forward{background:var(--forward)}.backward{background:var(--backward)}
.flash{background:var(--flash)}.trained{background:var(--trained)}
.key i{display:inline-block;width:11px;height:11px;margin:0 .4rem 0 1rem}
.stages{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:1rem}
.stages figure{margin:0;background:var(--field);border-radius:8px;padding:.6rem .8rem}
.stages path{fill:var(--area)}.stages figcaption{font-size:12px}.stages b{float:right}
.scroll{overflow-x:auto}
"""


def report_page(report: StepReport) -> str:
    """The page as HTML."""
    record = json.dumps(report.record()).replace("</", "<\\/")
    return "\n".join(
        (
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f"<title>{escape(report.title)}</title>",
            '<meta name="viewport" content="width=device-width">',
            '<link rel="icon" href="data:,">',
            f"<style>{_STYLE}</style>",
            f"<h1>{escape(report.model)}</h1>",
            f"<p>Training step, scheme {escape(report.scheme)}, weights stored as {report.update}, "
            f"{report.gradients} gradients, on {report.target}. All figures are of the compiled "
            "step, from its plan and from the emulator.</p>",
            _summary(report),
            "<h2>Memory over the step</h2>",
            timeline_svg(report.memory, "Arena and trained state"),
            "<h2>The schedule before and after each pass</h2>",
            "<p>Bytes in use over the ops of the step, all on one scale.</p>",
            f'<div class="stages">{"".join(_stages(report))}</div>',
            "<h2>Layers</h2>",
            *_layers(report),
            "<h2>Ops in order</h2>",
            *_ops(report),
            f'<script type="application/json" id="report">{record}</script></html>',
            "",
        )
    )


def _summary(report: StepReport) -> str:
    totals = report.totals
    tiles = (
        ("SRAM", f"{totals['sram'] / _KIB:.1f} KiB", ""),
        ("arena", f"{totals['arena']:,} B", f"bound {totals['bound']:,}"),
        ("trained", f"{totals['state']:,} B", ""),
        ("code", f"{totals['code']:,} B", ""),
        ("frozen parameters", f"{totals['weights']:,} B", ""),
        ("forward", f"{totals['forward'] / 1e6:.2f} M", "instructions"),
        ("step", f"{totals['step'] / 1e6:.2f} M", "instructions"),
        ("peak", escape(report.peak), ""),
    )
    items = (
        f"<div><dt>{name}<dd>{value} <small>{more}</small></div>" for name, value, more in tiles
    )
    return f"<dl>{''.join(items)}</dl>"


def _stages(report: StepReport) -> Iterator[str]:
    highest = max(max(stage.profile) for stage in report.stages)
    for stage in report.stages:
        yield (
            f"<figure>{_profile(stage, highest)}<figcaption>{escape(stage.name)}"
            f"<b>{stage.arena_bytes:,} B</b></figcaption></figure>"
        )


def _profile(stage: Rung, highest: int) -> str:
    """The bytes in use as a stepped area, 100 units wide and 40 high."""
    width = 100 / len(stage.profile)
    corners = "".join(
        f"V{40 - 40 * value / highest:.2f}H{(step + 1) * width:.2f}"
        for step, value in enumerate(stage.profile)
    )
    return (
        '<svg viewBox="0 0 100 40" width="270" height="108" preserveAspectRatio="none" role="img">'
        f"<title>{escape(stage.name)}</title>"
        f'<path d="M0 40{corners}V40Z"/></svg>'
    )


def _layers(report: StepReport) -> Iterator[str]:
    most = max(layer.forward_instructions + layer.backward_instructions for layer in report.layers)
    largest = max(layer.flash_bytes + layer.trained_bytes for layer in report.layers)
    peak = max(layer.sram_bytes for layer in report.layers)
    yield (
        '<p class="key">Instructions:<i class="forward"></i>forward<i class="backward"></i>backward'
        ' &nbsp; Parameters:<i class="flash"></i>in flash<i class="trained"></i>trained</p>'
        '<div class="scroll"><table id="layers"><tr><th>layer<th>MACs<th>forward<th>backward'
        "<th>flash<th>trained<th>SRAM<th><th>"
    )
    for layer in report.layers:
        yield _layer(layer, most, largest, layer.sram_bytes == peak)
    yield "</table></div>"


def _layer(layer: LayerReport, most: int, largest: int, is_peak: bool) -> str:
    cells = "".join(f"<td>{value:,}" for value in layer.figures)
    work = _bar(
        most, ("forward", layer.forward_instructions), ("backward", layer.backward_instructions)
    )
    size = _bar(largest, ("flash", layer.flash_bytes), ("trained", layer.trained_bytes))
    return (
        f"<tr{' class=peak' if is_peak else ''}><td>{escape(layer.layer)}{cells}"
        f'<td class="bar">{work}<td class="bar">{size}'
    )


def _bar(whole: int, *parts: tuple[str, int]) -> str:
    return "".join(
        f'<i class="{kind}" style="width:{100 * value / max(1, whole):.2f}%"></i>'
        for kind, value in parts
    )


def _ops(report: StepReport) -> Iterator[str]:
    yield (
        '<div class="scroll"><table id="ops"><tr><th>op<th>layer<th>MACs<th>instructions'
        "<th>kernel code<th>SRAM"
    )
    for op in report.ops:
        figures = (op.macs, op.instructions, op.code_bytes, op.sram_bytes)
        cells = "".join(f"<td>{value:,}" for value in figures)
        yield f"<tr><td>{escape(op.op)}<td>{escape(op.layer)}{cells}"
    yield "</table></div>"
