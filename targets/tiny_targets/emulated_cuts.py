"""Cut an emulated device's power at every step of several commits, and let it train on.

The device runs the firmware of `store_firmware`: compiled store, compiled driver, compiled model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiny_targets.flash_model import PowerCut, Snapshot
from tiny_targets.host_store import EMPTY, OK
from tiny_targets.machine import EmulationError
from tiny_targets.power_sweep import CutCounts, chosen_steps
from tiny_targets.store_emulator import StoreEmulator

Sample = tuple[NDArray[np.int8], int]
_RATE = 0.01


@dataclass(frozen=True)
class _Commit:
    """One commit, as it goes without a cut."""

    memory: list[bytes]
    """SRAM of the device that has trained and is about to commit."""
    old: bytes
    """What it had learned when it was started."""
    new: bytes
    """What it commits."""
    steps: int


def sweep_emulated_cuts(
    device: StoreEmulator, samples: Sequence[Sample], *, stride: int = 1
) -> tuple[CutCounts, list[bytes]]:
    """Train on each sample but the last and commit; once for every step with a power cut there.

    The step is left half-done, the last one also done; `stride` is that of `chosen_steps`. After a
    cut the device restarts, must have restored what it had learned before or after the training
    step, and trains on with the next sample to the same bytes as an undisturbed device. Returns the
    counts and the saved state after each sample.
    """
    counts, blobs = CutCounts(), list[bytes]()
    following: dict[bytes, bytes] = {}
    for number in range(len(samples) - 1):
        before = device.flash.snapshot()
        commit = _uninterrupted(device, samples[number], number == 0)
        after = device.flash.snapshot()
        counts.steps.append(commit.steps)
        blobs.append(commit.new)
        sample = samples[number + 1]
        following[commit.old] = _trained_from(device, before, sample)
        following[commit.new] = _trained_from(device, after, sample)
        last = commit.steps - 1
        cuts = [(step, 0) for step in chosen_steps(commit.steps, number, stride)]
        for step, tear in [*cuts, (last, 1), (last, None)]:
            device.flash.rewind(before)
            device.resume(commit.memory)
            _cut(device, step, tear)
            status = device.restart()
            found = device.blob() if status in (OK, EMPTY) else None
            counts.count(found, commit.old, commit.new)
            if found is not None and found in (commit.old, commit.new):
                _step(device, sample)
                counts.stuck += device.blob() != following[found]
        device.flash.rewind(after)
    return counts, [*blobs, following[blobs[-1]]]


def _uninterrupted(device: StoreEmulator, sample: Sample, is_first: bool) -> _Commit:
    if device.restart() != (EMPTY if is_first else OK):
        raise EmulationError("the device did not find what it had committed")
    old = device.blob()
    _step(device, sample)
    memory, new = device.memory(), device.blob()
    device.flash.restore_power()
    status = device.commit()
    if status != OK:
        raise EmulationError(f"the commit returned status {status}")
    return _Commit(memory, old, new, device.flash.steps)


def _trained_from(device: StoreEmulator, snapshot: Snapshot, sample: Sample) -> bytes:
    """What an undisturbed device has learned one step after it was started on this flash."""
    device.flash.rewind(snapshot)
    device.restart()
    _step(device, sample)
    return device.blob()


def _cut(device: StoreEmulator, step: int, tear: int | None) -> None:
    device.flash.cut_power(step, tear)
    try:
        device.commit()
    except PowerCut:
        return
    raise EmulationError(f"the commit has no step {step}")


def _step(device: StoreEmulator, sample: Sample) -> None:
    device.train_step(*sample, _RATE)
