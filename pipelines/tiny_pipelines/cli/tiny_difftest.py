"""`tiny-difftest`: random networks through the whole compiler, held against their NumPy meaning."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.cli import entry


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
        "seed and is written, minimised, as CASE.mlir; given CASE.mlir, only that case runs.",
        allow_abbrev=False,
    )
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
        "--gradients", action="append", help="gradient arithmetic; repeat for several (all)"
    )
    options.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (1)")
    options.add_argument(
        "-o", "--output", default=".", metavar="DIR", help="folder of minimised cases (.)"
    )
    options.add_argument("--json", action="store_true", help="print one JSON object")
    return options


def _run(options: argparse.Namespace) -> None:
    from tiny_pipelines.differential.check import DEVICES
    from tiny_targets.target import find_target

    targets = tuple(options.target or DEVICES)
    targets = () if targets == ("none",) else tuple(find_target(name).name for name in targets)
    if options.case is not None:
        _replay(options, targets)
    else:
        _search(options, targets)


def _replay(options: argparse.Namespace, targets: Sequence[str]) -> None:
    """Run one case on every target and the host."""
    from tiny_pipelines.differential.campaign import Campaign, Found, described
    from tiny_pipelines.differential.case import read_model
    from tiny_pipelines.differential.check import check

    model = read_model(Path(options.case))
    campaign = Campaign(model.seed, networks=1)
    outcome = check(model, targets, host=options.host_every != 0)
    campaign.include(outcome)
    if outcome.failures:
        campaign.found.append(Found(model.seed, outcome.failures, Path(options.case)))
    for failure in () if options.json else outcome.failures:
        print(described(failure))
    _finish(campaign, options)


def _search(options: argparse.Namespace, targets: Sequence[str]) -> None:
    import sys
    from typing import get_args

    from tiny_pipelines.differential.campaign import DEFAULT_HOST_SHARE, Limits, run_campaign
    from tiny_pipelines.training import Gradients

    known = get_args(Gradients)
    gradients = tuple(options.gradients or known)
    for name in gradients:
        if name not in known:
            raise InvalidOption(f"--gradients {name}: choose from {', '.join(known)}")
    counts = (options.jobs, 1 if options.count is None else options.count)
    if options.seed < 0 or options.seconds <= 0 or min(counts) < 1:
        raise InvalidOption("--seed takes 0 or more; --seconds, --count and --jobs more than 0")
    every = DEFAULT_HOST_SHARE if options.host_every is None else max(0, options.host_every)
    limits = Limits(options.seconds, options.count, targets, every, gradients, options.jobs)
    campaign = run_campaign(
        options.seed, limits, Path(options.output), lambda line: print(line, file=sys.stderr)
    )
    _finish(campaign, options)


def _finish(campaign: Any, options: argparse.Namespace) -> None:
    if options.json:
        entry.print_json(campaign.record())
    else:
        print(_text(campaign))
    if campaign.found:
        seeds = ", ".join(str(found.seed) for found in campaign.found[:8])
        raise DifferencesFound(f"{len(campaign.found)} networks fail; seeds {seeds}")


def _text(campaign: Any) -> str:
    total = campaign.total
    runs = ", ".join(f"{name} {count}" for name, count in campaign.runs.items())
    last = campaign.first_seed + campaign.networks - 1
    lines = [
        f"networks      {campaign.networks}, seeds {campaign.first_seed} to {last}, "
        f"in {campaign.seconds:.0f} s",
        f"run on        {runs}",
        f"compared      {total.values} values: {total.integers} integers bit for bit, "
        f"{total.floats} floats, {total.updated} updated parameters",
        f"float error   at most {total.largest_error:.2f} of the rounding bound; "
        f"{total.uncompared} values beyond float32 not compared",
        f"mismatches    {len(total.mismatches)}; failing networks {len(campaign.found)}",
    ]
    for name, count in sorted(campaign.features.items()):
        lines.append(f"  {count:5d}  {name}")
    return "\n".join(lines)
