"""The C store of learned state (`runtime/tiny_store.c`), compiled for the host, on modelled flash.

The same C text as in firmware; what the flash model says goes through the three driver functions.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from tiny_targets.flash_model import MISUSE, FlashMisuse, FlashModel, PowerCut, driver
from tiny_targets.toolchain import host_library

OK, EMPTY, BAD_REGION, TOO_SMALL, SOURCE_FAILED, FLASH_FAILED = range(6)
HEADER_BYTES = 36
NO_SLOT = 0xFFFFFFFF
_NOWHERE = 0xFFFFFFFF

_READ = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32
)
_ERASE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)


class _Flash(ctypes.Structure):
    """`tiny_flash_t`."""

    _fields_ = (
        ("read", ctypes.c_void_p),
        ("erase", ctypes.c_void_p),
        ("program", ctypes.c_void_p),
        ("device", ctypes.c_void_p),
        ("page_bytes", ctypes.c_uint32),
        ("page_count", ctypes.c_uint32),
        ("program_bytes", ctypes.c_uint32),
        ("erased", ctypes.c_uint8),
    )


class _Store(ctypes.Structure):
    """`tiny_store_t`."""

    _fields_ = (
        ("flash", ctypes.c_void_p),
        ("model_hash", ctypes.c_uint32 * 2),
        ("payload_bytes", ctypes.c_uint32),
        ("slot_pages", ctypes.c_uint32),
        ("slot_count", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("sequence", ctypes.c_uint32),
    )


def _source() -> str:
    """Headers and sources of the store in one text."""
    folder = resources.files("tiny_targets") / "runtime"
    names = ("tiny_state.h", "tiny_store.h", "tiny_state.c", "tiny_store.c")
    lines = [line for name in names for line in (folder / name).read_text().splitlines()]
    # The macros of the two sources must not meet.
    return "\n".join(line for line in lines if not line.startswith('#include "tiny_'))


@cache
def _library() -> Any:
    return host_library(_source())


class HostStore:
    """A store on `flash` for payloads of a fixed size; a new one stands for a restart."""

    def __init__(self, flash: FlashModel, model_hash: int, payload_bytes: int) -> None:
        """Open the store; `status` is that of `tiny_store_open`."""
        self._flash = flash
        self._payload_bytes = payload_bytes
        self._misuse: FlashMisuse | None = None
        programming = flash.programming
        self._description = _Flash(
            *self._driver(),
            ctypes.addressof(flash.region),
            programming.page_bytes,
            flash.page_count,
            programming.program_bytes,
            programming.erased,
        )
        self._store = _Store()
        words = (ctypes.c_uint32 * 2)(model_hash & 0xFFFFFFFF, model_hash >> 32)
        self.status = int(
            _library().tiny_store_open(
                ctypes.byref(self._store), ctypes.byref(self._description), words, payload_bytes
            )
        )

    def _driver(self) -> list[ctypes.c_void_p]:
        """The three driver functions: of the model in C, or of a variant of it in Python."""
        flash = self._flash
        if type(flash) is FlashModel:
            model = driver()
            functions = (
                model.flash_model_read,
                model.flash_model_erase,
                model.flash_model_program,
            )
        else:
            functions = self._callbacks = (
                _READ(lambda _, offset, to, size: self._guard(self._read, offset, to, size)),
                _ERASE(lambda _, offset: self._guard(flash.erase, offset)),
                _READ(lambda _, offset, data, size: self._guard(self._program, offset, data, size)),
            )
        return [ctypes.cast(function, ctypes.c_void_p) for function in functions]

    @property
    def slot(self) -> int | None:
        """The newest whole slot."""
        slot = int(self._store.slot)
        return None if slot == NO_SLOT else slot

    @property
    def slot_count(self) -> int:
        """Slots of the region."""
        return int(self._store.slot_count)

    @property
    def sequence(self) -> int:
        """The newest number in the region."""
        return int(self._store.sequence)

    def slot_offset(self, slot: int) -> int:
        """Where a slot starts in the region."""
        return slot * int(self._store.slot_pages) * self._flash.programming.page_bytes

    @property
    def slot_bytes(self) -> int:
        """The bytes of a slot that are programmed: header and payload, in whole units."""
        width = self._flash.programming.program_bytes
        return sum(-(-size // width) * width for size in (HEADER_BYTES, self._payload_bytes))

    def erases(self, slot: int) -> int:
        """Erases of a slot, as its header says."""
        return int(_library().tiny_store_erases(ctypes.byref(self._store), slot))

    def set_sequence(self, sequence: int) -> None:
        """Make the next commit number `sequence` + 1, as after many commits."""
        self._store.sequence = sequence

    def commit(self, payload: bytes) -> int:
        """The status of `tiny_store_commit`; raises `PowerCut` where power was lost in it.

        The source fails for a payload of another size. Raises `FlashMisuse` where the store broke a
        rule of the flash.
        """
        if len(payload) != self._payload_bytes:
            source, place = _READ(lambda *_: 1), None
        else:
            source, place = _library().tiny_read_memory, ctypes.c_char_p(payload)
        self._flash.region.misused_at = _NOWHERE
        status = _library().tiny_store_commit(ctypes.byref(self._store), source, place)
        if self._misuse is not None:
            raise self._misuse
        if self._flash.region.misused_at != _NOWHERE:
            self._flash.require(MISUSE, "a commit asks for", 0)
        if self._flash.is_off:
            raise PowerCut
        return int(status)

    def read(self) -> bytes | None:
        """The newest payload, or None where there is none."""
        to = ctypes.create_string_buffer(self._payload_bytes)
        if _library().tiny_store_read(ctypes.byref(self._store), 0, to, self._payload_bytes):
            return None
        return to.raw

    def _read(self, offset: int, to: int, size: int) -> None:
        ctypes.memmove(to, self._flash.read(offset, size), size)

    def _program(self, offset: int, data: int, size: int) -> None:
        self._flash.program(offset, ctypes.string_at(data, size))

    def _guard(self, act: Callable[..., None], *arguments: int) -> int:
        """The driver's status: an exception must not pass through C."""
        try:
            act(*arguments)
        except PowerCut:
            return 1
        except FlashMisuse as error:
            self._misuse = error
            return 2
        return 0


def newest_slot_of_memory(cells: Any, flash: FlashModel, model_hash: int, size: int) -> int | None:
    """The slot that `tiny_store_open` finds in a copy of the region in memory; fast."""
    programming = flash.programming
    library = _library()
    read = ctypes.cast(library.tiny_read_memory, ctypes.c_void_p)
    description = _Flash(
        read,
        None,
        None,
        cells.ctypes.data,
        programming.page_bytes,
        flash.page_count,
        programming.program_bytes,
        programming.erased,
    )
    store = _Store()
    words = (ctypes.c_uint32 * 2)(model_hash & 0xFFFFFFFF, model_hash >> 32)
    library.tiny_store_open(ctypes.byref(store), ctypes.byref(description), words, size)
    slot = int(store.slot)
    return None if slot == NO_SLOT else slot
