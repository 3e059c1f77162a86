"""Follows every path through one function and notes how deep its stack is, and at which calls."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tiny_targets.stack_bound import riscv, thumb
from tiny_targets.stack_bound.code import Code, Routine
from tiny_targets.stack_bound.instruction import Flow, Instruction, Stack, UnknownEffect

_DEEPEST = 1 << 20
"""A path that gets here grows with every turn of a loop."""


@dataclass
class Frame:
    """What a function needs."""

    bytes: int = 0
    """Of its own, at its deepest."""
    calls: dict[int, int] = field(default_factory=dict)
    """By the address of a function that it calls, or jumps to at its end: how deep it is there."""
    indirect: int | None = None
    """How deep it is where it calls through a pointer."""


def frame_of(code: Code, routine: Routine) -> Frame:
    """Raises `UnknownEffect` where an instruction does not say what it does to the stack."""
    walk = _Walk(code, routine)
    walk.follow(routine.start, 0)
    # Where a table says what comes next, that may be all that nothing else leads to.
    while walk.jumps_anywhere is not None and (rest := walk.unseen()) is not None:
        walk.follow(rest, walk.jumps_anywhere)
    return walk.frame


class _Walk:
    def __init__(self, code: Code, routine: Routine) -> None:
        self._code, self._routine = code, routine
        self._bytes = code.bytes_of(routine)
        self._decode: Callable[[bytes, int, int], Instruction] = (
            thumb.decode if code.is_arm else riscv.decode
        )
        self._depths: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._frame_pointer: int | None = None
        self._conditional: set[int] = set()
        self._pending: list[tuple[int, int]] = []
        self.frame = Frame()
        self.jumps_anywhere: int | None = None

    def follow(self, address: int, depth: int) -> None:
        """All paths that begin at `address` with so many bytes on the stack."""
        self._pending.append((address, depth))
        while self._pending:
            address, depth = self._pending.pop()
            if depth > self._depths.get(address, -1):
                self._depths[address] = depth
                self._step(address, depth)

    def unseen(self) -> int | None:
        """The first instruction that no path has led to."""
        place = self._routine.start
        while place < self._routine.end:
            if place in self._sizes:
                place += self._sizes[place]
            elif self._code.is_data(place):
                place += 2
            else:
                return place
        return None

    def _step(self, address: int, depth: int) -> None:
        if self._code.is_data(address) or address >= self._routine.end:
            raise UnknownEffect(f"runs into what is no code of it at 0x{address:08x}")
        try:
            found = self._decode(self._bytes, address - self._routine.start, address)
        except UnknownEffect as error:
            raise UnknownEffect(f"{error} at 0x{address:08x}") from error
        self._sizes[address] = found.size
        following = address + found.size
        if found.conditional:
            self._mark(following, found.conditional)
        after = self._moved(found, depth)
        if not 0 <= after < _DEEPEST:
            raise UnknownEffect(f"has {after} bytes on its stack at 0x{address:08x}")
        self.frame.bytes = max(self.frame.bytes, after)
        is_conditional = address in self._conditional
        if is_conditional and after != depth and found.flow is not Flow.RETURN:
            raise UnknownEffect(f"moves its stack under a condition at 0x{address:08x}")
        self._go(found, address, following, after)
        if is_conditional:
            self._pending.append((following, depth))

    def _mark(self, address: int, count: int) -> None:
        for _ in range(count):
            self._conditional.add(address)
            place = address - self._routine.start
            address += self._decode(self._bytes, place, address).size

    def _moved(self, found: Instruction, depth: int) -> int:
        """How deep the stack is behind an instruction."""
        match found.stack:
            case Stack.MOVE:
                return depth + found.amount
            case Stack.ALIGN:
                # sp is a multiple of four whatever happens.
                return depth + found.amount - 4
            case Stack.FRAME:
                frame = depth - found.amount
                self._frame_pointer = max(frame, self._frame_pointer or frame)
                return depth
            case Stack.RESTORE:
                if self._frame_pointer is None:
                    raise UnknownEffect("restores a frame pointer that it has not set")
                return self._frame_pointer + found.amount

    def _go(self, found: Instruction, address: int, following: int, depth: int) -> None:
        """Where control goes from an instruction, with `depth` bytes on the stack behind it."""
        match found.flow:
            case Flow.NEXT:
                self._pending.append((following, depth))
            case Flow.BRANCH:
                self._pending.append((following, depth))
                self._jump(found.target, address, depth)
            case Flow.JUMP:
                self._jump(found.target, address, depth)
            case Flow.CALL:
                self._call(found.target, depth)
                if following < self._routine.end:
                    self._pending.append((following, depth))
            case Flow.LEAVE:
                self._call(None, depth)
            case Flow.RETURN if depth:
                raise UnknownEffect(f"returns with {depth} bytes on its stack at 0x{address:08x}")
            case Flow.RETURN | Flow.STOP:
                pass

    def _jump(self, target: int | None, address: int, depth: int) -> None:
        if target is None:
            if depth == 0 and not self._code.is_arm:
                # A pointer that is called last, or a table: both are possible.
                self.frame.indirect = max(depth, self.frame.indirect or 0)
            self.jumps_anywhere = max(depth, self.jumps_anywhere or 0)
        elif self._routine.start <= target < self._routine.end:
            self._pending.append((target, depth))
        elif target in self._code.routines:
            self._call(target, depth)
        else:
            raise UnknownEffect(f"jumps from 0x{address:08x} to no function")

    def _call(self, target: int | None, depth: int) -> None:
        if target is None:
            self.frame.indirect = max(depth, self.frame.indirect or 0)
        else:
            self.frame.calls[target] = max(depth, self.frame.calls.get(target, 0))
