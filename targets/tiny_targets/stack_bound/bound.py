"""The most stack that each entry point of an image can use: frames along the call graph.

The graph is that of the linked code. Only the runtime calls through pointers: the library's query,
the kernels, the source of rows. There is no recursion; were there any, or another pointer, that is
an error. Interrupts of the user's own come on top.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tiny_dialect.errors import InvalidModel
from tiny_targets.stack_bound.code import Code, Routine
from tiny_targets.stack_bound.instruction import UnknownEffect
from tiny_targets.stack_bound.walk import Frame, frame_of


@dataclass(frozen=True)
class StackBound:
    """A number of bytes that is never exceeded, and the calls that would need it."""

    bytes: int
    chain: tuple[str, ...]
    """The functions on the deepest path, the entry point first."""


def stack_bound(
    elf: bytes,
    entries: Sequence[str],
    pointers: Mapping[str, Sequence[str]],
    below: Sequence[str] = (),
) -> dict[str, StackBound]:
    """The bound of each of `entries`, by name.

    `pointers` says which functions a function may call through a pointer. `below` are functions of
    which each calls the next, and the last never returns: their frames lie below every entry.
    Raises `InvalidModel` at the function whose stack cannot be bounded.
    """
    graph = _Graph(Code(elf), pointers)
    base = sum(graph.depth_at_call(caller, callee) for caller, callee in pairwise(below))
    if below:
        base += graph.frame(graph.routine(below[-1])).bytes
    found = {name: graph.bound(graph.routine(name)) for name in entries}
    return {name: StackBound(base + one.bytes, one.chain) for name, one in found.items()}


class _Graph:
    def __init__(self, code: Code, pointers: Mapping[str, Sequence[str]]) -> None:
        self._code, self._pointers = code, pointers
        self._frames: dict[int, Frame] = {}
        self._bounds: dict[int, StackBound] = {}
        self._path: list[Routine] = []

    def routine(self, name: str) -> Routine:
        """A function that must be there."""
        found = self._code.named(name)
        if found is None:
            raise InvalidModel("the image has no such function to bound the stack of", name)
        return found

    def frame(self, routine: Routine) -> Frame:
        """The frame of one function."""
        if routine.start not in self._frames:
            try:
                self._frames[routine.start] = frame_of(self._code, routine)
            except UnknownEffect as error:
                raise InvalidModel(f"its stack cannot be bounded: {error}", routine.name) from error
        return self._frames[routine.start]

    def depth_at_call(self, caller: str, callee: str) -> int:
        """How deep `caller` is where it calls `callee`."""
        target = self.routine(callee).start
        calls = self.frame(self.routine(caller)).calls
        if target not in calls:
            raise InvalidModel(f"does not call {callee}", caller)
        return calls[target]

    def bound(self, routine: Routine) -> StackBound:
        """The frame of a function with the deepest of what it calls."""
        if routine.start in self._bounds:
            return self._bounds[routine.start]
        if routine in self._path:
            raise InvalidModel("its stack cannot be bounded: it calls itself", routine.name)
        self._path.append(routine)
        frame = self.frame(routine)
        best = StackBound(frame.bytes, (routine.name,))
        for callee, depth in self._calls(routine, frame):
            inner = self.bound(callee)
            if depth + inner.bytes > best.bytes:
                best = StackBound(depth + inner.bytes, (routine.name, *inner.chain))
        self._path.pop()
        self._bounds[routine.start] = best
        return best

    def _calls(self, routine: Routine, frame: Frame) -> list[tuple[Routine, int]]:
        """(function, how deep the caller is there), pointers included."""
        found = []
        for target, depth in frame.calls.items():
            if target not in self._code.routines:
                raise InvalidModel(f"calls 0x{target:08x}, where no function is", routine.name)
            found.append((self._code.routines[target], depth))
        if frame.indirect is not None:
            if routine.name not in self._pointers:
                raise InvalidModel(
                    "its stack cannot be bounded: it calls through a pointer", routine.name
                )
            names = self._pointers[routine.name]
            found += [(self.routine(name), frame.indirect) for name in names]
        return found
