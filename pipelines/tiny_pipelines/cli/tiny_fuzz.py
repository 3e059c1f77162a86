"""`tiny-fuzz`: damaged files of every input format; each is read or refused, and nothing else."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.cli import entry


class PromiseBroken(TinyError):
    """A file did something else than to be read or to be refused in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _run, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-fuzz",
        description="Damage valid files of every input format and read them in watched processes. "
        "Each must be valid or refused in one line: no traceback, death of the process, hang over "
        "10 s, memory beyond bounds, execution, or write outside the output folder. A failure "
        "prints its seed and is written, minimised, to the folder -o; given FILE and --format, "
        "only that file is read.",
        allow_abbrev=False,
    )
    options.add_argument("file", nargs="?", metavar="FILE", help="a file written before")
    options.add_argument("--seconds", type=float, default=60.0, metavar="S", help="time limit (60)")
    options.add_argument("--seed", type=int, default=0, metavar="N", help="of the damage (0)")
    options.add_argument("--count", type=int, metavar="K", help="at most K files, all formats")
    options.add_argument(
        "--format", action="append", metavar="NAME", help="repeat for several (default: all)"
    )
    options.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (1)")
    options.add_argument(
        "-o", "--output", default=".", metavar="DIR", help="folder of minimised files (.)"
    )
    options.add_argument("--json", action="store_true", help="print one JSON object")
    return options


def _run(options: argparse.Namespace) -> None:
    from tiny_pipelines.fuzzing.formats import FORMATS

    names = tuple(options.format or FORMATS)
    for name in names:
        if name not in FORMATS:
            raise InvalidOption(f"--format {name}: choose from {', '.join(FORMATS)}")
    chosen = tuple(FORMATS[name] for name in names)
    if options.file is not None:
        _replay(options, chosen)
    else:
        _search(options, chosen)


def _replay(options: argparse.Namespace, formats: Sequence[Any]) -> None:
    from tiny_pipelines.fuzzing.campaign import replay

    if len(formats) != 1:
        raise InvalidOption("a FILE needs one --format")
    verdict = replay(formats[0], Path(options.file).read_bytes())
    if options.json:
        entry.print_json(vars(verdict))
    else:
        print(verdict.outcome)
    if verdict.outcome == "failed":
        raise PromiseBroken(f"{verdict.kind}: {verdict.message} {verdict.place}", options.file)


def _search(options: argparse.Namespace, formats: Sequence[Any]) -> None:
    from tiny_pipelines.fuzzing.campaign import Limits, run_campaign

    counts = (options.jobs, 1 if options.count is None else options.count)
    if options.seed < 0 or not options.seconds > 0 or min(counts) < 1:
        raise InvalidOption("--seed takes 0 or more; --seconds, --count and --jobs more than 0")
    folder = Path(options.output)
    if not folder.is_dir():
        raise InvalidOption("is not a folder", options.output)
    limits = Limits(options.seconds, options.count, formats, options.jobs)
    campaign = run_campaign(
        options.seed, limits, folder, lambda line: print(line, file=sys.stderr, flush=True)
    )
    if options.json:
        entry.print_json(campaign.record())
    else:
        print(_text(campaign))
    if campaign.found:
        files = ", ".join(str(found.file) for found in list(campaign.found.values())[:4])
        raise PromiseBroken(f"{len(campaign.found)} ways to fail: {files}")


def _text(campaign: Any) -> str:
    lines = [f"{'format':12}{'files':>8}{'valid':>8}{'refused':>9}{'failed':>8}"]
    for name, counts in campaign.counts.items():
        total = sum(counts.values())
        valid, refused, failed = counts["valid"], counts["refused"], counts["failed"]
        lines.append(f"{name:12}{total:8}{valid:8}{refused:9}{failed:8}")
    lines += [f"{name:12} skipped, needs {needs}" for name, needs in campaign.skipped.items()]
    lines.append(
        f"{campaign.inputs} files of seed {campaign.seed} in {campaign.seconds:.0f} s; slowest "
        f"{campaign.slowest:.1f} s, most memory {campaign.memory_bytes >> 20} MiB, "
        f"{campaign.restarts} workers restarted"
    )
    return "\n".join(lines)
