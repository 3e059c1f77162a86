"""Run a study: what is missing of it, in processes, one JSON file a finished run.

A file is named after its row and seed (or, where a rate is chosen, after the rate tried), and
holds the key of the run that made it: another study's or an older row's result is run again.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tiny_dialect.errors import TinyError
from tiny_pipelines.accuracy.experiments import VALIDATION_SEED, Places, RowExperiments
from tiny_pipelines.accuracy.study import Row, Study
from tiny_pipelines.rate_proposal import TIE


class RunFailed(TinyError):
    """A run of a study cannot be made, or a rate cannot be chosen."""


@dataclass(frozen=True)
class Run:
    """One training run of a row, at `rate` for 256 images; on a validation split or for real."""

    row: Row
    rate: float
    seed: int
    validation: bool

    @property
    def file(self) -> str:
        """The name of its file."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.row.name.lower()).strip("-")
        suffix = f"validation-{self.rate:g}" if self.validation else f"seed-{self.seed}"
        return f"{slug}.{suffix}.json"


class Results:
    """The finished runs of a study in a folder."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder

    def find(self, run: Run) -> dict[str, Any] | None:
        """The record of `run`, None where there is none of exactly this run."""
        try:
            record = json.loads((self.folder / run.file).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return record if record.get("key") == self._key(run) else None

    def keep(self, run: Run, record: dict[str, Any]) -> None:
        """Write the record of `run`; a kill leaves the whole file or none."""
        path = self.folder / run.file
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps({"key": self._key(run), **record}, indent=1) + "\n", "utf-8")
        os.replace(part, path)

    def _key(self, run: Run) -> str:
        return self.study.identity(run.row, rate=run.rate, seed=run.seed, validation=run.validation)

    def trials(self, row: Row) -> list[Run]:
        """The runs that choose the rate of a row."""
        return [Run(row, rate, VALIDATION_SEED, True) for rate in row.rates]

    def rate(self, row: Row) -> float | None:
        """The rate of a row, None while it is not chosen.

        Of rates that are as good as equal the lowest; raises `RunFailed` where all collapsed.
        """
        rated = self.study.rated(row)
        if rated.rate is not None:
            return rated.rate
        found = [(run.rate, self.find(run)) for run in self.trials(rated)]
        if any(record is None for _, record in found):
            return None
        good = [(r["accuracy"], rate) for rate, r in found if r and not r["collapsed"]]
        if not good:
            raise RunFailed("every rate collapsed", rated.name)
        best = max(accuracy for accuracy, _ in good)
        return min(rate for accuracy, rate in good if accuracy > best - TIE)

    def runs(self, row: Row) -> list[Run]:
        """The runs of a row whose rate is known."""
        rate = self.rate(row)
        assert rate is not None
        return [Run(row, rate, seed, False) for seed in self.study.seeds]

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Those of `runs` that are still to be made."""
        return [run for run in runs if self.find(run) is None]

    def accuracies(self, row: Row) -> list[float]:
        """The accuracy of every finished seed, in percent."""
        records = [self.find(run) for run in self.runs(row)]
        return [100 * record["accuracy"] for record in records if record]


def run_study(
    study: Study,
    places: Places,
    folder: Path,
    *,
    jobs: int = 1,
    only: Iterable[str] = (),
    tell: Callable[[str], None] = print,
) -> Results:
    """Make every missing run of `study`, `jobs` at a time, from models and data in `places`.

    `only` names the rows wanted, none for all. Raises the first error of a run; what was finished
    by then stays in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(study, folder)
    wanted = [study.row(name) for name in only] or list(study.rows)
    waiting = [("rate", study.rated(row)) for row in wanted] + [("seeds", row) for row in wanted]
    waiting = list(dict.fromkeys(waiting))
    _require_torch(results, wanted)
    running: set[Future[None]] = set()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        while waiting or running:
            for step in _startable(results, waiting):
                waiting.remove(step)
                if runs := _runs(results, step):
                    tell(f"{step[1].name}: {len(runs)} {step[0]} to run, {len(waiting)} after it")
                    running.add(pool.submit(_make_runs, results, places, runs))
                if len(running) >= jobs:
                    break
            if running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
    return results


def _require_torch(results: Results, rows: Iterable[Row]) -> None:
    """Raise `RunFailed` at once, not after hours, where a row cannot be computed."""
    for row in rows:
        finished = results.rate(row) is not None and not results.missing(results.runs(row))
        if row.arithmetic == "float" and not finished and find_spec("torch") is None:
            raise RunFailed(
                "needs PyTorch: pip install '.[torch]', or name the other rows by --rows", row.name
            )


def _startable(results: Results, waiting: list[tuple[str, Row]]) -> list[tuple[str, Row]]:
    return [(kind, row) for kind, row in waiting if kind == "rate" or results.rate(row) is not None]


def _runs(results: Results, step: tuple[str, Row]) -> list[Run]:
    kind, row = step
    return results.missing(results.trials(row) if kind == "rate" else results.runs(row))


def experiments_of(study: Study, row: Row, places: Places) -> RowExperiments:
    """The experiments of a row, in its arithmetic."""
    if row.arithmetic == "float":
        from tiny_pipelines.accuracy.float_rows import FloatExperiments

        return FloatExperiments(study, row, places)
    from tiny_pipelines.accuracy.compiled_rows import CompiledExperiments

    return CompiledExperiments(study, row, places.files)


def _make_runs(results: Results, places: Places, runs: list[Run]) -> None:
    """In a process of its own: runs of one row, which share what the frozen layers compute."""
    experiments = experiments_of(results.study, runs[0].row, places)
    for run in runs:
        results.keep(run, experiments.make(run.rate, run.seed, run.validation))
