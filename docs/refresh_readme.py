"""Run the commands in the README's console blocks again and put their output there.

    make readme

`test/unit/test_docs_readme.py` (slow) fails where the README shows something else than this would.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SCRIPTS = Path(sys.executable).parent

_BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)
# What differs from run to run or from machine to machine, and in the last bits between CPUs.
_VARYING = re.compile(r" \(\d+ a second\)|within [\d.]+e-\d+")


def sessions(text: str) -> list[tuple[str, str]]:
    """(command, its output) of every command in the console blocks of `text`."""
    found: list[tuple[str, str]] = []
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.strip("\n")))
    return found


def output_of(command: str) -> str:
    """What `command` prints on stdout; raises `CalledProcessError` where it fails."""
    program, *arguments = shlex.split(command)
    line = [str(SCRIPTS / program), *arguments]
    ran = subprocess.run(line, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return ran.stdout.strip("\n")


def comparable(output: str) -> str:
    """The output without timings and sizes of rounding errors."""
    return _VARYING.sub("", output)


def refreshed(text: str) -> str:
    """`text` with every console block as the commands print it now; unchanged parts stay."""

    def block(match: re.Match[str]) -> str:
        lines: list[str] = []
        for command, shown in sessions(f"```console\n{match[0]}```"):
            now = output_of(command)
            output = shown if comparable(now) == comparable(shown) else now
            lines += [f"$ {command}", output]
        return "\n".join(lines) + "\n"

    return _BLOCK.sub(block, text)


if __name__ == "__main__":
    README.write_text(refreshed(README.read_text("utf-8")), "utf-8")
