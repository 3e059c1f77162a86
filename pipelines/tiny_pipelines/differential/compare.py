"""Hold a device or the host against the NumPy semantics, and count what was compared.

The device is compared op by op, each op evaluated on what the device itself computed before: every
result, every update and every value that was overwritten too early shows where it happens, and a
float32 difference is one op's own. The host shows arguments, results and state only; there the
float bounds are carried through the step, and each step starts from the state of the semantics.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.semantics import evaluate_op
from tiny_dialect.semantics.interpreter import State, body_of, initial_state
from tiny_passes.graph import INFER, TRAIN_STEP, find_function, layer_of
from tiny_pipelines.differential.float_bounds import Error, result_bound, updated_range
from tiny_targets.emulate import Emulator

Array = NDArray[Any]

_PARAMETER = "tiny.parameter"


@dataclass
class Comparison:
    """What was compared, and what was not equal."""

    integers: int = 0
    floats: int = 0
    updated: int = 0
    """Stored values after an update."""
    uncompared: int = 0
    """Floats so large that they may overflow on one side only."""
    largest_error: float = 0.0
    """The largest float difference as a share of its bound."""
    watched: int = 0
    """Loads and stores held against what an op may touch, dead memory being garbage."""
    mismatches: list[str] = field(default_factory=list)

    @property
    def values(self) -> int:
        """All values compared."""
        return self.integers + self.floats + self.updated

    def include(self, other: "Comparison") -> None:
        """Add the counts of another comparison."""
        self.integers += other.integers
        self.floats += other.floats
        self.updated += other.updated
        self.uncompared += other.uncompared
        self.watched += other.watched
        self.largest_error = max(self.largest_error, other.largest_error)
        self.mismatches += other.mismatches

    def result(self, what: str, want: Array, got: Array, bound: Error) -> None:
        """Compare one result; with a `bound` as floats, else bit for bit."""
        if got.shape != want.shape or got.dtype != want.dtype:
            self.mismatches.append(
                f"{what}: {got.dtype} {list(got.shape)}, expected {want.dtype} {list(want.shape)}"
            )
            return
        if bound is None:
            self.integers += want.size
            self._note(what, want != got, want, got)
            return
        free = np.isinf(bound)
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(want.astype(np.float64) - got)
        wrong = ~free & ~(error <= bound)
        self.floats += int((~free).sum())
        self.uncompared += int(free.sum())
        known = ~free & ~wrong & (bound > 0)
        if known.any():
            share = float((error[known] / bound[known]).max())
            self.largest_error = max(self.largest_error, share)
        self._note(what, wrong, want, got)

    def state(self, what: str, low: Array, high: Array, got: Array) -> None:
        """Compare stored values after an update with the range of correct ones."""
        self.updated += got.size
        if np.issubdtype(got.dtype, np.floating):
            free = ~np.isfinite(low) | ~np.isfinite(high)
            self.uncompared += int(free.sum())
            self.updated -= int(free.sum())
            self._note(what, ~free & ~((low <= got) & (got <= high)), (low + high) / 2, got)
        else:
            self._note(what, ~((low <= got) & (got <= high)), low, got)

    def _note(self, what: str, wrong: Array, want: Array, got: Array) -> None:
        if not wrong.any():
            return
        place = tuple(int(i) for i in np.argwhere(np.atleast_1d(wrong))[0])
        first = f"{np.atleast_1d(got)[place]}, expected {np.atleast_1d(want)[place]}"
        count = f"{int(wrong.sum())} of {wrong.size} values"
        self.mismatches.append(f"{what}: {count}; at {list(place)} {first}")


def _unpacked(found: Array, want: Array) -> Array:
    """A mask as booleans from the device's packed bytes."""
    if want.dtype != np.bool_:
        return found
    channels = want.shape[-1]
    rows = found.reshape(*want.shape[:-1], (channels + 7) // 8)
    bits = np.unpackbits(rows, axis=-1, bitorder="little")
    return bits[..., :channels].astype(np.bool_)


class DeviceComparison:
    """Runs one emulator's functions and compares every op."""

    def __init__(self, module: Any, emulator: Emulator) -> None:
        self._module = module
        self._emulator = emulator
        self.comparison = Comparison()

    def initial_state(self) -> None:
        """Compare what reset leaves in the trained parameters."""
        for symbol, want in initial_state(find_function(self._module, TRAIN_STEP)).items():
            got = self._emulator.read_state(symbol)
            bound = np.zeros(want.shape) if want.dtype == np.float32 else None
            self.comparison.result(f"initial {symbol}", want, got, bound)

    def infer(self, x: Array) -> Array:
        """The device's logits, every op compared."""
        walk = _OpWalk(find_function(self._module, INFER), [x], self._emulator, self.comparison)
        logits = self._emulator.infer(x, observe=lambda _, found: walk.next(found))
        walk.finish()
        return logits

    def step(self, x: Array, label: int, rate: float) -> tuple[float, Array]:
        """(loss, logits) of one training step on the device, every op and update compared."""
        arguments = [x, np.asarray(label, np.int32), np.asarray(rate, np.float32)]
        function = find_function(self._module, TRAIN_STEP)
        walk = _OpWalk(function, arguments, self._emulator, self.comparison)
        done = self._emulator.train_step(x, label, rate, observe=lambda _, found: walk.next(found))
        walk.finish()
        return done


class _OpWalk:
    """One call: what the device has computed so far, and the op whose results come next."""

    def __init__(
        self, function: Any, arguments: Sequence[Array], emulator: Emulator, into: Comparison
    ) -> None:
        names = body_of(function).arguments
        self.values: dict[Any, Array] = dict(zip(names, arguments, strict=True))
        self.emulator = emulator
        self.into = into
        for op in body_of(function):
            if op.operation.name == _PARAMETER:
                self.values[op.result] = self._parameter(op)
        ops = [op for op in body_of(function) if op.operation.name != _PARAMETER]
        self.ops = iter(ops[:-1])

    def _parameter(self, op: Any) -> Array:
        if "trained" in op.attributes:
            return self.emulator.read_state(op.symbol.value)
        return evaluate_op(op, [])[0]

    def next(self, found: Sequence[Array]) -> None:
        """Compare the results of the next op with its meaning on the device's operands."""
        op = next(self.ops)
        operands = [self.values[operand] for operand in op.operands]
        what = f"{layer_of(op)} {op.operation.name.removeprefix('tiny.')}"
        if not len(op.results):
            self._update(op, operands, what)
            return
        with np.errstate(over="ignore", invalid="ignore"):
            expected = evaluate_op(op, operands)
        for number, (want, got) in enumerate(zip(expected, found, strict=True)):
            got = _unpacked(got, want)
            bound = None
            if want.dtype == np.float32:
                bound = result_bound(op, operands, [None] * len(operands), want)
            self.into.result(f"{what} result {number}", want, got, bound)
            self.values[op.results[number]] = got

    def finish(self) -> None:
        """Note the ops that the device has left out."""
        for op in self.ops:
            self.into.mismatches.append(f"{layer_of(op)} {op.operation.name} did not run")

    def _update(self, op: Any, operands: list[Array], what: str) -> None:
        symbol = op.operands[0].owner.attributes["symbol"].value
        low, high = updated_range(op, operands, [None] * len(operands))
        got = self.emulator.read_state(symbol)
        self.into.state(f"{what} of {symbol}", low, high, got)
        self.values[op.operands[0]] = got


@dataclass
class Expected:
    """What one call should return, with bounds, and the state after it with its range."""

    results: list[Array]
    errors: list[Error]
    state: dict[str, tuple[Array, Array]]


def expect(function: Any, arguments: Sequence[Array], state: State) -> Expected:
    """Run `function` by the semantics with its float bounds; `state` is updated in place."""
    block = body_of(function)
    values: dict[Any, tuple[Array, Error]] = {
        argument: (np.asarray(value), None)
        for argument, value in zip(block.arguments, arguments, strict=True)
    }
    ranges = {symbol: (value.copy(), value.copy()) for symbol, value in state.items()}
    for op in block:
        pairs = [values[operand] for operand in op.operands]
        operands, errors = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if op.operation.name == "func.return":
            return Expected(operands, errors, ranges)
        if op.operation.name == _PARAMETER and "trained" in op.attributes:
            values[op.result] = (state[op.symbol.value], None)
            continue
        if not len(op.results):
            symbol = op.operands[0].owner.attributes["symbol"].value
            ranges[symbol] = updated_range(op, operands, errors)
        with np.errstate(over="ignore", invalid="ignore"):
            results = evaluate_op(op, operands)
        for value, result in zip(op.results, results, strict=True):
            is_float = result.dtype == np.float32
            bound = result_bound(op, operands, errors, result) if is_float else None
            values[value] = (result, bound)
    raise ValueError("the function returns nothing")
