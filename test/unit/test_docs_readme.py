"""The documents name only what exists, and the README shows what its commands really print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import refresh_readme  # noqa: E402

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/design/arithmetic.md"]
SCRIPTS = Path(sys.executable).parent

COMMAND = re.compile(r"(tiny-(?:import|opt|compile|run|train)) ([^\n`#]*)")
PATH = re.compile(
    r"(?:docs|examples|test|tiny_dialect|passes|targets|pipelines|\.ci)/[\w./{},-]*[\w/}]"
)


def _text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


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


def test_sessions_are_found() -> None:
    text = "```console\n$ one\na\nb\n$ two\n```\n"
    assert refresh_readme.sessions(text) == [("one", "a\nb"), ("two", "")]
    assert len(refresh_readme.sessions(_text("README.md"))) >= 5
    assert all(output for _, output in refresh_readme.sessions(_text("README.md")))


def test_refresh_replaces_wrong_output_only() -> None:
    command = "$ python -c 'print(1)'\n"
    right, wrong = (f"a\n```console\n{command}{output}\n```\nb\n" for output in "12")
    assert refresh_readme.refreshed(wrong) == right
    assert refresh_readme.refreshed(right) == right


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "shown"), refresh_readme.sessions((ROOT / "README.md").read_text("utf-8"))
)
def test_readme_shows_real_output(command: str, shown: str) -> None:
    now = refresh_readme.output_of(command)
    assert refresh_readme.comparable(now) == refresh_readme.comparable(shown), "run `make readme`"
