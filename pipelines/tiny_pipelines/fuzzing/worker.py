"""The process that reads damaged files: watched, short of memory, and restarted when it dies."""

import gc
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_dialect.errors import MOST_LETTERS, TinyError
from tiny_pipelines.fuzzing.formats import Format
from tiny_pipelines.fuzzing.readers import Broken
from tiny_pipelines.fuzzing.watch import Violation, Watch

MEMORY_BYTES = 2 << 30
"""That reading one file may map, beyond what the warm process has."""
_GROWTH_BYTES = 512 << 20
_LONGEST_ERROR = 2 * MOST_LETTERS
VALID, REFUSED, FAILED = "valid", "refused", "failed"


@dataclass(frozen=True)
class Verdict:
    """What became of one input; `kind` and `message` say what failed, or how it was refused."""

    outcome: str
    kind: str = ""
    message: str = ""
    place: str = ""
    """Where in this program, for a traceback."""
    seconds: float = 0.0
    memory_bytes: int = 0
    """Most memory of the process so far."""

    @property
    def signature(self) -> tuple[str, str]:
        """Equal for inputs that fail for the same reason, as far as can be told."""
        return self.kind, self.place or self.message[:60]


def serve(connection: Any, formats: Sequence[Format], scratch: str) -> None:
    """Answer (format name, bytes) with a `Verdict`, until the other side closes.

    Files are written to the folder `scratch` alone. First every seed is read, to be warm; None then
    says that the process is ready.
    """
    sys.dont_write_bytecode = True
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    folder = Path(os.path.realpath(scratch))
    tempfile.tempdir = str(folder)
    os.chdir(folder)
    watch = Watch(folder)
    known = {one.name: one for one in formats}
    try:
        for one in formats:
            for seed in one.seeds():
                judge(one, seed, folder, watch)
        limit_memory()
        connection.send(None)
        while True:
            name, data = connection.recv()
            connection.send(judge(known[name], data, folder, watch))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


def limit_memory() -> None:
    """Let this process map `MEMORY_BYTES` more than it has, and leave no core files."""
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _most_memory() -> int:
    """The high-water mark of this program; `getrusage` has that of what started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def judge(chosen: Format, data: bytes, folder: Path, watch: Watch) -> Verdict:
    """Read `data` as one of the format; what became of it."""
    before, memory = time.monotonic(), _most_memory()
    watch.violations.clear()
    found = _read(chosen, data, folder, watch)
    if watch.violations and found[1] != "violation":
        found = (FAILED, "violation", watch.violations[0], "")
    outcome, kind, message, place = found
    found = (outcome, kind, message.encode("ascii", "backslashreplace").decode(), place)
    seconds = time.monotonic() - before
    after = _most_memory()
    if found[0] != FAILED and after - memory > _GROWTH_BYTES:
        grown = f"{(after - memory) >> 20} MiB for {len(data)} bytes"
        found = (FAILED, "memory", f"takes {grown}", chosen.name)
    return Verdict(*found, seconds=seconds, memory_bytes=after)


def _read(chosen: Format, data: bytes, folder: Path, watch: Watch) -> tuple[str, str, str, str]:
    watch.armed = True
    try:
        chosen.read(data, folder)
        return VALID, "", "", ""
    except TinyError as error:
        text = str(error)
        if not text.isprintable() or len(text) > _LONGEST_ERROR:
            return FAILED, "message", text[:200], type(error).__name__
        return REFUSED, type(error).__name__, text[:200], ""
    except Violation as error:
        return FAILED, "violation", str(error), ""
    except Broken as error:
        return FAILED, "promise", str(error), ""
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [f for f in where if f"{os.sep}tiny_" in f.filename] or where
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        return FAILED, f"traceback {type(error).__name__}", str(error)[:200], place
    finally:
        watch.armed = False
        gc.collect(0)
