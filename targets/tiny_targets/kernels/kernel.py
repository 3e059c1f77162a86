"""The interface between kernels and code generation: a loop nest, its constants, a call of it.

A kernel is upstream MLIR over static memrefs and knows nothing of IREE; a call ties the kernel's
arguments to values of the planned function, to tables in flash, or to the op's scratch memory.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Kernel:
    """One loop nest over static memrefs, in upstream MLIR."""

    name: str
    """`conv2d_<12 hex of the content>`; unique by content."""
    text: str
    """One `func.func @<name>(%arg0: memref<...>, ...)` without results; dialects func, scf, memref,
    vector, arith, math, llvm."""
    accesses: tuple[str, ...]
    """Per argument: `read`, `write` or `read_write`; `step` for the number of the step."""
    steps: int = 1
    """How often it is dispatched, one step after the other."""


@dataclass(frozen=True, eq=False)
class Table:
    """A constant operand in flash."""

    array: np.ndarray
    """C-contiguous."""


@dataclass(frozen=True)
class Scratch:
    """The op's scratch memory in the arena, from `offset` bytes on."""

    offset: int = 0


@dataclass(frozen=True)
class Step:
    """The number of the step, an `index` from 0 on; it takes no memory."""


@dataclass(frozen=True)
class KernelCall:
    """One dispatch: a kernel and what its arguments are bound to."""

    kernel: Kernel
    arguments: tuple[Any, ...]
    """Per kernel argument: an operand or result of the op (`ir.Value`), or one of the above."""
