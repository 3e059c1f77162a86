"""The page of a study: a table a section, with spread; and what a row promised and did not keep."""

import statistics
from collections.abc import Iterable
from typing import Any

from tiny_pipelines.accuracy.run import Results
from tiny_pipelines.accuracy.study import Row, Section

_DEFAULTS = Row("", "", "").settings()


def page(results: Results, command: str) -> str:
    """The Markdown text; rows that are not finished say so."""
    study = results.study
    seconds = sum(record["seconds"] for record in _records(results))
    parts = [f"# {study.title}", study.text, _provenance(results, command, seconds)]
    for section in study.sections:
        parts += [f"## {section.title}", section.text, _table(results, section)]
    parts += ["## How the rates were chosen", _RATES, _rate_table(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


_RATES = (
    "Every rate with the same plan on four fifths of the training images, accuracy on the fifth "
    "held out; of rates within half a point the lowest."
)


def _provenance(results: Results, command: str, seconds: float) -> str:
    seeds = ", ".join(str(seed) for seed in results.study.seeds)
    return (
        f"Written by `{command}`; seeds {seeds}; mean and standard deviation. "
        f"Rates are for 256 images. All runs together took {seconds / 3600:.1f} hours of one core."
    )


def _table(results: Results, section: Section) -> str:
    lines = [
        "| | scheme | options | rate | accuracy % | arena | state | images/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in section.rows:
        lines.append("| " + " | ".join(_cells(results, row)) + " |")
    return "\n".join(lines)


def _cells(results: Results, row: Row) -> list[str]:
    found = [record for record in _of(results, row) if record]
    cells = [row.name, row.scheme, _options(row)]
    if not found:
        return [*cells, "", "not run", "", "", ""]
    speed = statistics.median(record.get("images_per_second", 0.0) for record in found)
    return [
        *cells,
        f"{found[0]['rate']:g}",
        accuracy_text([100 * record["accuracy"] for record in found], collapsed(found)),
        f"{found[0]['arena_bytes']:,}",
        f"{found[0]['state_bytes']:,}",
        f"{speed:.0f}",
    ]


def _options(row: Row) -> str:
    """What the row says beyond the defaults."""
    names = {"epochs": "epochs", "batch": "batch", "update": "update", "gradients": "gradients"}
    settings = row.settings()
    texts = [
        f"{names.get(key, key)} {value}"
        for key, value in settings.items()
        if key not in ("model", "scheme") and (key == "epochs" or value != _DEFAULTS[key])
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
        if row.within is not None:
            other = results.accuracies(results.study.row(row.rate_of or ""))
            if mean < statistics.mean(other) - row.within:
                gap = statistics.mean(other) - mean
                broken.append(
                    f"{row.name}: {gap:.1f} points below {row.rate_of}, {row.within:g} allowed"
                )
    return broken
