"""Training in full precision with the plans, orders of samples and guards of any experiment."""

from typing import Any

import numpy as np

from tiny_pipelines.datasets import DataSet, Split
from tiny_pipelines.experiment import Experiment
from tiny_pipelines.float_step import FloatStep
from tiny_pipelines.host import Array

MOST_CACHED_BYTES = 3 << 29
_CHUNK = 64


class _FloatModel:
    """What an experiment asks of a model, of a `FloatStep`."""

    accumulates = True

    def __init__(self, step: FloatStep) -> None:
        self.step = step
        self.state, self.load_state = step.state, step.load_state
        self._initial = step.state()

    def reset(self) -> None:
        """Put every trained parameter back to its initial value."""
        self.load_state(self._initial)


class FrozenFeatures:
    """What the frozen part makes of the samples of a split; kept, unless it is too much."""

    def __init__(self) -> None:
        # None stands for a split that is too large. A kept split cannot lose its identity.
        self._kept: dict[int, tuple[Split, list[Any] | None]] = {}

    def of(self, step: FloatStep, split: Split, indices: list[int]) -> list[Any]:
        """Tensors [len(indices), ...] for the trained part of a step."""
        if id(split) not in self._kept:
            size = sum(part.nbytes for part in self._made(step, split, [0])) * len(split)
            fits = size <= MOST_CACHED_BYTES
            self._kept[id(split)] = split, self._whole(step, split) if fits else None
        kept = self._kept[id(split)][1]
        return self._made(step, split, indices) if kept is None else [p[indices] for p in kept]

    def _whole(self, step: FloatStep, split: Split) -> list[Any]:
        chunks = (
            self._made(step, split, list(range(first, min(first + _CHUNK, len(split)))))
            for first in range(0, len(split), _CHUNK)
        )
        return [step.joined(parts) for parts in zip(*chunks, strict=True)]

    def _made(self, step: FloatStep, split: Split, indices: list[int]) -> list[Any]:
        samples = [step.preprocessing.apply(split.samples[index]) for index in indices]
        return step.features(np.concatenate(samples))


class FloatExperiment(Experiment):
    """An experiment whose step is a float network: gradients of a batch are summed at once.

    `features` may be shared by experiments whose frozen parts are equal.
    """

    def __init__(
        self, step: FloatStep, data: DataSet, features: FrozenFeatures | None = None
    ) -> None:
        model: Any = _FloatModel(step)
        super().__init__(model, step.preprocessing, data)
        self.step = step
        self.features = features or FrozenFeatures()

    def update(self, split: Split, batch: list[int], rate: float) -> list[float]:
        """One update by the samples of `batch`; the loss of each before it."""
        features = self.features.of(self.step, split, batch)
        return self.step.train(features, self.step.labels(split.labels[batch]), rate)

    def accuracy(self, split: Split, phase: str = "testing") -> float:
        """The fraction of `split` whose largest logit is the label's."""
        found: list[Array] = []
        for first in range(0, len(split), _CHUNK):
            chosen = list(range(first, min(first + _CHUNK, len(split))))
            features = self.features.of(self.step, split, chosen)
            found.append(np.array(self.step.classes_of(features)))
        return float((np.concatenate(found) == split.labels).mean())
