"""Run single kernels in the emulator on given arrays: the bench on which kernels are tested.

Each array lies at the end of memory of its own, between unmapped pages, so an access past its last
word is an error, and so is a write to an array that is only read, or before the start of one. Views
of one flat uint8 array share its memory, so that overlapping arguments can be tested.
"""

import io
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from elftools.elf.elffile import ELFFile

from tiny_targets.codegen import QUERY_SYMBOL, CompiledKernels, compile_kernels
from tiny_targets.embedded import resolve
from tiny_targets.kernels.kernel import Kernel
from tiny_targets.machine import PAGE, READ, WRITE, EmulationError, Machine
from tiny_targets.target import Target
from tiny_targets.toolchain import link

_CODE_BASE = 0x08000000
_STACK_BASE, _STACK_BYTES = 0x20000000, 4 * PAGE
_DISPATCH_BASE = 0x20010000
_ARRAYS_BASE = 0x20100000
_CANARY = 0xA5
_VERSION = 6
"""Of IREE's executable library interface."""
_SCRIPT = """SECTIONS {
  . = 0x08000000;
  .text : { *(.text .text.*) *(.rodata .rodata.*) *(.data.rel.ro .data.rel.ro.*) }
  .data : { *(.data .data.*) *(.bss .bss.*) }
  /DISCARD/ : { *(.ARM.exidx*) *(.eh_frame*) *(.comment) }
}
"""


class KernelRun(NamedTuple):
    """What one kernel did."""

    arrays: list[np.ndarray]
    """All arguments after the call."""
    instructions: int
    stack_bytes: int


def run_kernel(
    kernel: Kernel, arrays: Sequence[np.ndarray], target: Target
) -> tuple[list[np.ndarray], int]:
    """(all arrays after the call, executed instructions) of one kernel, see `run_kernels`."""
    run = run_kernels([(kernel, arrays)], target)[0]
    return run.arrays, run.instructions


def run_kernels(
    calls: Sequence[tuple[Kernel, Sequence[np.ndarray]]], target: Target, *, embedded: bool = False
) -> list[KernelRun]:
    """Run each kernel on its arrays in the emulator; all are compiled in one executable.

    With `embedded` the embedded ELF runs in place of the linked static object. Raises
    `EmulationError` naming the kernel for any stray access, `CodegenError` where one does not
    compile.
    """
    compiled = compile_kernels([kernel for kernel, _ in calls], target, embedded=embedded)
    runs = []
    machine, query = _load(compiled)
    functions = _exports(machine, query, len(compiled.ordinals))
    for kernel, arrays in calls:
        try:
            runs.append(
                _run_one(machine, functions[compiled.ordinals[kernel.name]], kernel, arrays)
            )
        except EmulationError as error:
            raise EmulationError(error.message, kernel.name) from error
    return runs


def _load(compiled: CompiledKernels) -> tuple[Machine, int]:
    """(a machine with the code and a stack, the address of the library's query function)."""
    code, query = _linked(compiled)
    machine = Machine(compiled.target, _CODE_BASE, code, _pages(len(code) + 16))
    machine.map(_STACK_BASE, _STACK_BYTES, READ | WRITE)
    machine.map(_DISPATCH_BASE, PAGE, READ | WRITE)
    machine.enable_fpu()
    if compiled.target.isa == "riscv":
        # Many RV32 cores trap on what the emulator lets pass; Armv7E-M serves single words.
        machine.watch_alignment()
    return machine, query


def _linked(compiled: CompiledKernels) -> tuple[bytes, int]:
    """(code at `_CODE_BASE`, the address of the library's query function)."""
    if compiled.embedded_elf is not None:
        resolved = resolve(compiled.embedded_elf, _CODE_BASE)
        return resolved.data, resolved.query
    elf = link(compiled.target, {"kernels.o": compiled.object_file}, _SCRIPT, QUERY_SYMBOL)
    file = ELFFile(io.BytesIO(elf))
    segments = [s for s in file.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
    code = bytearray(
        max(segment["p_vaddr"] + segment["p_memsz"] for segment in segments) - _CODE_BASE
    )
    for segment in segments:
        start = segment["p_vaddr"] - _CODE_BASE
        code[start : start + segment["p_filesz"]] = segment.data()
    table: Any = file.get_section_by_name(".symtab")
    return bytes(code), table.get_symbol_by_name(QUERY_SYMBOL)[0]["st_value"] & ~1


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _exports(machine: Machine, query: int, count: int) -> list[int]:
    """Addresses of the library's exports, in ordinal order; asserts the interface's version."""
    stop = machine.code_base + machine.code_size - 4
    library = machine.call(query, (_VERSION, _DISPATCH_BASE), _STACK_BASE + _STACK_BYTES, stop)
    header, imports, _, exports, pointers = machine.words(library, 5)
    version, *_ = machine.words(header, 1)
    if (version, imports, exports) != (_VERSION, 0, count):
        raise EmulationError(
            f"kernel library has version {version}, {imports} imports, {exports} exports"
        )
    return [address & ~1 for address in machine.words(pointers, count)]


def _memory_of(array: np.ndarray) -> np.ndarray:
    """The memory that `array` lies in: the flat uint8 array that it is a view of, or itself."""
    base = array.base
    flat = isinstance(base, np.ndarray) and base.ndim == 1 and base.dtype == np.uint8
    return base if flat and isinstance(base, np.ndarray) else array


def _start_in(memory: np.ndarray, array: np.ndarray) -> int:
    return array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]


def _place(
    machine: Machine, kernel: Kernel, arrays: Sequence[np.ndarray]
) -> dict[int, tuple[int, int, int]]:
    """(first page, bytes of pages, address) of each piece of memory, by its id."""
    placed: dict[int, tuple[int, int, int]] = {}
    base = _ARRAYS_BASE
    writable = {
        id(_memory_of(a))
        for a, access in zip(arrays, kernel.accesses, strict=True)
        if access != "read"
    }
    for memory in map(_memory_of, arrays):
        if id(memory) in placed:  # an operand and a result in one place
            continue
        size = -(-memory.nbytes // 4) * 4
        pages = _pages(max(size, 1))
        machine.map(base, pages, READ | WRITE if id(memory) in writable else READ)
        address = base + pages - size
        machine.write(base, bytes([_CANARY]) * (pages - size) + memory.tobytes())
        placed[id(memory)] = (base, pages, address)
        base += pages + PAGE
    return placed


def _run_one(
    machine: Machine, function: int, kernel: Kernel, arrays: Sequence[np.ndarray]
) -> KernelRun:
    placed = _place(machine, kernel, arrays)
    machine.write(_STACK_BASE, bytes([_CANARY]) * _STACK_BYTES)
    memories = [_memory_of(array) for array in arrays]
    addresses = [
        placed[id(memory)][2] + _start_in(memory, array)
        for memory, array in zip(memories, arrays, strict=True)
    ]
    state = _dispatch_state(machine, addresses)
    before = machine.instructions
    stop = machine.code_base + machine.code_size - 4
    try:
        status = machine.call(function, (_DISPATCH_BASE, *state), _STACK_BASE + _STACK_BYTES, stop)
        if status:
            raise EmulationError(f"returned status {status}")
        after = [
            np.frombuffer(machine.read(address, array.nbytes), array.dtype)
            .reshape(array.shape)
            .copy()
            for array, address in zip(arrays, addresses, strict=True)
        ]
        for base, _, address in placed.values():
            if machine.read(base, address - base).strip(bytes([_CANARY])):
                raise EmulationError("wrote before the start of an array")
    finally:
        for base, pages, _ in placed.values():
            machine.engine.mem_unmap(base, pages)
    stack = machine.read(_STACK_BASE, _STACK_BYTES).lstrip(bytes([_CANARY]))
    return KernelRun(after, machine.instructions - before, len(stack))


def _dispatch_state(machine: Machine, addresses: Sequence[int]) -> tuple[int, int]:
    """Addresses of the dispatch state and the workgroup state, as version 6 lays them out."""
    environment, bindings = _DISPATCH_BASE, _DISPATCH_BASE + 96
    lengths = bindings + 4 * len(addresses)
    state = -(-(lengths + 4 * len(addresses)) // 16) * 16
    group = state + 48
    machine.write(environment, bytes(96))
    machine.write(bindings, struct.pack(f"<{len(addresses)}I", *addresses))
    machine.write(lengths, struct.pack(f"<{len(addresses)}I", *[0xFFFFFFFF] * len(addresses)))
    layout = struct.pack(
        "<IIHHIIHBBIII", 1, 1, 1, 0, 1, 1, 1, 1, len(addresses), 0, bindings, lengths
    )
    machine.write(state, layout)
    machine.write(group, bytes(32))
    return state, group
