"""Reads `.npz` files from anywhere: bounded when unpacked, nothing unpickled, one kind of error."""

import lzma
import struct
import sys
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNPACKED_BYTES = 1 << 28
"""What a small file may unpack to."""
UNPACKED_RATIO = 64
"""How many times its size a larger file may unpack to."""
_MEMBERS = 1 << 14
_ZIP_MAGIC = b"PK"
# All that NumPy and zipfile raise for a file that is cut, corrupt, pickled or larger than memory.
_UNREADABLE = (
    *(ValueError, EOFError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError),
    *(NotImplementedError, RecursionError, SyntaxError, tokenize.TokenError, struct.error),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


class UnreadableArrays(Exception):
    """The file is not an `.npz` of plain arrays, or unpacks to too much."""


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays by name; raises `UnreadableArrays`, or `OSError` where there is no such file."""
    # Opened here, because np.load leaves a file that it cannot read open.
    with path.open("rb") as file:
        try:
            return _arrays(file, path.stat().st_size)
        except _UNREADABLE as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UnreadableArrays(f"is not a readable .npz: {reason}") from error


def _arrays(file: Any, size: int) -> dict[str, NDArray[Any]]:
    start = file.read(6)
    if start == b"\x93NUMPY":
        raise UnreadableArrays("is a single array, not an .npz")
    if not start.startswith(_ZIP_MAGIC):
        raise UnreadableArrays("is not a readable .npz: it is no zip archive")
    file.seek(0)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            _bound(archive, size)
    file.seek(0)
    arrays: dict[str, NDArray[Any]] = {}
    with np.load(file, allow_pickle=False) as loaded:
        for name in loaded.files:
            array = loaded[name]
            if not isinstance(array, np.ndarray):
                raise UnreadableArrays(f"holds {name[:80]!r}, which is no array")
            _require_characters(array, name)
            arrays[name] = array
    return arrays


def _require_characters(array: NDArray[Any], name: str) -> None:
    """Refuse text of code points that do not exist: NumPy makes broken Python strings of them."""
    if array.dtype.kind == "U" and array.size:
        codes = np.frombuffer(array.astype(array.dtype.newbyteorder("<")).tobytes(), "<u4")
        if codes.size and int(codes.max()) > sys.maxunicode:
            raise UnreadableArrays(f"holds {name[:80]!r} with characters that do not exist")


def _bound(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse what unpacks to far more than it is; `zipfile` reads no more than a member states."""
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    most = max(UNPACKED_BYTES, UNPACKED_RATIO * size)
    if total > most or len(members) > _MEMBERS:
        raise UnreadableArrays(
            f"unpacks {size} bytes to {len(members)} arrays of {total} bytes; at most {most}"
        )
