"""The command line of iree-compile, as far as it must be understood to stand in front of it.

Which options take their value from the next argument only the program itself knows: its help is
asked, and only where an argument could be either a value or the input.
"""

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.iree.compiler import PHASES, executable, require_phase

_OUTPUT = "-o"
_PER_COMMAND = ("--compile-from", "--compile-to", "--output-format", "--emit-mlir-bytecode")
_OPTION_WITH_VALUE = re.compile(r"^\s+(--?[\w-]+)(?:=<| <)", re.MULTILINE)


@dataclass(frozen=True)
class CommandLine:
    """iree-compile's arguments: the input (`-` is stdin), phases, and everything else in order."""

    input: str | None
    compile_from: str
    compile_to: str
    stage_flags: tuple[str, ...]
    """What every stage of a compilation takes: all but the input, the output and its format."""
    final_flags: tuple[str, ...]
    """What only the last stage takes: where the output goes and its format."""


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    """iree-compile's arguments, split; raises `InvalidOption` for unknown phases and two inputs."""
    rest = list(_expanded(arguments))
    inputs: list[str] = []
    phases = {"--compile-from": PHASES[0], "--compile-to": PHASES[-1]}
    stage: list[str] = []
    final: list[str] = []
    while rest:
        words = _next_option(rest)
        name, _, value = words[0].partition("=")
        name = _canonical(name)
        if not words[0].startswith("-") or words[0] == "-":
            inputs.append(words[0])
        elif name in phases:
            phases[name] = require_phase(words[1] if len(words) > 1 else value)
        elif name in _PER_COMMAND or name == _OUTPUT:
            final += words
        else:
            stage += words
    if len(inputs) > 1:
        raise InvalidOption(f"expected one input, got {' and '.join(inputs)}")
    start, end = phases["--compile-from"], phases["--compile-to"]
    return CommandLine(inputs[0] if inputs else None, start, end, tuple(stage), tuple(final))


def _canonical(name: str) -> str:
    """LLVM takes one dash or two, except for `-o`, which is written with one."""
    return name if name == _OUTPUT or name.startswith("--") else f"-{name}"


def _next_option(rest: list[str]) -> list[str]:
    """Remove one argument from `rest`, with the next one where that is its value."""
    first = rest.pop(0)
    if not first.startswith("-") or first == "-" or "=" in first or not rest:
        return [first]
    if first == _OUTPUT:
        return [first, rest.pop(0)]
    follows = rest[0]
    is_option = follows.startswith("-") and follows != "-"
    if not is_option and _canonical(first) in _options_with_value():
        return [first, rest.pop(0)]
    return [first]


def _options_with_value() -> set[str]:
    """The options of the installed iree-compile that take a value."""
    shown = subprocess.run(
        [executable(), "--help-hidden"], capture_output=True, text=True, check=False
    ).stdout
    return {_canonical(name) for name in _OPTION_WITH_VALUE.findall(shown)}


def _expanded(arguments: Sequence[str], depth: int = 0) -> list[str]:
    """The arguments with those of `@FILE` in its place, as LLVM reads them."""
    if depth > 8:
        raise InvalidOption("response files nest more than 8 deep")
    result = []
    for argument in arguments:
        if argument.startswith("@") and Path(argument[1:]).is_file():
            inner = shlex.split(Path(argument[1:]).read_text("utf-8"))
            result += _expanded(inner, depth + 1)
        else:
            result.append(argument)
    return result
