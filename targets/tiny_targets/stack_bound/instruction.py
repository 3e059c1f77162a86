"""What the stack analysis knows of an instruction: its size, what it does to sp, where it goes.

A decoder must recognise every instruction that can write the stack pointer. One whose effect is not
in the instruction itself is an `UnknownEffect`, never a guess.
"""

from dataclasses import dataclass
from enum import Enum, auto


class Flow(Enum):
    """Where control goes."""

    NEXT = auto()
    BRANCH = auto()
    """To the target or on."""
    JUMP = auto()
    CALL = auto()
    LEAVE = auto()
    """To another function, which a pointer says, for good."""
    RETURN = auto()
    STOP = auto()


class Stack(Enum):
    """What happens to the stack; `amount` says how much."""

    MOVE = auto()
    """It grows by `amount` bytes (shrinks where that is negative)."""
    FRAME = auto()
    """The frame pointer is set to sp + `amount`."""
    RESTORE = auto()
    """sp is set to the frame pointer - `amount`."""
    ALIGN = auto()
    """sp is rounded down to a multiple of `amount`."""


class UnknownEffect(Exception):
    """An instruction that writes the stack pointer in a way that its bytes do not tell."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, or a few that belong together."""

    size: int
    stack: Stack = Stack.MOVE
    amount: int = 0
    flow: Flow = Flow.NEXT
    target: int | None = None
    """Of a branch, jump or call; None where a register says it."""
    conditional: int = 0
    """How many of the following instructions run only under a condition (an IT block)."""


def signed(value: int, bits: int) -> int:
    """`value` of so many bits as two's complement."""
    return value - (1 << bits) if value >> (bits - 1) & 1 else value
