"""The package: built by other compilers, it computes, remembers and refuses as it should."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from package_program import Program, build, headers_of, library_objects

from tiny_dialect.dialect import new_context, read_module
from tiny_pipelines.cli import entry, tiny_compile
from tiny_pipelines.firmware import build_firmware
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import find_board
from tiny_targets.emulate import Emulator
from tiny_targets.package.golden import RATE
from tiny_targets.state_layout import decode_state, encode_state
from tiny_targets.toolchain import compile_object

BOARDS = ("stm32f746", "esp32-c3")
STEPS_A_LIFE = 10
GCC, CMAKE = shutil.which("arm-none-eabi-gcc"), shutil.which("cmake")
needs_gcc = pytest.mark.skipif(
    not (GCC and CMAKE),
    reason="needs arm-none-eabi-gcc and CMake (Debian: gcc-arm-none-eabi cmake)",
)


def digits(repository, *options):
    example = repository / "examples" / "digits"
    return [
        str(example / "digits.mlirbc"),
        *("--scheme", str(example / "sparse.json"), "--gradients", "int16", "--package"),
        *options,
    ]


@pytest.fixture(scope="module")
def packages(repository, tmp_path_factory):
    """Board name → folder of the package of the shipped network."""
    folders = {}
    for board in BOARDS:
        folders[board] = tmp_path_factory.mktemp(board) / "digits"
        command = digits(repository, "--board", board, "-o", str(folders[board]))
        assert tiny_compile.main(command) == 0
    return folders


@pytest.fixture(scope="module")
def package(packages):
    return packages["stm32f746"]


@pytest.fixture(scope="module")
def reference(repository):
    """The image that `tiny-compile` makes of the same network, and its emulated device."""
    example = repository / "examples" / "digits"
    options = TrainingOptions(str(example / "sparse.json"), gradients="int16")
    with new_context():
        module = read_module(example / "digits.mlirbc")
        return Emulator(build_firmware(module, options, find_board("stm32f746")).image)


def example_text(package, name):
    return (package / "examples" / name / f"{name}.c").read_text()


def golden(package):
    """(inputs, labels) that ship with the package."""
    record = json.loads((package / "golden" / "golden.json").read_text())
    inputs = np.fromfile(package / "golden" / "inputs.bin", np.int8)
    return inputs.reshape(record["inputs"]["shape"]), record["labels"]


def uninterrupted(reference, package, steps):
    """The saved state after `steps` steps of another program, on a device that never lost power."""
    inputs, labels = golden(package)
    reference.init()
    for step in range(steps):
        i = step % len(inputs)
        reference.train_step(inputs[i], labels[i], RATE)
    return saved_state(reference)


def saved_state(emulator):
    schedule = emulator.image.schedule
    return encode_state(schedule, {b.name: emulator.read_state(b.name) for b in schedule.state})


def lives(elf, board, count):
    """What is kept after each life of a program that gets nothing from the last one but that."""
    kept, after = None, []
    for _ in range(count):
        program = Program(elf, board)
        assert program.run(kept) == 0
        kept = {"kept": program.read("kept")}
        after.append(kept["kept"])
    return after


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("suffix", [".c", ".cc"])
def test_golden_vectors_hold_when_built_with_zig(packages, board, suffix):
    package = packages[board]
    assert (
        Program(build(package, board, example_text(package, "self_test"), suffix), board).run() == 0
    )


def test_self_test_notices_a_wrong_vector(package, tmp_path):
    wrong = tmp_path / "wrong"
    for number, array in ((2, "golden_logits"), (3, "golden_losses"), (4, "golden_state_crc")):
        shutil.rmtree(wrong, ignore_errors=True)
        shutil.copytree(package, wrong)
        path = wrong / "golden" / "digits_golden.c"
        before, after = path.read_text().split(array, 1)
        number_in_it = re.search(r"(?<![\w])\d+", after[after.index("= {") :])
        place = after.index("= {") + number_in_it.start()
        changed = str((int(number_in_it[0]) + 1) % 100)
        rest = after[place + len(number_in_it[0]) :]
        path.write_text(before + array + after[:place] + changed + rest)
        elf = build(wrong, "stm32f746", example_text(wrong, "self_test"))
        assert Program(elf, "stm32f746").run() == number


@pytest.mark.parametrize("board", BOARDS)
def test_what_was_learned_survives_a_power_cycle(packages, reference, board):
    package = packages[board]
    source = example_text(package, "learn")
    assert len(source.splitlines()) <= 60
    first, second = lives(build(package, board, source), board, 2)
    for kept, steps in ((first, STEPS_A_LIFE), (second, 2 * STEPS_A_LIFE)):
        assert struct.unpack_from("<I", kept)[0] == steps
        assert kept[4:] == uninterrupted(reference, package, steps)


def test_saved_state_of_one_core_is_read_on_another(packages):
    blobs = []
    for board, other in (BOARDS, BOARDS[::-1]):
        elfs = {
            b: build(packages[b], b, example_text(packages[b], "learn")) for b in (board, other)
        }
        kept = lives(elfs[board], board, 1)[0]
        program = Program(elfs[other], other)
        assert program.run({"kept": kept}) == 0
        blobs.append(program.read("kept"))
    assert blobs[0] == blobs[1]
    assert struct.unpack_from("<I", blobs[0])[0] == 2 * STEPS_A_LIFE


def run_tool(*command, folder):
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_gcc
def test_cmake_and_gcc_build_the_same_device(package, reference, tmp_path):
    options = ["--toolchain", package / "cmake" / "gcc.cmake", "-DDIGITS_BUILD_EXAMPLES=ON"]
    run_tool(CMAKE, "-S", package, "-B", "build", *options, folder=tmp_path)
    run_tool(CMAKE, "--build", "build", folder=tmp_path)
    built = tmp_path / "build" / "examples" / "bare_metal"
    assert Program((built / "self_test.elf").read_bytes(), "stm32f746").run() == 0
    kept = lives((built / "learn.elf").read_bytes(), "stm32f746", 2)[-1]
    assert kept[4:] == uninterrupted(reference, package, 2 * STEPS_A_LIFE)


CONSUMER = """
cmake_minimum_required(VERSION 3.16)
project(consumer C)
find_package(digits REQUIRED CONFIG)
add_executable(consumer main.c entry.c start.c golden.c)
target_include_directories(consumer PRIVATE {package}/golden)
target_link_libraries(consumer PRIVATE digits::digits)
target_link_options(consumer PRIVATE -nostartfiles -Wl,--gc-sections
    -T {package}/examples/bare_metal/board.ld)
"""


@needs_gcc
def test_installed_package_is_found_by_cmake(package, tmp_path):
    toolchain = ["--toolchain", package / "cmake" / "gcc.cmake"]
    prefix = tmp_path / "prefix"
    run_tool(CMAKE, "-S", package, "-B", "build", *toolchain, folder=tmp_path)
    run_tool(CMAKE, "--build", "build", folder=tmp_path)
    run_tool(CMAKE, "--install", "build", "--prefix", prefix, folder=tmp_path)
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "CMakeLists.txt").write_text(CONSUMER.format(package=package))
    (consumer / "main.c").write_text(example_text(package, "self_test"))
    for name in ("entry.c", "start.c"):
        shutil.copy(package / "examples" / "bare_metal" / name, consumer)
    shutil.copy(package / "golden" / "digits_golden.c", consumer / "golden.c")
    found = [*toolchain, f"-DCMAKE_PREFIX_PATH={prefix}"]
    run_tool(CMAKE, "-S", consumer, "-B", "made", *found, folder=tmp_path)
    run_tool(CMAKE, "--build", "made", folder=tmp_path)
    assert Program((tmp_path / "made" / "consumer").read_bytes(), "stm32f746").run() == 0


ARDUINO = b"""
#include <stddef.h>
#include <stdint.h>
enum { A0 = 14 };
int analogRead(int);
int digitalRead(int);
struct SerialPort { void begin(long); void println(const char *); void println(double); };
extern SerialPort Serial;
"""


@pytest.mark.parametrize("board", BOARDS)
def test_arduino_sketch_compiles(packages, board):
    text = (packages[board] / "examples" / "sketch" / "sketch.ino").read_text()
    files = {**headers_of(packages[board]), "Arduino.h": ARDUINO}
    source = f'#include "Arduino.h"\n{text}'.replace("<digits.h>", '"digits.h"')
    assert compile_object(find_board(board).target, source, ".cc", files)


@pytest.mark.parametrize("board", BOARDS)
def test_library_writes_no_globals_and_asks_for_no_heap(packages, board):
    from io import BytesIO

    from elftools.elf.elffile import ELFFile

    objects = library_objects(packages[board], find_board(board).target)
    defined, undefined = set(), set()
    for name, data in objects.items():
        file = ELFFile(BytesIO(data))
        for section in file.iter_sections():
            is_written = section["sh_flags"] & 3 == 3  # SHF_WRITE | SHF_ALLOC
            assert not (is_written and section["sh_size"]), f"{name} {section.name}"
        for symbol in file.get_section_by_name(".symtab").iter_symbols():
            if symbol["st_info"]["bind"] == "STB_GLOBAL" and symbol.name:
                (undefined if symbol["st_shndx"] == "SHN_UNDEF" else defined).add(symbol.name)
    outside = {name for name in undefined - defined if not name.startswith("__")}
    assert outside <= {"memcpy", "memset", "memmove"}
    assert all(name.startswith(("digits_", "tiny_", "kernels_")) for name in defined), defined
    assert "kernels_library_query" not in defined


def test_state_can_be_read_and_changed_on_the_host(package, reference, tmp_path):
    schedule = reference.image.schedule
    blob = (package / "golden" / "state.bin").read_bytes()
    values = decode_state(schedule, blob)
    assert set(values) == {buffer.name for buffer in schedule.state}
    assert encode_state(schedule, values) == blob
    values["classifier.bias"][:] += 1
    changed = encode_state(schedule, values)
    elf = build(package, "stm32f746", example_text(package, "learn"))
    program = Program(elf, "stm32f746")
    assert program.run({"kept": struct.pack("<I", 10) + changed}) == 0
    assert struct.unpack_from("<I", program.read("kept"))[0] == 20


def test_damaged_memory_starts_anew(package, reference):
    elf = build(package, "stm32f746", example_text(package, "learn"))
    kept = bytearray(lives(elf, "stm32f746", 1)[0])
    kept[700] ^= 4
    program = Program(elf, "stm32f746")
    assert program.run({"kept": bytes(kept)}) == 0
    assert program.read("kept")[4:] == uninterrupted(reference, package, STEPS_A_LIFE)


def test_manifest_accounts_for_every_file(package, repository):
    import hashlib

    manifest = json.loads((package / "manifest.json").read_text())
    files = {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()}
    assert files == {*manifest["outputs"], "manifest.json"}
    for path, record in manifest["outputs"].items():
        data = (package / path).read_bytes()
        assert record == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    model = (repository / "examples" / "digits" / "digits.mlirbc").read_bytes()
    assert manifest["inputs"]["model_sha256"] == hashlib.sha256(model).hexdigest()
    assert manifest["options"]["scheme"] == "sparse"
    assert "unknown" not in manifest["tools"].values()
    library = json.loads((package / "library.json").read_text())
    assert (library["name"], library["headers"]) == ("digits", "digits.h")
    assert str(repository) not in (package / "manifest.json").read_text()


def test_two_builds_are_the_same_bytes(package, repository, tmp_path):
    """Other folders, for inputs and output, another process and another hash seed."""
    example = repository / "examples" / "digits"
    contents = []
    for seed in ("1", "2"):
        folder = tmp_path / f"folder{seed}"
        folder.mkdir()
        for name in ("digits.mlirbc", "sparse.json"):
            shutil.copy(example / name, folder)
        code = "import sys; from tiny_pipelines.cli.tiny_compile import main; sys.exit(main())"
        options = ["--scheme", str(folder / "sparse.json"), "--gradients", "int16", "--package"]
        options += ["--board", "stm32f746", "-o", "out"]
        command = [sys.executable, "-c", code, "digits.mlirbc", *options]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        contents.append(contents_of(folder / "out"))
    assert contents[0] == contents[1]
    assert contents[0] == contents_of(package)


def contents_of(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_package_replaces_the_old_one_whole_or_not_at_all(tmp_path, monkeypatch):
    folder, mark = tmp_path / "out", "zephyr/module.yml"
    old, new = {mark: b"1", "src/a.c": b"old", "src/stale.c": b""}, {mark: b"2", "src/a.c": b"new"}
    entry.write_folder(str(folder), old, mark)
    replace = os.replace

    def fails(source, target):
        if Path(source).name == "filled":
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="No space left"):
            entry.write_folder(str(folder), new, mark)
    assert contents_of(folder) == old
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    entry.write_folder(str(folder), new, mark)
    assert contents_of(folder) == new


def test_other_peoples_folders_are_left_alone(repository, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    command = digits(repository, "--board", "stm32f746", "-o", str(tmp_path))
    assert tiny_compile.main(command) == 1
    assert "holds other files; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_package_can_be_inference_only(repository, tmp_path):
    folder = tmp_path / "digits"
    model = str(repository / "examples" / "digits" / "digits.mlirbc")
    command = [model, "--package", "--inference", "--board", "stm32f746", "-o", str(folder)]
    assert tiny_compile.main(command) == 0
    assert not (folder / "examples" / "learn").exists()
    assert "train_step" not in (folder / "src" / "digits.h").read_text()
    elf = build(folder, "stm32f746", example_text(folder, "self_test"))
    assert Program(elf, "stm32f746").run() == 0
    text = (folder / "examples" / "sketch" / "sketch.ino").read_text()
    files = {**headers_of(folder), "Arduino.h": ARDUINO}
    source = f'#include "Arduino.h"\n{text}'.replace("<digits.h>", '"digits.h"')
    assert compile_object(find_board("stm32f746").target, source, ".cc", files)
