"""What reads each format, as a user's command does, with the rules that a result has to keep.

A reader returns where the file is valid, raises `TinyError` where it is not, and `Broken` where it
broke a promise: an error of several lines, a half-written output.
"""

import contextlib
import importlib.util
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dialect.errors import InvalidModel, TinyError
from tiny_pipelines.fuzzing import exported_programs

RUN: dict[str, Any] = {"epochs": 2, "rate": 0.1, "model": "0123", "data": "set.npz"}
RECORD: dict[str, Any] = {
    "step": 4,
    "epochs": [{"epoch": 1, "step": 4, "samples": 4, "loss": 1.5, "rate": 0.1, "seconds": 0.5}],
    "before": 0.1,
    "seconds": 0.5,
}
STATE: dict[str, Any] = {
    "stem.weight": np.arange(15, dtype=np.int8).reshape(3, 1, 1, 5),
    "stem.bias": np.arange(3, dtype=np.int32),
    "block.weight": np.arange(21, dtype=np.int16).reshape(7, 3),
    "head.bias": np.ones(2, np.float32),
}
_ELEMENTS = {"int8": "i8", "int16": "i16", "int32": "i32", "float32": "f32"}
_LAYERS = ("first_conv", "blocks.0.pointwise1", "blocks.0.depthwise", "blocks.0.pointwise2")
BLOB_HEAD = 20
"""Bytes of a saved state in front of its checksum."""


class Broken(Exception):
    """A promise that was not kept, in words."""


def _command(main: Callable[[Sequence[str]], int], arguments: Sequence[str], output: Path) -> None:
    """Run a command; its error as `TinyError`, which must be one line that left no file."""
    said, errors = io.StringIO(), io.StringIO()
    before = sorted(output.parent.iterdir())
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        status = main([*arguments, "-o", str(output)])
    lines = [line for line in errors.getvalue().splitlines() if not _is_progress(line)]
    if status == 0:
        if not output.is_file() or lines:
            raise Broken(f"succeeded without its output, or with complaints: {lines[:2]}")
        output.unlink()
        return
    if sorted(output.parent.iterdir()) != before:
        raise Broken("failed, and left files behind")
    if status != 1 or len(lines) != 1:
        raise Broken(f"exit status {status} and {len(lines)} lines: {lines[:2]}")
    raise InvalidModel(lines[0])


def _is_progress(line: str) -> bool:
    """A slow machine is told what runs."""
    return line.startswith("importing ") and (line.endswith(" ...") or line.endswith(" s"))


def model(data: bytes, folder: Path, *options: str) -> None:
    """A model file through `tiny-import`, and what it wrote through it again."""
    from tiny_pipelines.cli import tiny_import

    path = folder / "input"
    path.write_bytes(data)
    middle, last = folder / "first.mlirbc", folder / "second.mlir"
    with contextlib.ExitStack() as made:
        for one in (path, middle):
            made.callback(one.unlink, missing_ok=True)
        _command(tiny_import.main, [str(path), *options], last)
        if tiny_import.main([str(path), *options, "-o", str(middle)]) != 0:
            raise Broken("was imported as text, but not as bytecode")
        try:
            _command(tiny_import.main, [str(middle)], last)
        except TinyError as error:
            raise Broken(f"the import of an import is refused: {error}") from error


def program(data: bytes, folder: Path) -> None:
    """A `.pt2` file and a calibration set through `tiny-import`; without PyTorch, its graph."""
    if importlib.util.find_spec("torch") is None:
        from tiny_pipelines.frontends.pt2_file import is_pt2, read_graph

        if not is_pt2(data):
            raise InvalidModel("is not a .pt2 file")
        read_graph(data, "input")
        return
    samples = folder / "samples.npz"
    if not samples.exists():
        values = np.random.default_rng(0).normal(size=(3, *exported_programs.SAMPLE_SHAPE))
        np.savez(samples, x=values.astype(np.float32))
    model(data, folder, "--calibrate", str(samples))


def module(data: bytes, folder: Path) -> None:
    """Text or bytecode through `tiny-opt`; what is valid through `tiny-import` too."""
    from tiny_pipelines.cli import tiny_import, tiny_opt

    path = folder / "input"
    path.write_bytes(data)
    try:
        _command(tiny_opt.main, [str(path)], folder / "out.mlir")
        with contextlib.suppress(TinyError):
            # A valid module need not be a model.
            _command(tiny_import.main, [str(path)], folder / "out.mlirbc")
    finally:
        path.unlink()


def scheme(data: bytes, folder: Path) -> None:
    """A scheme file, applied to a network of four convolutions."""
    from tiny_passes.update_scheme import read_scheme

    path = folder / "scheme.json"
    path.write_bytes(data)
    read_scheme(path).resolve(_LAYERS)


def board(data: bytes, folder: Path) -> None:
    """A board file; what was read is written as a record and read again."""
    from tiny_targets.boards import from_record, read_boards

    path = folder / "board.json"
    path.write_bytes(data)
    for name, found in read_boards(path).items():
        if from_record(json.loads(json.dumps(found.to_record())), name) != found:
            raise Broken(f"board {name} is another one after it was written and read")


def data_set(data: bytes, folder: Path) -> None:
    """An `.npz`, and its first sample as the input of a model."""
    from tiny_pipelines.datasets import Preprocessing, load_dataset

    path = folder / "data.npz"
    path.write_bytes(data)
    found = load_dataset(path)
    prepared = Preprocessing(9, 7, 1, 0.05, 3)
    for split in (found.train, found.test):
        if prepared.apply(split.samples[0]).shape != prepared.shape:
            raise Broken("a sample became an input of another shape")


def image_folder(data: bytes, folder: Path) -> None:
    """A folder of images, one of which is the damaged one."""
    from PIL import Image

    from tiny_pipelines.image_folders import load_image_folder

    root = folder / "images"
    for part in ("train", "test"):
        place = root / part / "a"
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "good.png").exists():
            Image.new("RGB", (7, 8)).save(place / "good.png")
    (root / "train" / "a" / "odd.png").write_bytes(data)
    found = load_image_folder(root, (6, 5))
    if found.train.samples.shape != (2, 6, 5, 3):
        raise Broken(f"two images became samples {found.train.samples.shape}")


def checkpoint(data: bytes, folder: Path) -> None:
    """A checkpoint of `tiny-train`."""
    from tiny_pipelines.checkpoint import read_checkpoint

    path = folder / "run.npz"
    path.write_bytes(data)
    found = read_checkpoint(path, RUN)
    if found is None:
        raise Broken("a file that exists was not found")
    for name, kind in (("step", int), ("epochs", list), ("before", float), ("seconds", float)):
        if not isinstance(found.record[name], kind):
            raise Broken(f"the record has {name} {found.record[name]!r}")


def schedule() -> Any:
    """A schedule with the trained parameters of `STATE`, and no code."""
    from tiny_targets.schedule import STATE as STATE_SPACE
    from tiny_targets.schedule import Buffer, Schedule

    buffers: list[Any] = []
    size = 0
    for name, value in STATE.items():
        buffers.append(Buffer(name, STATE_SPACE, size, value.shape, _ELEMENTS[value.dtype.name]))
        size += -(-value.nbytes // 16) * 16
    return Schedule("seed", {}, 0, 0, size, tuple(buffers), model_hash=0x0123456789ABCDEF)


def blob(data: bytes, folder: Path) -> None:
    """A saved state, which is the same bytes when it is written again."""
    from tiny_targets.state_layout import blob_bytes, decode_state, encode_state

    del folder
    made = schedule()
    if encode_state(made, decode_state(made, data)) != data[: blob_bytes(made)]:
        raise Broken("a saved state changes when it is read and written")
