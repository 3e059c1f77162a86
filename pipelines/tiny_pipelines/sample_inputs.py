"""What a compiled step takes of each sample, computed once: the image, or the frozen prefix of it.

A network whose first layers are not trained gives the same features for a sample in every epoch.
`tiny-split-prefix` makes those layers a function of their own; its results are kept here.
"""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from tiny_pipelines.datasets import Preprocessing, Split

Array = NDArray[Any]
Inputs = Array | tuple[Array, ...]

MOST_CACHED_BYTES = 3 << 29


class SampleInputs:
    """The inputs of a step by sample; up to `MOST_CACHED_BYTES` of them are kept."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        prefix: Callable[[Array], tuple[Array, ...]] | None = None,
        most_bytes: int = MOST_CACHED_BYTES,
    ) -> None:
        self.preprocessing = preprocessing
        self._prefix = prefix
        self._left = most_bytes
        self._kept: dict[tuple[int, int], Inputs] = {}
        # A kept split cannot lose its identity to another.
        self._splits: dict[int, Split] = {}

    def of(self, split: Split, index: int) -> Inputs:
        """What `train_step` and `infer` take for one sample; raises `InvalidData`."""
        key = id(split), index
        if key in self._kept:
            return self._kept[key]
        made = self._make(split.samples[index])
        size = sum(part.nbytes for part in (made if isinstance(made, tuple) else (made,)))
        if size <= self._left:
            self._left -= size
            self._kept[key] = made
            self._splits[id(split)] = split
        return made

    def _make(self, sample: Array) -> Inputs:
        x = self.preprocessing.apply(sample)
        return x if self._prefix is None else self._prefix(x)
