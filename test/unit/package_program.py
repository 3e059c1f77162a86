"""Programs around a package: built with zig alone, and run on an emulated board from reset on."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from tiny_targets.boards import Board, find_board
from tiny_targets.firmware import entry_point, linker_script
from tiny_targets.machine import PAGE, READ, WRITE, Machine
from tiny_targets.target import Target
from tiny_targets.toolchain import compile_object, link

_SYSTEM_CONTROL_PAGE = 0xE000E000
GARBAGE = 0xC3


def archive_members(data: bytes) -> dict[str, bytes]:
    """The objects of a static library in GNU format, by name."""
    assert data.startswith(b"!<arch>\n")
    members, long_names, place = {}, b"", 8
    while place < len(data):
        name = data[place : place + 16].rstrip()
        size = int(data[place + 48 : place + 58])
        content = data[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
        if name == b"//":
            long_names = content
        elif name != b"/":
            if name[:1] == b"/":
                name = long_names[int(name[1:]) :].split(b"\n")[0]
            members[name.rstrip(b"/").decode()] = content
    return members


def headers_of(package: Path) -> dict[str, bytes]:
    """Every header of the package, by file name."""
    return {path.name: path.read_bytes() for path in package.rglob("*.h")}


def library_objects(package: Path, target: Target, suffix: str = ".c") -> dict[str, bytes]:
    """The objects of the package's own sources, as C99 or as C++17, and its kernels."""
    headers = headers_of(package)
    sources = sorted(package.glob("src/*.c"))
    objects = {
        f"{path.stem}.o": compile_object(target, path.read_text(), suffix, headers)
        for path in sources
    }
    (library,) = package.glob(f"src/{target.name}/*.a")
    return {**objects, **archive_members(library.read_bytes())}


def build(
    package: Path, board_name: str, source: str, suffix: str = ".c", other: Path | None = None
) -> bytes:
    """The image of a program with a `main` that uses the package and its golden vectors.

    With an `other` package it may use that one too; the runtime, the same in both, is linked once.
    """
    board = find_board(board_name)
    headers = headers_of(package) | (headers_of(other) if other else {})
    bare = package / "examples" / "bare_metal"
    (golden,) = package.glob("golden/*.c")
    texts = {
        "entry.o": (bare / "entry.c").read_text(),
        "start.o": (bare / "start.c").read_text(),
        "golden.o": golden.read_text(),
    }
    objects = {
        "main.o": compile_object(board.target, source, ".c", headers),
        **{name: compile_object(board.target, text, ".c", headers) for name, text in texts.items()},
        **library_objects(package, board.target, suffix),
        **(library_objects(other, board.target, suffix) if other else {}),
    }
    return link(board.target, objects, linker_script(board, 2048), entry_point(board))


class Program:
    """A board with an image in its flash; every start finds garbage in SRAM, and `kept`."""

    def __init__(self, elf: bytes, board: str) -> None:
        self.board: Board = find_board(board)
        self._file = ELFFile(io.BytesIO(elf))
        table: Any = self._file.get_section_by_name(".symtab")
        self.symbols = {s.name: s for s in table.iter_symbols()}
        self.machine = self._load()

    def _load(self) -> Machine:
        board = self.board
        contents = {region: bytearray() for region in (board.flash, board.constants)}
        for segment in self._file.iter_segments():
            if segment["p_type"] != "PT_LOAD" or not segment["p_filesz"]:
                continue
            address, data = segment["p_paddr"], segment.data()
            region = next(region for region in contents if region.base <= address < region.end)
            start = address - region.base
            content = contents[region]
            content.extend(bytes(max(0, start + len(data) - len(content))))
            content[start : start + len(data)] = data
        flash = board.flash
        machine = Machine(board.target, flash.base, bytes(contents[flash]), flash.size)
        if board.constants != flash:
            machine.map(board.constants.base, board.constants.size, READ)
            machine.write(board.constants.base, bytes(contents[board.constants]))
        machine.map(board.sram.base, board.sram.size, READ | WRITE)
        machine.write(board.sram.base, bytes([GARBAGE]) * board.sram.size)
        if board.target.isa == "arm":
            machine.map(_SYSTEM_CONTROL_PAGE, PAGE, READ | WRITE)
        return machine

    def run(self, kept: Mapping[str, bytes] | None = None) -> int:
        """From reset to the end of `main`, with some symbols' memory as given; what it returned."""
        for symbol, data in (kept or {}).items():
            self.machine.write(self.address(symbol), data)
        machine, stop = self.machine, self.address("example_done")
        if self.board.target.isa == "arm":
            stack, entry = machine.words(self.board.flash.base, 2)
            machine.call(entry & ~1, (), stack, stop)
        else:
            machine.call(self.address("device_reset"), (), None, stop)
        return int.from_bytes(self.read("example_result"), "little", signed=True)

    def read(self, symbol: str) -> bytes:
        """The memory of a variable."""
        return self.machine.read(self.address(symbol), self.symbols[symbol]["st_size"])

    def address(self, symbol: str) -> int:
        """Where a function or variable lies."""
        return self.symbols[symbol]["st_value"] & ~1
