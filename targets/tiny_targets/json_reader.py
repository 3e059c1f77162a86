"""Takes fields out of JSON from anywhere: each of the kind and in the range that it must have.

Errors are `InvalidModel` with the path of the field: `manifest.json: functions[0].name`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from tiny_dialect.errors import InvalidModel, TinyError

LARGEST = (1 << 32) - 1
_SHOWN = 60


def read_json(path: Path, most_bytes: int, fail: type[TinyError] = InvalidModel) -> Any:
    """The value in a JSON file; raises `fail` where it is too large or is none."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise fail(error.strerror or str(error), str(path)) from error
    if len(data) > most_bytes:
        raise fail(f"has more than {most_bytes} bytes", str(path))
    try:
        return json.loads(data)
    except RecursionError as error:
        raise fail("is nested too deeply", str(path)) from error
    except ValueError as error:
        raise fail(f"is not JSON: {error}", str(path)) from error


def integer(found: Any, where: str, most: int = LARGEST, least: int = 0) -> int:
    """`found` as an integer within bounds."""
    # In Python a bool is an int.
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        _fail(f"an integer from {least} to {most}", found, where)
    return found


def _fail(expected: str, found: Any, where: str) -> NoReturn:
    text = repr(found)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    raise InvalidModel(f"expected {expected}, got {shown}", where)


class JsonReader:
    """A JSON object whose fields are taken one by one; `where` names it in errors."""

    def __init__(self, record: Any, where: str, path: str = "") -> None:
        """`path` is the place of the object within the file `where`."""
        self._where, self._path = where, path
        if not isinstance(record, dict):
            _fail("an object", record, self.place())
        self._record: Mapping[str, Any] = record

    def place(self, name: str = "") -> str:
        """The place of a field, or of the object itself, as errors show it."""
        path = self._path_of(name)
        return f"{self._where}: {path}" if path else self._where

    def _path_of(self, name: str) -> str:
        """The place of a field within the file."""
        return ".".join(part for part in (self._path, name) if part)

    def fail(self, expected: str, name: str) -> NoReturn:
        """Raise `InvalidModel` at the field `name`: what was expected there, and what is."""
        _fail(expected, self.value(name), self.place(name))

    def value(self, name: str) -> Any:
        """A field of any kind, which has to be there."""
        if name not in self._record:
            raise InvalidModel(f"lacks {name}", self.place())
        return self._record[name]

    def names(self) -> list[str]:
        """The names of all fields."""
        return list(self._record)

    def integer(self, name: str, most: int = LARGEST, least: int = 0) -> int:
        """An integer within bounds."""
        return integer(self.value(name), self.place(name), most, least)

    def integers(self, name: str, least: int = 0) -> tuple[int, ...]:
        """A list of integers of at least `least`."""
        place = self.place(name)
        return tuple(integer(value, place, least=least) for value in self.items(name))

    def text(self, name: str) -> str:
        """A string without line breaks and other control characters."""
        found = self.value(name)
        if not isinstance(found, str) or (found and not found.isprintable()):
            self.fail("a printable string", name)
        return found

    def items(self, name: str) -> list[Any]:
        """A list."""
        found = self.value(name)
        if not isinstance(found, list):
            self.fail("a list", name)
        return found

    def reader(self, name: str) -> "JsonReader":
        """An object."""
        return JsonReader(self.value(name), self._where, self._path_of(name))

    def readers(self, name: str) -> list["JsonReader"]:
        """A list of objects."""
        return [
            JsonReader(item, self._where, self._path_of(f"{name}[{index}]"))
            for index, item in enumerate(self.items(name))
        ]
