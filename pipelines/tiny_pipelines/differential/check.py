"""One case through the whole compiler, on every way to run it."""

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, parse_module, to_bytecode
from tiny_dialect.semantics.interpreter import initial_state
from tiny_dialect.types import shape_of
from tiny_passes.accumulate_gradients import APPLY_UPDATES
from tiny_passes.graph import INFER, TRAIN_STEP, find_function
from tiny_passes.registry import run_pipeline
from tiny_pipelines.differential.case import Model
from tiny_pipelines.differential.compare import Comparison, DeviceComparison, expect
from tiny_pipelines.frontends import import_bytes
from tiny_pipelines.host import HostModel
from tiny_pipelines.iree import compile_host
from tiny_pipelines.memory_modes import UndisturbedDevice
from tiny_targets.boards import generic_board
from tiny_targets.codegen import compile_kernels
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import build_image
from tiny_targets.schedule import build_schedule
from tiny_targets.target import TARGETS, find_target

Array = NDArray[Any]
Sample = tuple[Array, int]

HOST = "host"
COMPILER = "compiler"
MISMATCH = "mismatch"
DEVICES = tuple(TARGETS)


@dataclass(frozen=True)
class Failure:
    """Something that is wrong: where it ran, and what."""

    target: str
    """A device, `host`, or `compiler` for what comes before both."""
    kind: str
    """`mismatch`, or the class of the exception."""
    message: str

    def resembles(self, other: "Failure") -> bool:
        """Whether both are probably the same defect: same place, same words but for the numbers."""
        return (self.target, self.kind, self._gist) == (other.target, other.kind, other._gist)

    @property
    def _gist(self) -> str:
        if self.kind == MISMATCH:
            return " ".join(self.message.split(":")[0].split()[1:4])
        return re.sub(r"[\d.\[\]]+|'[^']*'|\([^)]*\)", "", self.message.split(": ")[-1])


@dataclass
class Outcome:
    """What a case showed."""

    compared: dict[str, Comparison] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def check(model: Model, targets: Sequence[str], *, host: bool, modes: bool = False) -> Outcome:
    """Compile and run `model` on each device and on the host; what is wrong is not raised.

    With `modes` the devices run with garbage in dead memory and every access watched, beside
    undisturbed ones whose bytes must be equal. Summed gradients always run on the host too, which
    alone applies them.
    """
    outcome = Outcome()
    with new_context(), ir.Location.unknown():
        module = _attempt(outcome, COMPILER, _planned, model)
        if module is None:
            return outcome
        samples = list(_samples(model, module))
        _attempt(outcome, COMPILER, _round_trips, module, (*targets, DEVICES[0])[0])
        for target in targets:
            found = _attempt(outcome, target, _on_device, module, target, samples, model, modes)
            _record(outcome, target, found)
        if host or (targets and model.options.accumulate):
            found = _attempt(outcome, HOST, _on_host, module, samples, model)
            _record(outcome, HOST, found)
    return outcome


def _attempt(outcome: Outcome, target: str, run: Callable[..., Any], *arguments: Any) -> Any:
    """What `run` returns; any exception becomes a failure, whatever its kind."""
    try:
        return run(*arguments)
    except Exception as error:
        outcome.failures.append(Failure(target, type(error).__name__, str(error)))
        return None


def _record(outcome: Outcome, target: str, found: Comparison | None) -> None:
    if found is not None:
        outcome.compared[target] = found
        outcome.failures += [Failure(target, MISMATCH, message) for message in found.mismatches]


def _planned(model: Model, target: str | None = None) -> Any:
    """The module at the planned stage; the pipeline ends with the independent plan checker."""
    module = import_bytes(model.bytecode, "model")
    with tempfile.TemporaryDirectory() as folder:
        scheme = Path(folder) / "scheme.json"
        scheme.write_text(json.dumps(model.scheme))
        run_pipeline(module, model.options.pipeline(scheme, target))
    return module


def _samples(model: Model, module: Any) -> Iterator[Sample]:
    """(input, label) of each step; the first input is noise, others hold the extremes."""
    function = find_function(module, TRAIN_STEP)
    shape = shape_of(function.type.inputs[0])
    classes = shape_of(function.type.results[1])[-1]
    rng = np.random.default_rng(model.seed)
    for number in range(model.steps):
        x = rng.integers(-128, 128, shape).astype(np.int8)
        if number:
            edge = rng.random(shape) < 0.3
            x[edge] = rng.choice(np.array([-128, 127], np.int8), int(edge.sum()))
        yield x, int(rng.integers(classes))


def _round_trips(module: Any, name: str) -> None:
    """Text gives the same schedule, kernels and constants: the same firmware; bytecode the text."""
    text, target = str(module), find_target(name)
    again = parse_module(text.encode(), "text.mlir")
    if build_schedule(again, target) != build_schedule(module, target):
        raise AssertionError(f"the firmware for {name} changes with a round trip by text")
    if str(parse_module(to_bytecode(module), "bytecode")) != text:
        raise AssertionError("the module changes with a round trip by bytecode")


def _on_device(
    module: Any, name: str, samples: Sequence[Sample], model: Model, modes: bool
) -> Comparison:
    """Inference, the steps, inference again, every op compared."""
    target = find_target(name)
    if model.options.for_target:
        module = _planned(model, name)
    schedule = build_schedule(module, target)
    compiled = compile_kernels(schedule.kernels, target, embedded=False)
    image = build_image(schedule, compiled, generic_board(target))
    emulator = Emulator(image)
    device = DeviceComparison(module, emulator)
    beside = None
    if modes:
        beside = UndisturbedDevice(image, module, emulator, poison=True, access=True)
    device.initial_state()
    device.infer(samples[0][0])
    if beside:
        beside.follow_inference(samples[0][0])
    for x, label in samples:
        device.step(x, label, model.rate)
        if beside:
            beside.follow_step(x, label, model.rate)
    device.infer(samples[-1][0])
    if beside:
        beside.follow_inference(samples[-1][0])
        device.comparison.watched = beside.figures().watched_accesses
    used, most = emulator.stack_bytes_used, max(image.stack_bounds.values())
    if used > most:
        device.comparison.mismatches.append(f"stack uses {used} bytes: at most {most} were proven")
    return device.comparison


def _on_host(module: Any, samples: Sequence[Sample], model: Model) -> Comparison:
    """The same calls, each from the state that the semantics reached."""
    walk = HostComparison(module)
    for x, label in samples:
        walk.call(INFER, x)
        walk.call(TRAIN_STEP, x, np.asarray(label, np.int32), np.asarray(model.rate, np.float32))
        if walk.host.accumulates:
            walk.call(APPLY_UPDATES, np.asarray(model.rate, np.float32))
    return walk.comparison


class HostComparison:
    """Calls of the host, each from the state that the semantics have reached."""

    def __init__(self, module: Any) -> None:
        self.host = HostModel(compile_host(module))
        self.comparison = Comparison()
        self._module = module
        # A counter of random rounding may belong to @apply_updates alone.
        called = [find_function(module, TRAIN_STEP)]
        called += [find_function(module, APPLY_UPDATES)] if self.host.accumulates else []
        self._state = {
            symbol: value
            for function in called
            for symbol, value in initial_state(function).items()
        }

    def call(self, name: str, *arguments: Array) -> None:
        """Call a function, compare its results and the state that it leaves."""
        expected = expect(find_function(self._module, name), arguments, self._state)
        found = self.host.call(name, *arguments)
        names = {INFER: ("logits",), TRAIN_STEP: ("loss", "logits")}.get(name, ())
        for number, what in enumerate(names):
            want, bound = expected.results[number], expected.errors[number]
            self.comparison.result(f"{what} of {name}", want, found[number], bound)
        if name == INFER:
            return
        after = self.host.state()
        for symbol, (low, high) in expected.state.items():
            self.comparison.state(f"update of {symbol}", low, high, after[symbol])
        self.host.load_state(self._state)
