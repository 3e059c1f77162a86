"""Searches addresses for buffers of known lifetimes: a small arena without overlap.

Buffers are placed one after the other, each where it is free in its whole lifetime: over the
operand or the result with which it may share storage if that is possible, else in the lowest (or
the tightest) gap. The order of placement decides the result: several are tried. Where none reaches
the lower bound, `offset_eviction` searches between the bound and the best of them.
"""

from collections.abc import Callable
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
from tiny_passes.offset_eviction import Tenant, pack_below

# Placements that one attempt may take, and attempts at the bound.
_ROUNDS = 6_000
_ROUNDS_A_TENANT = 40
_SEEDS = 6
# Limits the placements for large graphs: their number times that of the buffers.
_WORK = 1_000_000
# How near to the best arena the search ends, as a fraction of the bound.
_RESOLUTION = 500


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
) -> tuple[list[Tenant], tuple[int, ...]]:
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
        Tenant(
            sizes[number],
            life.first,
            life.last,
            lives[head[number]].first,
            largest[head[number]],
            tuple(n for n, other in enumerate(lives) if n != number and life.overlaps(other)),
            tuple(partners[number]),
        )
        for number, life in enumerate(lives)
    ]
    return tenants, scratch_steps


_PRIORITIES: tuple[Callable[[Tenant], tuple[int, ...]], ...] = (
    lambda tenant: (-tenant.chain_bytes, tenant.chain_first, tenant.first),
    lambda tenant: (-tenant.chain_bytes, tenant.chain_first, -tenant.first),
    lambda tenant: (-tenant.size, tenant.first),
    lambda tenant: (-tenant.area, tenant.first),
    lambda tenant: (tenant.first, -tenant.size),
    lambda tenant: (-tenant.last, -tenant.size),
    lambda tenant: (tenant.first - tenant.last, -tenant.size),
)


def _search(tenants: list[Tenant], bound: int, alignment: int) -> list[int]:
    """The best addresses found, from 0 on; stops at `bound`."""
    found: list[tuple[int, list[int]]] = []
    for key in _PRIORITIES:
        sequence = sorted(range(len(tenants)), key=lambda number: (*key(tenants[number]), number))
        for tightest in (False, True):
            addresses = _place(tenants, sequence, alignment, tightest)
            found.append((_extent(tenants, addresses), addresses))
            if found[-1][0] <= bound:
                return _from_zero(addresses)
    extent, addresses = min(found, key=lambda one: one[0])
    return _from_zero(_improve(tenants, addresses, extent, bound, alignment))


def _from_zero(addresses: list[int]) -> list[int]:
    """The addresses counted from the lowest one."""
    lowest = min(addresses, default=0)
    return [address - lowest for address in addresses]


def _improve(
    tenants: list[Tenant], addresses: list[int], extent: int, bound: int, alignment: int
) -> list[int]:
    """Better addresses: at the bound if some seed finds that, else as near to it as they get."""
    found = _pack(tenants, bound, alignment, _SEEDS)
    if found is not None:
        return found
    low, high = bound, extent
    while high - low > max(alignment, bound // _RESOLUTION):
        middle = (low + high) // 2
        found = _pack(tenants, middle, alignment, _SEEDS // 3)
        if found is None:
            low = middle
        else:
            addresses, high = found, _extent(tenants, found)
    return addresses


def _pack(tenants: list[Tenant], limit: int, alignment: int, seeds: int) -> list[int] | None:
    rounds = min(_ROUNDS, _ROUNDS_A_TENANT * len(tenants), _WORK // max(1, len(tenants)))
    packings = (
        pack_below(tenants, limit, alignment, rounds=rounds, seed=seed) for seed in range(seeds)
    )
    return next((found for found in packings if found is not None), None)


def _place(tenants: list[Tenant], sequence: list[int], alignment: int, tightest: bool) -> list[int]:
    """Addresses when tenants are placed in `sequence`, each in the lowest or the tightest gap.

    A result that starts before its operand may get a negative address: the arena grows downwards
    as well.
    """
    addresses: dict[int, int] = {}
    for number in sequence:
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
    addresses: dict[int, int], tenant: Tenant, taken: list[tuple[int, int]]
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


def _extent(tenants: list[Tenant], addresses: list[int]) -> int:
    ends = (address + t.size for t, address in zip(tenants, addresses, strict=True))
    return max(ends, default=0) - min(addresses, default=0)
