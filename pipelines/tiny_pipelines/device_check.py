"""Hold an emulated run and the same run on the host against the NumPy semantics.

The comparison is that of `tiny-difftest`. On the device each op is evaluated on what the device has
computed before it: integers must be equal, floats and learned values within the bounds of rounding,
which are those of the op alone. The host makes the same steps, each from the state that the
semantics have reached. With integer gradients every bound is zero, and device and host are so held
to the same bits.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_passes.graph import TRAIN_STEP
from tiny_pipelines.differential.check import HostComparison
from tiny_pipelines.differential.compare import Comparison, DeviceComparison
from tiny_targets.emulate import Emulator

Array = NDArray[Any]


@dataclass
class Check:
    """What was compared on the device and on the host, and what was wrong."""

    device: Comparison = field(default_factory=Comparison)
    host: Comparison = field(default_factory=Comparison)

    @property
    def mismatches(self) -> list[str]:
        """What was wrong, in words; those of the host say so."""
        return [*self.device.mismatches, *(f"host: {text}" for text in self.host.mismatches)]

    @property
    def passed(self) -> bool:
        """True where nothing was wrong."""
        return not self.mismatches

    def record(self) -> dict[str, Any]:
        """The check as JSON values; a `largest_error` is a share of its bound."""
        return {
            "passed": self.passed,
            "mismatches": self.mismatches,
            "device": _counts(self.device),
            "host": _counts(self.host),
        }


def _counts(comparison: Comparison) -> dict[str, Any]:
    return {
        "integers": comparison.integers,
        "floats": comparison.floats,
        "updated": comparison.updated,
        "uncompared": comparison.uncompared,
        "largest_error": comparison.largest_error,
    }


class DeviceCheck:
    """Compares the calls of one emulator with the planned module it was built from."""

    def __init__(self, module: Any, emulator: Emulator) -> None:
        self._module = module
        self._device = DeviceComparison(module, emulator)
        self._steps: list[tuple[Array, int, float]] = []
        self._device.initial_state()
        self.check = Check(self._device.comparison)

    def infer(self, x: Array) -> Array:
        """The device's logits, every op compared."""
        return self._device.infer(x)

    def step(self, x: Array, label: int, rate: float) -> tuple[float, Array]:
        """(loss, logits) of one step on the device, every op and update compared."""
        self._steps.append((x, label, rate))
        return self._device.step(x, label, rate)

    def run_host(self) -> None:
        """Make the same steps on the host and compare what they return and leave."""
        host = HostComparison(self._module)
        for x, label, rate in self._steps:
            host.call(TRAIN_STEP, x, np.asarray(label, np.int32), np.asarray(rate, np.float32))
        self.check.host = host.comparison
