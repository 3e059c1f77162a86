"""Which updates are better stored than fused: what waiting for an update costs in arena bytes.

A fused update must follow every other use of its parameter, the input gradient among them. What it
reads, the layer's input above all, so lives through the step that writes the input gradient. Where
the gradient of the parameter is smaller than that, as for the first layers of a network, it is
cheaper to compute it at once and to keep it until the parameter may change.

Only the backward pass is priced: what forward steps need, other passes lower.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tiny_passes.liveness import (
    Order,
    StepGraph,
    choose_sharings,
    lifetimes,
    live_bytes,
)
from tiny_passes.order_search import find_order

# An upper limit; every round lowers the peak.
_ROUNDS = 12


@dataclass(frozen=True)
class Update:
    """The steps that compute a parameter's gradient and apply it, before they are one."""

    gradient: int
    apply: int


def updates_to_store(
    graph: StepGraph, backward: frozenset[int], updates: Iterable[Update]
) -> frozenset[Update]:
    """Those of `updates` that had better not be fused, to lower the peak of the `backward` steps.

    `graph` is that of the step with every gradient stored. Fusing all of them is the start; an
    update is stored only where that lowers the peak.
    """
    priced = _backward_only(graph, backward)
    known = frozenset(updates)
    stored: frozenset[Update] = frozenset()
    peak, order = _peak(_fused(priced, known))
    for _ in range(_ROUNDS):
        waiting = _waiting(_fused(priced, known - stored), order, known - stored, priced)
        if not waiting:
            break
        # All that wait at the peak, or else the one that holds most.
        for more in dict.fromkeys((frozenset(waiting), frozenset(waiting[:1]))):
            lower, other = _peak(_fused(priced, known - stored - more))
            if lower < peak:
                stored, peak, order = stored | more, lower, other
                break
        else:
            break
    return stored


def _backward_only(graph: StepGraph, backward: frozenset[int]) -> StepGraph:
    """The graph in which forward steps need nothing but what backward steps read."""
    writer = {buffer: index for index, step in enumerate(graph.steps) for buffer in step.writes}
    buffers = tuple(
        buffer
        if writer[number] in backward or backward & set(graph.readers[number])
        else replace(buffer, size_bytes=0)
        for number, buffer in enumerate(graph.buffers)
    )
    steps = tuple(
        step if index in backward else replace(step, scratch_bytes=0)
        for index, step in enumerate(graph.steps)
    )
    return StepGraph(buffers, steps)


def _fused(graph: StepGraph, updates: Iterable[Update]) -> StepGraph:
    """The graph with each of `updates` in one step, that of its application."""
    buffers, steps = list(graph.buffers), list(graph.steps)
    for update in updates:
        gradient, apply = steps[update.gradient], steps[update.apply]
        for buffer in gradient.writes:
            buffers[buffer] = replace(buffers[buffer], size_bytes=0)
        after = {*gradient.after, *apply.after} - {update.gradient}
        steps[update.apply] = replace(
            apply,
            reads=gradient.reads,
            after=tuple(sorted(after)),
            scratch_bytes=gradient.scratch_bytes,
        )
        steps[update.gradient] = replace(gradient, reads=(), scratch_bytes=0, sharings=())
    return StepGraph(tuple(buffers), tuple(steps))


def _peak(graph: StepGraph) -> tuple[int, Order]:
    found = find_order(graph, state_budget=0)
    return found.peak_bytes, found.order


def _waiting(
    graph: StepGraph, order: Order, fused: frozenset[Update], stored: StepGraph
) -> list[Update]:
    """The fused updates that alone keep something alive at the peak, the dearest first.

    Worth storing are those whose gradient is smaller than what they keep.
    """
    needs = live_bytes(graph, order, choose_sharings(graph, order))
    peak = needs.index(max(needs))
    place = {step: position for position, step in enumerate(order)}
    lives = lifetimes(graph, order)
    gains: list[tuple[int, Update]] = []
    for update in fused:
        if place[update.apply] <= peak:
            continue
        kept = [
            buffer
            for buffer in graph.steps[update.apply].reads
            if lives[buffer].first < peak <= lives[buffer].last == place[update.apply]
        ]
        gain = graph.size(kept) - stored.size(stored.steps[update.gradient].writes)
        if gain > 0:
            gains.append((gain, update))
    gains.sort(key=lambda one: (-one[0], one[1].apply))
    return [update for _, update in gains]
