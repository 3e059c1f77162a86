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
    lifetimes,
    live_bytes,
    round_up,
)

_ROUNDS = 600
# Of the moves, how many concern a neighbour of what ends too high.
_OTHERS = 0.5
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
    # Those of them that it may overlap, with its address relative to theirs then.
    partners: tuple[tuple[int, int], ...]

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
    tenants, scratch_steps = _tenants(graph, order, in_place, alignment)
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
    graph: StepGraph, order: Order, in_place: bool, alignment: int
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
    partners: list[list[tuple[int, int]]] = [[] for _ in lives]
    head = list(range(len(lives)))
    for index in order if in_place else ():
        for sharing in graph.steps[index].sharings:
            distance = round_up(sharing.distance, alignment)
            overlaps = distance < sizes[sharing.result] and sizes[sharing.operand]
            if overlaps and lives[sharing.operand].last == place[index]:
                partners[sharing.result].append((sharing.operand, -distance))
                partners[sharing.operand].append((sharing.result, distance))
                head[sharing.result] = head[sharing.operand]
    largest = dict.fromkeys(head, 0)
    for own, size in zip(head, sizes, strict=True):
        largest[own] = max(largest[own], size)
    tenants = [
        _Tenant(
            sizes[number],
            life,
            lives[head[number]].first,
            largest[head[number]],
            tuple(n for n, other in enumerate(lives) if n != number and life.overlaps(other)),
            tuple(partners[number]),
        )
        for number, life in enumerate(lives)
    ]
    return tenants, scratch_steps


_PRIORITIES: tuple[Callable[[_Tenant], tuple[int, ...]], ...] = (
    lambda tenant: (-tenant.chain_bytes, tenant.chain_first, tenant.lifetime.first),
    lambda tenant: (-tenant.chain_bytes, tenant.chain_first, -tenant.lifetime.first),
    lambda tenant: (-tenant.size, tenant.lifetime.first),
    lambda tenant: (-tenant.area, tenant.lifetime.first),
    lambda tenant: (tenant.lifetime.first, -tenant.size),
    lambda tenant: (-tenant.lifetime.last, -tenant.size),
    lambda tenant: (tenant.lifetime.first - tenant.lifetime.last, -tenant.size),
)


def _search(tenants: list[_Tenant], bound: int, alignment: int) -> list[int]:
    """The best addresses found, from 0 on; stops at `bound`."""
    found: list[tuple[int, list[int], list[int]]] = []
    for key in _PRIORITIES:
        sequence = sorted(range(len(tenants)), key=lambda number: (*key(tenants[number]), number))
        for tightest in (False, True):
            addresses = _place(tenants, sequence, alignment, tightest)
            found.append((_extent(tenants, addresses), sequence, addresses))
            if found[-1][0] <= bound:
                return _from_zero(addresses)
    extent, sequence, addresses = min(found, key=lambda one: one[0])
    return _from_zero(_improve(tenants, sequence, addresses, extent, bound, alignment))


def _from_zero(addresses: list[int]) -> list[int]:
    """The addresses counted from the lowest one."""
    lowest = min(addresses, default=0)
    return [address - lowest for address in addresses]


def _improve(
    tenants: list[_Tenant],
    sequence: list[int],
    addresses: list[int],
    extent: int,
    bound: int,
    alignment: int,
) -> list[int]:
    """Better addresses by placing earlier what ends above `bound`, or what is in its way.

    Seeded, so repeatable.
    """
    choose = random.Random(0)
    work = sum(len(tenant.neighbours) for tenant in tenants)
    for number in range(min(_ROUNDS, _WORK // max(work, 1))):
        end = min(addresses) + bound
        high = [n for n in sequence if addresses[n] + tenants[n].size > end]
        moved = choose.choice(high)
        if choose.random() < _OTHERS:
            moved = choose.choice(tenants[moved].neighbours or (moved,))
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

    The tenants before place `first` of the sequence stay where they are in `placed`. A result that
    starts before its operand may get a negative address: the arena grows downwards as well.
    """
    addresses: dict[int, int] = {number: placed[number] for number in sequence[:first]}
    for number in sequence[first:]:
        tenant = tenants[number]
        taken = sorted(
            (addresses[other] - tenant.size, addresses[other] + tenants[other].size)
            for other in tenant.neighbours
            if other in addresses
        )
        address = _shared_address(addresses, tenant, taken)
        if address is None:
            address = _gap(taken, min(addresses.values(), default=0), alignment, tightest)
        addresses[number] = address
    return [addresses[number] for number in range(len(tenants))]


def _shared_address(
    addresses: dict[int, int], tenant: _Tenant, taken: list[tuple[int, int]]
) -> int | None:
    """The address that overlaps a placed partner if only that is in the way there."""
    for partner, distance in tenant.partners:
        if partner not in addresses:
            continue
        address = addresses[partner] + distance
        if sum(low < address < high for low, high in taken) == 1:
            return address
    return None


def _gap(taken: list[tuple[int, int]], lowest: int, alignment: int, tightest: bool) -> int:
    """A free address: for each `(low, high)` it is at most `low` or at least `high`."""
    address, chosen, slack = lowest, None, 0
    for low, high in taken:
        if address <= low and (chosen is None or low - address < slack):
            chosen, slack = address, low - address
            if not tightest:
                break
        address = max(address, round_up(high, alignment))
    return address if chosen is None else chosen


def _extent(tenants: list[_Tenant], addresses: list[int]) -> int:
    ends = (address + t.size for t, address in zip(tenants, addresses, strict=True))
    return max(ends, default=0) - min(addresses, default=0)
