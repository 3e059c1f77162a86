"""Choose a rate by training short of a validation split of the training images.

The test split plays no part. Just above the best rate a run collapses, so of rates whose accuracies
are as good as equal the lowest wins.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.datasets import DataSet, Split
from tiny_pipelines.experiment import Experiment, TrainingDiverged
from tiny_pipelines.training_plan import TrainingPlan, require_seed

RATES = tuple(rate / 256 for rate in (0.025, 0.05, 0.1, 0.2, 0.4))
"""For one sample; the numerators are the rates for 256 images."""
VALIDATION_FRACTION = 5
TIE = 0.005
"""Accuracies that differ by less count as equal."""


@dataclass(frozen=True)
class Trial:
    """One rate and what it reached: accuracy on the validation split, None where it collapsed."""

    rate: float
    accuracy: float | None


@dataclass(frozen=True)
class Proposal:
    """The rate to use, and the trials behind it."""

    rate: float
    trials: tuple[Trial, ...]
    samples_train: int
    samples_validation: int

    def summary(self) -> dict[str, Any]:
        """All of it for JSON."""
        return asdict(self)


def validation_split(data: DataSet, seed: int) -> DataSet:
    """The training images parted by a seeded shuffle: four fifths to train on, the rest to test."""
    require_seed(seed)
    count = len(data.train)
    held_out = count // VALIDATION_FRACTION
    if held_out < 1:
        raise InvalidOption(f"{count} training samples are too few to hold some out")
    order = np.random.default_rng([seed, count]).permutation(count)
    parts = [order[held_out:], order[:held_out]]
    train, test = (Split(data.train.samples[part], data.train.labels[part]) for part in parts)
    return replace(data, train=train, test=test)


def propose_rate(
    experiment: Experiment,
    plan: TrainingPlan,
    rates: Sequence[float] = RATES,
    *,
    tell: Callable[[Trial], None] | None = None,
) -> Proposal:
    """Run the whole plan with each rate, from the same initial state, and compare.

    The trained state is initial again afterwards. Raises `InvalidOption` where all collapse.
    """
    whole = experiment.data
    experiment.data = validation_split(whole, plan.seed)
    trials = []
    try:
        for rate in rates:
            experiment.model.reset()
            trials.append(Trial(rate, _reached(experiment, replace(plan, rate=rate))))
            if tell is not None:
                tell(trials[-1])
        sizes = len(experiment.data.train), len(experiment.data.test)
    finally:
        experiment.data = whole
        experiment.model.reset()
    return Proposal(_best(trials), tuple(trials), *sizes)


def _reached(experiment: Experiment, plan: TrainingPlan) -> float | None:
    try:
        result = experiment.run(plan)
    except TrainingDiverged:
        return None
    return None if result.collapsed_at is not None else result.accuracy_after


def _best(trials: Sequence[Trial]) -> float:
    good = [(trial.accuracy, trial.rate) for trial in trials if trial.accuracy is not None]
    if not good:
        raise InvalidOption("every rate that was tried collapsed; propose lower ones by --lr")
    best = max(accuracy for accuracy, _ in good)
    return min(rate for accuracy, rate in good if accuracy > best - TIE)
