"""Let kernels use the bytes that the plan leaves free while they run.

Before:  "tiny.conv2d"(%x, %w, %b) {tiny.scratch_bytes = 592, tiny.scratch_offset = 512, ...}
After:   "tiny.conv2d"(%x, %w, %b) {tiny.scratch_bytes = 6352, tiny.scratch_offset = 20480, ...}

At each op the scratch memory moves to the largest gap between live buffers, where a kernel can use
more of it. A kernel that asks for none at least has what it can use only so. The arena stays as it
is, and so does every other address.

Cost: one walk over the buffers for each op.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tiny_dialect.attributes import integer, to_list
from tiny_passes.graph import functions
from tiny_passes.liveness import FunctionGraph, lifetimes, read_function
from tiny_passes.registry import register_pass
from tiny_targets.kernels.scratch import SCRATCH_BYTES, scratch_of, scratch_wish_of
from tiny_targets.target import find_target

_WORD = 4

Interval = tuple[int, int]
"""First byte, and the one behind the last."""


@register_pass("tiny-grow-scratch", anchor="builtin.module")
def grow_scratch(module: Any, *, target: str) -> None:
    """Give the kernels of `target` what is free beside the live buffers of a planned module."""
    core = find_target(target)
    for function in functions(module).values():
        if function.is_external:
            continue
        source = read_function(function)
        arena = function.attributes["tiny.arena_bytes"].value
        occupied = _occupied(function, source)
        for op, live in zip(source.ops[1:], occupied[1:], strict=True):
            wish = scratch_wish_of(op, core)
            # What was planned without its kernels in mind stays as it is.
            if wish is None or scratch_of(op) < wish.sizes[0]:
                continue
            start, end = max(_gaps(live, arena), key=lambda gap: gap[1] - gap[0])
            size = wish.within(end - start) // _WORD * _WORD
            if scratch_of(op) < size <= end - start:
                op.attributes[SCRATCH_BYTES] = integer(size)
                op.attributes["tiny.scratch_offset"] = integer(start)


def _occupied(function: Any, source: FunctionGraph) -> list[list[Interval]]:
    """The places of the buffers that are live at each step."""
    graph = source.graph
    starts: dict[int, int] = {}
    places = [to_list(function.attributes["tiny.argument_offsets"])]
    for op in source.ops[1:]:
        known = "tiny.offsets" in op.attributes
        places.append(to_list(op.attributes["tiny.offsets"]) if known else [])
    for step, offsets in zip(graph.steps, places, strict=True):
        starts |= dict(zip(step.writes, offsets, strict=True))
    occupied: list[list[Interval]] = [[] for _ in graph.steps]
    for number, life in enumerate(lifetimes(graph, graph.source_order)):
        interval = starts[number], starts[number] + graph.buffers[number].size_bytes
        for place in range(life.first, life.last + 1):
            occupied[place].append(interval)
    return occupied


def _gaps(occupied: Sequence[Interval], arena: int) -> Iterator[Interval]:
    """What `occupied` leaves free of the arena; an empty gap where that is nothing."""
    free = 0
    for start, end in sorted(occupied):
        if start > free:
            yield free, start
        free = max(free, end)
    yield free, max(arena, free)
