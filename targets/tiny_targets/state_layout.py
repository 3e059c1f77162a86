"""The saved state of a model, byte for byte; docs/design/state-blob.md has the format.

The device writes and reads it in C (`runtime/tiny_state.c`); this is the same on the host, to look
into what a device has learned, or to send it something better.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import TinyError
from tiny_dialect.types import NUMPY_TYPES
from tiny_targets.schedule import Buffer, Schedule

MAGIC = b"TNYS"
FORMAT = 1
_HEADER = struct.Struct("<4sHHQI")
HEADER_BYTES = _HEADER.size + 4

Array = NDArray[Any]


class InvalidState(TinyError):
    """A saved state that is damaged, or of another model."""


def pieces(schedule: Schedule) -> list[Buffer]:
    """The trained parameters in payload order: by symbol, whatever their place in memory."""
    return sorted(schedule.state, key=lambda buffer: buffer.name)


def payload_bytes(schedule: Schedule) -> int:
    """The bytes of all trained parameters, without gaps."""
    return sum(buffer.bytes for buffer in schedule.state)


def blob_bytes(schedule: Schedule) -> int:
    """The bytes of a saved state."""
    return HEADER_BYTES + payload_bytes(schedule)


def encode_state(schedule: Schedule, values: Mapping[str, Array]) -> bytes:
    """The blob of trained parameters, by symbol, each in its storage type.

    Raises `InvalidState` for a missing symbol, another type or another number of elements.
    """
    parts = []
    for piece in pieces(schedule):
        value = values.get(piece.name)
        wanted = NUMPY_TYPES[piece.element]
        if value is None or value.dtype != wanted or value.nbytes != piece.bytes:
            got = "nothing" if value is None else f"{value.size} {value.dtype}"
            count = piece.bytes // wanted.itemsize
            raise InvalidState(f"expects {count} {wanted}, got {got}", piece.name)
        parts.append(np.ascontiguousarray(value).tobytes())
    payload = b"".join(parts)
    head = _HEADER.pack(MAGIC, FORMAT, HEADER_BYTES, schedule.model_hash, len(payload))
    return head + struct.pack("<I", zlib.crc32(head + payload)) + payload


def decode_state(schedule: Schedule, blob: bytes) -> dict[str, Array]:
    """The trained parameters of a blob, by symbol; bytes behind it are ignored.

    Raises `InvalidState` for what the device would refuse too.
    """
    size = blob_bytes(schedule)
    if len(blob) < size:
        raise InvalidState(f"a saved state of {schedule.model} has {size} bytes, got {len(blob)}")
    magic, form, header, model, payload = _HEADER.unpack_from(blob)
    if (magic, form, header) != (MAGIC, FORMAT, HEADER_BYTES):
        raise InvalidState("is no saved state, or one of another format")
    if model != schedule.model_hash:
        raise InvalidState(f"saved by another model: {model:016x}, not {schedule.model_hash:016x}")
    (stated,) = struct.unpack_from("<I", blob, _HEADER.size)
    content = blob[HEADER_BYTES:size]
    if payload != len(content) or zlib.crc32(blob[: _HEADER.size] + content) != stated:
        raise InvalidState("is damaged: its size or checksum is wrong")
    values, offset = {}, 0
    for piece in pieces(schedule):
        value = np.frombuffer(content[offset : offset + piece.bytes], NUMPY_TYPES[piece.element])
        values[piece.name] = value.reshape(piece.shape).copy()
        offset += piece.bytes
    return values
