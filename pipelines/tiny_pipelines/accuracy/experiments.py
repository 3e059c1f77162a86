"""The experiments of one row of a study: any seed and rate, with one compilation for all."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiny_pipelines.accuracy.study import Row, Study
from tiny_pipelines.datasets import DataSet
from tiny_pipelines.experiment import Experiment, TrainingDiverged
from tiny_pipelines.host import Array
from tiny_pipelines.image_folders import open_dataset
from tiny_pipelines.rate_proposal import validation_split
from tiny_pipelines.training_plan import TrainingPlan

VALIDATION_SEED = 0
"""Of the runs that choose a rate; the shuffle that holds samples out is the same for all."""


@dataclass(frozen=True)
class Places:
    """Where models and data are, and where float rows find networks and are computed.

    Without `networks` they are made of the models.
    """

    files: Path
    networks: Path | None = None
    device: str = "cpu"


class RowExperiments(ABC):
    """Experiments that differ in rate, seed and split only."""

    def __init__(self, study: Study, row: Row, files: Path) -> None:
        self.study, self.row, self.files = study, row, files
        self._data = self._limited(open_dataset(files / study.data))
        self._held_out: DataSet | None = None

    def _limited(self, data: DataSet) -> DataSet:
        train, test = self.study.limits
        return replace(data, train=data.train.limited(train), test=data.test.limited(test))

    def _split(self, seed: int, validation: bool) -> DataSet:
        if not validation:
            return self._data
        self._held_out = self._held_out or validation_split(self._data, seed)
        return self._held_out

    def _context(self) -> AbstractContextManager[Any]:
        """What is entered for the time of a run."""
        return nullcontext()

    @abstractmethod
    def _experiment(self, seed: int, validation: bool) -> Experiment:
        """An experiment in its initial state."""

    @abstractmethod
    def memory(self) -> dict[str, int]:
        """What the step takes on a device; empty where no device can hold such a step."""

    def make(self, rate: float, seed: int, validation: bool) -> dict[str, Any]:
        """The record of one run, at `rate` for 256 images.

        `accuracy` is that on the held-out split where `validation`, else on the test split.
        """
        row, clock = self.row, _Clock()
        plan = TrainingPlan(
            epochs=row.epochs, rate=rate / 256, seed=seed, batch=row.batch, warmup=row.warmup
        )
        record = {**row.settings(), "rate": rate, "seed": seed, "validation": validation}
        with self._context():
            experiment = self._experiment(seed, validation)
            if not validation:
                record |= self.memory()
            start, ready = experiment.model.state(), clock.seconds
            try:
                summary = experiment.run(plan).summary()
            except TrainingDiverged:
                summary = {"accuracy_before": None, "accuracy_after": 0.0, "collapsed_at": 0}
            record |= moved_weights(start, experiment.model.state())
        return {
            **record,
            "history": summary.pop("epochs", []),
            "accuracy": summary.pop("accuracy_after"),
            "collapsed": summary.pop("collapsed_at") is not None,
            **summary,
            "seconds_to_compile": round(ready, 1),
            **clock.record(),
        }


def moved_weights(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, float]:
    """`moved_weights`: the share of trained weights, int8 or int16, that are not what they were.

    Nothing where weights are stored otherwise.
    """
    stored = [name for name, value in before.items() if value.dtype.name in _STORED]
    count = sum(before[name].size for name in stored)
    if not count:
        return {}
    moved = sum(int((before[name] != after[name]).sum()) for name in stored)
    return {"moved_weights": round(moved / count, 4)}


_STORED = ("int8", "int16")


class _Clock:
    """When a run began and what it took, of the machine and of its cores."""

    def __init__(self) -> None:
        self._began, self._wall, self._cpu = time.time(), time.perf_counter(), _cpu_seconds()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._wall

    def record(self) -> dict[str, float]:
        """`seconds`, `cpu_seconds` of all threads and compilers, `began` in seconds since 1970."""
        cpu = _cpu_seconds() - self._cpu
        figures = {"seconds": self.seconds, "cpu_seconds": cpu, "began": self._began}
        return {name: round(value, 1) for name, value in figures.items()}


def _cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(os.times()[:4])
