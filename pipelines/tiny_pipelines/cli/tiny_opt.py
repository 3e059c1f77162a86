"""`tiny-opt IN -p PIPELINE`: run passes on a module and print the result; the lit tests' tool."""

import argparse
import importlib
import importlib.util
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.cli import entry

_SEPARATOR = re.compile(r"^[ \t]*// -----")
# Names the compiler's own pipelines; described from its text, imported only to run them.
_PIPELINES = Path(__file__).parents[1] / "training.py"
_TARGET_PASSES = ("choose_blocking", "declare_scratch", "grow_scratch")
"""Modules of `tiny_targets` that register a pass; imported only where a pipeline names it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _run, arguments)


def _options() -> argparse.ArgumentParser:
    parser = entry.Parser(
        prog="tiny-opt",
        description="Run passes on a module of the tiny dialect and print the result.",
        allow_abbrev=False,
        add_help=False,
    )
    add, flag = parser.add_argument, "store_true"
    add("input", nargs="?", default="-", metavar="IN", help="text or bytecode; - is stdin")
    add("-p", "--pass-pipeline", metavar="TEXT", default="", help="a{opt=v},func.func(b,cse)")
    add("-o", "--output", metavar="OUT", default="-", help="where the result goes; - is stdout")
    add("--emit-bytecode", action=flag, help="write MLIR bytecode")
    add("--split-input-file", action=flag, help="process the pieces between '// -----' one by one")
    add(
        "--verify-diagnostics", action=flag, help="compare errors with '// expected-error' comments"
    )
    entry.load_option(parser)
    add("--timing", action=flag, help="print the seconds of each pass to stderr")
    add("--mlir-print-ir-after-all", action=flag, help="print the module after each pass to stderr")
    add("--mlir-print-debuginfo", action=flag, help="print locations")
    add(
        "--mlir-elide-elementsattrs-if-larger",
        metavar="N",
        type=int,
        dest="elide",
        help="print constants of more than N elements as '...'",
    )
    add("-h", "--help", action=_Help, nargs=0, help="show this, every pass, and exit")
    return parser


class _Help(argparse.Action):
    """The usual help, followed by the passes, those of earlier `--load` files included."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, *_: Any) -> None:
        parser.print_help()
        print("\npasses and pipelines:\n" + "\n".join(_describe(namespace.load)))
        print("\nMLIR's own passes (cse, canonicalize, ...) work as well.")
        parser.exit()


def _describe(loaded: Sequence[Path]) -> Iterator[str]:
    from tiny_passes.catalogue import builtin_passes, entries_in

    files = [_PIPELINES, *_target_files(), *loaded]
    for found in itertools.chain(builtin_passes(), *map(entries_in, files)):
        yield f"  {found.name} ({found.anchor})"
        yield textwrap.fill(found.summary, 96, initial_indent=" " * 6, subsequent_indent=" " * 6)
        yield from (f"      {{{option}}}" for option in found.options)


def _target_files() -> list[Path]:
    spec = importlib.util.find_spec("tiny_targets")
    folder = Path((spec and spec.origin) or "").parent
    return [folder / f"{name}.py" for name in _TARGET_PASSES]


def _run(options: argparse.Namespace) -> int:
    importlib.import_module(f"tiny_pipelines.{_PIPELINES.stem}")
    for name in _TARGET_PASSES:
        if f"tiny-{name.replace('_', '-')}" in options.pass_pipeline:
            importlib.import_module(f"tiny_targets.{name}")
    data, source = entry.read_input(options.input)
    if options.verify_diagnostics:
        return _verify_diagnostics(data, source, options)
    pieces = [_process(piece, source, options) for piece in _pieces(data, options)]
    if options.emit_bytecode and len(pieces) > 1:
        raise InvalidOption("--emit-bytecode writes one module; the input has several pieces")
    entry.write_output(options.output, b"// -----\n".join(pieces))
    return 0


def _pieces(data: bytes, options: argparse.Namespace) -> list[bytes]:
    """The modules of the input; each keeps its line numbers by leading blank lines."""
    if not options.split_input_file:
        return [data]
    pieces: list[list[bytes]] = [[]]
    for number, line in enumerate(data.split(b"\n"), start=1):
        if _SEPARATOR.match(line.decode("utf-8", "replace")):
            pieces.append([b""] * number)
        else:
            pieces[-1].append(line)
    return [b"\n".join(piece) for piece in pieces]


def _process(data: bytes, source: str, options: argparse.Namespace) -> bytes:
    """Parse one module, run the pipeline, and print it."""
    from tiny_dialect.dialect import new_context, parse_module, to_bytecode
    from tiny_passes.registry import run_pipeline

    with new_context():
        module = parse_module(data, source)
        if options.pass_pipeline:
            run_pipeline(module, options.pass_pipeline, observer=_observer(options))
        return to_bytecode(module) if options.emit_bytecode else _text(module, options).encode()


def _text(module: Any, options: argparse.Namespace) -> str:
    text = module.operation.get_asm(
        large_elements_limit=options.elide, enable_debug_info=options.mlir_print_debuginfo
    )
    return text.rstrip("\n") + "\n"


def _observer(options: argparse.Namespace) -> Callable[[str, Any, float], None]:
    def observe(step: str, module: Any, seconds: float) -> None:
        if options.mlir_print_ir_after_all:
            print(f"// -----// IR Dump After {step} //----- //", file=sys.stderr)
            print(_text(module, options), file=sys.stderr)
        if options.timing:
            print(f"{seconds:9.3f} s  {step}", file=sys.stderr)

    return observe


def _verify_diagnostics(data: bytes, source: str, options: argparse.Namespace) -> int:
    """Compare the errors of each piece with its comments; prints the differences."""
    from tiny_pipelines.cli.expected_diagnostics import diagnostics_of, differences, expectations

    complaints = []
    for piece in _pieces(data, options):
        found = []
        try:
            _process(piece, source, options)
        except TinyError as error:
            found = diagnostics_of(error)
        complaints += differences(expectations(piece.decode("utf-8", "replace")), found, source)
    print("".join(f"{complaint}\n" for complaint in complaints), end="", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
