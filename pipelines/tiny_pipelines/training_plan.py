"""How long, how fast and in which order a network is trained."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.datasets import shuffled

Schedule = Literal["cosine", "constant"]

DEFAULT_RATE = 0.1 / 256
_LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
_SMALLEST_FLOAT32 = 2.0**-126


def require_rate(rate: float) -> None:
    """Raise `InvalidOption` for a learning rate that is no float32 of at least 0."""
    if not 0 <= rate <= _LARGEST_FLOAT32:
        raise InvalidOption(f"expected a finite rate of at least 0, got {rate}")
    if 0 < rate < _SMALLEST_FLOAT32:
        raise InvalidOption(f"the rate {rate} is 0 in float32; use 0 or more than 1.2e-38")


def require_seed(seed: int) -> None:
    """Raise `InvalidOption` for a negative seed."""
    if seed < 0:
        raise InvalidOption(f"expected a seed of at least 0, got {seed}")


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast: `epochs` over the training split, or exactly `steps` updates.

    `rate` multiplies the gradient of one sample (the paper's rate for 256 images divided by 256);
    it rises from 0 over the first `warmup` epochs, then `cosine` lets it fall to 0. With `batch`
    above 1 the gradients of so many samples are summed for one update; the last batch of an epoch
    may be smaller.
    """

    epochs: int = 1
    steps: int | None = None
    rate: float = DEFAULT_RATE
    schedule: Schedule = "cosine"
    seed: int = 0
    batch: int = 1
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or (self.steps is not None and self.steps < 0):
            raise InvalidOption("expected a number of epochs or steps of at least 0")
        require_rate(self.rate)
        require_seed(self.seed)
        if self.schedule not in get_args(Schedule):
            raise InvalidOption(
                f"unknown schedule {self.schedule}; choose one of {', '.join(get_args(Schedule))}"
            )
        if self.batch < 1:
            raise InvalidOption(f"expected a batch of at least 1, got {self.batch}")
        if not (math.isfinite(self.warmup) and self.warmup >= 0):
            raise InvalidOption(f"expected a finite warm-up of at least 0, got {self.warmup}")

    def steps_an_epoch(self, samples: int) -> int:
        """Updates of one pass over a training split of `samples`."""
        return -(-samples // self.batch)

    def total_steps(self, samples: int) -> int:
        """The number of updates over a training split of `samples`."""
        return self.epochs * self.steps_an_epoch(samples) if self.steps is None else self.steps

    def warmup_steps(self, samples: int) -> int:
        """The number of updates over which the rate rises."""
        return round(self.warmup * self.steps_an_epoch(samples))

    def rate_at(self, step: int, total: int, warmup: int = 0) -> float:
        """The rate of update `step` of `total`, of which the first `warmup` rise linearly."""
        if step < warmup:
            return self.rate * (step + 1) / (warmup + 1)
        if self.schedule == "constant":
            return self.rate
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    def batches(self, samples: int) -> Iterator[list[int]]:
        """The sample indices of every update, in a fresh seeded order each epoch; endless."""
        order = shuffled(samples, self.seed)
        while True:
            left = samples
            while left:
                batch = list(islice(order, min(self.batch, left)))
                left -= len(batch)
                yield batch
