"""Training on the host: the compiled step over a data set, sample by sample as on the device."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.checkpoint import Checkpoint, read_checkpoint
from tiny_pipelines.collapse import CollapseGuard
from tiny_pipelines.datasets import DataSet, Preprocessing, Split
from tiny_pipelines.host import HostModel
from tiny_pipelines.sample_inputs import SampleInputs
from tiny_pipelines.training_plan import DEFAULT_RATE, TrainingPlan

__all__ = ["DEFAULT_RATE", "Experiment", "TrainingPlan", "TrainingResult", "load_experiment"]

ProgressReport = Callable[["Progress"], None]

CHECKPOINT_SECONDS = 20.0
_REPORT_EVERY = 100


class TrainingDiverged(TinyError):
    """The loss stopped being a finite number."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: `step` of `total`, of which phase, the mean loss lately, the time so far."""

    phase: str
    step: int
    total: int
    loss: float | None
    seconds: float


@dataclass
class TrainingResult:
    """What a run measured; accuracies are fractions of the test split.

    `steps` counts updates, `losses` has one value a sample. `epochs` are one record each: `epoch`,
    `step`, `loss` (mean), `accuracy` on the test split where it was asked for, `rate`, `seconds`.
    `collapsed_at` is the sample from which on the loss stayed above that of guessing, None for a
    run that ended well.
    """

    steps: int
    samples_train: int
    samples_test: int
    accuracy_before: float
    accuracy_after: float
    losses: list[float] = field(repr=False)
    training_seconds: float = 0.0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    collapsed_at: int | None = None

    def summary(self) -> dict[str, Any]:
        """The figures for `--json`: the losses as the mean of each tenth of the run."""
        record = asdict(self)
        losses = np.array(record.pop("losses"))
        seconds = max(self.training_seconds, 1e-9)
        record["loss"] = [float(part.mean()) for part in np.array_split(losses, 10) if part.size]
        record["steps_per_second"] = self.steps / seconds
        record["images_per_second"] = len(losses) / seconds
        return record


@dataclass(frozen=True)
class Logging:
    """What a run leaves behind while it goes on.

    `checkpoint` is written after every epoch and every `CHECKPOINT_SECONDS`, and read at the start
    where it exists; `run` identifies the run in it. `on_epoch` is called with the records so far.
    `test_epochs` measures the accuracy after each epoch.
    """

    checkpoint: Path | None = None
    run: dict[str, Any] = field(default_factory=dict)
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None
    test_epochs: bool = False


class Experiment:
    """A compiled training step, a data set, and the way from one to the other.

    `model` keeps its trained state between calls.
    """

    def __init__(
        self,
        model: HostModel,
        preprocessing: Preprocessing,
        data: DataSet,
        report: ProgressReport | None = None,
        inputs: SampleInputs | None = None,
    ) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.data = data
        self.inputs = inputs or SampleInputs(preprocessing)
        self._report = report

    def accuracy(self, split: Split, phase: str = "testing") -> float:
        """The fraction of `split` whose largest logit is the label's."""
        correct = 0
        start = time.perf_counter()
        for index in range(len(split)):
            logits = self.model.infer(self.inputs.of(split, index))
            correct += int(np.argmax(logits)) == int(split.labels[index])
            self.tell(Progress(phase, index + 1, len(split), None, time.perf_counter() - start))
        return correct / len(split)

    def train(self, plan: TrainingPlan) -> list[float]:
        """Run the plan; the loss of every sample, before its update.

        Raises `TrainingDiverged` at the first loss that is not finite.
        """
        run = _Run(self, plan, Logging())
        run.train()
        return run.losses

    def run(self, plan: TrainingPlan, logging: Logging | None = None) -> TrainingResult:
        """Accuracy before, the plan, accuracy after; from a checkpoint where there is one.

        Raises `TrainingDiverged`, and `InvalidCheckpoint` for one of another run.
        """
        run = _Run(self, plan, logging or Logging())
        if not run.resumed:
            run.before = self.accuracy(self.data.test, "testing before")
        run.train()
        after = self.accuracy(self.data.test, "testing after")
        return TrainingResult(
            steps=run.step,
            samples_train=len(self.data.train),
            samples_test=len(self.data.test),
            accuracy_before=run.before,
            accuracy_after=after,
            losses=run.losses,
            training_seconds=run.seconds,
            epochs=run.epochs,
            collapsed_at=run.guard.collapsed_at if plan.rate > 0 else None,
        )

    def update(self, split: Split, batch: list[int], rate: float) -> list[float]:
        """One update by the samples of `batch`; the loss of each before it."""
        if not getattr(self.model, "accumulates", False):
            if len(batch) != 1:
                raise InvalidOption("the step was compiled without sums of gradients: batch 1 only")
            x, label = self.inputs.of(split, batch[0]), int(split.labels[batch[0]])
            return [self.model.train_step(x, label, rate)[0]]
        losses = [
            self.model.train_step(self.inputs.of(split, index), int(split.labels[index]), 1.0)[0]
            for index in batch
        ]
        self.model.apply_updates(rate)
        return losses

    def tell(self, progress: Progress) -> None:
        """Pass `progress` on to whoever asked for it."""
        if self._report is not None:
            self._report(progress)


class _Run:
    """One run of a plan: where it is, and what it has seen."""

    def __init__(self, experiment: Experiment, plan: TrainingPlan, logging: Logging) -> None:
        self.experiment, self.plan, self.logging = experiment, plan, logging
        self.split = experiment.data.train
        self.total = plan.total_steps(len(self.split))
        self.guard = CollapseGuard(experiment.data.classes, self.total * plan.batch)
        self.step = 0
        self.losses: list[float] = []
        self.epochs: list[dict[str, Any]] = []
        self.before = math.nan
        self.seconds = 0.0
        self.resumed = self._resume()

    def train(self) -> None:
        """From where the run is to its end."""
        plan, count = self.plan, len(self.split)
        an_epoch, warmup = plan.steps_an_epoch(count), plan.warmup_steps(count)
        saved = began = time.perf_counter()
        done = self.seconds
        for number, batch in enumerate(plan.batches(count)):
            if number >= self.total:
                break
            if number < self.step:
                continue
            rate = plan.rate_at(number, self.total, warmup)
            self._note(self.experiment.update(self.split, batch, rate))
            self.step += 1
            self.seconds = done + time.perf_counter() - began
            self._report_progress()
            if self.step % an_epoch == 0 or self.step == self.total:
                tested = time.perf_counter()
                self._end_epoch(rate)
                began += time.perf_counter() - tested
            elif time.perf_counter() - saved < CHECKPOINT_SECONDS:
                continue
            self._save()
            saved = time.perf_counter()

    def _note(self, losses: list[float]) -> None:
        for loss in losses:
            if not math.isfinite(loss):
                where = f"the loss is {loss} at step {self.step}"
                raise TrainingDiverged(f"{where}; use a lower rate")
            self.losses.append(loss)
            self.guard.observe(loss)

    def _report_progress(self) -> None:
        recent = float(np.mean(self.losses[-_REPORT_EVERY:]))
        self.experiment.tell(Progress("training", self.step, self.total, recent, self.seconds))

    def _end_epoch(self, rate: float) -> None:
        seen = sum(record["samples"] for record in self.epochs)
        part = self.losses[seen:]
        record: dict[str, Any] = {
            "epoch": len(self.epochs) + 1,
            "step": self.step,
            "samples": len(part),
            "loss": float(np.mean(part)),
            "rate": rate,
            "seconds": round(self.seconds, 3),
        }
        if self.logging.test_epochs:
            record["accuracy"] = self.experiment.accuracy(self.experiment.data.test)
        self.epochs.append(record)
        if self.logging.on_epoch is not None:
            self.logging.on_epoch(self.epochs)

    def _identity(self) -> dict[str, Any]:
        data = self.experiment.data
        sizes = {"train": len(data.train), "test": len(data.test)}
        return {**asdict(self.plan), **sizes, **self.logging.run}

    def _save(self) -> None:
        if self.logging.checkpoint is None:
            return
        record = {
            "step": self.step, "epochs": self.epochs, "before": self.before, "seconds": self.seconds
        }  # fmt: skip
        state = self.experiment.model.state()
        losses = np.array(self.losses, np.float64)
        Checkpoint(self._identity(), record, losses, state).write(self.logging.checkpoint)

    def _resume(self) -> bool:
        """True where a checkpoint put the run where it was."""
        if self.logging.checkpoint is None:
            return False
        found = read_checkpoint(self.logging.checkpoint, self._identity())
        if found is None:
            return False
        self.experiment.model.load_state(found.state)
        self._note([float(loss) for loss in found.losses])
        self.step, self.epochs = found.record["step"], found.record["epochs"]
        self.before, self.seconds = found.record["before"], found.record["seconds"]
        return True


def load_experiment(
    module: Any, data: DataSet, *, report: ProgressReport | None = None, threads: int = 1
) -> Experiment:
    """Compile a scheduled training step and pair it with a data set.

    Raises `InvalidData` if the data has labels that the model lacks, `InvalidOption` if the module
    has no training step, and what `compile_host` raises.
    """
    from tiny_dialect.types import shape_of
    from tiny_passes.graph import functions
    from tiny_pipelines.host_loading import load_host

    known = functions(module)
    for name in ("train_step", "infer"):
        if name not in known:
            found = ", ".join(known)
            raise InvalidOption(f"the module has no function @{name}; it has {found}")
    data.require_classes(shape_of(known["train_step"].type.results[1])[-1])
    preprocessing = data.preprocessing_for(known.get("prefix", known["train_step"]))
    model = load_host(module, threads=threads)
    prefix = model.prefix if "prefix" in known else None
    return Experiment(model, preprocessing, data, report, SampleInputs(preprocessing, prefix))
