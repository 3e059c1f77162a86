"""Which part of SRAM holds what, on boards whose SRAM is in several pieces.

Three things want a place: the stack with what programs keep in `.data` and `.bss`, the trained
state, and the arena; each must lie in one piece. On a board with one region there is no choice. Of
the assignments that fit the one that uses the fewest regions is taken, the first regions first.
"""

from dataclasses import dataclass
from itertools import product

from tiny_targets.boards import Board

PROGRAM, STATE, ARENA = "program", "state", "arena"


@dataclass(frozen=True)
class SramLayout:
    """For each region of the board, the things that it holds, from the bottom up."""

    regions: tuple[tuple[str, ...], ...]


def choose_layout(board: Board, sizes: dict[str, int]) -> SramLayout | None:
    """The layout for `sizes` in bytes of `program`, `state` and `arena`; None where none fits."""
    rooms = [region.size for region in board.sram_regions]
    # The stack is always lowest in its region, where an overflow faults.
    things = [name for name in (PROGRAM, STATE, ARENA) if name in sizes]
    best: tuple[int, tuple[int, ...]] | None = None
    for choice in product(range(len(rooms)), repeat=len(things)):
        used = [0] * len(rooms)
        for name, region in zip(things, choice, strict=True):
            used[region] += sizes[name]
        fits = all(taken <= room for taken, room in zip(used, rooms, strict=True))
        if fits and (best is None or (len(set(choice)), choice) < best):
            best = len(set(choice)), choice
    if best is None:
        return None
    held = [
        tuple(name for name, at in zip(things, best[1], strict=True) if at == region)
        for region in range(len(rooms))
    ]
    return SramLayout(tuple(held))


def single_region(board: Board) -> SramLayout:
    """All in the first region, whatever its size."""
    rest: tuple[tuple[str, ...], ...] = ((),) * (len(board.sram_regions) - 1)
    return SramLayout(((PROGRAM, STATE, ARENA), *rest))


def sram_sections(board: Board, layout: SramLayout, stack_bytes: int) -> str:
    """The part of a linker script that places the sections in SRAM."""
    blocks = []
    for region, held in zip(board.sram_regions, layout.regions, strict=True):
        parts = [_SECTIONS[name] for name in held if name != PROGRAM]
        if PROGRAM in held:
            parts = [_STACK.format(stack_bytes=stack_bytes), *parts, _DATA]
        if parts:
            blocks.append(f"  . = 0x{region.base:08X};\n" + "".join(parts))
    return "".join(blocks)


_STACK = "  .stack (NOLOAD) : {{ __stack_bottom = .; . = . + {stack_bytes}; __stack_top = .; }}\n"
_SECTIONS = {
    STATE: "  .state (NOLOAD) : { *(.state) }\n",
    ARENA: "  .arena (NOLOAD) : { *(.arena) }\n",
}
_DATA = """\
  .persistent (NOLOAD) : { *(.persistent) }
  . = ALIGN(4);
  __data_start = .;
  .data : AT(__data_load) { *(.data .data.*) *(.sdata .sdata.*) . = ALIGN(4); }
  __data_end = .;
  __bss_start = .;
  .bss (NOLOAD) : { *(.bss .bss.*) *(.sbss .sbss.*) *(COMMON) . = ALIGN(4); }
  __bss_end = .;
"""
