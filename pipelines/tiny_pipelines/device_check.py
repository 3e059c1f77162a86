"""Hold an emulated training step against the NumPy semantics, op by op, and against the host's run.

Each step the semantics start from the device's own state, so every integer result must be equal;
floats differ by the rounding of their sums. The host runs the same steps from the same initial
state, and what its trained weights differ by in the end is counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.semantics import initial_state, run
from tiny_passes.graph import TRAIN_STEP, find_function, layer_of
from tiny_pipelines.host import HostModel
from tiny_targets.emulate import Emulator

Array = NDArray[Any]

LOSS_TOLERANCE = 1e-5
# Below this the float32 logarithm of a sum close to 1 has no relative accuracy left.
SMALLEST_LOSS = 1e-2


def packed(mask: Array) -> Array:
    """A mask as the device stores it: bits, each pixel padded to whole bytes."""
    return np.packbits(mask, axis=-1, bitorder="little").reshape(-1)


def _measurable(error: float) -> float:
    """`error`, or infinity for NaN: a comparison with NaN is false and would hide it."""
    return math.inf if math.isnan(error) else error


@dataclass
class StateDifference:
    """How one trained parameter differs from the host's after the run."""

    symbol: str
    element: str
    size: int
    differing: int
    largest: float


@dataclass
class Check:
    """What was compared, and what was not equal."""

    integer_values: int = 0
    integer_mismatches: list[str] = field(default_factory=list)
    largest_float_error: float = 0.0
    largest_loss_error: float = 0.0
    state: list[StateDifference] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True where every integer is equal and every loss within 1e-5 of max(loss, 0.01)."""
        return not self.integer_mismatches and self.largest_loss_error <= LOSS_TOLERANCE

    def record(self) -> dict[str, Any]:
        """The check as JSON values."""
        return {
            "passed": self.passed,
            "integer_values": self.integer_values,
            "integer_mismatches": self.integer_mismatches,
            "largest_float_error": self.largest_float_error,
            "largest_loss_error": self.largest_loss_error,
            "state_differences": [vars(entry) for entry in self.state if entry.differing],
        }


class DeviceCheck:
    """Compares the steps of one emulator with the planned module it was built from."""

    def __init__(self, module: Any, emulator: Emulator) -> None:
        self._function = find_function(module, TRAIN_STEP)
        self._emulator = emulator
        self.check = Check()

    def step(self, x: Array, label: int, rate: float) -> tuple[float, Array]:
        """Run one step on the device and compare everything it computed; (loss, logits)."""
        state = {
            symbol: self._emulator.read_state(symbol) for symbol in initial_state(self._function)
        }
        expected: list[tuple[Any, list[Array]]] = []
        loss, _ = run(
            self._function,
            [x, np.int32(label), np.float32(rate)],
            state,
            observe=lambda op, results: expected.append((op, results)),
        )
        commands = iter([pair for pair in expected if pair[0].operation.name != "tiny.parameter"])
        device_loss, logits = self._emulator.train_step(
            x, label, rate, observe=lambda command, found: self._compare(*next(commands), found)
        )
        self._compare_loss(float(loss), device_loss)
        return device_loss, logits

    def _compare(self, op: Any, expected: Sequence[Array], found: Sequence[Array]) -> None:
        for number, (want, got) in enumerate(zip(expected, found, strict=True)):
            if want.dtype == np.float32:
                scale = float(np.abs(want).max()) or 1.0
                error = _measurable(float(np.abs(want - got).max()) / scale)
                self.check.largest_float_error = max(self.check.largest_float_error, error)
                continue
            want = packed(want) if want.dtype == np.bool_ else want
            self.check.integer_values += want.size
            wrong = int((want != got).sum())
            if wrong:
                self.check.integer_mismatches.append(
                    f"{layer_of(op)} {op.operation.name} result {number}: "
                    f"{wrong} of {want.size} values"
                )

    def _compare_loss(self, want: float, got: float) -> None:
        error = _measurable(abs(want - got) / max(abs(want), SMALLEST_LOSS))
        self.check.largest_loss_error = max(self.check.largest_loss_error, error)

    def against_host(
        self, losses: Sequence[float], host: HostModel, host_losses: Sequence[float]
    ) -> None:
        """Compare losses and trained state with the host's after the same steps."""
        for want, got in zip(host_losses, losses, strict=True):
            self._compare_loss(want, got)
        for symbol, want in host.state().items():
            got = self._emulator.read_state(symbol)
            difference = np.abs(want.astype(np.float64) - got)
            self.check.state.append(
                StateDifference(
                    symbol,
                    str(want.dtype),
                    want.size,
                    int((difference > 0).sum()),
                    float(difference.max()),
                )
            )
