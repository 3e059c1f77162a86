"""A campaign as JSON and as text, and several of them added up."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidModel, InvalidOption
from tiny_pipelines.differential.campaign import Campaign, Found
from tiny_pipelines.differential.check import MISMATCH, Failure
from tiny_pipelines.differential.compare import Comparison

_REPRODUCE = "tiny-difftest "


def record_of(campaign: Campaign) -> dict[str, Any]:
    """The campaign as JSON values."""
    mismatches = [f for found in campaign.found for f in found.failures if f.kind == MISMATCH]
    return {
        "seeds": [list(ends) for ends in campaign.seeds],
        "networks": campaign.networks,
        "seconds": round(campaign.seconds, 1),
        "runs": dict(campaign.runs),
        "compared": _counts(campaign.total),
        "compared_by_target": {name: _counts(one) for name, one in campaign.compared.items()},
        "largest_float_error": campaign.total.largest_error,
        "mismatches": len(mismatches),
        "failing_networks": [found.record() for found in campaign.found],
        "features": dict(sorted(campaign.features.items())),
    }


def _counts(one: Comparison) -> dict[str, Any]:
    return {
        "values": one.values,
        "integers": one.integers,
        "floats": one.floats,
        "updated": one.updated,
        "not_comparable": one.uncompared,
        "watched_accesses": one.watched,
        "largest_float_error": one.largest_error,
    }


def read_summary(path: Path) -> Campaign:
    """The campaign whose record is in the JSON file `path`.

    Raises `InvalidModel` where it is no such record.
    """
    try:
        record = json.loads(path.read_text())
        return Campaign(
            [(int(first), int(last)) for first, last in record["seeds"]],
            float(record["seconds"]),
            {name: _read_counts(one) for name, one in record["compared_by_target"].items()},
            Counter(record["runs"]),
            Counter(record["features"]),
            [_read_found(one) for one in record["failing_networks"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidModel(f"is no summary of tiny-difftest: {error!r}", str(path)) from error


def _read_counts(record: Any) -> Comparison:
    return Comparison(
        integers=record["integers"],
        floats=record["floats"],
        updated=record["updated"],
        uncompared=record["not_comparable"],
        largest_error=record["largest_float_error"],
        watched=record["watched_accesses"],
    )


def _read_found(record: Any) -> Found:
    failures = [Failure(**failure) for failure in record["failures"]]
    command = record["reproduce"]
    return Found(
        record["seed"],
        failures,
        Path(command.removeprefix(_REPRODUCE)) if command else None,
    )


def added(campaigns: Sequence[Campaign]) -> Campaign:
    """All of them as one; raises `InvalidOption` where a seed would count twice."""
    total = Campaign()
    for one in campaigns:
        total.seconds += one.seconds
        total.runs += one.runs
        total.features += one.features
        total.found += one.found
        for target, comparison in one.compared.items():
            total.compared.setdefault(target, Comparison()).include(comparison)
    for first, last in sorted(ends for one in campaigns for ends in one.seeds):
        if total.seeds and first <= total.seeds[-1][1]:
            raise InvalidOption(f"seed {first} is in more than one of the summaries")
        if total.seeds and first == total.seeds[-1][1] + 1:
            first = total.seeds.pop()[0]
        total.seeds.append((first, last))
    total.found.sort(key=lambda found: found.seed)
    return total


def text_of(campaign: Campaign) -> str:
    """The campaign for people: one figure a line, then how often each feature was there."""
    total = campaign.total
    runs = ", ".join(f"{name} {count}" for name, count in campaign.runs.items())
    seeds = ", ".join(f"{first} to {last}" for first, last in campaign.seeds)
    mismatches = record_of(campaign)["mismatches"]
    lines = [
        f"networks      {campaign.networks}, seeds {seeds}, in {campaign.seconds:.0f} s",
        f"run on        {runs}",
        f"compared      {total.values} values: {total.integers} integers bit for bit, "
        f"{total.floats} floats, {total.updated} updated parameters",
        f"float error   at most {total.largest_error:.2f} of the rounding bound; "
        f"{total.uncompared} values beyond float32 not compared",
        f"memory        {total.watched} accesses watched while dead memory was garbage",
        f"mismatches    {mismatches}; failing networks {len(campaign.found)}",
    ]
    for name, count in sorted(campaign.features.items()):
        lines.append(f"  {count:5d}  {name}")
    return "\n".join(lines)


def progress_of(campaign: Campaign) -> str:
    """One line on the way."""
    return (
        f"{campaign.networks} networks, {campaign.total.values} values, "
        f"{len(campaign.found)} failing, {campaign.seconds:.0f} s"
    )
