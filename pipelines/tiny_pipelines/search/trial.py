"""One trial: a short fine-tuning run of one selection, judged on samples it has not seen.

Equal problems and selections give equal results in any process: every trial starts from the same
state, with the same order of samples.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiny_pipelines.experiment import Experiment, TrainingDiverged
from tiny_pipelines.host import Array, HostModel
from tiny_pipelines.sample_inputs import SampleInputs
from tiny_pipelines.search.problem import Problem
from tiny_pipelines.search.selection import Selection


@dataclass(frozen=True)
class Trial:
    """What a selection reached: accuracy and mean loss on the samples held out."""

    selection: Selection
    accuracy: float
    loss: float
    seconds: float

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "biases": self.selection.biases,
            "weights": {str(index): ratio for index, ratio in self.selection.weights},
            "accuracy": self.accuracy,
            "loss": self.loss,
            "seconds": round(self.seconds, 2),
        }


def read_trial(record: dict[str, Any]) -> Trial:
    """The trial of a record."""
    weights = tuple(sorted((int(i), float(ratio)) for i, ratio in record["weights"].items()))
    selection = Selection(record["biases"], weights)
    return Trial(selection, record["accuracy"], record["loss"], record["seconds"])


class _MaskedModel:
    """A host model whose sums of gradients pass through masks before they are applied."""

    accumulates = True

    def __init__(self, model: HostModel) -> None:
        self.model = model
        self.masks: dict[str, Array] = {}
        self.train_step = model.train_step
        self.infer = model.infer

    def apply_updates(self, rate: float) -> None:
        for symbol, mask in self.masks.items():
            total = self.model.call(f"get.{symbol}")[0]
            self.model.call(f"set.{symbol}", total * mask)
        self.model.apply_updates(rate)


class TrialRunner:
    """Runs trials of one problem in this process."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        model = HostModel(problem.code, initial=problem.state)
        self._masked = _MaskedModel(model)
        prefix = model.prefix if model.has_prefix else None
        self._experiment = Experiment(
            self._masked,  # type: ignore[arg-type]
            problem.preprocessing,
            problem.data,
            inputs=SampleInputs(problem.preprocessing, prefix),
        )
        self.start = self._with_trained_head()

    def _with_trained_head(self) -> dict[str, Array]:
        model = self._masked.model
        if self.problem.head_epochs:
            self._masked.masks = self.problem.masks(Selection(0))
            self._experiment.train(replace(self.problem.plan, epochs=self.problem.head_epochs))
        return model.state()

    def state(self) -> dict[str, Array]:
        """Every trained parameter after the last trial, by symbol."""
        return self._masked.model.state()

    def run(self, selection: Selection) -> Trial:
        """The trial of a selection; one that diverges counts as guessing."""
        begin = time.perf_counter()
        self._masked.model.load_state(self.start)
        self._masked.masks = self.problem.masks(selection)
        classes = self.problem.data.classes
        try:
            self._experiment.train(self.problem.plan)
            accuracy, loss = self._judged()
        except TrainingDiverged:
            accuracy, loss = 1 / classes, math.log(classes)
        return Trial(selection, accuracy, loss, time.perf_counter() - begin)

    def _judged(self) -> tuple[float, float]:
        split = self.problem.data.test
        hits, losses = 0, []
        for index, label in enumerate(split.labels):
            found = self._masked.infer(self._experiment.inputs.of(split, index))
            logits = found.reshape(-1).astype(np.float64)
            hits += int(np.argmax(logits)) == int(label)
            losses.append(np.logaddexp.reduce(logits) - logits[label])
        return hits / len(split), float(np.mean(losses))
