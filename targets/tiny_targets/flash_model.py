"""A region of flash that keeps its rules, counts its wear, and loses power at a chosen step.

Programming moves bits away from the erased value only, in whole program units, each once between
two erases. A step is one page erased or one unit programmed. Where power is lost in a step, some of
its bits have changed and some have not. The rules are in `runtime/flash_model.c`, which the C store
on the host calls without a detour through Python.
"""

import ctypes
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import TinyError
from tiny_targets.boards import Programming
from tiny_targets.toolchain import host_library

Bytes = NDArray[np.uint8]
Snapshot = tuple[Bytes, Bytes, NDArray[np.uint32]]
OFF, MISUSE = 1, 2


class FlashMisuse(TinyError):
    """An erase or program that a real flash would refuse."""


class PowerCut(Exception):
    """Power has been lost; the flash answers nothing more until it is back."""


class Region(ctypes.Structure):
    """`flash_model_t` of `runtime/flash_model.c`."""

    _fields_ = (
        ("cells", ctypes.c_void_p),
        ("is_programmed", ctypes.c_void_p),
        ("wear", ctypes.c_void_p),
        ("size", ctypes.c_uint32),
        ("page_bytes", ctypes.c_uint32),
        ("program_bytes", ctypes.c_uint32),
        ("erased", ctypes.c_uint32),
        ("is_off", ctypes.c_uint32),
        ("misused_at", ctypes.c_uint32),
        ("steps", ctypes.c_int64),
        ("cut_at", ctypes.c_int64),
        ("tear_seed", ctypes.c_int64),
    )


@cache
def driver() -> Any:
    """The functions `flash_model_read`, `_erase` and `_program`, a driver of `tiny_store.h`."""
    source = (resources.files("tiny_targets") / "runtime" / "flash_model.c").read_text()
    return host_library(source)


@dataclass
class FlashModel:
    """`page_count` pages as `programming` says, erased at first."""

    programming: Programming
    page_count: int
    cells: Bytes = field(init=False)
    region: Region = field(init=False)
    """What the driver's functions take as their device."""

    def __post_init__(self) -> None:
        """Erase everything."""
        flash = self.programming
        size = self.page_count * flash.page_bytes
        self.cells = np.full(size, flash.erased, np.uint8)
        self._is_programmed = np.zeros(size // flash.program_bytes, np.uint8)
        self._wear = np.zeros(self.page_count, np.uint32)
        self.region = Region(
            self.cells.ctypes.data,
            self._is_programmed.ctypes.data,
            self._wear.ctypes.data,
            size,
            flash.page_bytes,
            flash.program_bytes,
            flash.erased,
            cut_at=-1,
        )

    @property
    def wear(self) -> list[int]:
        """Erases of each page."""
        return self._wear.tolist()

    @property
    def steps(self) -> int:
        """Pages erased and units programmed since `restore_power`."""
        return int(self.region.steps)

    @property
    def is_off(self) -> bool:
        """True after a power cut."""
        return bool(self.region.is_off)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; raises `PowerCut` while there is no power."""
        to = ctypes.create_string_buffer(size)
        status = driver().flash_model_read(ctypes.byref(self.region), offset, to, size)
        self.require(status, "reads", size)
        return to.raw

    def erase(self, offset: int) -> None:
        """Erase the page that starts at `offset`."""
        status = driver().flash_model_erase(ctypes.byref(self.region), offset)
        self.require(status, "erases", self.programming.page_bytes)

    def program(self, offset: int, data: bytes) -> None:
        """Program whole units from `offset` on, one step each."""
        device = ctypes.byref(self.region)
        status = driver().flash_model_program(device, offset, data, len(data))
        self.require(status, "programs", len(data))

    def cut_power(self, step: int, tear_seed: int | None) -> None:
        """Lose power in step `step` from now on, counted from 0.

        `tear_seed` chooses which bits of that step change; None for all of them: power is lost
        right behind it.
        """
        self.region.cut_at, self.region.steps = step, 0
        self.region.tear_seed = -1 if tear_seed is None else tear_seed

    def restore_power(self) -> None:
        """Switch on again, with no cut ahead."""
        self.region.is_off, self.region.cut_at, self.region.steps = 0, -1, 0

    def snapshot(self) -> Snapshot:
        """The contents, for `rewind`."""
        return self.cells.copy(), self._is_programmed.copy(), self._wear.copy()

    def rewind(self, snapshot: Snapshot) -> None:
        """Take the contents of a snapshot again, with power and no cut ahead."""
        self.cells[:], self._is_programmed[:], self._wear[:] = snapshot
        self.restore_power()

    def require(self, status: int, verb: str, size: int) -> None:
        """Raise what a status of the driver means."""
        if status == OFF:
            raise PowerCut
        if status == MISUSE:
            flash = self.programming
            raise FlashMisuse(
                f"{verb} {size} bytes, refused at {self.region.misused_at} of a region of "
                f"{len(self.cells)} with pages of {flash.page_bytes} and units of "
                f"{flash.program_bytes}"
            )
