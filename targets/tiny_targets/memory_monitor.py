"""Poison and access modes: an emulated image held against the lifetimes of its planned module.

What each op may touch, and which bytes are dead when it starts, comes from the planned ops
(`tiny_passes.arena_contents`), not from the schedule that the image was built from; only the sizes
of constants are the schedule's. In poison mode every dead byte of arena and state is garbage before
each op. In access mode an op may load its operands and constants, and load and store its results,
its scratch memory, the parameter that it updates and the stack; all other SRAM and all other
constants are out of bounds, and so is a row of an operand that it has already overwritten.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tiny_dialect.errors import InvalidModel
from tiny_passes.arena_contents import (
    ARENA,
    STATE,
    FunctionMemory,
    OpMemory,
    Place,
    function_memory,
    gaps,
)
from tiny_targets.access_watch import (
    OPERAND,
    OWN,
    READ_IN_ORDER,
    AccessWatch,
    StrayAccess,
    Window,
)
from tiny_targets.emulate import Emulator
from tiny_targets.machine import EmulationError
from tiny_targets.schedule import CONSTANTS, Function

_SYMBOLS = {ARENA: "device_arena", STATE: "device_state"}
_SEED = 20230217


class MemoryMonitor:
    """Watches the calls of one emulator; attached by being made."""

    def __init__(
        self, emulator: Emulator, functions: Mapping[str, Any], *, poison: bool, access: bool
    ) -> None:
        """`functions` are those of the planned module that the image was built from, by name.

        With neither mode only the digests are taken. Raises `InvalidModel` where the module is not
        that of the image.
        """
        self.emulator = emulator
        schedule = emulator.image.schedule
        self._memory: dict[str, FunctionMemory] = {}
        for name, function in schedule.functions.items():
            memory = function_memory(functions[name])
            if len(memory.ops) != len(function.commands) + 1:
                raise InvalidModel(f"@{name} is not the function that the image was built from")
            self._memory[name] = memory
        # What one function never reads, another may: all of it stays alive between calls.
        self._state = sorted(
            kept
            for function in functions.values()
            if not function.is_external
            for kept in function_memory(function).state
        )
        self._bases = {name: emulator.address_of(symbol) for name, symbol in _SYMBOLS.items()}
        self._garbage = _Garbage(schedule.arena_bytes + schedule.state_bytes) if poison else None
        self._watch = self._make_watch() if access else None
        self._returns: set[int] = set()
        self._running: OpMemory | None = None
        self._stray: tuple[OpMemory, StrayAccess] | None = None
        self.digests: list[tuple[str, bytes]] = []
        """Of the last call: each op's name with a digest of what it wrote, scratch aside."""
        self.poisoned_bytes = 0
        """Dead bytes that have been overwritten so far."""
        emulator.monitor = self

    @property
    def watched_accesses(self) -> int:
        """Loads and stores that were held against the permissions so far."""
        return self._watch.accesses if self._watch else 0

    def before_command(self, function: Function, number: int) -> None:
        """Overwrite what is dead at command `number` and let it touch its own buffers alone."""
        self._end_command()
        if number == 0:
            self.digests.clear()
        memory = self._memory[function.name]
        self._running = memory.ops[number]
        self._poison(memory, self._running)
        if self._watch is not None:
            address = self.emulator.machine.return_address()
            if address not in self._returns:
                self._returns.add(address)
                self.emulator.machine.on_execute(address, self._close)
            self._watch.open(self._windows(function, number))

    def after_call(self, function: Function) -> None:
        """Overwrite all but the results, which are read next."""
        self._end_command()
        memory = self._memory[function.name]
        self._poison(memory, memory.ops[-1])

    def require_clean(self, function: Function) -> None:
        """Raise `EmulationError` at the first access that strayed."""
        self._close()
        if self._stray is None:
            return
        (op, stray), self._stray = self._stray, None
        verb = "write" if stray.is_write else "read"
        more = f", the first of {stray.count}" if stray.count > 1 else ""
        raise EmulationError(
            f"stray {verb} of {stray.size} bytes at 0x{stray.address:08x}, "
            f"{self._describe(op, stray)}{more}",
            op.name,
        )

    def _end_command(self) -> None:
        """Take the digest of the command that ran last."""
        self._close()
        if self._running is None:
            return
        written = [place for place in self._running.writes if place.what != "scratch"]
        digest = hashlib.sha256()
        for place in written:
            digest.update(self._read(place))
        self.digests.append((self._running.name, digest.digest()))
        self._running = None

    def _close(self) -> None:
        """No command runs any more; keep what it did wrong, if it is the first."""
        if self._watch is None:
            return
        self._watch.close()
        stray = self._watch.take()
        if stray is not None and self._stray is None and self._running is not None:
            self._stray = (self._running, stray)

    def _read(self, place: Place) -> bytes:
        base = self._bases[place.region]
        return self.emulator.machine.read(base + place.start, place.end - place.start)

    def _poison(self, memory: FunctionMemory, op: OpMemory) -> None:
        if self._garbage is None:
            return
        schedule = self.emulator.image.schedule
        dead = {
            ARENA: gaps(op.live, schedule.arena_bytes),
            STATE: gaps(self._state, schedule.state_bytes),
        }
        for region, ranges in dead.items():
            for start, end in ranges:
                data = self._garbage.take(end - start)
                self.emulator.machine.write(self._bases[region] + start, data)
                self.poisoned_bytes += end - start

    def _make_watch(self) -> AccessWatch:
        board = self.emulator.image.board
        regions = [(region.base, region.size) for region in board.sram_regions]
        constants = self.emulator.address_of("tiny_constants")
        regions.append((constants, self.emulator.image.sizes.weights))
        return AccessWatch(self.emulator.machine, regions)

    def _windows(self, function: Function, number: int) -> list[Window]:
        op, command = self._memory[function.name].ops[number], function.commands[number]
        permissions = OPERAND | READ_IN_ORDER if op.reads_in_order else OPERAND
        windows = [self._window(place, permissions) for place in op.reads]
        windows += [self._window(place, OWN) for place in op.writes]
        constants = [offset for space, offset in command.bindings if space == CONSTANTS]
        base = self.emulator.address_of("tiny_constants")
        for offset, size in zip(constants, command.constant_bytes, strict=True):
            windows.append(Window(base + offset, base + offset + size, OPERAND))
        address = self.emulator.address_of
        windows.append(Window(address("__stack_bottom"), address("__stack_top"), OWN))
        # The runtime reads the model's context while it binds a command's buffers.
        windows.append(Window(address("__data_start"), address("__bss_end"), OPERAND))
        return windows

    def _window(self, place: Place, permissions: int) -> Window:
        base = self._bases[place.region]
        return Window(base + place.start, base + place.end, permissions)

    def _describe(self, op: OpMemory, stray: StrayAccess) -> str:
        """`arena+640, 4 bytes past operand 1 of [512, 636)`."""
        schedule = self.emulator.image.schedule
        sizes = {ARENA: schedule.arena_bytes, STATE: schedule.state_bytes}
        for region, size in sizes.items():
            offset = stray.address - self._bases[region]
            if 0 <= offset < size:
                return f"{region}+{offset}, {_nearest(op, region, offset, stray)}"
        constants = stray.address - self.emulator.address_of("tiny_constants")
        if 0 <= constants < self.emulator.image.sizes.weights:
            return f"constants+{constants}, no constant of this op"
        return "outside arena, state and stack"


def _nearest(op: OpMemory, region: str, offset: int, stray: StrayAccess) -> str:
    """Where `offset` lies relative to the closest buffer that the op declares in `region`."""
    places = [place for place in (*op.reads, *op.writes) if place.region == region]
    if not places:
        return f"and the op declares nothing in the {region}"

    def distance(place: Place) -> int:
        return max(place.start - offset, offset - place.end + 1, 0)

    place = min(places, key=distance)
    where = f"{place.what} at [{place.start}, {place.end})"
    if place.start <= offset < place.end:
        problem = "which it only reads" if stray.is_write else "which it has overwritten"
        return f"in {where}, {problem}"
    beyond = "past the end" if offset >= place.end else "before the start"
    return f"{distance(place)} bytes {beyond} of {where}"


class _Garbage:
    """Bytes that differ from one op to the next, from a fixed seed."""

    def __init__(self, size: int) -> None:
        self._bytes = np.random.default_rng(_SEED).integers(0, 256, 2 * size + 4096, np.uint8)
        self._start = 0

    def take(self, size: int) -> bytes:
        """`size` bytes."""
        self._start = (self._start + 1237) % (len(self._bytes) - size)
        return self._bytes[self._start : self._start + size].tobytes()
