"""What the deployed digits network meets: classes its head never knew, then another domain.

| stage | task | the stream |
|---|---|---|
| 0, before deployment | bright ink, digits 0 to 6 | none |
| 1 | bright ink, digits 7 to 9 | the scans of 7, 8 and 9 set aside for adaptation |
| 2 | dark ink on light paper, digits 0 to 9 | all scans set aside, as the device sees them |

Test scans are those that no training saw. For choosing a rate the last fifth of the scans set
aside takes their place and leaves the streams (`validation`). Every task is measured over all ten
classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from replay import Lesson, ReplayBuffer
from tiny_pipelines.datasets import Preprocessing, Split, read_arrays

DIGITS = Path(__file__).resolve().parents[1] / "digits"
KNOWN_CLASSES = 7
_VALIDATION_SHARE = 5


@dataclass(frozen=True)
class Task:
    """A name, what the device sees of it (in stage 0 nothing), and what it is measured on."""

    name: str
    stage: str
    stream: Sequence[Lesson]
    test: Sequence[Lesson]


@dataclass(frozen=True)
class World:
    """The tasks in the order of their stages, and what was known before deployment."""

    tasks: tuple[Task, ...]
    known: Sequence[Lesson]

    def limited(self, stream: int | None, test: int | None) -> "World":
        """The first samples of every stream and every test only; None for all."""
        tasks = (Task(t.name, t.stage, t.stream[:stream], t.test[:test]) for t in self.tasks)
        return World(tuple(tasks), self.known)


def load_world(preprocessing: Preprocessing, validation: bool = False) -> World:
    """The tasks from the files of the digits example, as int8 inputs of the network."""
    bright, dark = (read_arrays(DIGITS / name) for name in ("digits.npz", "shifted.npz"))
    parts = {
        "known": Split(bright["train_images"], bright["train_labels"]),
        "bright": Split(bright["adapt_images"], bright["adapt_labels"]),
        "dark": Split(dark["train_images"], dark["train_labels"]),
        "bright test": Split(bright["test_images"], bright["test_labels"]),
        "dark test": Split(dark["test_images"], dark["test_labels"]),
    }
    ready = {name: _inputs(split, preprocessing) for name, split in parts.items()}
    if validation:
        for name in ("bright", "dark"):
            cut = len(ready[name]) - len(ready[name]) // _VALIDATION_SHARE
            ready[name], ready[f"{name} test"] = ready[name][:cut], ready[name][cut:]
    tasks = (
        Task("bright 0-6", "deployed", (), _old(ready["bright test"])),
        Task("bright 7-9", "new classes", _new(ready["bright"]), _new(ready["bright test"])),
        Task("dark 0-9", "new domain", ready["dark"], ready["dark test"]),
    )
    return World(tasks, _old(ready["known"]))


@dataclass(frozen=True)
class Strategy:
    """How a device learns from a stream: each sample `times` times, then one of the buffer."""

    name: str
    buffer: int = 0
    times: int = 1

    @property
    def steps_a_sample(self) -> int:
        """Training steps for each sample of the stream."""
        return self.times + (1 if self.buffer else 0)


def lessons(
    task: Task, strategy: Strategy, buffer: ReplayBuffer, generator: np.random.Generator
) -> Iterator[Lesson]:
    """What a device trains on, step by step."""
    for index in generator.permutation(len(task.stream)).tolist():
        x, label = task.stream[index]
        for _ in range(strategy.times):
            yield x, label
        if strategy.buffer:
            yield buffer.draw()
            buffer.show(x, label)


def curriculum(world: World, strategy: Strategy, seed: int) -> list[list[Lesson]]:
    """The lessons of each stage after the first; the buffer starts full of what was known.

    What is replayed depends on the seed alone, not on what was learned.
    """
    generator = np.random.default_rng(seed)
    buffer = ReplayBuffer(strategy.buffer, generator)
    for index in generator.permutation(len(world.known)).tolist():
        buffer.show(*world.known[index])
    return [list(lessons(task, strategy, buffer, generator)) for task in world.tasks[1:]]


def _inputs(split: Split, preprocessing: Preprocessing) -> list[Lesson]:
    pairs: Any = zip(split.samples, split.labels, strict=True)
    return [(preprocessing.apply(sample), int(label)) for sample, label in pairs]


def _old(samples: list[Lesson]) -> list[Lesson]:
    return [sample for sample in samples if sample[1] < KNOWN_CLASSES]


def _new(samples: list[Lesson]) -> list[Lesson]:
    return [sample for sample in samples if sample[1] >= KNOWN_CLASSES]
