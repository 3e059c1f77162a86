"""`tiny-iree-compile IN -o OUT [iree-compile's flags]`: iree-compile that knows `tiny` modules."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

from tiny_pipelines.cli import entry

if TYPE_CHECKING:  # IREE's part is imported only to compile; --tiny-help is immediate
    from tiny_pipelines.iree.command_line import CommandLine
    from tiny_pipelines.iree.hooks import Hook

_DESCRIPTION = """\
iree-compile for modules with tiny ops: takes every flag of iree-compile, runs a tiny pipeline,
lowers what is left to linalg, and hands the module over in memory. A module without tiny ops goes
to iree-compile as it is."""
_EPILOG = """\
A hook FUNCTION gets the iree.compiler.ir.Module that enters PHASE and changes it in place or
returns another. Installed packages offer hooks as entry points of tiny_pipelines.iree_hooks, run
on tiny modules only. The flags of iree-compile follow: iree-compile --help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is iree-compile's where that ran."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return entry.run(_options(), lambda _: _run(given), [])


def _options() -> argparse.ArgumentParser:
    parser = entry.Parser(
        prog="tiny-iree-compile",
        usage="tiny-iree-compile [tiny options] [iree-compile options] [IN]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("--tiny-pipeline", metavar="TEXT", default="", help="passes before the lowering to linalg")
    add(
        "--tiny-load", metavar="FILE", type=Path, action="append", default=[], help="add its passes"
    )
    add(
        "--tiny-hook",
        metavar="PHASE:MODULE:FUNCTION",
        action="append",
        default=[],
        help="run FUNCTION before IREE's PHASE; repeat for several",
    )
    add("--tiny-no-installed-hooks", action="store_true", help="ignore the hooks of packages")
    add("--tiny-help", action="store_true", help="show this and exit")
    return parser


def _run(arguments: list[str]) -> int:
    parser = _options()
    tiny, rest = parser.parse_known_args(arguments)
    if tiny.tiny_help:
        parser.print_help()
        return 0
    from tiny_pipelines.iree.command_line import parse_command_line
    from tiny_pipelines.iree.compiler import executable
    from tiny_pipelines.iree.hooks import installed_hooks, parse_hook

    line = parse_command_line(rest)
    if line.input is None:  # --help, --version, or iree-compile's own error
        return subprocess.call([executable(), *rest])
    hooks = [parse_hook(text) for text in tiny.tiny_hook]
    source, name = entry.read_input(line.input)
    lowered = _lower(source, name, tiny)
    if lowered is not None and not tiny.tiny_no_installed_hooks:
        hooks += installed_hooks()
    if lowered is None and not hooks:
        stdin = source if line.input == entry.STANDARD_STREAM else None
        return subprocess.run([executable(), *rest], input=stdin, check=False).returncode
    return _compile_in_stages(line, lowered or source, lowered is not None, hooks)


def _lower(source: bytes, name: str, tiny: argparse.Namespace) -> bytes | None:
    from tiny_passes.registry import load_file
    from tiny_pipelines.iree.plugin import lower_source

    for path in tiny.tiny_load:
        load_file(path)
    return lower_source(source, name, tiny.tiny_pipeline)


def _compile_in_stages(
    line: CommandLine, source: bytes, is_tiny: bool, hooks: Sequence[Hook]
) -> int:
    """Run iree-compile up to each phase that a hook waits for, and then to the end."""
    from tiny_pipelines.iree.hooks import by_stage, run_hooks
    from tiny_pipelines.iree.plugin import with_tiny_flags

    flags = with_tiny_flags(line.stage_flags) if is_tiny else list(line.stage_flags)
    start = line.compile_from
    for stop, group in by_stage(hooks, start, line.compile_to):
        to_bytecode = ["--emit-mlir-bytecode", "-o", "-"]
        stage = _iree_compile([*flags, *_between(start, stop), *to_bytecode], source, PIPE)
        if stage.returncode:
            return stage.returncode
        source, start = run_hooks(stage.stdout, group), stop
    last = [*flags, *_between(start, line.compile_to), *line.final_flags]
    return _iree_compile(last, source).returncode


def _between(start: str, stop: str) -> list[str]:
    return [f"--compile-from={start}", f"--compile-to={stop}"]


def _iree_compile(
    flags: Sequence[str], source: bytes, stdout: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    """One run of the program on a module in memory."""
    from tiny_pipelines.iree.compiler import executable

    sys.stdout.flush()
    command = [str(executable()), *flags, entry.STANDARD_STREAM]
    return subprocess.run(command, input=source, stdout=stdout, check=False)


if __name__ == "__main__":
    sys.exit(main())
