"""A guard that notices when training has gone wrong: a loss worse than that of guessing.

Just above its best rate a run collapses within a few hundred steps and does not come back. It then
predicts a class with confidence whatever it sees, and its mean loss rises above `ln(classes)`,
which is what predicting nothing at all would cost. A run that never leaves it is the same for the
guard; whether it was too fast or too slow, its losses tell.
"""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

_SAME_LOSS, _FAR_ABOVE = 1.05, 2.0
LONGEST_WINDOW, SHORTEST_WINDOW = 500, 50
"""Samples over which the loss is averaged; a tenth of the run between these."""


class CollapseGuard:
    """Watches the losses of a run over `classes` classes and `samples` samples, in order."""

    def __init__(self, classes: int, samples: int) -> None:
        self.collapsed_at: int | None = None
        """The sample at which the loss rose above guessing for good; None while it is below."""
        self._guessing = math.log(max(classes, 2))
        window = min(LONGEST_WINDOW, max(SHORTEST_WINDOW, samples // 10))
        self._recent: deque[float] = deque(maxlen=window)
        self._sum = 0.0
        self._seen = 0

    @property
    def window(self) -> int:
        """The number of samples of the mean."""
        return self._recent.maxlen or 0

    def observe(self, loss: float) -> bool:
        """Note one loss; True at the sample where the run turns out to have collapsed."""
        if len(self._recent) == self.window:
            self._sum -= self._recent[0]
        self._recent.append(loss)
        self._sum += loss
        self._seen += 1
        # The first window is the untrained head, whose loss may be anything.
        worse = self._seen >= 2 * self.window and self._sum > self._guessing * self.window
        if worse and self.collapsed_at is None:
            self.collapsed_at = self._seen
            return True
        if not worse:
            self.collapsed_at = None
        return False


def still_falls(losses: Sequence[float], classes: int) -> bool:
    """True for a run that the guard stops at because it is too slow, not too fast.

    No earlier tenth of its losses was better than the last, and that is of the order of what it
    began with, or of guessing.
    """
    tenths = [float(part.mean()) for part in np.array_split(np.array(losses), 10) if part.size]
    most = _FAR_ABOVE * max(losses[0], math.log(max(classes, 2)))
    return tenths[-1] <= min(_SAME_LOSS * min(tenths), most)
