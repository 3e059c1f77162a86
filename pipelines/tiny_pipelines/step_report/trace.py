"""The report as a Chrome trace: open it in Perfetto or chrome://tracing.

One microsecond of the trace is one instruction. Ops are slices, the arena in use a counter, and
every tensor a slice on a track of its own memory. Nothing of the report is lost:
`record_of_trace` gives back `StepReport.record()`.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from tiny_pipelines.step_report.collect import StepReport

_OPS, _MEMORY = 1, 2
_APART = ("ops", "memory")


def chrome_trace(report: StepReport) -> dict[str, Any]:
    """The trace as JSON values, in the object form of the trace event format."""
    record = report.record()
    memory = record["memory"]
    rest = {key: value for key, value in record.items() if key not in _APART}
    memory_rest = {key: value for key, value in memory.items() if key != "placements"}
    starts = _starts(report)
    events = [
        {"ph": "M", "name": "process_name", "pid": _OPS, "args": {"name": report.title}},
        {"ph": "M", "name": "process_name", "pid": _MEMORY, "args": {"name": "arena"}},
        *_op_events(record["ops"], starts),
        *_memory_events(memory["placements"], starts),
    ]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {"report": rest, "memory": memory_rest},
    }


def _starts(report: StepReport) -> list[int]:
    """The instruction at which each step of the memory begins; the entry takes none."""
    return [0, 0, *accumulate(op.instructions for op in report.ops)]


def _op_events(ops: list[dict[str, Any]], starts: list[int]) -> Iterator[dict[str, Any]]:
    for step, op in enumerate(ops, start=1):
        yield {
            "ph": "X",
            "name": f"{op['layer']} {op['op']}",
            "cat": "backward" if op["backward"] else "forward",
            "ts": starts[step],
            "dur": op["instructions"],
            "pid": _OPS,
            "tid": 1,
            "args": op,
        }
        yield {
            "ph": "C",
            "name": "SRAM",
            "ts": starts[step],
            "pid": _OPS,
            "args": {"bytes": op["sram_bytes"]},
        }


def _memory_events(placements: list[dict[str, Any]], starts: list[int]) -> Iterator[dict[str, Any]]:
    for track, one in enumerate(placements, start=1):
        begin, end = starts[one["first"]], starts[min(one["last"] + 1, len(starts) - 1)]
        yield {
            "ph": "X",
            "name": one["name"],
            "cat": one["kind"],
            "ts": begin,
            "dur": max(end - begin, 1),
            "pid": _MEMORY,
            "tid": track,
            "args": one,
        }


def record_of_trace(trace: dict[str, Any]) -> dict[str, Any]:
    """The record that a trace of `chrome_trace` was made of."""
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    other = trace["otherData"]
    placements = [event["args"] for event in slices if event["pid"] == _MEMORY]
    return {
        **other["report"],
        "ops": [event["args"] for event in slices if event["pid"] == _OPS],
        "memory": {**other["memory"], "placements": placements},
    }
