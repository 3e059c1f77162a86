"""Searches the order of a step graph that needs the fewest bytes at once; proves it where it can.

A state is a set of executed steps: which buffers are live follows from the set alone, so of the
orders that reach a set only the lowest peak matters. A ready step is *free* if it needs no more
than the peak so far and frees at least what it writes; doing it at once is never worse, because
every later step then finds as much room as before. Branching remains only between the others.

1. A beam search by two priority rules gives a good order; the given order is a candidate as well.
2. If that misses the bound below, a best-first search over states (lowest peak first) looks for
   less. If it ends within its budget of states, the result is proven optimal.

The bound that holds for every order: a step needs its own buffers and all that a predecessor
writes and a successor reads.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from tiny_passes.liveness import Order, StepGraph, is_valid, peak_bytes, saved_bytes

_BEAM_WIDTH = 12
_STATE_BUDGET = 3_000


@dataclass(frozen=True)
class OrderResult:
    """An order, what it needs, and what every order of the graph needs at least."""

    order: Order
    peak_bytes: int
    bound_bytes: int

    @property
    def is_optimal(self) -> bool:
        """True where no order needs less."""
        return self.peak_bytes == self.bound_bytes


@dataclass(frozen=True)
class _State:
    """`done` is a bit set of steps; `taken` are those executed since `parent`, in order."""

    done: int
    ready: tuple[int, ...]
    live: int
    peak: int
    executed: int
    taken: tuple[int, ...]
    parent: "_State | None"

    def order(self) -> Order:
        """The steps from the start to this state."""
        parts: list[tuple[int, ...]] = []
        state: _State | None = self
        while state is not None:
            parts.append(state.taken)
            state = state.parent
        return tuple(step for part in reversed(parts) for step in part)


class _Problem:
    """The graph as bit sets and integers, and the bytes that a step needs in a state."""

    def __init__(self, graph: StepGraph, in_place: bool) -> None:
        self.steps = range(len(graph.steps))
        self.after = [_bits(step.after) for step in graph.steps]
        self.followers: list[list[int]] = [[] for _ in graph.steps]
        for index, step in enumerate(graph.steps):
            for before in step.after:
                self.followers[before].append(index)
        readers = [_bits(steps) for steps in graph.readers]
        sizes = [buffer.size_bytes for buffer in graph.buffers]
        self.reads = [[(readers[b], sizes[b]) for b in step.reads] for step in graph.steps]
        self.written = [graph.size(step.writes) for step in graph.steps]
        self.unread = [
            graph.size(b for b in step.writes if not graph.readers[b]) for step in graph.steps
        ]
        self.scratch = [step.scratch_bytes for step in graph.steps]
        self.shared = [
            [
                (readers[sharing.operand], saved_bytes(graph, sharing))
                for sharing in step.sharings
                if in_place
            ]
            for step in graph.steps
        ]

    def need(self, step: int, done: int) -> tuple[int, int]:
        """(bytes beyond the live ones while `step` runs, change of the live bytes after it)."""
        left = ~(done | 1 << step)
        written = self.written[step]
        freed = sum(size for readers, size in self.reads[step] if not readers & left)
        saved = max((s for readers, s in self.shared[step] if not readers & left), default=0)
        return written + self.scratch[step] - saved, written - self.unread[step] - freed

    def start(self, floor: int) -> _State:
        """The state after the entry; every order is known to need `floor` bytes."""
        return self.settle(_State(0, (0,), 0, floor, 0, (), None))

    def advance(self, state: _State, step: int) -> _State:
        """The state after `step` and every free step that follows."""
        extra, change = self.need(step, state.done)
        done = state.done | 1 << step
        ready = [other for other in state.ready if other != step]
        ready += [other for other in self.followers[step] if not self.after[other] & ~done]
        peak = max(state.peak, state.live + extra)
        moved = _State(
            done,
            tuple(sorted(ready)),
            state.live + change,
            peak,
            state.executed + 1,
            (step,),
            state,
        )
        return self.settle(moved)

    def settle(self, state: _State) -> _State:
        """`state` after its free steps; a step without an alternative counts as free."""
        done, live, peak = state.done, state.live, state.peak
        ready, taken = list(state.ready), list(state.taken)
        while ready:
            step = self._free_step(ready, done, live, peak)
            if step is None:
                break
            extra, change = self.need(step, done)
            peak, live, done = max(peak, live + extra), live + change, done | 1 << step
            ready.remove(step)
            ready += [other for other in self.followers[step] if not self.after[other] & ~done]
            ready.sort()
            taken.append(step)
        executed = state.executed + len(taken) - len(state.taken)
        return _State(done, tuple(ready), live, peak, executed, tuple(taken), state.parent)

    def _free_step(self, ready: list[int], done: int, live: int, peak: int) -> int | None:
        if len(ready) == 1:
            return ready[0]
        for step in ready:
            extra, change = self.need(step, done)
            if change <= 0 and live + extra <= peak:
                return step
        return None


def find_order(
    graph: StepGraph, *, in_place: bool = True, state_budget: int = _STATE_BUDGET
) -> OrderResult:
    """The best order found, never worse than `graph.source_order`, which it keeps if it is optimal.

    `state_budget` limits the states that the exact search visits; the result is deterministic.
    Updates stand right behind the last step that they must follow unless that raises the peak.
    """
    problem = _Problem(graph, in_place)
    bound = order_bound_bytes(graph, in_place=in_place)
    candidates = [graph.source_order]
    peak = peak_bytes(graph, graph.source_order, in_place=in_place)
    for rule in _RULES:
        if peak > bound:
            found = _beam(problem, problem.start(bound), rule, peak)
            if found is not None:
                candidates.append(found.order())
                peak = found.peak
    if peak > bound:
        found, complete = _best_first(problem, problem.start(bound), peak, state_budget)
        if found is not None:
            candidates.append(found.order())
            peak = found.peak
        bound = peak if complete else bound
    order = _with_early_updates(graph, candidates[-1])
    if peak_bytes(graph, order, in_place=in_place) > peak:
        order = candidates[-1]
    assert is_valid(graph, order), "the search broke a dependence"
    return OrderResult(order, peak_bytes(graph, order, in_place=in_place), bound)


_Rule = Callable[[_State], tuple[int, ...]]
_RULES: tuple[_Rule, ...] = (
    lambda state: (state.peak, -state.executed, state.live),
    lambda state: (state.peak, state.live, -state.executed),
)


def _beam(problem: _Problem, start: _State, rule: _Rule, limit: int) -> _State | None:
    """The best complete state below `limit` that keeping `_BEAM_WIDTH` states at a time finds."""
    best: _State | None = None
    beam = [start]
    while beam:
        reached: dict[int, _State] = {}
        for state in _children(problem, beam):
            if state.peak >= (best.peak if best else limit):
                continue
            if not state.ready:
                best = state
            elif state.done not in reached or state.peak < reached[state.done].peak:
                reached[state.done] = state
        beam = sorted(reached.values(), key=rule)[:_BEAM_WIDTH]
    return best


def _children(problem: _Problem, states: list[_State]) -> Iterator[_State]:
    for state in states:
        if not state.ready:
            yield state
        for step in state.ready:
            yield problem.advance(state, step)


def _best_first(
    problem: _Problem, start: _State, limit: int, budget: int
) -> tuple[_State | None, bool]:
    """(the lowest complete state below `limit`, whether that is proven) within `budget` states."""
    number = count()
    heap = [(start.peak, -start.executed, next(number), start)]
    lowest = {start.done: start.peak}
    while heap and budget > 0:
        peak, _, _, state = heapq.heappop(heap)
        if not state.ready:
            return state, True
        if peak > lowest[state.done]:
            continue
        budget -= 1
        for child in _children(problem, [state]):
            if child.peak < min(limit, lowest.get(child.done, limit)):
                lowest[child.done] = child.peak
                heapq.heappush(heap, (child.peak, -child.executed, next(number), child))
    return None, not heap


def order_bound_bytes(graph: StepGraph, *, in_place: bool = True) -> int:
    """Bytes that every order of `graph` needs at its worst step."""
    before, behind = precedence(graph)
    writer = {buffer: index for index, step in enumerate(graph.steps) for buffer in step.writes}
    readers = [_bits(steps) for steps in graph.readers]
    worst = 0
    for index, step in enumerate(graph.steps):
        held = {*step.reads, *step.writes}
        held |= {
            buffer
            for buffer, made in writer.items()
            if before[index] >> made & 1 and readers[buffer] & behind[index]
        }
        saved = [
            saved_bytes(graph, sharing)
            for sharing in step.sharings
            if in_place and not readers[sharing.operand] & behind[index]
        ]
        worst = max(worst, graph.size(held) + step.scratch_bytes - max(saved, default=0))
    return worst


def precedence(graph: StepGraph) -> tuple[list[int], list[int]]:
    """For each step the bit sets of all steps that precede and that follow it in every order."""
    before, behind = [0] * len(graph.steps), [0] * len(graph.steps)
    for index, step in enumerate(graph.steps):
        for other in step.after:
            before[index] |= before[other] | 1 << other
    for index in reversed(graph.source_order):
        for other in graph.steps[index].after:
            behind[other] |= behind[index] | 1 << index
    return before, behind


def _with_early_updates(graph: StepGraph, order: Order) -> Order:
    """`order` with every update right behind the last step that it must follow."""
    waiting = [index for index in order if graph.steps[index].is_update]
    waiting.sort(key=lambda index: graph.steps[index].scratch_bytes)
    done: set[int] = set()
    moved: list[int] = []
    for index in order:
        if graph.steps[index].is_update:
            continue
        moved.append(index)
        done.add(index)
        while ready := [step for step in waiting if done.issuperset(graph.steps[step].after)]:
            waiting.remove(ready[0])
            moved.append(ready[0])
            done.add(ready[0])
    return tuple(moved)


def _bits(steps: tuple[int, ...]) -> int:
    bits = 0
    for step in steps:
        bits |= 1 << step
    return bits
