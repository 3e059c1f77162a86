"""Options, paths and schemes that make no sense: one line and status 1 from every command."""

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tiny_dialect.dialect import new_context
from tiny_passes.registry import run_pipeline

SET = "examples/digits/shifted.npz"
MODEL = "examples/digits/digits.mlirbc"
TRAIN = [MODEL, "--scheme", "full", "--data", SET]
SEARCH = [MODEL, "--data", SET, "--sram", "12000", "-o", "out"]


def complaint(command, arguments, capsys):
    """The one line of error of a command."""
    main = importlib.import_module(f"tiny_pipelines.cli.{command.replace('-', '_')}").main
    status = main(arguments)
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if not line.endswith((" ...", " s"))]
    assert (status, len(lines), said.out) == (1, 1, ""), lines
    assert lines[0].startswith(f"{command}: ")
    return lines[0].removeprefix(f"{command}: ")


@pytest.fixture
def place(repository, tmp_path, monkeypatch):
    """A folder to work in, with the examples."""
    (tmp_path / "examples").symlink_to(repository / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("tiny-train", [*TRAIN, "--lr", "-1"], "a finite rate of at least 0, got -1.0"),
        ("tiny-train", [*TRAIN, "--lr", "nan"], "a finite rate of at least 0, got nan"),
        ("tiny-train", [*TRAIN, "--lr", "1e39"], "a finite rate of at least 0, got 1e+39"),
        ("tiny-train", [*TRAIN, "--lr", "1e-50"], "the rate 1e-50 is 0 in float32"),
        ("tiny-train", [*TRAIN, "--seed", "-1"], "a seed of at least 0, got -1"),
        ("tiny-train", [*TRAIN, "--warmup", "nan"], "a finite warm-up"),
        ("tiny-train", [*TRAIN, "--batch", "0"], "a batch of at least 1, got 0"),
        ("tiny-train", [*TRAIN, "--limit-train", "0"], "a limit of at least 1, got 0"),
        ("tiny-train", [*TRAIN, "-o", "none/state.npz"], "none/state.npz: the folder"),
        ("tiny-train", [*TRAIN, "--log", "examples"], "examples: is a folder"),
        ("tiny-train", [*TRAIN, "--checkpoint", "none/x"], "none/x: the folder"),
        ("tiny-train", [*TRAIN, "--classes", "1"], "a head of 1 classes; expected 2 to"),
        ("tiny-search", [*SEARCH, "--seed", "-1"], "a seed of at least 0, got -1"),
        (
            "tiny-search",
            [MODEL, "--data", SET, "--like", "nope", "-o", "new/out"],
            "unknown update scheme 'nope'",
        ),
        ("tiny-import", [MODEL, "--classes", "3", "--seed", "-1"], "seed -1; expected 0 or more"),
        ("tiny-compile", [MODEL, "--board", "stm32f746", "-o", "file"], "file: is a file"),
        (
            "tiny-compile",
            [MODEL, "--board", "stm32f746", "-o", "file/out"],
            "file is a file, not a",
        ),
        (
            "tiny-compile",
            [MODEL, "--board", "stm32f746", "-o", "out", "--search-seconds", "nan"],
            "--search-seconds: expected a positive number, got nan",
        ),
        ("tiny-powertest", ["file"], "file: no such folder"),
        ("tiny-difftest", ["--count", "1", "-o", "file"], "file: is not a folder"),
        ("tiny-difftest", ["--count", "1", "--summary", "none/x"], "none/x: the folder"),
        ("tiny-difftest", ["--seconds", "nan"], "--seconds, --count and --jobs more than 0"),
        ("tiny-fuzz", ["--seconds", "nan"], "--seconds, --count and --jobs more than 0"),
        ("tiny-bench", ["--suite", "file"], "file: is not JSON: "),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else None,
)
def test_options_that_make_no_sense(place, capsys, command, arguments, message):
    (place / "file").write_text("")
    assert message in complaint(command, arguments, capsys)
    assert sorted(path.name for path in place.iterdir()) == ["examples", "file"]


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ({"name": "s", "biases": 99, "weights": {}}, "99"),
        ({"name": "s", "biases": 0, "weights": {"no.such": 1}}, "no.such"),
        ({"name": "s", "biases": 0, "weights": {"features": 0}}, "features"),
        ({"name": "s", "biases": -1, "weights": {}}, "-1"),
        ({"name": "s"}, "s.json"),
        ([], "s.json"),
    ],
)
def test_schemes_that_fit_no_layer(place, capsys, scheme, message):
    (place / "s.json").write_text(json.dumps(scheme))
    arguments = [MODEL, "--scheme", "s.json", "--board", "stm32f746", "-o", "out"]
    assert message in complaint("tiny-compile", arguments, capsys)
    assert not (place / "out").exists()


def test_names_with_spaces_and_letters_of_any_kind(place, capsys):
    folder = place / "für zwei" / "日本"
    folder.mkdir(parents=True)
    copy = folder / "mödel 1.mlir"
    importer = importlib.import_module("tiny_pipelines.cli.tiny_import")
    assert importer.main([MODEL, "-o", str(copy)]) == 0
    compiler = importlib.import_module("tiny_pipelines.cli.tiny_compile")
    image = str(folder / "im age")
    assert compiler.main([str(copy), "--board", "stm32f746", "--inference", "-o", image]) == 0
    runner = importlib.import_module("tiny_pipelines.cli.tiny_run")
    np.savez(folder / "ü.npz", x=np.zeros((5, 16, 16), np.uint8), y=np.arange(5))
    assert runner.main([image, "--data", str(folder / "ü.npz"), "--steps", "0", "--test", "1"]) == 0
    capsys.readouterr()
    text = copy.read_text().replace("strides = array<i64: 1, 1>", "strides = array<i64: 0, 1>", 1)
    copy.write_text(text)
    line = complaint("tiny-opt", [str(copy)], capsys)
    assert line.startswith(f"{copy}:") and "expects two strides of at least 1" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user without rights")
def test_a_folder_that_cannot_be_written(place, repository):
    """Root may write anywhere, so a child gives its rights away."""
    locked = place / "locked"
    locked.mkdir(mode=0o555)
    script = (
        "import os, sys; os.setgid(65534); os.setuid(65534)\n"
        "from tiny_pipelines.cli.entry import require_file_place, write_output, run, Parser\n"
        "def command(_):\n"
        "    require_file_place(sys.argv[1])\n"
        "raise SystemExit(run(Parser('tiny-test'), command, []))"
    )
    for folder in (place, *place.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            pytest.skip(f"{folder} is closed to other users")
    arguments = [sys.executable, "-c", script, str(locked / "file")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=repository, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"tiny-test: {locked / 'file'}: cannot be written\n",
    )


def test_a_cp_sat_search_without_time(repository):
    from tiny_dialect.errors import InvalidOption
    from tiny_pipelines.frontends import import_bytes

    with new_context():
        module = import_bytes((repository / MODEL).read_bytes(), "digits", None, 0)
        with pytest.raises(InvalidOption, match="positive number of seconds, got nan"):
            run_pipeline(module, "tiny-plan-memory{search=cp-sat seconds=nan}")
