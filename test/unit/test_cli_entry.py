"""Shared command plumbing: exit status, one-line errors, atomic outputs, progress."""

import json
import os
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tiny_dialect.errors import InvalidModel, InvalidOption
from tiny_pipelines.cli import entry

REPOSITORY = Path(__file__).resolve().parents[2]


def run(command, *arguments):
    """`entry.run` of a command named `tiny-test` with an input and the shared options."""
    options = entry.parser("tiny-test", "A test.", input_name="MODEL")
    return entry.run(options, command, ["in.mlir", *arguments])


def raising(error):
    def command(_):
        raise error

    return command


def test_options_have_the_shared_names_and_defaults():
    seen = []
    assert run(seen.append, "--json") == 0
    assert vars(seen[0]) == {"input": "in.mlir", "output": "-", "json": True, "load": []}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InvalidModel("is bad", "a.mlir:3:1"), "tiny-test: a.mlir:3:1: is bad"),
        (InvalidOption("two\nlines"), "tiny-test: two lines"),
        (FileNotFoundError(2, "No such file", "x.mlir"), "tiny-test: x.mlir: No such file"),
        (OSError("disk on fire"), "tiny-test: disk on fire"),
    ],
)
def test_an_expected_failure_is_one_line_and_status_1(error, line, capsys):
    assert run(raising(error)) == 1
    assert capsys.readouterr() == ("", line + "\n")


@pytest.mark.parametrize("arguments", [["--no-such-option"], ["--js"], ["extra"], ["-o"]])
def test_a_wrong_option_is_one_line_and_status_1(arguments, capsys):
    assert run(print, *arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tiny-test: ")
    assert err.endswith("see tiny-test --help\n")


def test_the_status_of_the_command_an_interrupt_and_a_closed_pipe():
    assert run(lambda _: None) == 0
    assert run(lambda _: 3) == 3
    assert run(raising(KeyboardInterrupt())) == 130
    assert run(raising(BrokenPipeError())) == 141


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_an_output_file_appears_complete_with_the_mode_of_the_umask(tmp_path):
    target = tmp_path / "out.mlir"
    before = os.umask(0o027)
    try:
        entry.write_output(str(target), b"new")
    finally:
        os.umask(before)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_an_existing_output_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "out.mlir", tmp_path / "link.mlir"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    entry.write_output(str(link), b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "out.mlir"
    target.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        entry.write_output(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_outputs_that_cannot_be_files(tmp_path):
    with pytest.raises(InvalidOption, match=r"the folder .*missing does not exist"):
        entry.write_output(str(tmp_path / "missing" / "out.mlir"), b"")
    with pytest.raises(IsADirectoryError):
        entry.write_output(str(tmp_path), b"")
    entry.write_output(os.devnull, b"gone")
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


def test_an_output_folder_is_made_on_success_and_merged_into_an_existing_one(tmp_path):
    target = tmp_path / "out"
    for content in ("first", "second"):
        with entry.output_folder(str(target)) as folder:
            (folder / "src").mkdir()
            (folder / "src" / "a.c").write_text(content)
            assert not target.exists() or (target / "src" / "a.c").read_text() == "first"
        (target / "notes.txt").write_text("the user's own")
    assert (target / "src" / "a.c").read_text() == "second"
    assert sorted(path.name for path in target.iterdir()) == ["notes.txt", "src"]
    assert list(tmp_path.iterdir()) == [target]


def test_folders_above_an_output_folder_are_made_on_success_only(tmp_path):
    deep = tmp_path / "build" / "today" / "out"
    with pytest.raises(InvalidModel), entry.output_folder(str(deep)) as folder:
        (folder / "half.c").write_text("half")
        raise InvalidModel("no")
    assert list(tmp_path.iterdir()) == []
    with entry.output_folder(str(deep)) as folder:
        (folder / "a.c").write_text("whole")
    entry.write_folder(str(deep.parent / "package"), {"src/a.c": b"whole"}, "src/a.c")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(deep.parent).as_posix() for path in files) == [
        "out/a.c",
        "package/src/a.c",
    ]
    for refused in (deep / "a.c", deep / "a.c" / "below" / "it"):
        with pytest.raises(InvalidOption, match="is a file"), entry.output_folder(str(refused)):
            pass


def test_an_output_folder_of_a_failed_command_does_not_exist(tmp_path):
    with pytest.raises(InvalidModel), entry.output_folder(str(tmp_path / "out")) as folder:
        (folder / "half.c").write_text("half")
        raise InvalidModel("fails")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_output_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    with (
        pytest.raises(InvalidOption, match="is a file"),
        entry.output_folder(str(tmp_path / "out")),
    ):
        pass


def test_input_is_a_file_or_stdin(tmp_path):
    (tmp_path / "in.bin").write_bytes(b"\0\xff")
    path = str(tmp_path / "in.bin")
    assert entry.read_input(path) == (b"\0\xff", path)
    program = "from tiny_pipelines.cli import entry; print(entry.read_input('-'))"
    done = subprocess.run([sys.executable, "-c", program], input=b"\0x", capture_output=True)
    assert done.stdout == b"(b'\\x00x', '<stdin>')\n"


def test_json_is_one_object_on_stdout(capsys):
    entry.print_json({"a": [1], "b": None})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": [1], "b": None}
    assert err == ""


def test_progress_speaks_only_of_slow_steps(monkeypatch, capsys):
    with entry.progress("quick"):
        pass
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(entry, "_PROGRESS_AFTER_SECONDS", 0.05)
    with entry.progress("slow"):
        time.sleep(0.2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "slow ..."
    assert err.splitlines()[1].startswith("slow: 0.")


SCRIPTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
HEAVY = ("numpy", "torch", "torch_mlir", "mlir", "iree", "unicorn", "onnx", "elftools", "ortools")
HELP_SECONDS = 0.3


def cpu_seconds(command):
    """The least CPU time of a few runs, and what the last one said to stderr."""
    spent = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = os.times()
        spent.append(
            after.children_user + after.children_system
            - before.children_user - before.children_system
        )  # fmt: skip
    return min(spent), done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_shows_its_help_at_once(name):
    module = SCRIPTS[name].split(":")[0]
    # `--help` of a drop-in for iree-compile is that of iree-compile.
    option = "--tiny-help" if name == "tiny-iree-compile" else "--help"
    program = (
        f"import sys; sys.argv[1:] = [{option!r}]; from {module} import main; sys.exit(main())"
    )
    bare, _ = cpu_seconds([sys.executable, "-c", ""])
    spent, said = cpu_seconds([sys.executable, "-X", "importtime", "-c", program])
    loaded = {line.split("|")[-1].strip() for line in said.splitlines() if "import time:" in line}
    assert module in loaded
    assert not loaded & set(HEAVY)
    assert spent - bare <= HELP_SECONDS
