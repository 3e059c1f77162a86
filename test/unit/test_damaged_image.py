"""A folder of `tiny-compile` that is damaged or hostile: one line and status 1, never a hang."""

import hashlib
import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import small_network

from tiny_dialect.attributes import integers
from tiny_dialect.dialect import new_context, parse_module, to_bytecode
from tiny_dialect.errors import InvalidModel, TinyError
from tiny_passes.graph import body, find_function
from tiny_pipelines.cli import tiny_powertest, tiny_run
from tiny_pipelines.firmware import compile_firmware
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import Region, find_board
from tiny_targets.emulate import EmulationError, Emulator
from tiny_targets.firmware import load_image
from tiny_targets.image_module import read_image_module
from tiny_targets.manifest_reader import read_manifest
from tiny_targets.program import read_program

ODD = [-1, 0, 1 << 31, 1 << 40, 10**30, 1.5, "x", "", "\n", None, True, [], {}, [[0]], float("inf")]
IMAGE, PLANNED, MANIFEST = "firmware.elf", "planned.mlirbc", "manifest.json"


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """The folder of an image, and a data set that it takes."""
    root = tmp_path_factory.mktemp("intact")
    with new_context():
        module = small_network.build()
        compile_firmware(module, TrainingOptions("full"), find_board("stm32f746"), root / "image")
    shape = load_image(root / "image").schedule.functions["infer"].arguments[0].shape
    samples = np.random.default_rng(0).integers(-128, 128, (10, *shape[1:])).astype(np.int8)
    np.savez(root / "set.npz", x=samples, y=np.arange(10) % 2)
    return root


@pytest.fixture
def folder(intact, tmp_path):
    return shutil.copytree(intact / "image", tmp_path / "image")


def complaint(folder, intact, capsys, *options):
    """The one line that `tiny-run` says about the folder."""
    status = tiny_run.main([str(folder), "--data", str(intact / "set.npz"), *options])
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if not line.endswith((" ...", " s"))]
    assert (status, len(lines), said.out) == (1, 1, ""), lines
    return lines[0]


def edit(folder, change):
    """Change the manifest, and let it describe the files as they are."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    for name in (IMAGE, PLANNED):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        manifest["outputs"][name]["sha256"] = digest
    path.write_text(json.dumps(manifest))


def unchanged(manifest):
    """Only the hashes."""


def test_the_intact_folder_runs(intact, capsys):
    assert tiny_run.main([str(intact / "image"), "--data", str(intact / "set.npz"), "--check"]) == 0
    assert "check         passed" in capsys.readouterr().out


@pytest.mark.parametrize("name", [IMAGE, PLANNED, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "cut", "flipped"])
def test_a_file_that_is_not_as_it_was_written(folder, intact, capsys, name, damage):
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        middle = len(data) // 2
        flipped = bytes([*data[:middle], data[middle] ^ 0x80, *data[middle + 1 :]])
        path.write_bytes({"empty": b"", "cut": data[:middle], "flipped": flipped}[damage])
    line = complaint(folder, intact, capsys)
    assert line.startswith(f"tiny-run: {path}")
    if damage in ("cut", "flipped") and name != MANIFEST:
        assert "damaged, or of another build; run tiny-compile again" in line


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schedule", "arena_bytes"], 1 << 30, "schedule.arena_bytes: expected an integer from 0"),
        (["schedule", "state", 0, "offset"], 1 << 20, r"state\[0\]: ends at byte .* in the state"),
        (["schedule", "state", 0, "space"], 0, r"state\[0\].space: expected one of 1"),
        (["schedule", "state", 0, "element"], "i4", r"state\[0\].element: expected one of i1"),
        (["schedule", "functions", 0, "name"], "main", r"functions\[0\].name: expected one of"),
        (["schedule", "functions", 0, "results"], [], r"functions\[0\].results: expected logits"),
        (["schedule", "functions", 0, "commands", 1, "bindings"], [[9, 0]], "from 0 to 2, got 9"),
        (["schedule", "functions", 0, "commands", 1], 7, r"commands\[1\]: expected an object"),
        (["schedule", "functions"], [], "schedule.functions: expected one or both of infer"),
        (["sizes", "stack"], -2048, "sizes.stack: expected an integer from 0"),
        (["board", "sram"], {"base": "0x2001", "kib": 4}, "board: stm32f746: sram: expects base"),
        (["schedule", "model"], "a\nb", "schedule.model: expected a printable string"),
    ],
)
def test_a_field_is_named(folder, path, value, message):
    def change(manifest):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    edit(folder, change)
    with pytest.raises(TinyError, match=message) as raised:
        load_image(folder)
    assert str(raised.value).startswith(str(folder / MANIFEST))


def places(node, path=()):
    """The path of every value in JSON."""
    if path:
        yield path
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def test_any_field_may_hold_anything(intact, tmp_path):
    original = (intact / "image" / MANIFEST).read_text()
    every = list(places({k: json.loads(original)[k] for k in ("board", "sizes", "schedule")}))
    rng, path, refused = random.Random(0), tmp_path / MANIFEST, 0
    for _ in range(600):
        manifest = json.loads(original)
        *parents, last = rng.choice(every)
        node = manifest
        for key in parents:
            node = node[key]
        if rng.random() < 0.2:
            del node[last]
        else:
            node[last] = rng.choice(ODD)
        path.write_text(json.dumps(manifest))
        try:
            found = read_manifest(path, ("stack",)).schedule
        except TinyError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        for function in found.functions.values():
            for command in function.commands:
                assert all(b.offset + b.bytes <= found.arena_bytes for b in command.results)
    assert refused > 300


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{", "\x00", '"x"', "1e999"])
def test_other_json(folder, intact, capsys, content):
    (folder / MANIFEST).write_text(content)
    assert str(folder / MANIFEST) in complaint(folder, intact, capsys)


def test_a_module_of_another_image(folder, intact, capsys, tmp_path):
    with new_context():
        module = small_network.build()
        compile_firmware(module, TrainingOptions("bias-only"), find_board("stm32f746"), tmp_path)
    shutil.copy(tmp_path / PLANNED, folder / PLANNED)
    assert "of another build" in complaint(folder, intact, capsys)
    edit(folder, unchanged)
    line = complaint(folder, intact, capsys)
    assert "not what the image beside it was built from: @train_step has other ops" in line


def test_a_place_that_the_module_does_not_know(folder):
    path = folder / PLANNED
    with new_context():
        module = parse_module(path.read_bytes(), "planned")
        ops = body(find_function(module, "infer"))
        op = next(op for op in ops if op.operation.name == "tiny.conv2d")
        op.operation.attributes["tiny.offsets"] = integers([16 + 4 * len(ops)])
        path.write_bytes(to_bytecode(module))
        edit(folder, unchanged)
        with pytest.raises(InvalidModel, match="@infer has other ops or places"):
            read_image_module(path)
        del op.operation.attributes["tiny.offsets"]
        path.write_bytes(to_bytecode(module))
        edit(folder, unchanged)
        with pytest.raises(InvalidModel, match=r"needs 1 tiny\.offsets, has 0"):
            read_image_module(path)


def test_programs_that_are_none(folder, intact, capsys):
    path = folder / IMAGE
    data = path.read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 20])):
            damaged[rng.randrange(rng.choice([64, len(data)]))] = rng.choice([0, 0xFF])
        try:
            read_program(bytes(damaged))
        except InvalidModel as error:
            assert str(error).startswith("firmware.elf: ")
    path.write_bytes(data[: len(data) - 3000])
    edit(folder, unchanged)
    assert "is not a readable program" in complaint(folder, intact, capsys)


def patched(image, symbol, code):
    """The image with `code` at the start of a function."""
    address = read_program(image.elf).symbols[symbol] & ~1
    for start, data in read_program(image.elf).segments:
        if start <= address < start + len(data):
            at = image.elf.index(data) + address - start
            return replace(image, elf=image.elf[:at] + code + image.elf[at + len(code) :])
    raise AssertionError(symbol)


@pytest.mark.parametrize("symbol", ["device_start", "device_train_step"])
def test_a_program_that_never_returns(intact, symbol):
    endless = patched(load_image(intact / "image"), symbol, b"\xfe\xe7")
    with pytest.raises(EmulationError, match="has not returned after 200000 instructions"):
        shape = endless.schedule.functions["infer"].arguments[0].shape
        Emulator(endless, 200_000).train_step(np.zeros(shape, np.int8), 0, 0.1)


def test_other_ops_than_the_manifest_lists(intact):
    image = load_image(intact / "image")
    infer = image.schedule.functions["infer"]
    x = np.zeros(infer.arguments[0].shape, np.int8)
    for commands, message in (
        (infer.commands[:-1], f"runs more than the {len(infer.commands) - 1} ops"),
        ((*infer.commands, infer.commands[0]), f"ran {len(infer.commands)} of the"),
    ):
        functions = {"infer": replace(infer, commands=commands)}
        other = replace(image, schedule=replace(image.schedule, functions=functions))
        with pytest.raises(EmulationError, match=message):
            Emulator(other).infer(x)


def test_memory_that_cannot_be_mapped(intact):
    image = load_image(intact / "image")
    over = replace(image.board, sram=image.board.flash)
    with pytest.raises(EmulationError, match="cannot map 1048576 bytes at 0x08000000"):
        Emulator(replace(image, board=over))
    vast = replace(image.board, sram=Region(0x20000000, 1 << 30))
    with pytest.raises(TinyError, match="has 1025 MiB of memory, the emulator maps 256"):
        Emulator(replace(image, board=vast))


@pytest.mark.parametrize("name", ["kernels.o", "small.c", "firmware.ld", "constants.bin"])
def test_what_the_power_test_links_again(folder, capsys, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:100])
    assert tiny_powertest.main([str(folder)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1 and lines[0].startswith(f"tiny-powertest: {path}: is not the file that")
