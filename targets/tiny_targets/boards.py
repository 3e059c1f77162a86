"""Boards as data: which core, where flash and SRAM lie and how large they are.

The shipped records are in `boards.json`, each with the source of its figures. A user's own board is
a JSON file of the same form, with one record or a `boards` list.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_targets.target import Target, find_target, unknown_name

_PAGE = 4096
_REQUIRED = ("name", "target", "flash", "sram")
_OPTIONAL = ("constants", "description", "source")


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
class Board:
    """A microcontroller: a core and its memory map."""

    name: str
    target: Target
    flash: Region
    """Where code is fetched from."""
    constants: Region
    """Where constants are read from: `flash` itself, or on some parts a second window of it."""
    sram: Region
    description: str = ""
    source: str = ""

    def to_record(self) -> dict[str, Any]:
        """The JSON record that `from_record` reads back."""
        regions = {"flash": self.flash, "constants": self.constants, "sram": self.sram}
        return {
            "name": self.name,
            "target": self.target.name,
            "description": self.description,
            "source": self.source,
            **{
                name: {"base": f"0x{region.base:08X}", "kib": region.size // 1024}
                for name, region in regions.items()
            },
        }


def from_record(record: Any, where: str) -> Board:
    """The board of a JSON record; raises `InvalidOption` naming the field at fault."""
    if not isinstance(record, Mapping):
        raise InvalidOption("expects a board to be a JSON object", where)
    missing = [name for name in _REQUIRED if name not in record]
    unknown = sorted(set(record) - {*_REQUIRED, *_OPTIONAL})
    if missing or unknown:
        problem = (
            f"lacks {', '.join(missing)}" if missing else f"has unknown fields {', '.join(unknown)}"
        )
        raise InvalidOption(f"board {problem}", where)
    if not isinstance(record["name"], str) or not isinstance(record["target"], str):
        raise InvalidOption("expects name and target to be strings", where)
    place = f"{where}: {record['name']}"
    flash = _region(record["flash"], f"{place}: flash")
    return Board(
        name=record["name"],
        target=find_target(record["target"]),
        flash=flash,
        constants=_region(record["constants"], f"{place}: constants")
        if "constants" in record
        else flash,
        sram=_region(record["sram"], f"{place}: sram"),
        description=str(record.get("description", "")),
        source=str(record.get("source", "")),
    )


def _region(value: Any, where: str) -> Region:
    try:
        base, size = int(value["base"], 16), int(value["kib"]) * 1024
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidOption('expects {"base": "0x...", "kib": N}', where) from error
    if base < 0 or size <= 0 or base % _PAGE or size % _PAGE or base + size > 1 << 32:
        raise InvalidOption("expects base and size in whole 4 KiB pages within 32 bits", where)
    return Region(base, size)


def read_boards(path: Path) -> dict[str, Board]:
    """The boards of a JSON file by name; raises `InvalidOption` with the file and the reason."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InvalidOption(error.strerror or str(error), str(path)) from error
    except ValueError as error:
        raise InvalidOption(f"not JSON: {error}", str(path)) from error
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
