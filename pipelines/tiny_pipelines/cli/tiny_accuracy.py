"""`tiny-accuracy`: run every row of a page of results, several seeds each, and write the page."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.cli import entry


class BrokenPromise(TinyError):
    """A row is not what its study demands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _accuracy, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-accuracy",
        description="Run the rows of a study, each with several seeds, and write its page. Every "
        "finished run is a JSON file in FOLDER; a study that was stopped goes on from there. "
        "Status 1 where a row misses what the study demands.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("study", metavar="STUDY", type=Path, help="a JSON file that lists the rows")
    add("-o", "--output", required=True, metavar="FOLDER", type=Path, help="finished runs")
    add("--files", metavar="FOLDER", type=Path, help="of models and data (TINY_DATA, else STUDY's)")
    add("--page", metavar="FILE.md", type=Path, help="write the page")
    add("--rows", action="append", default=[], metavar="NAME", help="only this row; repeatable")
    add("--jobs", type=int, default=1, metavar="N", help="processes (default 1)")
    add("--list", action="store_true", help="run nothing: list what is finished")
    floats = options.add_argument_group("rows in float, elsewhere: needs NumPy and PyTorch there")
    floats.add_argument("--export", metavar="FOLDER", type=Path, help="write networks, run nothing")
    floats.add_argument("--networks", metavar="FOLDER", type=Path, help="what --export wrote")
    floats.add_argument("--device", default="cpu", metavar="NAME", help="of PyTorch (default cpu)")
    return options


def _accuracy(options: argparse.Namespace) -> None:
    from tiny_pipelines.accuracy.experiments import Places
    from tiny_pipelines.accuracy.page import broken_promises, page
    from tiny_pipelines.accuracy.run import Results, run_study
    from tiny_pipelines.accuracy.study import read_study

    study = read_study(options.study)
    if options.jobs < 1:
        raise InvalidOption(f"expected at least one job, got {options.jobs}")
    rows = [study.row(name) for name in options.rows] or list(study.rows)
    if options.export is not None:
        _export(options, study, rows)
        return
    if options.list:
        results = Results(study, options.output)
    else:
        with entry.resumable_folder(options.output):
            results = run_study(
                study,
                Places(_files(options), options.networks, options.device),
                options.output,
                jobs=options.jobs,
                only=options.rows,
                tell=lambda text: print(text, file=sys.stderr, flush=True),
            )
    for row in rows:
        print(f"{row.name:<32} {_state(results, row)}")
    if options.page is not None:
        command = f"tiny-accuracy {options.study} -o FOLDER --page {options.page}"
        entry.write_output(str(options.page), page(results, command).encode())
    if not options.list and (broken := broken_promises(results, rows)):
        raise BrokenPromise("; ".join(broken))


def _export(options: argparse.Namespace, study: Any, rows: list[Any]) -> None:
    from tiny_pipelines.accuracy.float_rows import export_networks

    for path in export_networks(study, rows, _files(options), options.export):
        print(path)


def _files(options: argparse.Namespace) -> Path:
    if options.files is not None:
        return options.files
    zoo = os.environ.get("TINY_DATA")
    return Path(zoo) if zoo else options.study.parent


def _state(results: object, row: object) -> str:
    from tiny_pipelines.accuracy.page import accuracy_text
    from tiny_pipelines.accuracy.run import Results
    from tiny_pipelines.accuracy.study import Row

    assert isinstance(results, Results) and isinstance(row, Row)
    if results.rate(row) is None:
        trials = results.trials(results.study.rated(row))
        return f"rate: {len(trials) - len(results.missing(trials))} of {len(trials)} runs"
    found = results.accuracies(row)
    runs = f"{len(found)} of {len(results.study.seeds)} runs"
    return f"{accuracy_text(found)} %, {runs}" if found else runs
