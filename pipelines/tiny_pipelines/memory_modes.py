"""The poison and access modes of a device run: watched beside a second device that nobody disturbs.

Both devices make the same calls. What the watched one computes, op by op, must be the other's
bytes.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_passes.graph import functions
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import Image
from tiny_targets.machine import EmulationError
from tiny_targets.memory_monitor import MemoryMonitor

Array = NDArray[Any]


@dataclass
class MemoryFigures:
    """What the modes looked at."""

    op_runs: int = 0
    """Ops whose results were compared with the undisturbed device's."""
    poisoned_bytes: int = 0
    watched_accesses: int = 0
    modes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return dict(vars(self))


class UndisturbedDevice:
    """A second device without any mode, which makes every call that the watched one makes."""

    def __init__(
        self, image: Image, module: Any, watched: Emulator, *, poison: bool, access: bool
    ) -> None:
        """`image` is `watched`'s, `module` the planned module that it was built from."""
        known = functions(module)
        self._watched = MemoryMonitor(watched, known, poison=poison, access=access)
        self._emulator = Emulator(image)
        self._plain = MemoryMonitor(self._emulator, known, poison=False, access=False)
        self._figures = MemoryFigures(
            modes=[name for name, on in (("poison", poison), ("access", access)) if on]
        )

    def follow_step(self, x: Array, label: int, rate: float) -> None:
        """Make the training step that the watched device has just made, and compare.

        Raises `EmulationError` naming the first op whose bytes differ.
        """
        self._emulator.train_step(x, label, rate)
        self._compare()

    def follow_inference(self, x: Array) -> None:
        """As `follow_step`, for an inference."""
        self._emulator.infer(x)
        self._compare()

    def _compare(self) -> None:
        pairs = zip(self._watched.digests, self._plain.digests, strict=True)
        for (name, got), (_, want) in pairs:
            if got != want:
                raise EmulationError("computes other bytes once dead memory is garbage", name)
        self._figures.op_runs += len(self._plain.digests)

    def figures(self) -> MemoryFigures:
        """What has been looked at so far; raises `EmulationError` where trained values differ."""
        for buffer in self._emulator.image.schedule.state:
            got = self._watched.emulator.read_buffer(buffer)
            if not np.array_equal(
                got.view(np.uint8), self._emulator.read_buffer(buffer).view(np.uint8)
            ):
                raise EmulationError(
                    "trained values differ once dead memory is garbage", buffer.name
                )
        self._figures.poisoned_bytes = self._watched.poisoned_bytes
        self._figures.watched_accesses = self._watched.watched_accesses
        return self._figures
