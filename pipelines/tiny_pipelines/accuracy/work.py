"""How much work stands behind a page: core time and wall time, from the records of its runs."""

from collections.abc import Sequence
from typing import Any


def work_text(records: Sequence[dict[str, Any]]) -> str:
    """A sentence; empty for no records. What ran elsewhere than on the CPU is told apart.

    Where a record lacks its CPU time, the work is told in minutes of processes, waits included.
    """
    here = [record for record in records if record.get("device", "cpu") == "cpu"]
    elsewhere = [record for record in records if record not in here]
    if not here:
        return ""
    counted = all("cpu_seconds" in record for record in here)
    work = sum(record["cpu_seconds" if counted else "seconds"] for record in here)
    unit = "core-minutes" if counted else "process-minutes"
    text = f"The {len(here)} runs took {work / 60:.0f} {unit}"
    if all("began" in record for record in here):
        spans = [(record["began"], record["began"] + record["seconds"]) for record in here]
        text += f", in {_covered(spans) / 60:.0f} minutes on {_at_once(spans)} processes"
    if elsewhere:
        minutes = sum(record["seconds"] for record in elsewhere) / 60
        names = ", ".join(sorted({record["device"] for record in elsewhere}))
        text += f"; {len(elsewhere)} more took {minutes:.0f} minutes on {names}"
    return text + "."


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """The time in which at least one run was going: what lay between does not count."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _at_once(spans: Sequence[tuple[float, float]]) -> int:
    """How many runs were going at the same time; those that only touch were not."""
    # A second's grace: the times are rounded, and one run follows another in its process.
    events = [(begin + 1, 1) for begin, end in spans if end - begin > 2]
    events += [(end - 1, -1) for begin, end in spans if end - begin > 2]
    most = now = 0
    for _, change in sorted(events):
        now += change
        most = max(most, now)
    return max(most, 1)
