"""The documents name only what exists, and the README shows what its commands really print."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/design/arithmetic.md"]
SCRIPTS = Path(sys.executable).parent

CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"(tiny-(?:import|opt|compile|run|train)) ([^\n`#]*)")
PATH = re.compile(
    r"(?:docs|examples|test|tiny_dialect|passes|targets|pipelines|\.ci)/[\w./{},-]*[\w/}]"
)
# Steps a second, seconds and differences in the last bits vary from run to run or host to host.
VARYING = re.compile(r"\(\d+ a second\)|within [\d.e-]+")


def _text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def console_sessions(text: str) -> list[tuple[str, str]]:
    """(command, its output) of every command in the console blocks."""
    sessions = []
    for block in CONSOLE.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            sessions.append((command, output.strip("\n")))
    return sessions


def _expanded(path: str) -> list[str]:
    """`a/{b,c}.py` as `a/b.py` and `a/c.py`."""
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", path)
    if not found:
        return [path]
    return [found[1] + middle + found[3] for middle in found[2].split(",")]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_exist(name: str) -> None:
    text = re.sub(r"verb_noun\.\w+", "", _text(name))
    mentioned = [path for found in PATH.findall(text) for path in _expanded(found)]
    missing = [path for path in mentioned if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE))
    mentioned = set(re.findall(r"\bmake ([a-z-]+)(?:`| +#)", _text(name)))
    assert mentioned
    assert mentioned <= targets


def test_options_exist() -> None:
    found = COMMAND.findall(_text("README.md") + _text("CONTRIBUTING.md"))
    assert len({command for command, _ in found}) >= 4
    for command in {command for command, _ in found}:
        shown = subprocess.run(
            [SCRIPTS / command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        used = {word for name, rest in found if name == command for word in rest.split()}
        unknown = [word for word in used if word.startswith("-") and word not in shown]
        assert not unknown, f"{command} has no {unknown}"


def test_console_sessions_are_found() -> None:
    text = "```console\n$ one\na\nb\n$ two\n```\n"
    assert console_sessions(text) == [("one", "a\nb"), ("two", "")]
    assert len(console_sessions(_text("README.md"))) >= 5
    assert all(output for _, output in console_sessions(_text("README.md")))


@pytest.mark.slow
def test_readme_shows_real_output() -> None:
    for command, expected in console_sessions(_text("README.md")):
        program, *arguments = shlex.split(command)
        ran = subprocess.run(
            [SCRIPTS / program, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert ran.returncode == 0, ran.stderr
        got = ran.stdout.strip("\n")
        assert VARYING.sub("", got) == VARYING.sub("", expected), f"$ {command}\n{got}"
