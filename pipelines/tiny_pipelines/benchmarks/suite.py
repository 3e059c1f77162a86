"""The benchmarks of a suite file, and the totals that were recorded for them beside it.

    {"name": "digits", "model": "../digits.mlirbc", "scheme": "../sparse.json", "data": "../a.npz",
     "runs": {"int16": ["cortex-m7", ...], "float32": [...]}}

Paths are relative to the file; one that starts with `$TINY_DATA` is in the model zoo, and a case
without its files is skipped. Counts repeat exactly, so a total that grows is a change of the code.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.benchmarks.benchmark import Benchmark, run_benchmark
from tiny_pipelines.training import TrainingOptions
from tiny_targets.json_reader import read_json

SLACK = 0.01
"""The share by which a total may exceed what was recorded."""

TOTALS_FILE = "totals.json"
_ZOO = "$TINY_DATA/"
_MOST_BYTES = 1 << 20

Totals = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class Case:
    """A model with its scheme, and the (gradients, targets) it is measured with."""

    name: str
    model: Path
    scheme: str
    runs: dict[str, list[str]]
    classes: int | None = None
    data: Path | None = None
    baseline: Path | None = None
    peers: tuple[str, ...] = ()

    @property
    def missing(self) -> Path | None:
        """A file that the case needs and that is not there."""
        needed = [self.model, *([self.data] if self.data else [])]
        return next((path for path in needed if not path.exists()), None)

    def configurations(self, targets: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
        """(gradients, target) of every run, on all or only on the given targets."""
        for gradients, names in self.runs.items():
            for target in names:
                if not targets or target in targets:
                    yield gradients, target


def read_suite(path: Path) -> list[Case]:
    """The cases of a suite file; raises `InvalidOption` where it is not one."""
    records = read_json(path, _MOST_BYTES, InvalidOption)
    try:
        return [_case(record, path) for record in records]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidOption(f"not a suite of benchmarks: {error!r}", str(path)) from None


def _case(record: dict[str, Any], suite: Path) -> Case:
    def optional(name: str) -> Path | None:
        return _located(record[name], suite) if name in record else None

    scheme = str(record["scheme"])
    return Case(
        record["name"],
        _located(record["model"], suite),
        str(_located(scheme, suite)) if scheme.endswith(".json") else scheme,
        {str(k): [str(t) for t in targets] for k, targets in record["runs"].items()},
        record.get("classes"),
        optional("data"),
        optional("baseline"),
        tuple(record.get("peers", ())),
    )


def _located(text: str, suite: Path) -> Path:
    if text.startswith(_ZOO):
        root = os.environ.get("TINY_DATA")
        zoo = Path(root) if root else suite.resolve().parents[2] / "shared" / "data"
        return zoo / text.removeprefix(_ZOO)
    return suite.parent / text


def run_case(case: Case, gradients: str, target: str) -> Benchmark:
    """One run of a case; with data its first training sample is what the device sees."""
    from tiny_dialect.dialect import new_context
    from tiny_pipelines.datasets import load_dataset
    from tiny_pipelines.frontends import import_bytes
    from tiny_targets.target import find_target

    def sample(step: Any) -> Any:
        assert case.data is not None
        data = load_dataset(case.data)
        return data.preprocessing_for(step).apply(data.train.samples[0])

    with new_context():
        module = import_bytes(case.model.read_bytes(), str(case.model), case.classes, 0)
        options = TrainingOptions(case.scheme, gradients=gradients)
        core = find_target(target)
        return run_benchmark(module, options, core, None if case.data is None else sample)


def key_of(benchmark: Benchmark) -> str:
    """What the totals of a run are recorded under, in its case."""
    return f"{benchmark.target} {benchmark.gradients}"


def read_totals(suite: Path) -> Totals:
    """What is recorded beside a suite file; nothing where there is no such file."""
    path = suite.parent / TOTALS_FILE
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def write_totals(suite: Path, totals: Totals) -> None:
    """Record the totals beside a suite file, in sorted order."""
    text = json.dumps(totals, indent=2, sort_keys=True) + "\n"
    (suite.parent / TOTALS_FILE).write_text(text, "utf-8")


class CostsGrew(TinyError):
    """A total exceeds what was recorded for it."""


def compare(case: str, benchmark: Benchmark, totals: Totals) -> tuple[list[str], list[str]]:
    """(what grew beyond the slack, what shrank beyond it), a sentence each."""
    recorded = totals.get(case, {}).get(key_of(benchmark))
    if recorded is None:
        return [f"{case}, {key_of(benchmark)}: nothing recorded; run tiny-bench --record"], []
    grown: list[str] = []
    shrunk: list[str] = []
    for name, now in benchmark.totals.items():
        before = recorded.get(name, 0)
        change = f"{now:,} where {before:,} are recorded ({now / max(before, 1) - 1:+.1%})"
        sentence = f"{case}, {key_of(benchmark)}, {name.replace('_', ' ')}: {change}"
        if now > before * (1 + SLACK):
            grown.append(sentence)
        elif now < before * (1 - SLACK):
            shrunk.append(sentence)
    return grown, shrunk
