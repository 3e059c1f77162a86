"""Reads flatbuffers without trusting them: every offset and length is checked against the file.

A table is a vtable of field offsets in front of the fields; a vector is a length and its elements.
Fields are named by their number in the schema. A field that is absent has the default of its type.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FORMATS = {"i8": "<b", "u8": "<B", "i32": "<i", "u32": "<I", "f32": "<f"}
_ARRAYS = {"i8": "<i1", "u8": "<u1", "i32": "<i4", "u32": "<u4", "i64": "<i8", "f32": "<f4"}
_MAX_TEXT = 4096


class Damaged(Exception):
    """The bytes are not a flatbuffer: an offset or a length points outside them."""


class Table:
    """A table at `position` of `data`."""

    __slots__ = ("_data", "_fields", "_position", "_size")

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position
        vtable = position - self._read("<i", position)
        self._size = self._read("<H", vtable)
        if self._size < 4 or self._size % 2 or not 0 <= vtable <= len(data) - self._size:
            raise Damaged("a table of fields lies outside the file")
        self._fields = vtable + 4

    @staticmethod
    def root(data: bytes) -> "Table":
        """The root table of a file."""
        if len(data) < 8:
            raise Damaged("is shorter than a flatbuffer")
        return Table(data, struct.unpack_from("<I", data, 0)[0])

    def _read(self, form: str, position: int) -> Any:
        if not 0 <= position <= len(self._data) - struct.calcsize(form):
            raise Damaged(f"an offset points to byte {position} of {len(self._data)}")
        return struct.unpack_from(form, self._data, position)[0]

    def _place(self, field: int) -> int | None:
        """Where a field lies; None where it is absent."""
        if 4 + 2 * field >= self._size:
            return None
        offset = self._read("<H", self._fields + 2 * field)
        return self._position + offset if offset else None

    def has(self, field: int) -> bool:
        """True where the field is present."""
        return self._place(field) is not None

    def number(self, field: int, element: str, default: float = 0) -> Any:
        """A scalar field: `i8 u8 i32 u32 f32`."""
        place = self._place(field)
        return default if place is None else self._read(_FORMATS[element], place)

    def table(self, field: int) -> "Table | None":
        """A table field."""
        place = self._place(field)
        return None if place is None else Table(self._data, self._target(place))

    def _target(self, place: int) -> int:
        return place + self._read("<I", place)

    def _vector(self, field: int, element_bytes: int) -> tuple[int, int]:
        """(start, length) of a vector whose elements all lie inside the file."""
        place = self._place(field)
        if place is None:
            return 0, 0
        start = self._target(place)
        length = self._read("<I", start)
        if start + 4 + length * element_bytes > len(self._data):
            raise Damaged(f"a vector of {length} elements reaches beyond the file")
        return start + 4, length

    def array(self, field: int, element: str) -> NDArray[Any]:
        """A vector of numbers `i8 u8 i32 u32 i64 f32`; empty where the field is absent."""
        kind = np.dtype(_ARRAYS[element])
        start, length = self._vector(field, kind.itemsize)
        return np.frombuffer(self._data, kind, length, start) if length else np.zeros(0, kind)

    def tables(self, field: int) -> list["Table"]:
        """A vector of tables."""
        start, length = self._vector(field, 4)
        return [Table(self._data, self._target(start + 4 * i)) for i in range(length)]

    def text(self, field: int) -> str:
        """A string, cut where it is absurdly long; bytes that are not UTF-8 are replaced."""
        start, length = self._vector(field, 1)
        return self._data[start : start + min(length, _MAX_TEXT)].decode("utf-8", "replace")
