"""Training steps in the emulator over a data set, with the figures of `tiny-run`."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption
from tiny_dialect.types import shape_of
from tiny_passes.graph import INFER, TRAIN_STEP, find_function, functions
from tiny_passes.operation_counts import count_macs
from tiny_pipelines.datasets import DataSet, load_dataset, shuffled
from tiny_pipelines.device_check import DeviceCheck
from tiny_pipelines.memory_modes import UndisturbedDevice
from tiny_pipelines.training_plan import require_rate, require_seed
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import load_image

Array = NDArray[Any]
Progress = Callable[[str], AbstractContextManager[None]]

_LEAST_INSTRUCTIONS = 1 << 28
_INSTRUCTIONS_A_MAC = 1 << 9


def main_function(module: Any) -> Any:
    """`@train_step`, or `@infer` in a module that has no training step."""
    known = functions(module)
    return find_function(module, TRAIN_STEP if TRAIN_STEP in known else INFER)


def _most_instructions(module: Any) -> int:
    """What no call of an intact image comes near: a limit for those that never return."""
    macs = max(sum(count_macs(function).values()) for function in functions(module).values())
    return _LEAST_INSTRUCTIONS + _INSTRUCTIONS_A_MAC * macs


class _DeviceRun:
    """An emulated device with its data; collects what each call costs."""

    def __init__(self, folder: Path, module: Any, data: DataSet) -> None:
        self.emulator = Emulator(load_image(folder), _most_instructions(module))
        self.data = data
        self.prepare = data.preprocessing_for(main_function(module)).apply
        self.losses: list[float] = []
        self.digest = hashlib.sha256()
        self.instructions = {"forward": 0, "step": 0}
        self.per_op: list[dict[str, Any]] = []
        self.undisturbed: UndisturbedDevice | None = None

    def accuracy(self, count: int) -> float:
        """The fraction of the first `count` test samples that the device gets right."""
        test = self.data.test.limited(count)
        pairs = zip(test.samples, test.labels, strict=True)
        hits = [int(np.argmax(self.infer(x))) == int(label) for x, label in pairs]
        return sum(hits) / len(hits)

    def infer(self, sample: Array, check: DeviceCheck | None = None) -> Array:
        """The logits of one raw sample."""
        x = self.prepare(sample)
        logits = self.emulator.infer(x) if check is None else check.infer(x)
        if self.undisturbed is not None:
            self.undisturbed.follow_inference(x)
        assert self.emulator.last_call is not None
        self.instructions["forward"] = self.emulator.last_call.instructions
        return logits

    def train(self, order: list[int], rate: float, check: DeviceCheck | None) -> None:
        """One step a sample, in `order`."""
        run = self.emulator.train_step if check is None else check.step
        for index in order:
            x, label = self.sample(index)
            loss, logits = run(x, label, rate)
            if self.undisturbed is not None:
                self.undisturbed.follow_step(x, label, rate)
            self.losses.append(loss)
            self.digest.update(logits.tobytes())
        call = self.emulator.last_call
        if order and call is not None:
            self.instructions["step"] = call.instructions
            self.per_op = [
                {"name": command.name, "instructions": count} for command, count in call.per_command
            ]

    def sample(self, index: int) -> tuple[Array, int]:
        """The prepared input and the label of a training sample."""
        train = self.data.train
        return self.prepare(train.samples[index]), int(train.labels[index])


def run_device(
    folder: Path,
    module: Any,
    data: Path,
    *,
    steps: int,
    rate: float,
    seed: int,
    test: int,
    check: bool,
    poison: bool = False,
    access: bool = False,
    step: Progress,
) -> dict[str, Any]:
    """Run `steps` training steps of the image in `folder`; the fields of `tiny-run --json`.

    `module` is the planned module the image was built from. With `check` each step, and the
    same on the host, is compared with the semantics. `test` samples give the accuracy before and
    after. `poison` and `access` are the modes of `memory_monitor`, for the whole run. Raises
    `TinyError` for data that does not fit and for a fault in the emulator.
    """
    require_rate(rate)
    require_seed(seed)
    dataset = load_dataset(data)
    function = main_function(module)
    dataset.require_classes(shape_of(function.type.results[-1])[-1])
    if function.name.value != TRAIN_STEP and (steps or check):
        raise InvalidOption("the image only infers; use --steps 0 --test N", str(folder))
    run = _DeviceRun(folder, module, dataset)
    if poison or access:
        run.undisturbed = UndisturbedDevice(
            load_image(folder), module, run.emulator, poison=poison, access=access
        )
    order = list(islice(shuffled(len(dataset.train), seed), steps))
    checker = DeviceCheck(module, run.emulator) if check else None
    report: dict[str, Any] = {}
    if test:
        with step("testing before"):
            report["accuracy"] = {"before": run.accuracy(test)}
    with step("training"):
        run.train(order, rate, checker)
    if checker is not None:
        with step("running the same steps on the host"):
            checker.run_host()
        report["check"] = checker.check.record()
    if test:
        with step("testing after"):
            report["accuracy"]["after"] = run.accuracy(test)
    elif steps:
        run.infer(dataset.train.samples[order[-1]], checker)
    if run.undisturbed is not None:
        report["memory"] = run.undisturbed.figures().record()
    return {**_figures(run, order), **report}


def _figures(run: _DeviceRun, order: list[int]) -> dict[str, Any]:
    image, stack = run.emulator.image, run.emulator.stack_bytes_used
    sizes = image.sizes
    return {
        "model": image.schedule.model,
        "board": image.board.name,
        "target": image.board.target.name,
        "steps": len(order),
        "loss": run.losses,
        "logits_sha256": run.digest.hexdigest(),
        "instructions": run.instructions,
        "per_op": run.per_op,
        "stack_bytes_used": stack,
        "sram_bytes_used": sizes.sram - sizes.stack + stack,
    }
