"""`tiny-powertest`: does what a device has learned survive power cuts and flipped bits?"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.cli import entry

_MAXIMAL_COMMITS = 1000


class StateLost(TinyError):
    """A restart found neither the old nor the new state, or took a damaged one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _run, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-powertest",
        description="Give the image that tiny-compile wrote to DIR a store of what it learns, in "
        "the flash of its board, and cut the power at every page erased and every unit programmed "
        "by several commits, half-done ones included: in the emulator, and with the same C code on "
        "the host. Then flip every bit of what is stored. Exit status 1 where anything is lost.",
        allow_abbrev=False,
    )
    options.add_argument("folder", metavar="DIR", help="the folder that tiny-compile wrote")
    options.add_argument("--commits", type=int, default=3, metavar="N", help="commits (3)")
    options.add_argument(
        "--stride", type=int, default=1, metavar="N", help="on the host, every Nth step and bit (1)"
    )
    options.add_argument(
        "--emulated-stride", type=int, default=1, metavar="N", help="on the device, every Nth (1)"
    )
    options.add_argument("--seed", type=int, default=0, help="of the images it trains on (0)")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    return options


def _run(options: argparse.Namespace) -> None:
    if options.stride < 1 or options.emulated_stride < 1:
        raise InvalidOption("--stride and --emulated-stride take a count of at least 1")
    if not 2 <= options.commits <= _MAXIMAL_COMMITS:
        raise InvalidOption(f"--commits takes 2 to {_MAXIMAL_COMMITS}: both slots must be written")
    if not Path(options.folder).is_dir():
        raise InvalidOption("no such folder; tiny-compile -o writes one", options.folder)
    from tiny_pipelines.power_test import run_power_test

    report = run_power_test(
        Path(options.folder),
        commits=options.commits,
        stride=options.stride,
        emulated_stride=options.emulated_stride,
        seed=options.seed,
        step=entry.progress,
    )
    if options.json:
        entry.print_json(report)
    else:
        print(_text(report))
    if not report["passed"]:
        failed = [
            name for name in ("emulated", "host", "flips", "wear") if not report[name]["passed"]
        ]
        raise StateLost(f"failed: {', '.join(failed)}")


def _text(report: dict[str, Any]) -> str:
    flash, flips, wear = report["programming"], report["flips"], report["wear"]
    return "\n".join(
        [
            f"{report['model']} on {report['board']} ({report['target']}): "
            f"{report['state_bytes']} bytes of state in 2 slots, {report['region_pages']} pages of "
            f"{flash['page_bytes']} bytes, programmed by {flash['program_bytes']}",
            _cuts("device", report["emulated"]),
            _cuts("host", report["host"]),
            f"bit flips  {flips['flips']}: {flips['undetected']} undetected, {flips['lost']} lost",
            f"wear       {wear['commits']} commits to {wear['slots']} slots: "
            f"{wear['least']} to {wear['most']} erases a page, {wear['stated']} by the headers",
        ]
    )


def _cuts(where: str, counts: dict[str, Any]) -> str:
    return (
        f"{where:10} {counts['cuts']} power cuts in {len(counts['steps'])} commits of "
        f"{counts['steps'][0]} steps: {counts['old']} restarts with the old state, {counts['new']} "
        f"with the new; {counts['lost']} lost, {counts['mixed']} mixed, {counts['stuck']} stuck"
    )
