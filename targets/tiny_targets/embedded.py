"""Place an embedded ELF at a flash address, at build time: its kernels then run without a loader.

The ELF is position independent but for a few relative relocations in its tables, resolved here.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError

_ALIGNMENT = 16
_QUERY_SYMBOL = "iree_hal_executable_library_query"
_RELATIVE = {"EM_ARM": 23, "EM_RISCV": 3}


@dataclass(frozen=True)
class ResolvedElf:
    """Bytes to be programmed at `address`, and the entry point of the library in them."""

    address: int
    data: bytes
    query: int
    """Address of the function that returns the library's tables."""


def resolve(elf: bytes, flash_address: int) -> ResolvedElf:
    """The contents of flash at `flash_address` (a multiple of 16) that hold `elf`.

    Raises `TinyError` for any relocation that is not relative: it would need a loader.
    """
    from elftools.elf.elffile import ELFFile

    if flash_address % _ALIGNMENT:
        raise InvalidOption(
            f"expects a flash address of a multiple of {_ALIGNMENT}, got 0x{flash_address:x}"
        )
    file = ELFFile(io.BytesIO(elf))
    segments = [segment for segment in file.iter_segments() if segment["p_type"] == "PT_LOAD"]
    data = bytearray(max(segment["p_vaddr"] + segment["p_memsz"] for segment in segments))
    for segment in segments:
        data[segment["p_vaddr"] : segment["p_vaddr"] + segment["p_filesz"]] = segment.data()
    for offset, addend in _relocations(file, data):
        struct.pack_into("<I", data, offset, (addend + flash_address) & 0xFFFFFFFF)
    table: Any = file.get_section_by_name(".dynsym")
    symbols = {symbol.name: int(symbol["st_value"]) for symbol in table.iter_symbols()}
    return ResolvedElf(flash_address, bytes(data), flash_address + (symbols[_QUERY_SYMBOL] & ~1))


def _relocations(file: Any, data: bytearray) -> list[tuple[int, int]]:
    """(offset, addend) of every relocation that applies at run time; all must be relative."""
    relative = _RELATIVE[file["e_machine"]]
    found = []
    for section in file.iter_sections():
        if section["sh_type"] not in ("SHT_REL", "SHT_RELA") or not section["sh_flags"] & 2:
            continue
        for entry in section.iter_relocations():
            if entry["r_info_type"] != relative:
                raise TinyError(
                    f"relocation of type {entry['r_info_type']} needs a loader", "kernels.elf"
                )
            offset = int(entry["r_offset"])
            is_implicit = section["sh_type"] == "SHT_REL"
            addend = (
                struct.unpack_from("<I", data, offset)[0] if is_implicit else int(entry["r_addend"])
            )
            found.append((offset, addend))
    return found
