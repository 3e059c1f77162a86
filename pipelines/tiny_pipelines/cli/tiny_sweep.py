"""`tiny-sweep`: which schemes and update rules of a model fit which boards."""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry

_FORMATS = ("table", "csv", "json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _sweep, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-sweep",
        description="Compile a model with every scheme and update rule for every core that a board "
        "has, and say what fits where. The table shows SRAM where it fits, else what is missing. "
        "With --resume what was compiled is kept, and a second run goes on there.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("input", metavar="MODEL", help="model file, or - for stdin")
    add("--scheme", action="append", metavar="NAME|FILE", help="repeatable (those of the model)")
    add("--update", action="append", metavar="KIND", help="repeatable (int16, int8-stochastic)")
    add("--gradients", action="append", metavar="KIND", help="repeatable (the rule's default)")
    add("--board", action="append", metavar="NAME|FILE", help="repeatable (all that ship)")
    add("--stream-input", action="store_true", help="with the input streamed as well")
    add("--classes", type=int, metavar="N", help="fresh float32 head, N classes")
    add("--resume", metavar="FILE", help="keep what was compiled in this file of JSON lines")
    add("--format", default="table", metavar="KIND", help=f"{' '.join(_FORMATS)} (table)")
    add("-o", "--output", default=entry.STANDARD_STREAM, help="output (- for stdout, default)")
    entry.load_option(options)
    return options


def _sweep(options: argparse.Namespace) -> None:
    if options.format not in _FORMATS:
        raise InvalidOption(f"--format {options.format}: choose one of {', '.join(_FORMATS)}")
    data, source = entry.read_input(options.input)

    from tiny_dialect.dialect import new_context
    from tiny_pipelines.frontends import import_bytes
    from tiny_pipelines.memory_reports.sweep import SweepFile, as_csv, as_table

    boards, rules = _boards(options), _rules(options)
    known = SweepFile(Path(options.resume) if options.resume else None)
    with new_context():
        module = import_bytes(data, source, options.classes)
        schemes = options.scheme or _schemes_of(module)
        model = f"{hashlib.sha256(data).hexdigest()[:16]}-{options.classes or 0}"
        verdicts = _verdicts(module, model, schemes, rules, boards, known)
    if options.format == "json":
        text = json.dumps([vars(one) for one in verdicts], indent=2) + "\n"
    else:
        text = as_csv(verdicts) if options.format == "csv" else as_table(verdicts)
    entry.write_output(options.output, text.encode())


def _boards(options: argparse.Namespace) -> list[Any]:
    from tiny_targets.boards import board_names, find_board

    names = options.board or [name for name in board_names() if not name.startswith("generic-")]
    return [find_board(name) for name in names]


def _rules(options: argparse.Namespace) -> list[Any]:
    from tiny_pipelines.memory_reports.sweep import Rule

    rules = [
        Rule(update, gradients, streamed)
        for update in options.update or ["int16", "int8-stochastic"]
        for gradients in options.gradients or [None]
        for streamed in ([False, True] if options.stream_input else [False])
    ]
    for rule in rules:
        rule.options("full")  # says what is wrong before anything is compiled
    return rules


def _schemes_of(module: Any) -> list[str]:
    """The shipped schemes that are named after the model, and those that fit any."""
    from tiny_passes.graph import INFER, find_function
    from tiny_pipelines.scheme import scheme_names

    model = find_function(module, INFER).attributes["tiny.model"].value
    general = ["classifier-only", "bias-only", "full"]
    return [*(name for name in scheme_names() if name.startswith(f"{model}-")), *general]


def _verdicts(
    module: Any, model: str, schemes: list[str], rules: list[Any], boards: list[Any], known: Any
) -> list[Any]:
    from tiny_pipelines.memory_reports.sweep import compile_one, judge, sweep_jobs
    from tiny_pipelines.scheme import find_scheme_file

    contents = {scheme: find_scheme_file(scheme).read_bytes() for scheme in schemes}
    jobs = list(sweep_jobs(schemes, rules, boards))
    found: list[Any] = []
    for number, (scheme, rule, target) in enumerate(jobs, start=1):
        gradients = rule.options(scheme).gradient_type
        source = f"{model}-{hashlib.sha256(contents[scheme]).hexdigest()[:8]}"
        key = (source, scheme, rule.update, gradients, target, str(rule.stream_input))
        if key not in known.known:
            with entry.progress(f"{number} of {len(jobs)}: {scheme}, {rule.update}, {target}"):
                known.add(compile_one(module, source, scheme, rule, target))
        compiled = known.known[key]
        found += [judge(compiled, board) for board in boards if board.target.name == target]
    return found
