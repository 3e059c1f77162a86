"""The fenced blocks of a page, and how each is executed.

Blocks of a page run in order, in one folder with `examples/` and what earlier blocks left:

    console     `$ ` commands and what they print; `fails` after the word: each ends with a status
                other than 0, and the last line of its errors is shown
    python      executed in one namespace a page; a text block right after it is what it printed
    sh          executed by bash; every command must succeed
    any other   `file=NAME` after the word writes the block there, for the blocks that follow

`slow` after the word keeps a block for the slow tests; `not run: REASON` shows it only. A comment
`<!-- input: NAME -->` asks for a file that `page_inputs.py` makes.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(sys.executable).parent
NOT_RUN = "not run: "

_FENCE = re.compile(r"^```(\w*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INPUT = re.compile(r"^<!-- input: (\S+) -->$", re.MULTILINE)
# What differs from run to run or from machine to machine, and in the last bits between CPUs.
_VARYING = re.compile(r" \(\d+ a second\)|within [\d.]+e-\d+|, \d+ s\)")


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its language, the words after it, its text, and where the text lies."""

    kind: str
    info: str
    text: str
    start: int

    @property
    def words(self) -> list[str]:
        """The words after the language; none of a block that is only shown."""
        return [] if self.reason else self.info.split()

    @property
    def reason(self) -> str:
        """Why the block is not run; empty where it is."""
        return self.info.removeprefix(NOT_RUN) if self.info.startswith(NOT_RUN) else ""

    @property
    def slow(self) -> bool:
        """True where only the slow tests run the block."""
        return "slow" in self.words

    @property
    def file(self) -> str | None:
        """The file that the block is, if it is one."""
        names = [word.removeprefix("file=") for word in self.words if word.startswith("file=")]
        return names[0] if names else None


class SnippetFailed(Exception):
    """A block whose command or program does not do what the page says."""


def snippets(text: str) -> list[Snippet]:
    """The fenced blocks of a page, in order."""
    return [Snippet(m[1], m[2], m[3], m.start(3)) for m in _FENCE.finditer(text)]


def wanted_inputs(text: str) -> list[str]:
    """The files that a page asks for."""
    return _INPUT.findall(text)


def sessions(block: str) -> Iterator[tuple[str, str]]:
    """(command, its output) of every command of a console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output.strip("\n")


def comparable(output: str) -> str:
    """The output without timings and sizes of rounding errors."""
    return _VARYING.sub("", output)


def output_of(command: str, folder: Path = ROOT, *, fails: bool = False) -> str:
    """What `command` prints on stdout; with `fails` the last line of its errors.

    Raises `SnippetFailed` where its exit status says otherwise.
    """
    program, *arguments = shlex.split(command)
    line = [str(SCRIPTS / program), *arguments]
    ran = subprocess.run(line, capture_output=True, text=True, cwd=folder, check=False)
    if bool(ran.returncode) != fails:
        raise SnippetFailed(f"$ {command}\nstatus {ran.returncode}\n{ran.stderr}")
    return ran.stderr.strip("\n").splitlines()[-1] if fails else ran.stdout.strip("\n")


def console_now(block: str, folder: Path, *, fails: bool = False) -> str:
    """A console block as its commands print it now; what differs in timings alone stays."""
    lines: list[str] = []
    for command, shown in sessions(block):
        now = output_of(command, folder, fails=fails)
        output = shown if comparable(now) == comparable(shown) else now
        lines += [f"$ {command}", output] if output else [f"$ {command}"]
    return "\n".join(lines) + "\n"


@dataclass
class PageRun:
    """Executes the blocks of one page in `folder`; the folder gets a link to `examples/`."""

    folder: Path
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    printed: str | None = None

    def __post_init__(self) -> None:
        for name in ("examples", "docs"):
            link = self.folder / name
            if not link.exists():
                link.symlink_to(ROOT / name)

    def run(self, snippet: Snippet) -> str:
        """The text that the block should have, given what its commands do now."""
        printed, self.printed = self.printed, None
        if snippet.reason:
            return snippet.text
        if snippet.file:
            (self.folder / snippet.file).write_text(snippet.text, "utf-8")
            return snippet.text
        match snippet.kind:
            case "console":
                return self._console(snippet)
            case "python":
                return self._python(snippet)
            case "sh":
                return self._shell(snippet)
            case "text" if printed is not None:
                return snippet.text if comparable(printed) == comparable(snippet.text) else printed
            case kind:
                raise SnippetFailed(f"a block of {kind or 'no language'} that nothing runs")

    def _console(self, snippet: Snippet) -> str:
        return console_now(snippet.text, self.folder, fails="fails" in snippet.words)

    def _python(self, snippet: Snippet) -> str:
        printed = io.StringIO()
        code = compile(snippet.text, f"<block at {snippet.start}>", "exec")
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed):
            exec(code, self.namespace)
        self.printed = printed.getvalue()
        return snippet.text

    def _shell(self, snippet: Snippet) -> str:
        path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
        ran = subprocess.run(
            ["bash", "-euc", snippet.text], capture_output=True, text=True, check=False,
            cwd=self.folder, env={**os.environ, "PATH": path},
        )  # fmt: skip
        if ran.returncode:
            raise SnippetFailed(f"{snippet.text}\nstatus {ran.returncode}\n{ran.stderr}")
        return snippet.text


def refreshed_page(text: str, folder: Path, *, slow: bool = True) -> str:
    """`text` with every block as its commands print it now; without `slow` those blocks stay."""
    run, parts, end = PageRun(folder), [], 0
    for snippet in snippets(text):
        now = snippet.text if snippet.slow and not slow else run.run(snippet)
        parts += [text[end : snippet.start], now]
        end = snippet.start + len(snippet.text)
    return "".join([*parts, text[end:]])
