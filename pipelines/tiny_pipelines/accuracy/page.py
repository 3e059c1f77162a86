"""The page of a study: a table a section, with spread; and what a row promised and did not keep."""

import statistics
from collections.abc import Iterable
from typing import Any

from tiny_pipelines.accuracy.run import Results
from tiny_pipelines.accuracy.search_table import search_table
from tiny_pipelines.accuracy.study import Grid, Row, Section
from tiny_pipelines.accuracy.work import work_text

_DEFAULTS = Row("", "", "").settings()


def page(results: Results, command: str) -> str:
    """The Markdown text; rows that are not finished say so.

    Raises `InvalidOption` for a record of a search that cannot be read.
    """
    study = results.study
    parts = [f"# {study.title}", study.text, _provenance(results, command)]
    for section in study.sections:
        parts += [f"## {section.title}", section.text, _table(results, section)]
        if section.grid is not None:
            parts.append(_grid(results, section.grid))
        if section.search is not None:
            parts.append(search_table(study.beside(section.search)))
    if rates := _rate_table(results):
        parts += ["## How the rates were chosen", _RATES, rates]
    return "\n\n".join(part for part in parts if part) + "\n"


_RATES = (
    "Every rate with the same plan on four fifths of the training images, accuracy on the fifth "
    "held out; of rates within half a point the lowest."
)


def _provenance(results: Results, command: str) -> str:
    seeds = ", ".join(str(seed) for seed in results.study.seeds)
    return (
        f"Written by `{command}`; seeds {seeds}; mean and standard deviation, and each seed. "
        f"Rates are for 256 images. {work_text(list(_records(results)))}"
    )


def _table(results: Results, section: Section) -> str:
    if not section.rows:
        return ""
    titles = ["", "scheme", "options", "rate", "accuracy %", "each seed", "arena", "state"]
    titles.append("images/s")
    moved = [_moved(results, row) for row in section.rows]
    if any(moved):
        titles.append("weights moved")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row, share in zip(section.rows, moved, strict=True):
        cells = [*_cells(results, row), *([share] if any(moved) else [])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _moved(results: Results, row: Row) -> str:
    """The share of trained weights that the runs of a row changed at all; empty if unknown."""
    found = [record for record in _of(results, row) if record and "moved_weights" in record]
    return f"{statistics.mean(one['moved_weights'] for one in found):.0%}" if found else ""


def _cells(results: Results, row: Row) -> list[str]:
    found = [record for record in _of(results, row) if record]
    cells = [row.name, row.scheme.removesuffix(".json"), _options(row)]
    if not found:
        return [*cells, "", "not run", "", "", "", ""]
    accuracies = [100 * record["accuracy"] for record in found]
    return [
        *cells,
        f"{found[0]['rate']:g}",
        accuracy_text(accuracies, collapsed(found)),
        ", ".join(f"{accuracy:.1f}" for accuracy in accuracies),
        *_device_cells(found),
    ]


def _device_cells(found: list[dict[str, Any]]) -> list[str]:
    """Bytes of arena and state, and the host's images a second; empty for what no device runs."""
    if "arena_bytes" not in found[0]:
        return ["", "", ""]
    speed = statistics.median(record.get("images_per_second", 0.0) for record in found)
    sizes = (f"{found[0][name]:,}" for name in ("arena_bytes", "state_bytes"))
    return [*sizes, f"{speed:.0f}"]


def _options(row: Row) -> str:
    """What the row says beyond the defaults."""
    shown = ("epochs", "arithmetic")
    texts = [
        f"{key} {value}"
        for key, value in row.settings().items()
        if key not in ("model", "scheme") and (key in shown or value != _DEFAULTS[key])
    ]
    model = row.model.rsplit("/", 1)[-1].split(".pkl")[0]
    return ", ".join([model, *texts])


def accuracy_text(accuracies: list[float], fallen: int = 0) -> str:
    """Mean and standard deviation in percent, of several runs; what collapsed is counted."""
    mean = statistics.mean(accuracies)
    spread = f" ± {statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else " (one seed)"
    note = f", {fallen} of {len(accuracies)} collapsed" if fallen else ""
    return f"{mean:.1f}{spread}{note}"


def collapsed(records: Iterable[dict[str, Any]]) -> int:
    """How many runs collapsed."""
    return sum(1 for record in records if record["collapsed"])


def _grid(results: Results, grid: Grid) -> str:
    """Mean accuracies side by side, of rows that stand in tables of the page."""
    lines = [f"| accuracy % | {' | '.join(grid.columns)} |", "|---" * (len(grid.columns) + 1) + "|"]
    for title, names in grid.lines.items():
        cells = [_mean(results, name) if name else "" for name in names]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(results: Results, name: str) -> str:
    found = [record for record in _of(results, results.study.row(name)) if record]
    accuracies = [100 * record["accuracy"] for record in found]
    return accuracy_text(accuracies, collapsed(found)) if found else "not run"


def _rate_table(results: Results) -> str:
    lines = ["| | tried | chosen |", "|---|---|---|"]
    for row in results.study.rows:
        if not row.rates:
            continue
        tried = [
            _tried(rate, results.find(run))
            for rate, run in zip(row.rates, results.trials(row), strict=True)
        ]
        chosen = results.rate(row)
        lines.append(
            f"| {row.name} | {'; '.join(tried)} | {'' if chosen is None else f'{chosen:g}'} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def _tried(rate: float, record: dict[str, Any] | None) -> str:
    if record is None:
        return f"{rate:g}: not run"
    return f"{rate:g}: {'collapsed' if record['collapsed'] else format(record['accuracy'], '.1%')}"


def _of(results: Results, row: Row) -> list[dict[str, Any] | None]:
    if results.rate(row) is None:
        return []
    return [results.find(run) for run in results.runs(row)]


def _records(results: Results) -> Iterable[dict[str, Any]]:
    for row in results.study.rows:
        for run in results.trials(row):
            if (record := results.find(run)) is not None:
                yield record
        yield from (record for record in _of(results, row) if record is not None)


def broken_promises(results: Results, rows: Iterable[Row]) -> list[str]:
    """A line for each of `rows` that is not finished or misses what its study demands."""
    broken: list[str] = []
    for row in rows:
        found = [record for record in _of(results, row) if record is not None]
        if len(found) < len(results.study.seeds):
            broken.append(f"{row.name}: {len(found)} of {len(results.study.seeds)} runs are there")
            continue
        mean = 100 * statistics.mean(record["accuracy"] for record in found)
        if row.least is not None and mean < row.least:
            broken.append(f"{row.name}: {mean:.1f} %, expected at least {row.least:g}")
        if row.most is not None and mean > row.most:
            broken.append(f"{row.name}: {mean:.1f} %, expected at most {row.most:g}")
        if row.within is not None and (line := _too_far_below(results, row, mean)):
            broken.append(line)
    return broken


def _too_far_below(results: Results, row: Row, mean: float) -> str:
    """What to say of a row that is not `within` its points of the row `rate_of`; else empty."""
    other = results.accuracies(results.study.row(row.rate_of or ""))
    if not other:
        return f"{row.name}: {row.rate_of}, which it is held to, has not run"
    gap, allowed = statistics.mean(other) - mean, row.within or 0.0
    if gap <= allowed:
        return ""
    return f"{row.name}: {gap:.1f} points below {row.rate_of}, {allowed:g} allowed"
