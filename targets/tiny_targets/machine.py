"""A core with memory: runs machine code on an exact memory map and counts what it executes.

Any access outside the map is an `EmulationError` with the address. Instructions are counted
exactly, by a block callback in native code, those that a Thumb IT block skips included; they are
instructions, not cycles. The only file that knows the emulator's library.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from unicorn import arm_const, riscv_const, unicorn_const
from unicorn.unicorn_py3.unicorn import Uc, UcError, uclib

from tiny_dialect.errors import TinyError
from tiny_targets.target import Target
from tiny_targets.toolchain import host_library

PAGE = 4096
_NO_LIMIT = (1 << 64) - 1
# The register and the value that mean: Thumb code, outside of an IT block.
_NO_IT_STATE = (arm_const.UC_ARM_REG_EPSR, 1 << 24)
_ARGUMENTS = {
    "arm": (
        arm_const.UC_ARM_REG_R0,
        arm_const.UC_ARM_REG_R1,
        arm_const.UC_ARM_REG_R2,
        arm_const.UC_ARM_REG_R3,
    ),
    "riscv": (
        riscv_const.UC_RISCV_REG_A0,
        riscv_const.UC_RISCV_REG_A1,
        riscv_const.UC_RISCV_REG_A2,
        riscv_const.UC_RISCV_REG_A3,
    ),
}
_STACK = {"arm": arm_const.UC_ARM_REG_SP, "riscv": riscv_const.UC_RISCV_REG_SP}
_RETURN = {"arm": arm_const.UC_ARM_REG_LR, "riscv": riscv_const.UC_RISCV_REG_RA}
_PROGRAM = {"arm": arm_const.UC_ARM_REG_PC, "riscv": riscv_const.UC_RISCV_REG_PC}
_ACCESSES = {
    unicorn_const.UC_MEM_READ_UNMAPPED: "read of unmapped",
    unicorn_const.UC_MEM_WRITE_UNMAPPED: "write to unmapped",
    unicorn_const.UC_MEM_FETCH_UNMAPPED: "jump to unmapped",
    unicorn_const.UC_MEM_READ_PROT: "read of unreadable",
    unicorn_const.UC_MEM_WRITE_PROT: "write to read-only",
    unicorn_const.UC_MEM_FETCH_PROT: "jump into data at",
}
READ, WRITE, EXECUTE = (
    unicorn_const.UC_PROT_READ,
    unicorn_const.UC_PROT_WRITE,
    unicorn_const.UC_PROT_EXEC,
)


class EmulationError(TinyError):
    """The program touched memory that is not there, or met an instruction that is none."""


class _Counter(ctypes.Structure):
    """`counter_t` of `runtime/watch.c`."""

    _fields_ = (
        ("code", ctypes.c_char_p),
        ("base", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("is_thumb", ctypes.c_uint64),
        ("block_bytes", ctypes.POINTER(ctypes.c_uint32)),
        ("block_counts", ctypes.POINTER(ctypes.c_uint32)),
        ("instructions", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("stop", ctypes.c_void_p),
    )


class _Misaligned(ctypes.Structure):
    """`misaligned_t` of `runtime/watch.c`."""

    _fields_ = (("count", ctypes.c_uint64), ("first_address", ctypes.c_uint64))


class _ItState(ctypes.Structure):
    """`it_state_t` of `runtime/watch.c`."""

    _fields_ = (
        ("write", ctypes.c_void_p),
        ("register_number", ctypes.c_int32),
        ("none", ctypes.c_uint32),
    )


@cache
def _callbacks() -> Any:
    """The native callbacks."""
    source = (resources.files("tiny_targets") / "runtime" / "watch.c").read_text()
    return host_library(source)


@dataclass
class Machine:
    """A core with memory; `map` adds regions, `call` runs a function to its return."""

    target: Target
    code_base: int
    code: bytes
    code_size: int
    """Bytes of the code region, a multiple of the page."""
    most_instructions: int | None = None
    """What a call may execute before it is given up."""
    engine: Any = field(init=False)

    def __post_init__(self) -> None:
        """Create the engine, map the code and attach the counter."""
        is_arm = self.target.isa == "arm"
        if is_arm:
            mode = unicorn_const.UC_MODE_THUMB | unicorn_const.UC_MODE_MCLASS
            self.engine = Uc(unicorn_const.UC_ARCH_ARM, mode)
        else:
            self.engine = Uc(unicorn_const.UC_ARCH_RISCV, unicorn_const.UC_MODE_RISCV32)
        constants = arm_const if is_arm else riscv_const
        self.engine.ctl_set_cpu_model(getattr(constants, self.target.emulated_cpu))
        self._fault = ""
        self._misaligned: _Misaligned | None = None
        self._it_state: _ItState | None = None
        self.engine.hook_add(unicorn_const.UC_HOOK_MEM_INVALID, self._on_fault)
        self.map(self.code_base, self.code_size, READ | EXECUTE)
        self.engine.mem_write(self.code_base, self.code)
        self._attach_counter()

    def _attach_counter(self) -> None:
        slots = len(self.code) // 2 + 1
        self._tables = ((ctypes.c_uint32 * slots)(), (ctypes.c_uint32 * slots)())
        self._counter = _Counter(
            self.code, self.code_base, len(self.code), self.target.isa == "arm", *self._tables, 0,
            _NO_LIMIT, ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p),
        )  # fmt: skip
        self._watch(unicorn_const.UC_HOOK_BLOCK, _callbacks().count_block, self._counter)

    def _watch_memory(self, callback: str, data: ctypes.Structure) -> None:
        """Attach a native callback to each load and store.

        Before it calls anybody, the emulator puts back the state of the IT block that the access is
        in, and leaves it there: the first instructions of the next block would be skipped or
        refused (unicorn-engine/unicorn issue 2309). Inside a block the state is to be none.
        """
        kind = unicorn_const.UC_HOOK_MEM_READ | unicorn_const.UC_HOOK_MEM_WRITE
        self._watch(kind, getattr(_callbacks(), callback), data)
        if self.target.isa == "arm" and self._it_state is None:
            self._it_state = _ItState(
                ctypes.cast(uclib.uc_reg_write, ctypes.c_void_p), *_NO_IT_STATE
            )
            self._watch(kind, _callbacks().clear_it_state, self._it_state)
        self.engine.ctl_flush_tb()  # blocks translated before call nobody

    def _watch(self, kind: int, callback: Any, data: ctypes.Structure) -> None:
        """Attach a native callback, past the emulator's Python layer."""
        hook = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self.engine._uch,
            ctypes.byref(hook),
            kind,
            ctypes.cast(callback, ctypes.c_void_p),
            ctypes.cast(ctypes.byref(data), ctypes.c_void_p),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        if status != unicorn_const.UC_ERR_OK:
            raise EmulationError(f"the emulator refused a callback (status {status})")

    def watch_alignment(self) -> None:
        """From now on `call` fails where the code loads or stores at a misaligned address."""
        self._misaligned = _Misaligned()
        self._watch_memory("check_alignment", self._misaligned)

    def watch_memory(self, callback: str, data: ctypes.Structure) -> None:
        """From now on each load and store calls `callback` of `runtime/watch.c` with `data`.

        The caller keeps `data` alive.
        """
        self._watch_memory(callback, data)

    def return_address(self) -> int:
        """Where the function that has just been entered will return to."""
        return int(self.engine.reg_read(_RETURN[self.target.isa])) & ~1

    @property
    def instructions(self) -> int:
        """Instructions executed so far."""
        return int(self._counter.instructions)

    def map(self, base: int, size: int, permissions: int) -> None:
        """Make `size` bytes (a multiple of the page) at `base` exist, zeroed.

        Raises `EmulationError` where something is there already.
        """
        try:
            self.engine.mem_map(base, size, permissions)
        except UcError as error:
            raise EmulationError(f"cannot map {size} bytes at 0x{base:08x}: {error}") from error

    def map_registers(
        self, base: int, read: Callable[[int], int], write: Callable[[int, int], None]
    ) -> None:
        """Put a page of word registers at `base`: `read(offset)` and `write(offset, value)`."""
        self.engine.mmio_map(
            base,
            PAGE,
            lambda _, offset, size, data: read(offset),
            None,
            lambda _, offset, size, value, data: write(offset, value),
            None,
        )

    def stop(self) -> None:
        """From within a callback: let the running `call` fail where it is."""
        self.engine.emu_stop()

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; raises `EmulationError` where there is no memory."""
        try:
            return bytes(self.engine.mem_read(address, size))
        except UcError as error:
            raise EmulationError(f"no {size} bytes of memory at 0x{address:08x}") from error

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`, whatever the region's permissions; raises `EmulationError`."""
        try:
            self.engine.mem_write(address, data)
        except UcError as error:
            raise EmulationError(f"no {len(data)} bytes of memory at 0x{address:08x}") from error

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` 32-bit words at `address`."""
        return struct.unpack(f"<{count}I", self.read(address, 4 * count))

    def enable_fpu(self) -> None:
        """What the start-up code does on a device."""
        if self.target.isa == "arm":
            self.engine.reg_write(arm_const.UC_ARM_REG_FPEXC, 1 << 30)
        elif self.target.hard_float:
            self.engine.reg_write(riscv_const.UC_RISCV_REG_MSTATUS, 1 << 13)

    def call(
        self, function: int, arguments: Sequence[int], stack_top: int | None, stop: int
    ) -> int:
        """Run `function` until it returns to `stop`; the value of its result register.

        `stack_top` None leaves the stack pointer as it is. Raises `EmulationError`.
        """
        isa = self.target.isa
        for register, value in zip(_ARGUMENTS[isa], arguments, strict=False):
            self.engine.reg_write(register, value & 0xFFFFFFFF)
        if stack_top is not None:
            self.engine.reg_write(_STACK[isa], stack_top)
        thumb = 1 if isa == "arm" else 0
        self.engine.reg_write(_RETURN[isa], stop | thumb)
        self._fault = ""
        most = self.most_instructions
        limit = _NO_LIMIT if most is None else self.instructions + most
        self._counter.limit = limit
        try:
            self.engine.emu_start(function | thumb, stop)
        except UcError as error:
            raise EmulationError(
                self._fault or f"{error} at 0x{self.program_counter():08x}"
            ) from error
        if self.instructions >= limit:
            raise EmulationError(f"has not returned after {most} instructions")
        if self.program_counter() & ~1 != stop:
            raise EmulationError(f"stopped at 0x{self.program_counter():08x} instead of returning")
        self._require_alignment()
        return int(self.engine.reg_read(_ARGUMENTS[isa][0]))

    def _require_alignment(self) -> None:
        found = self._misaligned
        if found is not None and found.count:
            count, address = int(found.count), int(found.first_address)
            found.count = 0
            raise EmulationError(f"{count} misaligned accesses, the first at 0x{address:08x}")

    def argument(self, number: int) -> int:
        """The word in an argument register: at the entry of a function, what it is called with."""
        return int(self.engine.reg_read(_ARGUMENTS[self.target.isa][number]))

    def on_execute(self, address: int, callback: Callable[[], None]) -> None:
        """Call `callback` before each execution of the instruction at `address`."""

        def hook(*_: Any) -> None:
            callback()

        self.engine.hook_add(unicorn_const.UC_HOOK_CODE, hook, begin=address, end=address)

    def program_counter(self) -> int:
        """The address of the current instruction."""
        return int(self.engine.reg_read(_PROGRAM[self.target.isa]))

    def _on_fault(self, engine: Any, access: int, address: int, size: int, *_: Any) -> bool:
        kind = _ACCESSES.get(access, "access to")
        pc = int(engine.reg_read(_PROGRAM[self.target.isa]))
        self._fault = f"{kind} address 0x{address:08x} ({size} bytes) at 0x{pc:08x}"
        return False
