"""Reads a linked program: its symbols, and what is loaded where. It may be damaged."""

import io
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from tiny_dialect.errors import InvalidModel
from tiny_targets.boards import Region
from tiny_targets.firmware import ELF_FILE

# All that the library and the uses below raise for headers, tables and names that make no sense.
_UNREADABLE = (
    *(ELFError, ConstructError, struct.error, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, OverflowError, MemoryError, ZeroDivisionError, RecursionError),
)


@dataclass(frozen=True)
class Program:
    """A linked program."""

    symbols: dict[str, int]
    segments: tuple[tuple[int, bytes], ...]
    """(physical address, contents) of all that is loaded."""

    def address(self, symbol: str) -> int:
        """The address of a symbol that every image has; raises `InvalidModel`."""
        if symbol not in self.symbols:
            raise InvalidModel(f"has no symbol {symbol}; it is no image of tiny-compile", ELF_FILE)
        return self.symbols[symbol]

    def contents(self, regions: Iterable[Region]) -> dict[Region, bytes]:
        """What is loaded into each region, up to its last loaded byte.

        Raises `InvalidModel` for a segment outside of all.
        """
        contents = {region: bytearray() for region in regions}
        for address, data in self.segments:
            region = _region_of(contents, address, len(data))
            content, start = contents[region], address - region.base
            content.extend(bytes(max(0, start + len(data) - len(content))))
            content[start : start + len(data)] = data
        return {region: bytes(content) for region, content in contents.items()}


def _region_of(regions: Iterable[Region], address: int, size: int) -> Region:
    for region in regions:
        if region.base <= address and address + size <= region.end:
            return region
    raise InvalidModel(
        f"loads {size} bytes at 0x{address:08x}, outside of the board's flash", ELF_FILE
    )


def read_program(elf: bytes) -> Program:
    """The program in an ELF file; raises `InvalidModel` where it is none."""
    try:
        file = ELFFile(io.BytesIO(elf))
        table: Any = file.get_section_by_name(".symtab")
        return Program(
            {symbol.name: int(symbol["st_value"]) for symbol in table.iter_symbols()},
            tuple(
                (int(segment["p_paddr"]), segment.data())
                for segment in file.iter_segments()
                if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
            ),
        )
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InvalidModel(f"is not a readable program: {reason}", ELF_FILE) from error
