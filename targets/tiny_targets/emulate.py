"""Run a firmware image on its board, from reset on: the calls of the device, counted and watched.

Exactly the board's flash and SRAM exist, and on Arm the one system control page; a stray access is
an `EmulationError` naming the op that made it.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Protocol

import numpy as np

from tiny_dialect.errors import InvalidOption
from tiny_dialect.types import NUMPY_TYPES
from tiny_targets.firmware import Image
from tiny_targets.kernel_bench import KernelRun, run_kernel, run_kernels
from tiny_targets.machine import PAGE, READ, WRITE, EmulationError, Machine
from tiny_targets.program import read_program
from tiny_targets.row_feed import RowFeed
from tiny_targets.schedule import Buffer, Command, Function
from tiny_targets.target import unknown_name

__all__ = ["CallReport", "EmulationError", "Emulator", "KernelRun", "run_kernel", "run_kernels"]

_SYSTEM_CONTROL_PAGE, _CPACR = 0xE000E000, 0xE000ED88
_MOST_MEMORY = 256 << 20


Observer = Callable[[Command, list[np.ndarray]], None]
"""Called after each command with its results."""


@dataclass(frozen=True)
class CallReport:
    """What one call of the firmware executed."""

    function: str
    instructions: int
    per_command: tuple[tuple[Command, int], ...]
    """Instructions from the start of each command to the start of the next."""
    stack_bytes: int
    """High-water mark since reset."""


class Monitor(Protocol):
    """Looks on while an emulator runs, between the commands of a function."""

    def before_command(self, function: Function, number: int) -> None:
        """Command `number` of `function` is about to start; the one before it has ended."""

    def after_call(self, function: Function) -> None:
        """The function has returned; its results have not been read yet."""

    def require_clean(self, function: Function) -> None:
        """Raise `EmulationError` for what the monitor has found since it was last asked."""


class Emulator:
    """A board that runs an image, from reset on.

    Exactly the board's flash and SRAM are mapped (and on Arm the system control page).
    """

    def __init__(self, image: Image, most_instructions: int | None = None) -> None:
        """Load `image` and run its start-up code up to the idle loop.

        A call that has not returned after `most_instructions` is an `EmulationError`. Raises
        `InvalidModel` for a program that is no image.
        """
        self.image = image
        self._program = read_program(image.elf)
        self._starts: list[int] = []
        self._observed: tuple[Function, Observer] | None = None
        self._called: Function | None = None
        self._feed: RowFeed | None = None
        self.monitor: Monitor | None = None
        self.last_call: CallReport | None = None
        self.machine = self._load()
        self.machine.most_instructions = most_instructions
        self._hook_commands()
        self._reset()

    def _load(self) -> Machine:
        board = self.image.board
        regions = list(dict.fromkeys((board.flash, board.constants)))
        mapped = sum(region.size for region in (*regions, *board.sram_regions))
        if mapped > _MOST_MEMORY:
            raise InvalidOption(
                f"has {mapped >> 20} MiB of memory, the emulator maps {_MOST_MEMORY >> 20}",
                board.name,
            )
        contents = self._program.contents(regions)
        flash = board.flash
        machine = Machine(board.target, flash.base, contents[flash], flash.size)
        for region in regions[1:]:
            machine.map(region.base, region.size, READ)
            machine.write(region.base, contents[region])
        for sram in board.sram_regions:
            machine.map(sram.base, sram.size, READ | WRITE)
            # Power-on contents of SRAM are arbitrary: nothing may rely on zeros.
            machine.write(sram.base, bytes([0xC3]) * sram.size)
        if board.target.isa == "arm":
            machine.map(_SYSTEM_CONTROL_PAGE, PAGE, READ | WRITE)
        return machine

    def _hook_commands(self) -> None:
        entry = self._program.address("tiny_run_command") & ~1
        self.machine.on_execute(entry, self._on_command)
        if "device_rows" in self._program.symbols:
            self.machine.on_execute(self._program.symbols["device_rows"] & ~1, self._on_rows)

    def _on_command(self) -> None:
        if self._called is not None and len(self._starts) >= len(self._called.commands):
            raise EmulationError(f"runs more than the {len(self._starts)} ops of its manifest")
        self._observe_last()
        self._starts.append(self.machine.instructions)
        if self.monitor is not None and self._called is not None:
            self.monitor.before_command(self._called, len(self._starts) - 1)

    def _on_rows(self) -> None:
        if self._feed is not None:
            self._feed.on_request()

    def _observe_last(self) -> None:
        """Show the observer what the command that ran last has written."""
        if self._observed and self._starts:
            function, observe = self._observed
            command = function.commands[len(self._starts) - 1]
            observe(command, [self.read_buffer(buffer) for buffer in command.results])

    def _reset(self) -> None:
        """What the hardware does, then the start-up code, then `init`."""
        board = self.image.board
        stop = self._program.address("device_idle") & ~1
        if board.target.isa == "arm":
            stack, entry = self.machine.words(board.flash.base, 2)
            self.machine.call(entry & ~1, (), stack, stop)
        else:
            self.machine.call(self._program.address("device_reset"), (), None, stop)
        if board.target.isa == "arm" and self._fpu_access() != 0xF:
            raise EmulationError("the start-up code left the FPU disabled")

    def _fpu_access(self) -> int:
        return self.machine.words(_CPACR, 1)[0] >> 20 & 0xF

    def init(self) -> None:
        """Put the initial values into the state, as after reset."""
        self._call("device_init")

    def infer(self, x: np.ndarray, observe: Observer | None = None) -> np.ndarray:
        """The logits of one input (int8, any shape of the right size); raises `EmulationError`."""
        function = self._function("infer")
        self._write_input(function, x)
        self._call("device_infer", function=function, observe=observe)
        return self.read_buffer(function.results[0])

    def train_step(
        self, x: np.ndarray, label: int, rate: float, observe: Observer | None = None
    ) -> tuple[float, np.ndarray]:
        """One step on the device; (loss, logits), both before the update."""
        function = self._function("train_step")
        self._write_input(function, x)
        bits = struct.unpack("<I", struct.pack("<f", rate))[0]
        self._call("device_train_step", label, bits, function=function, observe=observe)
        loss, logits = (self.read_buffer(buffer) for buffer in function.results[:2])
        return float(loss), logits

    def read_state(self, symbol: str) -> np.ndarray:
        """A trained parameter, by its symbol, in its storage type."""
        return self.read_buffer(self._state_buffer(symbol))

    def write_state(self, symbol: str, value: np.ndarray) -> None:
        """Replace a trained parameter; raises `InvalidOption` where shape or type differ."""
        buffer = self._state_buffer(symbol)
        expected = np.dtype(NUMPY_TYPES[buffer.element])
        if value.dtype != expected or value.shape != tuple(buffer.shape):
            raise InvalidOption(
                f"expected {expected} {list(buffer.shape)}, got {value.dtype} {list(value.shape)}",
                symbol,
            )
        place = self._base(buffer.space) + buffer.offset
        self.machine.write(place, np.ascontiguousarray(value).tobytes())

    def _state_buffer(self, symbol: str) -> Buffer:
        for buffer in self.image.schedule.state:
            if buffer.name == symbol:
                return buffer
        raise unknown_name("trained parameter", symbol, [b.name for b in self.image.schedule.state])

    def read_buffer(self, buffer: Buffer) -> np.ndarray:
        """What now lies at `buffer`; a mask comes as its packed bytes."""
        data = self.machine.read(self._base(buffer.space) + buffer.offset, buffer.bytes)
        if buffer.element == "i1":
            return np.frombuffer(data, np.uint8).copy()
        return np.frombuffer(data, NUMPY_TYPES[buffer.element]).reshape(buffer.shape).copy()

    @property
    def stack_bytes_used(self) -> int:
        """High-water mark of the stack since reset."""
        bottom, top = (self._program.address(f"__stack_{end}") for end in ("bottom", "top"))
        if not 0 <= top - bottom <= self.image.board.sram_bytes:
            raise EmulationError(f"has its stack from 0x{bottom:08x} to 0x{top:08x}")
        return len(self.machine.read(bottom, top - bottom).lstrip(b"\xa5"))

    def _function(self, name: str) -> Function:
        functions = self.image.schedule.functions
        if name not in functions:
            raise InvalidOption(f"the image has no {name}, only {', '.join(functions)}")
        return functions[name]

    def _base(self, space: int) -> int:
        return self._program.address(("device_arena", "device_state", "tiny_constants")[space])

    def _write_input(self, function: Function, x: np.ndarray) -> None:
        buffer, stream = function.arguments[0], function.stream
        shape = buffer.shape
        if stream:
            shape = (shape[0], stream.rows, *shape[2:])
        if x.dtype != NUMPY_TYPES[buffer.element] or x.size != prod(shape):
            raise InvalidOption(
                f"expects an input of {'x'.join(map(str, shape))} {buffer.element}, "
                f"got {'x'.join(map(str, x.shape))} {x.dtype}"
            )
        if stream:
            self._feed = RowFeed(self.machine, function, stream, x)
            return
        self.machine.write(
            self._base(buffer.space) + buffer.offset, np.ascontiguousarray(x).tobytes()
        )

    def _call(
        self,
        symbol: str,
        *arguments: int,
        function: Function | None = None,
        observe: Observer | None = None,
    ) -> None:
        self._starts.clear()
        self._observed = (function, observe) if function and observe else None
        self._called = function
        before = self.machine.instructions
        stop = self._program.address("device_idle") & ~1
        entry = self._program.address(symbol) & ~1
        try:
            status = self.machine.call(entry, arguments, None, stop)
        except EmulationError as error:
            self._require_clean()
            raise EmulationError(error.message, self._running(function)) from error
        self._require_clean()
        if status:
            raise EmulationError(f"{symbol} returned status {status}", self._running(function))
        if self._feed is not None and function is not None:
            self._feed.require_complete()
        self._feed = None
        self._observe_last()
        self._observed = None
        if self.monitor is not None and function is not None:
            self.monitor.after_call(function)
        commands = function.commands if function else ()
        if len(self._starts) != len(commands):
            raise EmulationError(
                f"ran {len(self._starts)} of the {len(commands)} ops of its manifest", symbol
            )
        costs = [end - start for start, end in pairwise((*self._starts, self.machine.instructions))]
        self.last_call = CallReport(
            symbol.removeprefix("device_"),
            self.machine.instructions - before,
            tuple(zip(commands, costs, strict=True)),
            self.stack_bytes_used,
        )

    def _require_clean(self) -> None:
        if self.monitor is not None and self._called is not None:
            self.monitor.require_clean(self._called)

    def address_of(self, symbol: str) -> int:
        """The address of a symbol of the image; raises `InvalidOption` where there is none."""
        symbols = self._program.symbols
        if symbol not in symbols:
            raise unknown_name("symbol", symbol, symbols)
        return symbols[symbol]

    def _running(self, function: Function | None) -> str:
        """The name of the command that was running."""
        if function is None or not self._starts:
            return ""
        return function.commands[len(self._starts) - 1].name
