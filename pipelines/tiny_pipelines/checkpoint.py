"""Checkpoints of a training run: all that is needed to go on as if it had never stopped.

One `.npz`: the trained parameters by symbol, every loss so far, and a JSON record of where the run
was and of what it was. A file is replaced as a whole, so that a kill leaves the old or the new one.
"""

import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.npz_file import UnreadableArrays, read_npz

_RECORD, _LOSSES, _STATE = "record", "losses", "state/"


class InvalidCheckpoint(TinyError):
    """A checkpoint that is unreadable or of another run."""


@dataclass
class Checkpoint:
    """A run between two updates.

    `run` says which run it is; `record` is what else it has to remember, both JSON. `losses` [N]
    are those of all samples so far, `state` the trained parameters by symbol.
    """

    run: dict[str, Any]
    record: dict[str, Any]
    losses: NDArray[np.float64]
    state: Mapping[str, NDArray[Any]]

    def write(self, path: Path) -> None:
        """Replace `path`; raises `InvalidOption` where that is impossible."""
        text = json.dumps({"run": self.run, "record": self.record})
        arrays: dict[str, Any] = {_STATE + name: value for name, value in self.state.items()}
        buffer = io.BytesIO()
        arrays |= {_RECORD: np.array(text), _LOSSES: self.losses}
        np.savez(buffer, **arrays)
        part = path.with_name(path.name + ".part")
        try:
            with part.open("wb") as file:
                file.write(buffer.getvalue())
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise InvalidOption(error.strerror or str(error), str(path)) from error


def read_checkpoint(path: Path, run: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint in `path`, None where there is no file.

    Raises `InvalidCheckpoint` where it is unreadable, or not of `run`.
    """
    if not path.exists():
        return None
    try:
        arrays = read_npz(path)
        record = json.loads(str(arrays[_RECORD]))
        found, rest, losses = record["run"], record["record"], arrays[_LOSSES]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UnreadableArrays) as error:
        raise InvalidCheckpoint("is not a readable checkpoint", str(path)) from error
    if not isinstance(found, dict) or not _is_record(rest, losses):
        raise InvalidCheckpoint("is a damaged checkpoint; remove it to start afresh", str(path))
    if found != json.loads(json.dumps(run)):
        odd = sorted(key for key in {*found, *run} if found.get(key) != run.get(key))
        named = ", ".join(key[:40] for key in odd[:3])
        raise InvalidCheckpoint(
            f"is of another run: {named} differ; remove it to start afresh", str(path)
        )
    state = {n.removeprefix(_STATE): a for n, a in arrays.items() if n.startswith(_STATE)}
    return Checkpoint(run, rest, losses, state)


def _is_record(record: Any, losses: NDArray[Any]) -> bool:
    """True for what a run writes: where it was, and as many losses as it says."""
    if not isinstance(record, dict) or losses.ndim != 1 or losses.dtype != np.float64:
        return False
    step, epochs = record.get("step"), record.get("epochs")
    if type(step) is not int or not 0 <= step <= len(losses) or not isinstance(epochs, list):
        return False
    seen: list[Any] = [e.get("samples") if isinstance(e, dict) else None for e in epochs]
    before, seconds = record.get("before"), record.get("seconds")
    return (
        all(type(count) is int and 0 <= count <= len(losses) for count in seen)
        and sum(seen) <= len(losses)
        and isinstance(before, float)
        and isinstance(seconds, float)
        and math.isfinite(seconds)
        and bool(np.isfinite(losses).all())
    )
