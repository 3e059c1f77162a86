"""Searches addresses for buffers of known lifetimes: a small arena without overlap.

Buffers are placed one after the other, each where it is free in its whole lifetime: over the
operand or the result with which it may share storage if that is possible, else in the lowest (or
the tightest) gap. The order of placement decides the result: several are tried, then the best is
improved by placing buffers that stick out earlier. The search stops at the lower bound.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiny_passes.liveness import (
    GRANULE_BYTES,
    Lifetime,
    Order,
    StepGraph,
    choose_sharings,
    fits,
    lifetimes,
    live_bytes,
    round_up,
)

_ROUNDS = 600
# Limits the rounds for large graphs: neighbours looked at in all rounds together.
_WORK = 5_000_000


@dataclass(frozen=True)
class ArenaPlan:
    """Addresses in bytes from the start of the arena.

    `offsets` holds one a buffer, `scratch_offsets` one for each step that needs scratch.
    `bound_bytes` is what the worst step needs, `peak_step`, where a result and the operand that it
    may replace count once: no plan of this order is smaller.
    """

    offsets: tuple[int, ...]
    scratch_offsets: dict[int, int]
    arena_bytes: int
    bound_bytes: int
    peak_step: int


@dataclass(frozen=True)
class _Tenant:
    """A buffer or the scratch of one step; `chain_bytes` is the largest that may share with it."""

    size: int
    lifetime: Lifetime
    chain_first: int
    chain_bytes: int
    # Numbers of the tenants that are live at one step with this one.
    neighbours: tuple[int, ...]
    # Those of them that may have the same address.
    partners: tuple[int, ...]

    @property
    def area(self) -> int:
        """Bytes times steps."""
        return self.size * (self.lifetime.last - self.lifetime.first + 1)


def plan_offsets(
    graph: StepGraph, order: Order, *, in_place: bool = True, alignment: int = GRANULE_BYTES
) -> ArenaPlan:
    """The smallest arena found for `order`; every address is a multiple of `alignment`."""
    needed = live_bytes(graph, order, choose_sharings(graph, order) if in_place else ())
    bound = max(needed)
    tenants, scratch_steps = _tenants(graph, order, in_place)
    addresses = _search(tenants, bound, alignment)
    buffers = len(graph.buffers)
    return ArenaPlan(
        tuple(addresses[:buffers]),
        dict(zip(scratch_steps, addresses[buffers:], strict=True)),
        _extent(tenants, addresses),
        bound,
        order[needed.index(bound)],
    )


def _tenants(
    graph: StepGraph, order: Order, in_place: bool
) -> tuple[list[_Tenant], tuple[int, ...]]:
    """One tenant a buffer, then one a step with scratch; and those steps."""
    scratch_steps = tuple(index for index in order if graph.steps[index].scratch_bytes)
    place = {step: position for position, step in enumerate(order)}
    lives = [
        *lifetimes(graph, order),
        *(Lifetime(place[index], place[index]) for index in scratch_steps),
    ]
    sizes = [buffer.size_bytes for buffer in graph.buffers]
    sizes += [graph.steps[index].scratch_bytes for index in scratch_steps]
    partners: list[list[int]] = [[] for _ in lives]
    head = list(range(len(lives)))
    for index in order if in_place else ():
        for sharing in graph.steps[index].sharings:
            if lives[sharing.operand].last == place[index] and fits(graph, sharing):
                partners[sharing.result].append(sharing.operand)
                partners[sharing.operand].append(sharing.result)
                head[sharing.result] = head[sharing.operand]
    tenants = [
        _Tenant(
            sizes[number],
            life,
            lives[head[number]].first,
            sizes[head[number]],
            tuple(n for n, other in enumerate(lives) if n != number and life.overlaps(other)),
            tuple(partners[number]),
        )
        for number, life in enumerate(lives)
    ]
    return tenants, scratch_steps


_PRIORITIES: tuple[Callable[[_Tenant], tuple[int, ...]], ...] = (
    lambda tenant: (-tenant.chain_bytes, tenant.chain_first, tenant.lifetime.first),
    lambda tenant: (-tenant.size, tenant.lifetime.first),
    lambda tenant: (-tenant.area, tenant.lifetime.first),
    lambda tenant: (tenant.lifetime.first, -tenant.size),
    lambda tenant: (-tenant.lifetime.last, -tenant.size),
    lambda tenant: (tenant.lifetime.first - tenant.lifetime.last, -tenant.size),
)


def _search(tenants: list[_Tenant], bound: int, alignment: int) -> list[int]:
    """The best addresses found; stops at `bound`."""
    found: list[tuple[int, list[int], list[int]]] = []
    for key in _PRIORITIES:
        sequence = sorted(range(len(tenants)), key=lambda number: (*key(tenants[number]), number))
        for tightest in (False, True):
            addresses = _place(tenants, sequence, alignment, tightest)
            found.append((_extent(tenants, addresses), sequence, addresses))
            if found[-1][0] <= bound:
                return addresses
    extent, sequence, addresses = min(found, key=lambda one: one[0])
    return _improve(tenants, sequence, addresses, extent, bound, alignment)


def _improve(
    tenants: list[_Tenant],
    sequence: list[int],
    addresses: list[int],
    extent: int,
    bound: int,
    alignment: int,
) -> list[int]:
    """Better addresses by placing tenants that end above `bound` earlier; seeded, so repeatable."""
    choose = random.Random(0)
    work = sum(len(tenant.neighbours) for tenant in tenants)
    for number in range(min(_ROUNDS, _WORK // max(work, 1))):
        high = [n for n in sequence if addresses[n] + tenants[n].size > bound]
        moved = choose.choice(high)
        changed = sequence.copy()
        place = changed.index(moved)
        first = choose.randrange(place) if place else 0
        changed.insert(first, changed.pop(place))
        placed = _place(tenants, changed, alignment, number % 4 == 3, addresses, first)
        reached = _extent(tenants, placed)
        if reached <= extent:
            sequence, addresses, extent = changed, placed, reached
        if extent <= bound:
            break
    return addresses


def _place(
    tenants: list[_Tenant],
    sequence: list[int],
    alignment: int,
    tightest: bool,
    placed: Sequence[int] = (),
    first: int = 0,
) -> list[int]:
    """Addresses when tenants are placed in `sequence`, each in the lowest or the tightest gap.

    The tenants before place `first` of the sequence stay where they are in `placed`.
    """
    addresses = [-1] * len(tenants)
    for number in sequence[:first]:
        addresses[number] = placed[number]
    for number in sequence[first:]:
        tenant = tenants[number]
        taken = sorted(
            (addresses[other] - tenant.size, addresses[other] + tenants[other].size)
            for other in tenant.neighbours
            if addresses[other] >= 0
        )
        addresses[number] = _shared_address(tenants, addresses, tenant, taken)
        if addresses[number] < 0:
            addresses[number] = _gap(taken, alignment, tightest)
    return addresses


def _shared_address(
    tenants: list[_Tenant], addresses: list[int], tenant: _Tenant, taken: list[tuple[int, int]]
) -> int:
    """The address of a placed partner if only that partner is in the way there; else -1."""
    for partner in tenant.partners:
        address = addresses[partner]
        if address >= 0 and sum(low < address < high for low, high in taken) == 1:
            return address
    return -1


def _gap(taken: list[tuple[int, int]], alignment: int, tightest: bool) -> int:
    """A free address: for each `(low, high)` it is at most `low` or at least `high`."""
    address, chosen, slack = 0, -1, 0
    for low, high in taken:
        if address <= low and (chosen < 0 or low - address < slack):
            chosen, slack = address, low - address
            if not tightest:
                break
        address = max(address, round_up(high, alignment))
    return chosen if chosen >= 0 else address


def _extent(tenants: list[_Tenant], addresses: list[int]) -> int:
    ends = (address + t.size for t, address in zip(tenants, addresses, strict=True))
    return max(ends, default=0)
