"""The report as tables for a terminal."""

from collections.abc import Iterator

from tiny_pipelines.step_report.collect import LayerReport, StepReport

_KIB = 1024


def report_text(report: StepReport) -> str:
    """Totals, a line a layer with the peak marked, and what each memory pass saves."""
    return "\n".join([report.title, *_totals(report), "", *_layers(report), "", *_stages(report)])


def _totals(report: StepReport) -> Iterator[str]:
    totals = report.totals
    yield (
        f"SRAM          {totals['sram'] / _KIB:.1f} KiB: arena {totals['arena']:,} B "
        f"(lower bound {totals['bound']:,} B), trained {totals['state']:,} B, stack and data"
    )
    yield f"flash         code {totals['code']:,} B, frozen parameters {totals['weights']:,} B"
    yield (
        f"instructions  forward {totals['forward'] / 1e6:.2f} M, step {totals['step'] / 1e6:.2f} M "
        f"for {totals['macs'] / 1e6:.2f} M multiply-accumulates"
    )
    yield f"peak          {report.peak}"


def _layers(report: StepReport) -> Iterator[str]:
    width = max(len(layer.layer) for layer in report.layers) + 2
    yield (
        f"{'layer':<{width}}{'MACs':>12}{'forward':>12}{'backward':>12}{'flash':>10}{'trained':>10}"
        f"{'SRAM':>10}"
    )
    peak = max(layer.sram_bytes for layer in report.layers)
    for layer in report.layers:
        yield _layer(layer, width) + ("  <- peak" if layer.sram_bytes == peak else "")


def _layer(layer: LayerReport, width: int) -> str:
    columns = zip(layer.figures, (12, 12, 12, 10, 10, 10), strict=True)
    return f"{layer.layer:<{width}}" + "".join(f"{value:>{size},}" for value, size in columns)


def _stages(report: StepReport) -> Iterator[str]:
    width = max(len(stage.name) for stage in report.stages) + 2
    yield f"{'arena, pass by pass':<{width}}{'bytes':>12}{'bound':>12}"
    for stage in report.stages:
        yield f"{stage.name:<{width}}{stage.arena_bytes:>12,}{stage.bound_bytes:>12,}"
