"""Choose a rate by training short of a validation split of the training images.

The test split plays no part. Just above the best rate a run collapses, so of rates whose accuracies
are as good as equal the lowest wins. Where the best rate is the last one tried at either end, or
none has learned, it may lie beyond: then further rates are tried there.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.collapse import still_falls
from tiny_pipelines.datasets import DataSet, Split
from tiny_pipelines.experiment import Experiment, TrainingDiverged
from tiny_pipelines.training_plan import TrainingPlan, require_seed

RATES = tuple(rate / 256 for rate in (0.025, 0.05, 0.1, 0.2, 0.4))
"""For one sample; the numerators are the rates for 256 images."""
VALIDATION_FRACTION = 5
TIE = 0.005
"""Accuracies that differ by less count as equal."""
FURTHER = 8
"""Rates beyond those that were asked for, each twice or half the last, that are tried at most."""


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
    beyond: bool = False,
    tell: Callable[[Trial], None] | None = None,
) -> Proposal:
    """Run the whole plan with each rate, from the same initial state, and compare.

    With `beyond` up to `FURTHER` rates outside of those are tried while the best may lie there.
    The trained state is initial again afterwards. Raises `InvalidOption` where all collapse.
    """
    whole = experiment.data
    experiment.data = validation_split(whole, plan.seed)
    trials: list[Trial] = []
    most = len(rates) + (FURTHER if beyond else 0)
    try:
        experiment.model.reset()
        untrained = experiment.accuracy(experiment.data.test, "testing before") if beyond else 0.0
        waiting = list(rates)
        while waiting and len(trials) < most:
            rate = waiting.pop(0)
            experiment.model.reset()
            trials.append(Trial(rate, _reached(experiment, replace(plan, rate=rate))))
            if tell is not None:
                tell(trials[-1])
            if not waiting and beyond:
                waiting = _further(trials, untrained)
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
    collapsed = result.collapsed_at is not None and not still_falls(
        result.losses, experiment.data.classes
    )
    return None if collapsed else result.accuracy_after


def _further(trials: Sequence[Trial], untrained: float) -> list[float]:
    """The next rate beyond all of `trials` where that may be better; none where it is not."""
    ordered = sorted(trials, key=lambda trial: trial.rate)
    lowest, highest = ordered[0], ordered[-1]
    reached = [trial.accuracy for trial in ordered if trial.accuracy is not None]
    if not reached:
        return [lowest.rate / 2]
    learned = max(reached) > untrained + TIE
    if highest.accuracy is not None and (not learned or _best(trials) == highest.rate):
        return [highest.rate * 2]
    if learned and lowest.accuracy is not None and _best(trials) == lowest.rate:
        others = [trial.accuracy for trial in ordered[1:] if trial.accuracy is not None]
        # Of rates that are as good as equal the lowest is best already.
        falls = max(others, default=0.0) < lowest.accuracy - TIE
        return [lowest.rate / 2] if falls else []
    return []


def _best(trials: Sequence[Trial]) -> float:
    good = [(trial.accuracy, trial.rate) for trial in trials if trial.accuracy is not None]
    if not good:
        raise InvalidOption("every rate that was tried collapsed; propose lower ones by --lr")
    best = max(accuracy for accuracy, _ in good)
    return min(rate for accuracy, rate in good if accuracy > best - TIE)
