"""The functions of a linked program: where their code lies, and what in it is data."""

import io
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

_EXECUTABLE = 4


@dataclass(frozen=True)
class Routine:
    """One function of the image."""

    name: str
    start: int
    end: int
    """The address behind its last byte."""


class Code:
    """The executable sections of an ELF file, and the functions in them."""

    def __init__(self, elf: bytes) -> None:
        from elftools.elf.elffile import ELFFile

        file = ELFFile(io.BytesIO(elf))
        self.is_arm = file.header["e_machine"] == "EM_ARM"
        self._sections = [
            (int(section["sh_addr"]), section.data())
            for section in file.iter_sections()
            if section["sh_type"] == "SHT_PROGBITS" and section["sh_flags"] & _EXECUTABLE
        ]
        table: Any = file.get_section_by_name(".symtab")
        symbols = list(table.iter_symbols())
        self.routines = self._routines(symbols)
        self._marks = self._data_marks(symbols) if self.is_arm else []
        self._by_name = {routine.name: routine for routine in self.routines.values()}

    def _routines(self, symbols: list[Any]) -> dict[int, Routine]:
        """By their first addresses; of several names of one place the first."""
        mask = ~1 if self.is_arm else ~0
        known = sorted(
            (int(symbol["st_value"]) & mask, -int(symbol["st_size"]), symbol.name)
            for symbol in symbols
            if symbol["st_info"]["type"] == "STT_FUNC"
        )
        places = sorted({start for start, _, _ in known})
        found: dict[int, Routine] = {}
        for start, size, name in known:
            end = start - size if size else self._following(places, start)
            found.setdefault(start, Routine(name, start, end))
        return found

    def _following(self, places: list[int], start: int) -> int:
        later = places[bisect_right(places, start) :]
        ends = [base + len(data) for base, data in self._sections if base <= start]
        return min([*later[:1], *ends[-1:]])

    def _data_marks(self, symbols: list[Any]) -> list[tuple[int, bool]]:
        """(address, whether data begins there): the mapping symbols of Arm."""
        marks = {"$t": False, "$d": True}
        return sorted(
            (int(symbol["st_value"]), marks[symbol.name[:2]])
            for symbol in symbols
            if symbol.name[:2] in marks
        )

    def named(self, name: str) -> Routine | None:
        """The function of this name."""
        return self._by_name.get(name)

    def bytes_of(self, routine: Routine) -> bytes:
        """Its code, and a few bytes more so that an instruction at the end can be read."""
        for base, data in self._sections:
            if base <= routine.start < base + len(data):
                return data[routine.start - base : routine.end - base] + bytes(8)
        return b""

    def is_data(self, address: int) -> bool:
        """True for a place in a function that is no instruction."""
        place = bisect_right(self._marks, (address, True)) - 1
        return place >= 0 and self._marks[place][1]
