"""The experiments of one row of a study: any seed and rate, with one compilation for all."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_passes.graph import TRAIN_STEP, find_function, functions
from tiny_pipelines.accuracy.study import Row, Study
from tiny_pipelines.datasets import DataSet
from tiny_pipelines.experiment import Experiment, TrainingDiverged, load_experiment
from tiny_pipelines.frontends import import_bytes
from tiny_pipelines.image_folders import open_dataset
from tiny_pipelines.rate_proposal import validation_split
from tiny_pipelines.scheme import scheme_names
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_pipelines.training_plan import TrainingPlan


class RowExperiments:
    """Experiments that differ in rate, seed and split only."""

    def __init__(self, study: Study, row: Row, files: Path) -> None:
        self.study, self.row = study, row
        self._model, self._name = (files / row.model).read_bytes(), str(files / row.model)
        self._scheme = row.scheme if row.scheme in scheme_names() else str(files / row.scheme)
        self._data = self._limited(open_dataset(files / study.data))
        self._held_out: DataSet | None = None
        self._inputs: Any = None
        self._memory: dict[str, int] | None = None

    def _limited(self, data: DataSet) -> DataSet:
        train, test = self.study.limits
        return replace(data, train=data.train.limited(train), test=data.test.limited(test))

    def _options(self, seed: int, on_host: bool) -> TrainingOptions:
        return TrainingOptions(
            self._scheme,
            self.row.update,
            self.row.gradients,
            rescaling=self.row.rescaling,
            seed=seed,
            accumulate=self.row.batch > 1,
            split_prefix=on_host,
            fuse_blocks=not on_host,
            row_overlap=not on_host,
        )

    def _step(self, seed: int, on_host: bool) -> Any:
        module = import_bytes(self._model, self._name, self.study.classes, seed)
        until = "scheduled" if on_host else "planned"
        return build_training_step(module, self._options(seed, on_host), until=until)

    def _experiment(self, seed: int, validation: bool) -> Experiment:
        data = self._data
        if validation:
            self._held_out = self._held_out or validation_split(self._data, seed)
            data = self._held_out
        experiment = load_experiment(self._step(seed, True), data)
        # The frozen layers are the same for all seeds; what they compute is kept.
        self._inputs = self._inputs or experiment.inputs
        experiment.inputs = self._inputs
        return experiment

    def memory(self) -> dict[str, int]:
        """`arena_bytes` and `state_bytes` of the planned step."""
        if self._memory is None:
            module = self._step(0, False)
            arenas = [
                function.attributes["tiny.arena_bytes"].value
                for function in functions(module).values()
            ]
            state = find_function(module, TRAIN_STEP).attributes["tiny.state_bytes"].value
            self._memory = {"arena_bytes": max(arenas), "state_bytes": state}
        return self._memory

    def make(self, rate: float, seed: int, validation: bool) -> dict[str, Any]:
        """The record of one run, at `rate` for 256 images.

        `accuracy` is that on the held-out split where `validation`, else on the test split.
        """
        row, begin = self.row, time.perf_counter()
        plan = TrainingPlan(
            epochs=row.epochs, rate=rate / 256, seed=seed, batch=row.batch, warmup=row.warmup
        )
        record = {**row.settings(), "rate": rate, "seed": seed, "validation": validation}
        with new_context(), ir.Location.unknown():
            experiment = self._experiment(seed, validation)
            if not validation:
                record |= self.memory()
            ready = time.perf_counter()
            try:
                summary = experiment.run(plan).summary()
            except TrainingDiverged:
                summary = {"accuracy_before": None, "accuracy_after": 0.0, "collapsed_at": 0}
        return {
            **record,
            "history": summary.pop("epochs", []),
            "accuracy": summary.pop("accuracy_after"),
            "collapsed": summary.pop("collapsed_at") is not None,
            **summary,
            "seconds": round(time.perf_counter() - begin, 1),
            "seconds_to_compile": round(ready - begin, 1),
        }
