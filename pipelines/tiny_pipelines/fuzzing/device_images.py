"""What `tiny-run` reads of a folder: manifests and linked programs, made in code, and readers.

A manifest that is read describes buffers within their memory and can be written and read again. A
program that is read loads within its board's flash.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_SIZES = ("arena", "trainable", "stack")
_SOURCE = """
static const int tiny_constants[3] __attribute__((section(".constants"), used)) = {1, 2, 3};
static int device_state[5] __attribute__((section(".state"), used));
void device_idle(void) { for (;;) device_state[0] += tiny_constants[1]; }
"""


@cache
def manifests() -> Sequence[bytes]:
    """Manifests of two functions, with the input whole and row by row."""
    from tiny_targets.boards import find_board
    from tiny_targets.input_stream import Stream
    from tiny_targets.schedule import ARENA, CONSTANTS, STATE, Buffer, Command, Function, Schedule

    x, logits = (
        Buffer("x", ARENA, 0, (1, 9, 7, 1), "i8"),
        Buffer("logits", ARENA, 64, (1, 2), "f32"),
    )
    mask = Buffer("result1", ARENA, 72, (1, 3, 5, 9), "i1")
    bindings = ((ARENA, 0), (STATE, 16), (CONSTANTS, 32))
    commands = (Command("conv2d", "stem", 0, bindings, (logits, mask), (16,)),)
    infer = Function("infer", (x,), (logits,), commands, "conv2d (stem)")
    scalars = Buffer("label", ARENA, 128, (), "i32"), Buffer("rate", ARENA, 132, (), "f32")
    results = Buffer("loss", ARENA, 136, (), "f32"), logits
    step = Function("train_step", (x, *scalars), results, commands)
    ring = dataclasses.replace(x, shape=(1, 3, 7, 1))
    streamed = dataclasses.replace(infer, arguments=(ring,), stream=Stream(0, 9, (3, 5, 9)))
    state = (Buffer("stem.weight", STATE, 16, (3, 1, 1, 5), "i16"),)
    found: list[bytes] = []
    for functions in ((infer, step), (streamed,)):
        named = {function.name: function for function in functions}
        record: dict[str, Any] = {
            "board": find_board("stm32f746").to_record(),
            "sizes": dict.fromkeys(_SIZES, 64),
            "schedule": Schedule("seed", named, 160, 140, 48, state).manifest(),
            "outputs": {"firmware.elf": {"bytes": 4, "sha256": "0" * 64}},
        }
        found.append(json.dumps(record, indent=1).encode())
    return found


def manifest(data: bytes, folder: Path) -> None:
    """Read a manifest; `AssertionError` where what it holds is not what is written again."""
    from tiny_targets.json_reader import JsonReader
    from tiny_targets.manifest_reader import read_manifest, read_schedule

    path = folder / "manifest.json"
    path.write_bytes(data)
    schedule = read_manifest(path, _SIZES).schedule
    record = json.loads(json.dumps(schedule.manifest()))
    assert read_schedule(JsonReader(record, "again")) == schedule


@cache
def programs() -> Sequence[bytes]:
    """Linked programs of both instruction sets."""
    from tiny_targets.boards import find_board
    from tiny_targets.firmware import STACK_BYTES, linker_script
    from tiny_targets.toolchain import compile_object, link

    found: list[bytes] = []
    for name in ("stm32f746", "esp32-c3"):
        board = find_board(name)
        objects = {"program.o": compile_object(board.target, _SOURCE)}
        script = linker_script(board, STACK_BYTES)
        found.append(link(board.target, objects, script, "device_idle"))
    return found


def program(data: bytes, folder: Path) -> None:
    """Read a program and lay it out in flash."""
    from tiny_targets.boards import find_board
    from tiny_targets.program import read_program

    del folder
    flash = find_board("stm32f746").flash
    found = read_program(data)
    if all(flash.base <= address < flash.end for address, _ in found.segments):
        assert len(found.contents([flash])[flash]) <= flash.size
