"""Writes small flatbuffers: what the reader in `frontends/flatbuffer.py` reads back.

Every table, vector and text follows what points to it, so that all offsets are positive. A field is
a number of the schema and one of: `Scalar`, `Vector`, text, a `Fields` dict, a list of `Fields`.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fields = dict[int, Any]


@dataclass(frozen=True)
class Scalar:
    """A number, in the notation of `struct`."""

    form: str
    value: float


@dataclass(frozen=True)
class Vector:
    """Numbers, little-endian."""

    values: NDArray[Any]


def flatbuffer(root: Fields, identifier: bytes) -> bytes:
    """The file whose root table has these fields."""
    out = bytearray(8)
    out[4:8] = identifier
    _point(out, 0, _table(out, root))
    return bytes(out)


def _point(out: bytearray, place: int, target: int) -> None:
    struct.pack_into("<I", out, place, target - place)


def _align(out: bytearray, size: int = 8) -> None:
    out += bytes(-len(out) % size)


def _table(out: bytearray, fields: Fields) -> int:
    """Append a table: its vtable, its fields of eight bytes each, then what they point to."""
    _align(out)
    count = max(fields, default=-1) + 1
    vtable = len(out)
    offsets = {number: 8 * (i + 1) for i, number in enumerate(sorted(fields))}
    entries = [offsets.get(number, 0) for number in range(count)]
    out += struct.pack(f"<{2 + count}H", 4 + 2 * count, 8 + 8 * len(fields), *entries)
    _align(out)
    table = len(out)
    out += struct.pack("<i", table - vtable) + bytes(4 + 8 * len(fields))
    for number, value in sorted(fields.items()):
        place = table + offsets[number]
        if isinstance(value, Scalar):
            struct.pack_into(f"<{value.form}", out, place, value.value)
        else:
            _point(out, place, _pointed(out, value))
    return table


def _pointed(out: bytearray, value: Any) -> int:
    if isinstance(value, dict):
        return _table(out, value)
    _align(out)
    start = len(out)
    if isinstance(value, list):
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for index, item in enumerate(value):
            _point(out, start + 4 + 4 * index, _table(out, item))
        return start
    values = np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else value.values
    out += struct.pack("<I", len(values)) + np.ascontiguousarray(values).tobytes() + b"\0"
    return start
