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
from tiny_passes.graph import INFER, TRAIN_STEP, find_function
from tiny_passes.registry import run_pipeline
from tiny_pipelines.differential.case import Model
from tiny_pipelines.differential.compare import Comparison, DeviceComparison, expect
from tiny_pipelines.frontends import import_bytes
from tiny_pipelines.host import HostModel
from tiny_pipelines.iree import compile_host
from tiny_targets.boards import generic_board
from tiny_targets.codegen import compile_kernels
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import build_image
from tiny_targets.schedule import build_schedule
from tiny_targets.target import TARGETS, find_target

Array = NDArray[Any]

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


def check(model: Model, targets: Sequence[str], *, host: bool) -> Outcome:
    """Compile and run `model` on each device and on the host; what is wrong is not raised."""
    outcome = Outcome()
    with new_context(), ir.Location.unknown():
        module = _attempt(outcome, COMPILER, _planned, model)
        if module is None:
            return outcome
        samples = list(_samples(model, module))
        _attempt(outcome, COMPILER, _round_trips, module, (*targets, DEVICES[0])[0])
        for target in targets:
            found = _attempt(outcome, target, _on_device, module, target, samples, model)
            _record(outcome, target, found)
        if host:
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


def _planned(model: Model) -> Any:
    """The module at the planned stage; the pipeline ends with the independent plan checker."""
    module = import_bytes(model.bytecode, "model")
    with tempfile.TemporaryDirectory() as folder:
        scheme = Path(folder) / "scheme.json"
        scheme.write_text(json.dumps(model.scheme))
        run_pipeline(module, model.options.pipeline(scheme))
    return module


def _samples(model: Model, module: Any) -> Iterator[tuple[Array, int]]:
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
    module: Any, name: str, samples: Sequence[tuple[Array, int]], model: Model
) -> Comparison:
    """Inference, the steps, inference again, every op compared."""
    target = find_target(name)
    schedule = build_schedule(module, target)
    compiled = compile_kernels(schedule.kernels, target, embedded=False)
    emulator = Emulator(build_image(schedule, compiled, generic_board(target)))
    device = DeviceComparison(module, emulator)
    device.initial_state()
    device.infer(samples[0][0])
    for x, label in samples:
        device.step(x, label, model.rate)
    device.infer(samples[-1][0])
    return device.comparison


def _on_host(module: Any, samples: Sequence[tuple[Array, int]], model: Model) -> Comparison:
    """The same calls, each from the state that the semantics reached."""
    host = HostModel(compile_host(module))
    comparison = Comparison()
    step, infer = find_function(module, TRAIN_STEP), find_function(module, INFER)
    state = initial_state(step)
    for x, label in samples:
        want = expect(infer, [x], state)
        comparison.result("logits of infer", want.results[0], host.infer(x), want.errors[0])
        arguments = [x, np.asarray(label, np.int32), np.asarray(model.rate, np.float32)]
        expected = expect(step, arguments, state)
        found = host.call(TRAIN_STEP, *arguments)
        for what, number in (("loss", 0), ("logits", 1)):
            want_value, bound = expected.results[number], expected.errors[number]
            comparison.result(f"{what} of train_step", want_value, found[number], bound)
        after = host.state()
        for symbol, (low, high) in expected.state.items():
            comparison.state(f"update of {symbol}", low, high, after[symbol])
        host.load_state(state)
    return comparison
