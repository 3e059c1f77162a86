"""`tiny-difftest`: random networks through the whole compiler, held against their NumPy meaning."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.cli import entry

_PROGRESS_SECONDS = 60.0


class DifferencesFound(TinyError):
    """A way to run a network computed something else than the semantics say."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _run, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-difftest",
        description="Compile random small networks with random schemes and options, run inference "
        "and training steps on emulated cores and on the host, and compare every op with its NumPy "
        "meaning: integers bit for bit, floats within proven rounding bounds. A failure prints its "
        "seed and is written, minimised, as CASE.mlir; given CASE.mlir, only that case runs. A "
        "process that crashes is a failure of its seed.",
        allow_abbrev=False,
    )
    _choices(options)
    options.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (1)")
    options.add_argument(
        "-o", "--output", default=".", metavar="DIR", help="folder of minimised cases (.)"
    )
    options.add_argument(
        "--summary", metavar="FILE", help="write the JSON object to FILE too, every minute"
    )
    options.add_argument(
        "--sum", nargs="+", metavar="FILE", help="run nothing: add up the summaries of several runs"
    )
    options.add_argument("--json", action="store_true", help="print one JSON object")
    return options


def _choices(options: argparse.ArgumentParser) -> None:
    """What is drawn, how much of it, and where it runs."""
    options.add_argument("case", nargs="?", metavar="CASE.mlir", help="a case written before")
    options.add_argument("--seconds", type=float, default=60.0, metavar="S", help="time limit (60)")
    options.add_argument("--seed", type=int, default=0, metavar="N", help="first seed (0)")
    options.add_argument("--count", type=int, metavar="K", help="at most K networks")
    options.add_argument(
        "--target", action="append", help="a core; repeat for several (default: all); or none"
    )
    options.add_argument(
        "--host-every",
        type=int,
        metavar="N",
        help="every Nth network runs on the host too (8)",
    )
    options.add_argument(
        "--modes-every",
        type=int,
        metavar="N",
        help="every Nth network runs with poison and access modes, as of tiny-run (4)",
    )
    options.add_argument(
        "--gradients", action="append", help="gradient arithmetic; repeat for several (all)"
    )


def _run(options: argparse.Namespace) -> None:
    from tiny_pipelines.differential.check import DEVICES
    from tiny_targets.target import find_target

    targets = tuple(options.target or DEVICES)
    targets = () if targets == ("none",) else tuple(find_target(name).name for name in targets)
    if options.sum:
        _add(options)
    elif options.case is not None:
        _replay(options, targets)
    else:
        _search(options, targets)


def _replay(options: argparse.Namespace, targets: Sequence[str]) -> None:
    """Run one case on every target and the host."""
    from tiny_pipelines.differential.campaign import Campaign, Found, described
    from tiny_pipelines.differential.case import read_model
    from tiny_pipelines.differential.check import check

    model = read_model(Path(options.case))
    campaign = Campaign()
    outcome = check(model, targets, host=options.host_every != 0, modes=options.modes_every != 0)
    campaign.include(model.seed, outcome)
    if outcome.failures:
        campaign.found.append(Found(model.seed, outcome.failures, Path(options.case)))
    for failure in () if options.json else outcome.failures:
        print(described(failure))
    _finish(campaign, options)


def _search(options: argparse.Namespace, targets: Sequence[str]) -> None:
    import sys
    from typing import get_args

    from tiny_pipelines.differential.campaign import (
        DEFAULT_HOST_SHARE,
        DEFAULT_MODES_SHARE,
        Limits,
        run_campaign,
    )
    from tiny_pipelines.training import Gradients

    known = get_args(Gradients)
    gradients = tuple(options.gradients or known)
    for name in gradients:
        if name not in known:
            raise InvalidOption(f"--gradients {name}: choose from {', '.join(known)}")
    counts = (options.jobs, 1 if options.count is None else options.count)
    if options.seed < 0 or not options.seconds > 0 or min(counts) < 1:
        raise InvalidOption("--seed takes 0 or more; --seconds, --count and --jobs more than 0")
    if not Path(options.output).is_dir():
        raise InvalidOption("is not a folder", options.output)
    entry.require_file_place(options.summary)
    limits = Limits(
        options.seconds,
        options.count,
        targets,
        _share(options.host_every, DEFAULT_HOST_SHARE),
        gradients,
        options.jobs,
        modes_every=_share(options.modes_every, DEFAULT_MODES_SHARE),
    )
    campaign = run_campaign(
        options.seed,
        limits,
        Path(options.output),
        lambda line: print(line, file=sys.stderr, flush=True),
        _watcher(options),
    )
    _finish(campaign, options)


def _share(given: int | None, default: int) -> int:
    return default if given is None else max(0, given)


def _add(options: argparse.Namespace) -> None:
    """Add up what several runs have left."""
    from tiny_pipelines.differential.summary import added, read_summary

    _finish(added([read_summary(Path(name)) for name in options.sum]), options)


def _watcher(options: argparse.Namespace) -> Callable[[Any], None]:
    """What looks at a campaign after each case: a line, and the summary file, every minute."""
    import sys

    from tiny_pipelines.differential.summary import progress_of

    said = time.monotonic()

    def watch(campaign: Any) -> None:
        nonlocal said
        if time.monotonic() - said < _PROGRESS_SECONDS:
            return
        said = time.monotonic()
        print(f"tiny-difftest: {progress_of(campaign)}", file=sys.stderr, flush=True)
        _summarise(campaign, options)

    return watch


def _summarise(campaign: Any, options: argparse.Namespace) -> None:
    if options.summary is not None:
        from tiny_pipelines.differential.summary import record_of

        text = json.dumps(record_of(campaign), indent=2) + "\n"
        entry.write_output(options.summary, text.encode())


def _finish(campaign: Any, options: argparse.Namespace) -> None:
    from tiny_pipelines.differential.summary import record_of, text_of

    _summarise(campaign, options)
    if options.json:
        entry.print_json(record_of(campaign))
    else:
        print(text_of(campaign))
    if campaign.found:
        seeds = ", ".join(str(found.seed) for found in campaign.found[:8])
        raise DifferencesFound(f"{len(campaign.found)} networks fail; seeds {seeds}")
