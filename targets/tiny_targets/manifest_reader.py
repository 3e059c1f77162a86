"""Reads the manifest beside an image, which may be damaged or written by somebody else.

What was read can be used without another look: every buffer lies in its memory, every list has the
entries that its function needs. The files of the folder are held against the hashes in it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidModel
from tiny_dialect.types import NUMPY_TYPES
from tiny_targets.boards import Board, from_record
from tiny_targets.input_stream import Stream
from tiny_targets.json_reader import LARGEST, JsonReader, integer, read_json
from tiny_targets.schedule import ARENA, SPACES, STATE, Buffer, Command, Function, Schedule

_MOST_BYTES = 1 << 26
_MOST_AXES = 8
_RESULTS = {"infer": 1, "train_step": 2}
_ARGUMENTS = {"infer": ("i8",), "train_step": ("i8", "i32", "f32")}


@dataclass(frozen=True)
class Manifest:
    """What a manifest says of an image."""

    board: Board
    sizes: Mapping[str, int]
    """Bytes, by the fields of `firmware.Sizes`."""
    schedule: Schedule
    """Without kernels and constants."""
    outputs: Mapping[str, str]
    """SHA-256 of each file."""

    def require_described(self, path: Path, data: bytes) -> None:
        """Raise `InvalidModel` where `data` is not what the manifest says of the file `path`."""
        if self.outputs.get(path.name) != hashlib.sha256(data).hexdigest():
            raise InvalidModel(
                "is not the file that the manifest beside it describes: damaged, or of another "
                "build; run tiny-compile again",
                str(path),
            )


def read_manifest(path: Path, sizes: tuple[str, ...]) -> Manifest:
    """The manifest in a file, with the figures `sizes`; raises `InvalidModel` naming the field."""
    record = JsonReader(read_json(path, _MOST_BYTES), str(path))
    board = from_record(record.value("board"), record.place("board"))
    measured = record.reader("sizes")
    outputs = record.reader("outputs")
    return Manifest(
        board,
        {name: measured.integer(name) for name in sizes},
        read_schedule(record.reader("schedule"), board.sram_bytes),
        {name: outputs.reader(name).text("sha256") for name in outputs.names()},
    )


def read_schedule(record: JsonReader, sram_bytes: int = LARGEST) -> Schedule:
    """The schedule that `Schedule.manifest` described, without kernels and constants."""
    memory = {
        ARENA: record.integer("arena_bytes", sram_bytes),
        STATE: record.integer("state_bytes", sram_bytes),
    }
    functions = [_read_function(item, memory) for item in record.readers("functions")]
    if not functions or len({function.name for function in functions}) != len(functions):
        record.fail(f"one or both of {', '.join(_RESULTS)}", "functions")
    return Schedule(
        model=record.text("model"),
        functions={function.name: function for function in functions},
        arena_bytes=memory[ARENA],
        arena_lower_bound_bytes=record.integer("arena_lower_bound_bytes"),
        state_bytes=memory[STATE],
        state=tuple(_read_buffer(item, {STATE: memory[STATE]}) for item in record.readers("state")),
    )


def _read_buffer(record: JsonReader, memory: Mapping[int, int]) -> Buffer:
    """A buffer within one of the spaces of `memory` (space → bytes)."""
    space = record.integer("space", len(SPACES) - 1)
    element = record.text("element")
    shape = record.integers("shape", least=1)
    if space not in memory:
        record.fail(f"one of {', '.join(map(str, memory))}", "space")
    if element not in NUMPY_TYPES:
        record.fail(f"one of {', '.join(NUMPY_TYPES)}", "element")
    if len(shape) > _MOST_AXES or (element == "i1" and not shape):
        record.fail(f"at most {_MOST_AXES} axes, of a mask at least one", "shape")
    buffer = Buffer(record.text("name"), space, record.integer("offset"), shape, element)
    if buffer.offset + buffer.bytes > memory[space]:
        raise InvalidModel(
            f"ends at byte {buffer.offset + buffer.bytes} of the {memory[space]} in the "
            f"{SPACES[space]}",
            record.place(),
        )
    return buffer


def _read_function(record: JsonReader, memory: Mapping[int, int]) -> Function:
    name = record.text("name")
    if name not in _RESULTS:
        record.fail(f"one of {', '.join(_RESULTS)}", "name")
    arguments = tuple(_read_buffer(item, memory) for item in record.readers("arguments"))
    expected = _ARGUMENTS[name]
    if tuple(buffer.element for buffer in arguments)[: len(expected)] != expected:
        record.fail(f"arguments of types {', '.join(expected)}", "arguments")
    results = tuple(_read_buffer(item, memory) for item in record.readers("results"))
    if len(results) < _RESULTS[name] or (name == "train_step" and results[0].shape):
        record.fail("logits, in a training step with the loss in front", "results")
    commands = tuple(_read_command(item, memory) for item in record.readers("commands"))
    stream = None
    if record.value("stream") is not None:
        stream = _read_stream(record.reader("stream"), arguments[0], len(commands))
    return Function(name, arguments, results, commands, record.text("peak"), stream)


def _read_command(record: JsonReader, memory: Mapping[int, int]) -> Command:
    return Command(
        record.text("op"),
        record.text("layer"),
        record.integer("kernel"),
        tuple(_read_place(item, record.place("bindings")) for item in record.items("bindings")),
        tuple(_read_buffer(item, memory) for item in record.readers("results")),
        record.integers("constant_bytes"),
    )


def _read_place(found: Any, where: str) -> tuple[int, int]:
    """(space, offset) of a buffer that a kernel is given."""
    if not isinstance(found, list) or len(found) != 2:
        raise InvalidModel("expected pairs of a space and an offset", where)
    return integer(found[0], where, len(SPACES) - 1), integer(found[1], where)


def _read_stream(record: JsonReader, ring: Buffer, commands: int) -> Stream:
    rows, arrivals = record.integer("rows", least=1), record.integers("arrivals")
    if not arrivals or max(arrivals) > rows:
        record.fail(f"some counts of at most {rows} rows", "arrivals")
    if len(ring.shape) != 4:
        raise InvalidModel("needs an input of four axes", record.place())
    return Stream(record.integer("command", commands - 1), rows, arrivals)
