"""Training on the host: the compiled step over a data set, sample by sample as on the device."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.datasets import DataSet, Preprocessing, Split, preprocessing_of, shuffled
from tiny_pipelines.host import HostModel

Schedule = Literal["cosine", "constant"]
ProgressReport = Callable[["Progress"], None]

DEFAULT_RATE = 0.1 / 256
_REPORT_EVERY = 100


class TrainingDiverged(TinyError):
    """The loss stopped being a finite number."""


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast: `epochs` over the training split, or exactly `steps` steps.

    `rate` multiplies the gradient of one sample (the paper's rate for 256 images divided by 256);
    `cosine` lets it fall to 0 over the run.
    """

    epochs: int = 1
    steps: int | None = None
    rate: float = DEFAULT_RATE
    schedule: Schedule = "cosine"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or (self.steps is not None and self.steps < 0):
            raise InvalidOption("expected a number of epochs or steps of at least 0")
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise InvalidOption(f"expected a finite rate of at least 0, got {self.rate}")
        if self.schedule not in get_args(Schedule):
            raise InvalidOption(
                f"unknown schedule {self.schedule}; choose one of {', '.join(get_args(Schedule))}"
            )

    def total_steps(self, samples: int) -> int:
        """The number of steps over a training split of `samples`."""
        return self.epochs * samples if self.steps is None else self.steps

    def rate_at(self, step: int, total: int) -> float:
        """The rate of step `step` of `total`."""
        if self.schedule == "constant":
            return self.rate
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * step / total))


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
    """What a run measured; accuracies are fractions of the test split."""

    steps: int
    samples_train: int
    samples_test: int
    accuracy_before: float
    accuracy_after: float
    losses: list[float] = field(repr=False)
    training_seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """The figures for `--json`: the losses as the mean of each tenth of the run."""
        record = asdict(self)
        losses = np.array(record.pop("losses"))
        record["loss"] = [float(part.mean()) for part in np.array_split(losses, 10) if part.size]
        record["steps_per_second"] = self.steps / max(self.training_seconds, 1e-9)
        return record


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
    ) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.data = data
        self._report = report

    def accuracy(self, split: Split, phase: str = "testing") -> float:
        """The fraction of `split` whose largest logit is the label's."""
        correct = 0
        start = time.perf_counter()
        for index in range(len(split)):
            logits = self.model.infer(self.preprocessing.apply(split.samples[index]))
            correct += int(np.argmax(logits)) == int(split.labels[index])
            self._tell(Progress(phase, index + 1, len(split), None, time.perf_counter() - start))
        return correct / len(split)

    def train(self, plan: TrainingPlan) -> list[float]:
        """Run the plan; the loss of every step, before its update.

        Raises `TrainingDiverged` at the first loss that is not finite.
        """
        split = self.data.train
        total = plan.total_steps(len(split))
        order = shuffled(len(split), plan.seed)
        start = time.perf_counter()
        losses: list[float] = []
        for step, index in zip(range(total), order, strict=False):
            x = self.preprocessing.apply(split.samples[index])
            loss, _ = self.model.train_step(x, int(split.labels[index]), plan.rate_at(step, total))
            if not math.isfinite(loss):
                raise TrainingDiverged(f"the loss is {loss} at step {step}; use a lower rate")
            losses.append(loss)
            recent = float(np.mean(losses[-_REPORT_EVERY:]))
            self._tell(Progress("training", step + 1, total, recent, time.perf_counter() - start))
        return losses

    def run(self, plan: TrainingPlan) -> TrainingResult:
        """Accuracy before, the plan, accuracy after."""
        before = self.accuracy(self.data.test, "testing before")
        start = time.perf_counter()
        losses = self.train(plan)
        seconds = time.perf_counter() - start
        after = self.accuracy(self.data.test, "testing after")
        return TrainingResult(
            steps=len(losses),
            samples_train=len(self.data.train),
            samples_test=len(self.data.test),
            accuracy_before=before,
            accuracy_after=after,
            losses=losses,
            training_seconds=seconds,
        )

    def _tell(self, progress: Progress) -> None:
        if self._report is not None:
            self._report(progress)


def functions_of(module: Any) -> dict[str, Any]:
    """The functions of a module by name."""
    return {
        op.attributes["sym_name"].value: op
        for op in module.body
        if op.operation.name == "func.func"
    }


def load_experiment(
    module: Any, data: DataSet, *, report: ProgressReport | None = None, threads: int = 1
) -> Experiment:
    """Compile a scheduled training step and pair it with a data set.

    Raises `InvalidData` if the data has labels that the model lacks, `InvalidOption` if the module
    has no training step, and what `compile_host` raises.
    """
    from tiny_dialect.types import shape_of
    from tiny_pipelines.iree import compile_host

    functions = functions_of(module)
    for name in ("train_step", "infer"):
        if name not in functions:
            found = ", ".join(functions)
            raise InvalidOption(f"the module has no function @{name}; it has {found}")
    step = functions["train_step"]
    data.require_classes(shape_of(step.type.results[1])[-1])
    preprocessing = preprocessing_of(step)
    preprocessing.apply(data.train.samples[0])
    preprocessing.apply(data.test.samples[0])
    model = HostModel(compile_host(module), threads=threads)
    return Experiment(model, preprocessing, data, report)
