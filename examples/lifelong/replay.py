"""A replay buffer of a few int8 inputs, balanced over the classes seen so far.

The rule is the class-balancing reservoir of Chrysakis and Moens, *Online Continual Learning from
Imbalanced Data* (ICML 2020). While there is room every sample is kept. Then a sample of a class
that is not the largest replaces a random one of the largest; one of a largest class replaces a
random one of its own with the probability that keeps that class a uniform draw from all it has
shown. Only a count a class is kept beside the samples, so that a device can run it.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption

Input = NDArray[np.int8]
Lesson = tuple[Input, int]

LABEL_BYTES = 1


def buffer_bytes(samples: int, sample_bytes: int) -> int:
    """Bytes of SRAM of a buffer: each sample with its label."""
    return samples * (sample_bytes + LABEL_BYTES)


class ReplayBuffer:
    """At most `capacity` samples with labels; choices come from `generator`."""

    def __init__(self, capacity: int, generator: np.random.Generator) -> None:
        if capacity < 0:
            raise InvalidOption(f"a buffer of {capacity} samples; expected 0 or more")
        self.capacity = capacity
        self._generator = generator
        self._kept: list[Lesson] = []
        self._shown: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def labels(self) -> list[int]:
        """The label of every kept sample."""
        return [label for _, label in self._kept]

    def draw(self) -> Lesson:
        """A kept sample, each as likely; the buffer must not be empty."""
        return self._kept[int(self._generator.integers(len(self._kept)))]

    def show(self, x: Input, label: int) -> None:
        """Keep the sample, or not; `x` is not copied."""
        self._shown[label] += 1
        if len(self._kept) < self.capacity:
            self._kept.append((x, label))
        elif self.capacity:
            self._replace(x, label)

    def _replace(self, x: Input, label: int) -> None:
        kept = Counter(self.labels)
        most = max(kept.values())
        largest = {own for own, count in kept.items() if count == most}
        if label in largest:
            if self._generator.random() >= kept[label] / self._shown[label]:
                return
            largest = {label}
        places = [place for place, own in enumerate(self.labels) if own in largest]
        self._kept[places[int(self._generator.integers(len(places)))]] = (x, label)
