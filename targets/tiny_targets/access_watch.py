"""What a running program may touch, byte by byte: the native watch behind the access mode.

Each byte of the watched regions has its permissions. A load or store outside them does not
stop the program, the emulator could not name the op then; it is noted, the first one in full.
"""

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_targets.machine import Machine

OPERAND, OWN, READ_IN_ORDER = 1, 2, 4
"""May be loaded; may be loaded and stored; must not be loaded any more once it has been stored."""
_WORD_BYTES = 4
_REGIONS = 8


class _Guarded(ctypes.Structure):
    """`guarded_t` of `runtime/watch.c`."""

    _fields_ = (("base", ctypes.c_uint64), ("size", ctypes.c_uint64), ("allowed", ctypes.c_void_p))


class _Watch(ctypes.Structure):
    """`access_watch_t` of `runtime/watch.c`."""

    _fields_ = (
        ("is_active", ctypes.c_uint64),
        ("region_count", ctypes.c_uint64),
        ("regions", _Guarded * _REGIONS),
        ("accesses", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("first_address", ctypes.c_uint64),
        ("first_size", ctypes.c_uint64),
        ("first_is_write", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class StrayAccess:
    """The first access outside the permissions, and how many there were."""

    address: int
    size: int
    is_write: bool
    count: int


@dataclass(frozen=True)
class Window:
    """Addresses [start, end) with what a command may do there."""

    start: int
    end: int
    permissions: int
    """A sum of `OPERAND`, `OWN` and `READ_IN_ORDER`."""


class AccessWatch:
    """The permissions of some regions, SRAM and constants, on one machine."""

    def __init__(self, machine: Machine, regions: Sequence[tuple[int, int]]) -> None:
        """`regions` are (address, bytes), eight at most; nothing is watched before `open`."""
        self._tables = [np.zeros(size, np.uint8) for _, size in regions]
        self._bases = [base for base, _ in regions]
        self._windows: list[Window] = []
        guarded = [
            _Guarded(base, len(table), table.ctypes.data)
            for base, table in zip(self._bases, self._tables, strict=True)
        ]
        self._watch = _Watch(0, len(guarded), (_Guarded * _REGIONS)(*guarded))
        machine.watch_memory("check_access", self._watch)

    def open(self, windows: Iterable[Window]) -> None:
        """From now on only `windows` may be touched; where they overlap, permissions add up."""
        self._clear()
        self._windows = list(windows)
        for window in self._windows:
            for view in self._views(window):
                view |= window.permissions
        self._watch.is_active = 1

    def close(self) -> None:
        """Let everything pass again."""
        self._watch.is_active = 0

    def take(self) -> StrayAccess | None:
        """What strayed since the last call of this, if anything did."""
        watch = self._watch
        count, watch.count = int(watch.count), 0
        if not count:
            return None
        address, size = int(watch.first_address), int(watch.first_size)
        return StrayAccess(address, size, bool(watch.first_is_write), count)

    @property
    def accesses(self) -> int:
        """Loads and stores of the regions that were held against permissions."""
        return int(self._watch.accesses)

    def _clear(self) -> None:
        for window in self._windows:
            for view in self._views(window):
                view[:] = 0

    def _views(self, window: Window) -> list[Any]:
        """The part of each table that a window meets; loads may go to the end of their word."""
        end = window.end
        if not window.permissions & OWN:
            end += -end % _WORD_BYTES
        return [
            table[max(window.start - base, 0) : max(end - base, 0)]
            for base, table in zip(self._bases, self._tables, strict=True)
        ]
