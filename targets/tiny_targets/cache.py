"""A content-addressed cache of build products, shared by concurrent processes.

It lives in `$TINY_CACHE`, else in `tiny-training-compiler` under `$XDG_CACHE_HOME` or `~/.cache`;
`TINY_CACHE=off` disables it. Entries are written to a temporary file and renamed, so a reader
never sees half of one.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_VARIABLE = "TINY_CACHE"


def cache_root() -> Path | None:
    """The cache's folder, or None where it is disabled."""
    chosen = os.environ.get(_VARIABLE)
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tiny-training-compiler"


def digest(*parts: bytes | str) -> str:
    """A hex key of `parts`; their boundaries count."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def cached(kind: str, key: str, produce: Callable[[], bytes]) -> bytes:
    """The entry `key` of `kind`, made by `produce` where missing; no error if it cannot be kept."""
    root = cache_root()
    if root is None:
        return produce()
    path = root / kind / key
    try:
        return path.read_bytes()
    except OSError:
        pass
    data = produce()
    _store(path, data)
    return data


def _store(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
