"""Boards as data: which core, where flash and SRAM lie and how large they are.

The shipped records are in `boards.json`, each with the source of its figures. A user's own board is
a JSON file of the same form, with one record or a `boards` list.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_targets.json_reader import read_json
from tiny_targets.target import Target, find_target, unknown_name

_PAGE = 4096
_ROOMY = 16 << 20
_WIDEST_PROGRAM = 64
_MAX_FILE_BYTES = 1 << 20
_LONGEST_NAME = 80
_REQUIRED = ("name", "target", "flash", "sram")
_OPTIONAL = ("constants", "description", "source", "programming")


@dataclass(frozen=True)
class Region:
    """A stretch of memory, in bytes."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.base + self.size


@dataclass(frozen=True)
class Programming:
    """How the flash of a board is erased and programmed."""

    page_bytes: int
    """What one erase erases, at the end of the flash, where a store of learned state goes."""
    program_bytes: int
    """The program width: what is programmed at once, aligned to itself."""
    erased: int
    """What an erased byte reads as."""
    endurance: int
    """Erases that a page is specified for."""


@dataclass(frozen=True)
class Board:
    """A microcontroller: a core and its memory map."""

    name: str
    target: Target
    flash: Region
    """Where code is fetched from."""
    constants: Region
    """Where constants are read from: `flash` itself, or on some parts a second window of it."""
    sram: Region
    """The first or only region of it."""
    description: str = ""
    source: str = ""
    programming: Programming | None = None
    """Of `flash`; None where the record does not say."""
    more_sram: tuple[Region, ...] = ()
    """Further regions, which do not continue the first."""

    @property
    def sram_regions(self) -> tuple[Region, ...]:
        """All regions of SRAM, in the order of the record."""
        return (self.sram, *self.more_sram)

    @property
    def sram_bytes(self) -> int:
        """The size of all regions together."""
        return sum(region.size for region in self.sram_regions)

    def to_record(self) -> dict[str, Any]:
        """The JSON record that `from_record` reads back."""
        sram = [_record(region) for region in self.sram_regions]
        return {
            "name": self.name,
            "target": self.target.name,
            "description": self.description,
            "source": self.source,
            "flash": _record(self.flash),
            "constants": _record(self.constants),
            "sram": sram if self.more_sram else sram[0],
            **_programming_record(self.programming),
        }


def _record(region: Region) -> dict[str, Any]:
    return {"base": f"0x{region.base:08X}", "kib": region.size // 1024}


def from_record(record: Any, where: str) -> Board:
    """The board of a JSON record; raises `InvalidOption` naming the field at fault."""
    if not isinstance(record, Mapping):
        raise InvalidOption("expects a board to be a JSON object", where)
    missing = [name for name in _REQUIRED if name not in record]
    unknown = sorted(set(record) - {*_REQUIRED, *_OPTIONAL})
    if missing or unknown:
        problem = (
            f"lacks {', '.join(missing)}"
            if missing
            else f"has unknown fields {', '.join(name[:_LONGEST_NAME] for name in unknown[:4])}"
        )
        raise InvalidOption(f"board {problem}", where)
    if not isinstance(record["name"], str) or not isinstance(record["target"], str):
        raise InvalidOption("expects name and target to be strings", where)
    if any(len(record[n]) > _LONGEST_NAME or not record[n].isprintable() for n in _REQUIRED[:2]):
        message = f"expects name and target to be {_LONGEST_NAME} printable letters at most"
        raise InvalidOption(message, where)
    place = f"{where}: {record['name']}"
    flash = _region(record["flash"], f"{place}: flash")
    constants = flash
    if "constants" in record:
        constants = _region(record["constants"], f"{place}: constants")
    sram = _regions(record["sram"], f"{place}: sram")
    _require_apart(list(dict.fromkeys((flash, constants, *sram))), place)
    return Board(
        name=record["name"],
        target=find_target(record["target"]),
        flash=flash,
        constants=constants,
        sram=sram[0],
        description=str(record.get("description", "")),
        source=str(record.get("source", "")),
        programming=_programming(record["programming"], flash, f"{place}: programming")
        if "programming" in record
        else None,
        more_sram=sram[1:],
    )


def _regions(value: Any, where: str) -> tuple[Region, ...]:
    """One region or a list of them, which may not overlap."""
    if not isinstance(value, list):
        return (_region(value, where),)
    if not value:
        raise InvalidOption("expects a region or a list of regions", where)
    regions = tuple(_region(one, where) for one in value)
    _require_apart(regions, where)
    return regions


def _require_apart(regions: Sequence[Region], where: str) -> None:
    ordered = sorted(regions, key=lambda region: region.base)
    if any(one.end > other.base for one, other in pairwise(ordered)):
        raise InvalidOption("expects regions that do not overlap", where)


def _region(value: Any, where: str) -> Region:
    try:
        base, size = int(value["base"], 16), int(value["kib"]) * 1024
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidOption('expects {"base": "0x...", "kib": N}', where) from error
    if base < 0 or size <= 0 or base % _PAGE or size % _PAGE or base + size > 1 << 32:
        raise InvalidOption("expects base and size in whole 4 KiB pages within 32 bits", where)
    return Region(base, size)


def _programming(value: Any, flash: Region, where: str) -> Programming:
    try:
        found = Programming(
            int(value["page_bytes"]),
            int(value["program_bytes"]),
            int(value["erased"], 16),
            int(value["endurance"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidOption(
            'expects {"page_bytes": N, "program_bytes": N, "erased": "0xFF", "endurance": N}', where
        ) from error
    width = found.program_bytes
    if not 1 <= width <= _WIDEST_PROGRAM or width & (width - 1):
        raise InvalidOption(
            f"expects program_bytes to be a power of two, {_WIDEST_PROGRAM} at most", where
        )
    if found.page_bytes <= 0 or found.page_bytes % width or flash.size % found.page_bytes:
        raise InvalidOption(
            "expects page_bytes to be a multiple of program_bytes that divides the flash", where
        )
    if found.erased not in (0x00, 0xFF) or found.endurance <= 0:
        raise InvalidOption("expects erased to be 0xFF or 0x00, and some endurance", where)
    return found


def _programming_record(programming: Programming | None) -> dict[str, Any]:
    if programming is None:
        return {}
    record = {**vars(programming), "erased": f"0x{programming.erased:02X}"}
    return {"programming": record}


def read_boards(path: Path) -> dict[str, Board]:
    """The boards of a JSON file by name; raises `InvalidOption` with the file and the reason."""
    content = read_json(path, _MAX_FILE_BYTES, InvalidOption)
    return _boards(content, str(path))


def _boards(content: Any, where: str) -> dict[str, Board]:
    records = content.get("boards", [content]) if isinstance(content, dict) else content
    if not isinstance(records, list) or not records:
        raise InvalidOption("expects a board or a list of boards", where)
    boards = [from_record(record, where) for record in records]
    return {board.name: board for board in boards}


@cache
def _shipped() -> dict[str, Board]:
    text = (resources.files("tiny_targets") / "boards.json").read_text()
    return _boards(json.loads(text), "boards.json")


def board_names() -> list[str]:
    """The names of the shipped boards."""
    return sorted(_shipped())


def generic_board(target: Target) -> Board:
    """The board of `target` used where none is named: 256 KiB of SRAM, 1 MiB of flash."""
    return _shipped()[f"generic-{target.name}"]


def roomy_board(target: Target) -> Board:
    """The generic board of `target` with 16 MiB of each memory: to measure, whatever it takes."""
    board = generic_board(target)
    flash = Region(board.flash.base, _ROOMY)
    return replace(board, flash=flash, constants=flash, sram=Region(board.sram.base, _ROOMY))


def find_board(name: str, target: Target | None = None) -> Board:
    """The shipped board `name`, or the one board of the file `name` where it ends in `.json`.

    Raises `InvalidOption` for an unknown name, with the closest one, or where its core is not
    `target`.
    """
    if name.endswith(".json"):
        boards = read_boards(Path(name))
        if len(boards) != 1:
            raise InvalidOption(f"expects one board, got {', '.join(boards)}", name)
        board = next(iter(boards.values()))
    elif name in _shipped():
        board = _shipped()[name]
    else:
        raise unknown_name("board", name, _shipped())
    if target is not None and board.target != target:
        raise InvalidOption(f"board {board.name} has a {board.target.name}, not a {target.name}")
    return board
