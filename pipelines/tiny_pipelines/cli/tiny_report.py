"""`tiny-report`: what a model's training step takes on a core, and what each pass saves."""

import argparse
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry

_KIB = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _report, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-report",
        description="Report on a model's training step: instructions, flash and SRAM layer by "
        "layer, measured in the emulator, as a table, with --json, or as files with --html and "
        "--trace. --memory prints the arena after each memory pass beside published figures, "
        "--arena what each scheme takes, how far that is from the lower bound and what holds the "
        "peak, --timeline draws the arena; these only plan.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("input", metavar="MODEL", help="model file, or - for stdin")
    add("--html", metavar="FILE", help="write the report as one web page")
    add("--trace", metavar="FILE", help="write it as a Chrome trace, an instruction a microsecond")
    add("--memory", action="store_true", help="the ladder: arena bytes, pass by pass")
    add("--arena", action="store_true", help="arena, bound, gap and peak of each scheme")
    add("--run", action="store_true", help="with --arena: SRAM used by a step in the emulator")
    add("--timeline", metavar="FILE", help="draw address over step into FILE.svg or FILE.html")
    add("--scheme", action="append", metavar="NAME|FILE", help="update scheme; may be repeated")
    add("--update", default="int16", metavar="KIND", help="storage of trained weights (int16)")
    add("--gradients", metavar="KIND", help="gradient arithmetic: int16 int8 float32")
    add("--stream-input", action="store_true", help="the input arrives row by row")
    add("--target", default="cortex-m7", metavar="NAME", help="core (cortex-m7)")
    add("--search", default="greedy", metavar="KIND", help="greedy, or cp-sat (extra `search`)")
    add("--search-seconds", type=float, default=60.0, metavar="N", help="for cp-sat (60)")
    add("--classes", type=int, metavar="N", help="fresh float32 head, N classes")
    add("--json", action="store_true", help="print one JSON object")
    entry.load_option(options)
    return options


def _report(options: argparse.Namespace) -> None:
    wanted = [name for name in ("memory", "arena", "timeline") if getattr(options, name)]
    if not wanted or options.html or options.trace:
        wanted.insert(0, "step")
    if options.json and len(wanted) > 1:
        raise InvalidOption("--json prints one object: choose one of --memory, --arena, --timeline")
    if options.timeline and Path(options.timeline).suffix not in (".svg", ".html"):
        raise InvalidOption("--timeline writes .svg or .html", options.timeline)
    schemes = options.scheme or ["full"]
    if len(schemes) > 1 and (options.timeline or "step" in wanted):
        raise InvalidOption("several schemes go with --memory and --arena only")
    data, source = entry.read_input(options.input)
    for name in wanted:
        commands = {"step": _step, "memory": _memory, "arena": _arena, "timeline": _timeline}
        commands[name](options, schemes, data, source)


def _training(options: argparse.Namespace, scheme: str) -> Any:
    from tiny_pipelines.training import TrainingOptions

    return TrainingOptions(
        scheme,
        options.update,
        options.gradients,
        stream_input=options.stream_input,
        search=options.search,
        search_seconds=options.search_seconds,
    )


@contextmanager
def _imported(data: bytes, source: str, options: argparse.Namespace, doing: str) -> Generator[Any]:
    from tiny_dialect.dialect import new_context
    from tiny_pipelines.frontends import import_bytes

    with new_context(), entry.progress(doing):
        yield import_bytes(data, source, options.classes)


def _step(options: argparse.Namespace, schemes: list[str], data: bytes, source: str) -> None:
    from tiny_pipelines.step_report import chrome_trace, collect_report, report_page, report_text
    from tiny_targets.target import find_target

    with _imported(data, source, options, f"measuring scheme {schemes[0]}") as module:
        training = _training(options, schemes[0])
        report = collect_report(module, training, find_target(options.target))
    if options.html:
        entry.write_output(options.html, report_page(report).encode())
    if options.trace:
        entry.write_output(options.trace, json.dumps(chrome_trace(report)).encode())
    if options.json:
        entry.print_json(report.record())
    else:
        print(report_text(report))


def _memory(options: argparse.Namespace, schemes: list[str], data: bytes, source: str) -> None:
    from tiny_pipelines.memory_reports.arena_ladder import (
        LADDER_HEADER,
        arena_ladder,
        published_memory,
    )

    ladders: dict[str, list[Any]] = {}
    model = ""
    for scheme in schemes:
        with _imported(data, source, options, f"planning scheme {scheme}") as module:
            model = _model_name(module)
            training = _training(options, scheme)
            ladders[scheme] = arena_ladder(module, training, target=options.target)
    if options.json:
        entry.print_json({name: [vars(rung) for rung in rungs] for name, rungs in ladders.items()})
        return
    for name, rungs in ladders.items():
        print(f"{model}, scheme {_title(name)}, kernels of {options.target}")
        print(LADDER_HEADER)
        for rung in rungs:
            print(rung)
        print(f"{rungs[0].arena_bytes / rungs[-1].arena_bytes:.2f} times smaller")
    published = published_memory(model)
    if published:
        pairs = ", ".join(f"{before} -> {after}" for before, after in published.schemes)
        print(f"published, all of SRAM{f' ({pairs})' if pairs else ''}: {published.source}")


def _model_name(module: Any) -> str:
    from tiny_passes.graph import INFER, find_function

    return find_function(module, INFER).attributes["tiny.model"].value


def _arena(options: argparse.Namespace, schemes: list[str], data: bytes, source: str) -> None:
    from tiny_pipelines.memory_reports.use import memory_use

    rows: list[Any] = []
    if not options.json:
        print(_ARENA_HEADER)
    for scheme in schemes:
        doing = f"{'running' if options.run else 'planning'} scheme {scheme}"
        with _imported(data, source, options, doing) as module:
            training = _training(options, scheme)
            rows.append(memory_use(module, training, options.target, run=options.run))
        if not options.json:
            print(_arena_text(rows[-1]), flush=True)
    if options.json:
        entry.print_json({row.scheme: row.record() for row in rows})
    elif not options.run:
        print("SRAM holds 2048 B of stack; --run measures what is used of it, and adds data")


_ARENA_HEADER = (
    f"{'scheme':<20}{'update':<16}{'gradients':<10}{'arena':>9}{'bound':>9}{'gap':>8}"
    f"{'trained':>9}{'SRAM':>12}  held at the peak by"
)


def _title(scheme: str) -> str:
    """A scheme's name; of a file its name without folder and ending."""
    return Path(scheme).name.removesuffix(".json")


def _arena_text(row: Any) -> str:
    tensors = "; ".join(f"{one.name} {one.type_text} {one.size_bytes:,}" for one in row.held_by[:4])
    more = f"; {len(row.held_by) - 4} more" if len(row.held_by) > 4 else ""
    proven = row.proven_bound_bytes
    bound = "" if proven is None else f"any order {proven:,}; "
    return (
        f"{_title(row.scheme):<20}{row.update:<16}{row.gradients:<10}{row.arena_bytes:>9,}"
        f"{row.order_bound_bytes:>9,}{row.gap:>8.2%}{row.state_bytes:>9,}"
        f"{row.sram_bytes / _KIB:>8.1f} KiB  {bound}{row.peak}: {tensors}{more}"
    )


def _timeline(options: argparse.Namespace, schemes: list[str], data: bytes, source: str) -> None:
    from tiny_passes.arena_map import arena_map
    from tiny_passes.graph import TRAIN_STEP, find_function
    from tiny_pipelines.memory_reports.timeline import timeline_page, timeline_svg
    from tiny_pipelines.memory_reports.use import planned

    with _imported(data, source, options, f"planning scheme {schemes[0]}") as module:
        training = _training(options, schemes[0])
        model = _model_name(module)
        ready = planned(module, training, options.target)
        found = arena_map(find_function(ready, TRAIN_STEP))
    title = f"{model}, scheme {_title(schemes[0])}, {training.gradient_type} gradients"
    draw = timeline_page if options.timeline.endswith(".html") else timeline_svg
    entry.write_output(options.timeline, draw(found, title).encode())
    if options.json:
        entry.print_json({"file": options.timeline, "arena_bytes": found.arena_bytes})
    else:
        print(f"{options.timeline}: {len(found.placements)} tensors, {len(found.steps)} steps")
