"""Chooses order and offsets together with OR-Tools CP-SAT: the optimum, or a bound on it.

Needs the extra `search`. The model: every step has a place in the order; a buffer is a rectangle
from the place of its writer to behind that of its last reader, as high as it is large; no two
rectangles overlap. A result that shares storage with an operand that dies is cut in three: what
sticks out below the operand and above it at that step, and all of it from the next step on. Bytes
live at each place are bounded as well, which is what lowers the bound. The search starts from the
plan that it is given, so its result is never worse.

Time limits are in seconds of wall time: a search that does not end in time can give another plan
next time, one that ends gives the same bytes.
"""

from dataclasses import dataclass
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_passes.liveness import (
    GRANULE_BYTES,
    Order,
    Sharing,
    StepGraph,
    choose_sharings,
    lifetimes,
    live_bytes,
    round_up,
)
from tiny_passes.offset_search import ArenaPlan, plan_offsets
from tiny_passes.order_search import find_order, order_bound_bytes, precedence

_WORKERS = 8


@dataclass(frozen=True)
class ExactPlan:
    """An order, addresses for it, and what every order needs at least, in bytes."""

    order: Order
    plan: ArenaPlan
    bound_bytes: int

    @property
    def is_optimal(self) -> bool:
        """True where no order and no addresses need less."""
        return self.plan.arena_bytes == self.bound_bytes


def search_plan(
    graph: StepGraph, *, in_place: bool = True, alignment: int = GRANULE_BYTES, seconds: float
) -> ExactPlan:
    """The best order and offsets found in `seconds`; never worse than the default search.

    Addresses for the best order known take the first half of the time, order and addresses
    together the second. Every address is a multiple of `alignment`. Raises `InvalidOption` without
    OR-Tools or time.
    """
    if not seconds > 0:
        raise InvalidOption(f"expects a positive number of seconds, got {seconds:g}")
    load_cp_sat()
    found = find_order(graph, in_place=in_place)
    bound = max(found.bound_bytes, order_bound_bytes(graph, in_place=in_place))
    best = _planned(graph, found.order, in_place, alignment)
    if found.order != graph.source_order:
        given = _planned(graph, graph.source_order, in_place, alignment)
        best = min(best, given, key=lambda one: one[1].arena_bytes)
    for fixed in (True, False):
        if best[1].arena_bytes > bound:
            model = _Model(graph, best, bound, in_place, alignment, fixed=fixed)
            better, proven = model.solve(seconds / 2)
            best = better or best
            # What one order cannot do another one may.
            bound = bound if fixed else max(bound, proven)
    return ExactPlan(*best, min(bound, best[1].arena_bytes))


def _planned(
    graph: StepGraph, order: Order, in_place: bool, alignment: int
) -> tuple[Order, ArenaPlan]:
    return order, plan_offsets(graph, order, in_place=in_place, alignment=alignment)


def load_cp_sat() -> Any:
    """The module `ortools.sat.python.cp_model`; raises `InvalidOption` where it is missing."""
    try:
        from ortools.sat.python import cp_model  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InvalidOption(
            "search=cp-sat needs OR-Tools: pip install 'tiny-training-compiler[search]'"
        ) from error
    return cp_model


class _Model:
    """The constraints; sizes and addresses in words, places in steps."""

    def __init__(
        self,
        graph: StepGraph,
        start: tuple[Order, ArenaPlan],
        bound: int,
        in_place: bool,
        alignment: int,
        *,
        fixed: bool,
    ) -> None:
        """The model of plans at most as large as that of `start`, with its order where `fixed`."""
        self.order, self.start = start
        plan = self.start
        self.cp = load_cp_sat()
        self.model = self.cp.CpModel()
        self.graph, self.in_place, self.alignment = graph, in_place, alignment
        self.most = plan.arena_bytes // GRANULE_BYTES
        self.arena = self.model.new_int_var(bound // GRANULE_BYTES, self.most, "arena")
        self.sizes = [buffer.size_bytes // GRANULE_BYTES for buffer in graph.buffers]
        self.writer = {
            buffer: index for index, step in enumerate(graph.steps) for buffer in step.writes
        }
        # Rectangles for the addresses, and (interval, words) for the bytes live at a place.
        self.columns: list[Any] = []
        self.rows: list[Any] = []
        self.loads: list[tuple[Any, int]] = []
        self.places = self._places(fixed)
        self.ends = self._ends()
        # The variables behind the addresses, which count in units of the alignment.
        self.units: list[Any] = []
        self.addresses = [self._address(size) for size in self.sizes]
        self.shared = self._sharings()
        self.scratch: dict[int, Any] = {}
        for number in range(len(self.sizes)):
            self._add_buffer(number)
        for index, step in enumerate(graph.steps):
            if step.scratch_bytes:
                self._add_scratch(index, step.scratch_bytes // GRANULE_BYTES)
        self.model.add_no_overlap_2d(self.columns, self.rows)
        intervals, demands = zip(*self.loads, strict=True)
        self.model.add_cumulative(intervals, demands, self.arena)
        self.model.minimize(self.arena)

    def _places(self, fixed: bool) -> list[Any]:
        """Where each step stands, after what it must follow."""
        if fixed:
            position = {index: place for place, index in enumerate(self.order)}
            return [self.model.new_constant(position[i]) for i in range(len(position))]
        before, behind = precedence(self.graph)
        count = len(self.graph.steps)
        places = [
            self.model.new_int_var(before[i].bit_count(), count - 1 - behind[i].bit_count(), "")
            for i in range(count)
        ]
        for index, step in enumerate(self.graph.steps):
            for other in step.after:
                self.model.add(places[other] < places[index])
        self.model.add_all_different(places)
        return places

    def _ends(self) -> list[Any]:
        """For each buffer the place behind its last reader."""
        count = len(self.graph.steps)
        ends: list[Any] = [None] * len(self.sizes)
        for index, step in enumerate(self.graph.steps):
            for buffer in step.writes:
                readers = self.graph.readers[buffer]
                if not readers:
                    ends[buffer] = self.places[index] + 1
                elif len(readers) == 1:
                    ends[buffer] = self.places[readers[0]] + 1
                else:
                    end = self.model.new_int_var(1, count, "")
                    self.model.add_max_equality(end, [self.places[r] + 1 for r in readers])
                    ends[buffer] = end
        return ends

    def _address(self, size: int) -> Any:
        """An aligned address at which `size` words end within the arena."""
        unit = self.alignment // GRANULE_BYTES
        self.units.append(self.model.new_int_var(0, max(0, self.most - size) // unit, ""))
        address = self.units[-1] * unit
        self.model.add(address + size <= self.arena)
        return address

    def _sharings(self) -> dict[int, list[tuple[Sharing, Any]]]:
        """By result, each sharing with the variable that says whether it is used."""
        chosen: dict[int, list[tuple[Sharing, Any]]] = {}
        of_operand: dict[int, list[Any]] = {}
        for index, step in enumerate(self.graph.steps if self.in_place else ()):
            for sharing in step.sharings:
                distance = round_up(sharing.distance, self.alignment) // GRANULE_BYTES
                if distance >= self.sizes[sharing.result] or not self.sizes[sharing.operand]:
                    continue
                used = self.model.new_bool_var("")
                dies = self.ends[sharing.operand] == self.places[index] + 1
                self.model.add(dies).only_enforce_if(used)
                places = self.addresses[sharing.operand], self.addresses[sharing.result]
                self.model.add(places[1] == places[0] - distance).only_enforce_if(used)
                aligned = Sharing(sharing.result, sharing.operand, distance)
                chosen.setdefault(sharing.result, []).append((aligned, used))
                of_operand.setdefault(sharing.operand, []).append(used)
        alternatives = [[used for _, used in one] for one in chosen.values()]
        for group in [*alternatives, *of_operand.values()]:
            self.model.add_at_most_one(group)
        return chosen

    def _add_buffer(self, number: int) -> None:
        start, end, size = self.places[self.writer[number]], self.ends[number], self.sizes[number]
        address = self.addresses[number]
        sharings = self.shared.get(number, [])
        if not sharings:
            self._rectangle(start, end, address, size)
            return
        alone = self.model.new_bool_var("")
        self.model.add_exactly_one([alone, *(used for _, used in sharings)])
        self._rectangle(start, start + 1, address, size, alone)
        for sharing, used in sharings:
            self._rectangle(start, start + 1, address, sharing.distance, used)
            above = size - sharing.distance - self.sizes[sharing.operand]
            self._rectangle(start, start + 1, address + (size - above), above, used)
        if self.graph.readers[number]:
            self._rectangle(start + 1, end, address, size)

    def _add_scratch(self, index: int, size: int) -> None:
        self.scratch[index] = self._address(size)
        place = self.places[index]
        self._rectangle(place, place + 1, self.scratch[index], size)

    def _rectangle(self, start: Any, end: Any, address: Any, size: int, present: Any = 1) -> None:
        if size <= 0:
            return
        length = self.model.new_int_var(0, len(self.graph.steps), "")
        column = self.model.new_optional_interval_var(start, length, end, present, "")
        row = self.model.new_optional_fixed_size_interval_var(address, size, present, "")
        self.columns.append(column)
        self.rows.append(row)
        self.loads.append((column, size))

    def solve(self, seconds: float) -> tuple[tuple[Order, ArenaPlan] | None, int]:
        """(the best order and plan if better than at the start, bytes that every plan needs)."""
        self._hint(self.order, self.start)
        solver = self.cp.CpSolver()
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.num_workers = _WORKERS
        status = solver.solve(self.model)
        proven = round(solver.best_objective_bound) * GRANULE_BYTES
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return None, proven
        if round(solver.objective_value) >= self.most:
            return None, proven
        places = [solver.value(place) for place in self.places]
        found = tuple(sorted(range(len(places)), key=places.__getitem__))
        return (found, self._plan(solver, found)), proven

    def _plan(self, solver: Any, order: Order) -> ArenaPlan:
        graph = self.graph
        needed = live_bytes(graph, order, choose_sharings(graph, order) if self.in_place else ())
        return ArenaPlan(
            tuple(solver.value(address) * GRANULE_BYTES for address in self.addresses),
            {i: solver.value(place) * GRANULE_BYTES for i, place in self.scratch.items()},
            round(solver.objective_value) * GRANULE_BYTES,
            max(needed),
            order[needed.index(max(needed))],
        )

    def _hint(self, order: Order, plan: ArenaPlan) -> None:
        for place, index in enumerate(order):
            self.model.add_hint(self.places[index], place)
        lives = lifetimes(self.graph, order)
        offsets = [*plan.offsets, *(plan.scratch_offsets[index] for index in self.scratch)]
        for variable, offset in zip(self.units, offsets, strict=True):
            self.model.add_hint(variable, offset // self.alignment)
        place = {index: position for position, index in enumerate(order)}
        for sharings in self.shared.values():
            for sharing, used in sharings:
                distance = plan.offsets[sharing.operand] - plan.offsets[sharing.result]
                dies = lives[sharing.operand].last == place[self.writer[sharing.result]]
                self.model.add_hint(used, dies and distance == sharing.distance * GRANULE_BYTES)
