"""Cut the power at every step of several commits, flip every stored bit: what does a restart find?

The C store runs on the host here, on modelled flash; `store_emulator` does the same on a device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tiny_targets.boards import Programming
from tiny_targets.flash_model import Bytes, FlashModel, PowerCut
from tiny_targets.host_store import HEADER_BYTES, OK, HostStore, newest_slot_of_memory


@dataclass
class CutCounts:
    """What restarts found after power cuts."""

    cuts: int = 0
    old: int = 0
    """Restarts that found the payload from before the commit."""
    new: int = 0
    """Restarts that found the payload that was being committed."""
    lost: int = 0
    """Restarts that found no payload, though one had been committed."""
    mixed: int = 0
    """Restarts that found any other payload."""
    stuck: int = 0
    """Restarts after which the next commit did not become the newest payload."""
    steps: list[int] = field(default_factory=list)
    """Steps of each commit: pages erased and units programmed."""

    @property
    def passed(self) -> bool:
        """True where every restart found the old or the new payload, whole, and went on."""
        return self.cuts > 0 and not self.lost and not self.mixed and not self.stuck

    def count(self, found: bytes | None, old: bytes | None, new: bytes) -> None:
        """Enter what one restart found."""
        self.cuts += 1
        if found == new:
            self.new += 1
        elif found == old:
            self.old += 1
        elif found is None:
            self.lost += 1
        else:
            self.mixed += 1


@dataclass(frozen=True)
class FlipCounts:
    """What openings found after one bit of a stored slot had been flipped."""

    flips: int
    undetected: int
    """Openings that still took the slot with the flipped bit."""
    lost: int
    """Openings that took no slot, though the other one was whole."""

    @property
    def passed(self) -> bool:
        """True where every flip was found and the other slot taken."""
        return self.flips > 0 and not self.undetected and not self.lost


def sweep_cuts(
    flash: FlashModel,
    payloads: Sequence[bytes],
    model_hash: int,
    *,
    tears: Sequence[int | None] = (0, 1, None),
    stride: int = 1,
) -> CutCounts:
    """Commit all `payloads` but the last in turn; once for every step and tear with a cut there.

    After each cut the store is opened anew, and commits once more. `tears` are those of
    `FlashModel.cut_power`. `stride` is that of `chosen_steps`. The region is left as after
    uninterrupted commits. Raises `FlashMisuse` where the store breaks a rule of the flash.
    """
    counts, old = CutCounts(), None
    size = len(payloads[0])
    for number, new in enumerate(payloads[:-1]):
        before = flash.snapshot()
        flash.restore_power()
        assert HostStore(flash, model_hash, size).commit(new) == OK
        counts.steps.append(flash.steps)
        after = flash.snapshot()
        for step in chosen_steps(counts.steps[-1], number, stride):
            for tear in tears:
                flash.rewind(before)
                found = _cut_once(flash, new, model_hash, step, tear)
                counts.count(found, old, new)
                counts.stuck += not _goes_on(flash, payloads[number + 1], model_hash)
        flash.rewind(after)
        old = new
    return counts


def chosen_steps(steps: int, number: int, stride: int) -> list[int]:
    """Every `stride`th step of commit `number`, and all that program its header, the last ones."""
    return sorted(
        {*range(number % stride, steps, stride), *range(max(steps - HEADER_BYTES, 0), steps)}
    )


def _cut_once(
    flash: FlashModel, payload: bytes, model_hash: int, step: int, tear: int | None
) -> bytes | None:
    """What a restart finds after a commit that lost power in `step`."""
    store = HostStore(flash, model_hash, len(payload))
    flash.cut_power(step, tear)
    try:
        store.commit(payload)
    except PowerCut:
        flash.restore_power()
        return HostStore(flash, model_hash, len(payload)).read()
    raise AssertionError(f"the commit has no step {step}")


def _goes_on(flash: FlashModel, payload: bytes, model_hash: int) -> bool:
    """Whether one more commit becomes the newest payload."""
    status = HostStore(flash, model_hash, len(payload)).commit(payload)
    return status == OK and HostStore(flash, model_hash, len(payload)).read() == payload


def sweep_flips(
    flash: FlashModel, model_hash: int, payload_bytes: int, stride: int = 1
) -> FlipCounts:
    """Flip each bit of each whole slot, one at a time, while another slot is whole."""
    store = HostStore(flash, model_hash, payload_bytes)
    cells = flash.cells.copy()
    flips = undetected = lost = 0
    whole = [slot for slot in range(store.slot_count) if store.erases(slot)]
    assert len(whole) > 1, "one slot alone has no other to fall back on"
    newest = store.slot
    for slot in whole:
        start = store.slot_offset(slot)
        for bit in range(0, 8 * store.slot_bytes, stride):
            place, mask = start + bit // 8, np.uint8(1 << bit % 8)
            cells[place] ^= mask
            found = newest_slot_of_memory(cells, flash, model_hash, payload_bytes)
            # An old slot is taken by nobody; with the newest one gone it must be found damaged too.
            if slot != newest and newest is not None:
                found = _without(cells, flash, store, newest, model_hash, payload_bytes)
                undetected += found == slot
            else:
                undetected += found == slot
                lost += found is None
            flips += 1
            cells[place] ^= mask
    return FlipCounts(flips, undetected, lost)


def _without(
    cells: Bytes,
    flash: FlashModel,
    store: HostStore,
    slot: int,
    model_hash: int,
    payload_bytes: int,
) -> int | None:
    """The slot that is found once the header of `slot` is gone."""
    place = store.slot_offset(slot)
    kept = cells[place]
    cells[place] = ~kept
    found = newest_slot_of_memory(cells, flash, model_hash, payload_bytes)
    cells[place] = kept
    return found


@dataclass(frozen=True)
class WearCounts:
    """How evenly a region wears."""

    commits: int
    slots: int
    least: int
    """Erases of the page that was erased least often."""
    most: int
    stated: int
    """The largest number of erases that a header of the region states."""

    @property
    def passed(self) -> bool:
        """True where no page was erased more than once more than another, and the headers know."""
        return self.most - self.least <= 1 and self.stated == self.most


def wear_out(flash: FlashModel, model_hash: int, payload_bytes: int, commits: int) -> WearCounts:
    """Commit so often to an erased region; half-way the sequence number wraps around.

    Raises `AssertionError` where a restart does not find what was committed last.
    """
    store = HostStore(flash, model_hash, payload_bytes)
    store.set_sequence(-(commits // 2) & 0xFFFFFFFF)
    for number in range(commits):
        payload = number.to_bytes(4, "little") * (payload_bytes // 4 + 1)
        assert store.commit(payload[:payload_bytes]) == OK
        store = HostStore(flash, model_hash, payload_bytes)
        assert store.read() == payload[:payload_bytes], f"commit {number}"
    assert store.sequence < commits, "the number has not wrapped around"
    stated = max(store.erases(slot) for slot in range(store.slot_count))
    return WearCounts(commits, store.slot_count, min(flash.wear), max(flash.wear), stated)


def empty_region(programming: Programming, payload_bytes: int, slots: int = 2) -> FlashModel:
    """Erased flash with room for so many slots of a payload."""
    probe = HostStore(FlashModel(programming, 1 << 6), 0, payload_bytes)
    pages = probe.slot_offset(1) // programming.page_bytes
    return FlashModel(programming, slots * pages)
