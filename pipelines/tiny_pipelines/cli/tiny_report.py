"""`tiny-report`: what a model's training step costs, and what each memory pass saves."""

import argparse
from collections.abc import Sequence
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _report, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-report",
        description="Report on a model's training step. --memory prints the arena after each "
        "memory pass, every line from a really planned schedule.",
        allow_abbrev=False,
    )
    options.add_argument("input", metavar="MODEL", help="model file, or - for stdin")
    options.add_argument("--memory", action="store_true", help="arena bytes, pass by pass")
    options.add_argument(
        "--scheme", action="append", metavar="NAME|FILE", help="update scheme; may be repeated"
    )
    options.add_argument("--classes", type=int, metavar="N", help="fresh float32 head, N classes")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    return options


def _report(options: argparse.Namespace) -> None:
    if not options.memory:
        raise InvalidOption("say what to report: --memory")
    data, source = entry.read_input(options.input)
    ladders = {
        scheme: _ladder(data, source, scheme, options.classes)
        for scheme in options.scheme or ["full"]
    }
    if options.json:
        entry.print_json({name: [vars(rung) for rung in rungs] for name, rungs in ladders.items()})
        return
    for name, rungs in ladders.items():
        print(f"scheme {name}")
        for rung in rungs:
            print(f"  {rung}")
        print(f"  {rungs[0].arena_bytes / rungs[-1].arena_bytes:.2f} times smaller")


def _ladder(data: bytes, source: str, scheme: str, classes: int | None) -> list[Any]:
    from tiny_dialect.dialect import new_context
    from tiny_pipelines.arena_ladder import arena_ladder
    from tiny_pipelines.frontends import import_bytes
    from tiny_pipelines.training import TrainingOptions

    with new_context(), entry.progress(f"planning scheme {scheme}"):
        module = import_bytes(data, source, classes)
        return arena_ladder(module, TrainingOptions(scheme))
