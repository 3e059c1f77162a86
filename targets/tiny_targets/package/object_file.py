"""The kernels of a package: one archive, whose symbol no other package has, all of it in flash.

Before:  `kernels_library_query` in every object; tables of addresses in `.data.rel.ro`
After:   a symbol of the package's own; the tables in `.rodata`, never copied to SRAM

Both names are replaced in place by names of the same length, so that nothing in the object moves.
"""

import io
import struct
from typing import Any

from tiny_dialect.errors import TinyError
from tiny_targets.cache import digest
from tiny_targets.codegen import QUERY_SYMBOL

_RELOCATED, _READ_ONLY = b".data.rel.ro", b".rodata.tiny"
_FLAGS_OFFSET = 8
_WRITE = 1


def unique_query(object_file: bytes) -> str:
    """The entry point's new name: as long as the old one, and different for other kernels."""
    stem = "kernels_"
    return stem + digest(object_file)[: len(QUERY_SYMBOL) - len(stem)]


def for_package(object_file: bytes, query: str) -> bytes:
    """The object with its entry point renamed to `query` and its tables read-only."""
    from elftools.elf.elffile import ELFFile

    data = bytearray(object_file)
    file = ELFFile(io.BytesIO(object_file))
    symbols: Any = file.get_section_by_name(".symtab")
    names = file.get_section(symbols["sh_link"])
    found = [symbol for symbol in symbols.iter_symbols() if symbol.name == QUERY_SYMBOL]
    if len(found) != 1 or len(query) != len(QUERY_SYMBOL):
        raise TinyError(f"expects one symbol {QUERY_SYMBOL} to be renamed to {query}", "kernels.o")
    place = names["sh_offset"] + found[0]["st_name"]
    data[place : place + len(query)] = query.encode()
    _make_tables_read_only(data, file)
    return bytes(data)


def _make_tables_read_only(data: bytearray, file: Any) -> None:
    table = file.get_section(file.header["e_shstrndx"])["sh_offset"]
    for index, section in enumerate(file.iter_sections()):
        if not section.name.startswith(_RELOCATED.decode()):
            continue
        name = table + section["sh_name"]
        data[name : name + len(_READ_ONLY)] = _READ_ONLY
        place = file.header["e_shoff"] + index * file.header["e_shentsize"] + _FLAGS_OFFSET
        struct.pack_into("<I", data, place, section["sh_flags"] & ~_WRITE)
