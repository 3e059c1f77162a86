"""Words that a kernel reads in order, loaded two at a time where the core can."""

from tiny_targets.kernels.address import Address
from tiny_targets.kernels.primitives import Primitives
from tiny_targets.kernels.scalar import Scalar


class WordStream:
    """`count` words from `start` on, each loaded when it or its neighbour is first asked for."""

    def __init__(self, core: Primitives, start: Address, count: int) -> None:
        self._core, self._start, self._count = core, start, count
        self._loaded: dict[int, Scalar] = {}

    def __getitem__(self, index: int) -> Scalar:
        if index not in self._loaded:
            even = index - index % 2
            at = self._start + 4 * even
            if even + 1 < self._count:
                self._loaded[even], self._loaded[even + 1] = self._core.load_pair(at)
            else:
                self._loaded[even] = at.load("i32")
        return self._loaded[index]
