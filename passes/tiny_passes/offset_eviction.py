"""Searches addresses that end below a limit: place what is important, evict what is in its way.

A tenant takes the address at which the least important tenants are in its way; those are evicted,
gain importance, and are placed again. Addresses worth trying are the two ends of the space, those
that touch a placed neighbour, and those at which it may share storage. What is hard to place so
rises until it is placed first, without anybody naming it.

Cost: a vector operation over the neighbours of one tenant a round, some tens of microseconds.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Integers = NDArray[np.int64]
# What an eviction adds to importance, and how often the lowest of equal addresses is not taken:
# without the second the search can go round in circles.
_GROWTH = 1.2
_OTHER_ADDRESS = 0.2
_NOWHERE = -1


@dataclass(frozen=True)
class Tenant:
    """A buffer or the scratch of one step; `chain_bytes` is the largest that may share with it."""

    size: int
    first: int
    last: int
    chain_first: int
    chain_bytes: int
    neighbours: tuple[int, ...]
    """Numbers of the tenants that are live at one step with this one."""
    partners: tuple[tuple[int, int], ...]
    """Those of them that it may overlap, with its address relative to theirs then."""

    @property
    def area(self) -> int:
        """Bytes times steps."""
        return self.size * (self.last - self.first + 1)


# What is important at the start; the seed chooses.
_MEASURES: tuple[Callable[[Tenant], int], ...] = (
    lambda tenant: tenant.chain_bytes,
    lambda tenant: tenant.area,
    lambda tenant: tenant.last - tenant.first,
)


@dataclass
class _Packing:
    """Addresses so far, `_NOWHERE` for what is not placed; ends are at most `limit`."""

    tenants: Sequence[Tenant]
    limit: int
    alignment: int
    seed: int
    random: np.random.Generator = field(init=False)
    sizes: _Integers = field(init=False)
    addresses: _Integers = field(init=False)
    importance: NDArray[np.float64] = field(init=False)
    neighbours: list[_Integers] = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.sizes = np.array([tenant.size for tenant in self.tenants], np.int64)
        self.addresses = np.full(len(self.tenants), _NOWHERE, np.int64)
        measures = [_MEASURES[self.seed % len(_MEASURES)](tenant) for tenant in self.tenants]
        # A small floor, so that nothing is free to evict.
        self.importance = np.array(measures) / max(1, *measures, 1) + 0.05
        self.neighbours = [np.array(t.neighbours, np.int64) for t in self.tenants]

    def place(self, number: int) -> _Integers:
        """Put a tenant where it costs least; the tenants that are evicted for it."""
        near = self.neighbours[number]
        near = near[self.addresses[near] != _NOWHERE]
        low = self.addresses[near] - self.sizes[number]
        high = self.addresses[near] + self.sizes[near]
        shared, cost, in_way = self._best_shared(number, near, low, high)
        candidates = self._candidates(number, low, high)
        if len(candidates):
            blocked = (candidates[:, None] < high) & (candidates[:, None] > low)
            costs = blocked @ self.importance[near]
            chosen = self._choose(costs)
            if costs[chosen] < cost:
                shared, in_way = int(candidates[chosen]), blocked[chosen]
        self.addresses[number] = shared
        evicted = near[in_way]
        self.addresses[evicted] = _NOWHERE
        self.importance[evicted] *= _GROWTH
        return evicted

    def _choose(self, costs: NDArray[np.float64]) -> int:
        """The first of the cheapest, now and then another of them."""
        cheapest = np.flatnonzero(costs <= costs.min() + 1e-9)
        if self.random.random() < _OTHER_ADDRESS:
            return int(self.random.choice(cheapest))
        return int(cheapest[0])

    def _candidates(self, number: int, low: _Integers, high: _Integers) -> _Integers:
        """Aligned addresses, ascending, at an end of the space or touching a neighbour."""
        step = self.alignment
        last = (self.limit - self.tenants[number].size) // step * step
        ends = np.array([0, last], np.int64)
        touching = np.concatenate([ends, -(-high // step) * step, low // step * step])
        return np.unique(touching[(touching >= 0) & (touching <= last)])

    def _best_shared(
        self, number: int, near: _Integers, low: _Integers, high: _Integers
    ) -> tuple[int, float, Any]:
        """(address, cost, who is in the way) over the cheapest partner; cost infinite if none."""
        best: tuple[int, float, Any] = (0, float("inf"), np.zeros(len(near), bool))
        last = self.limit - self.tenants[number].size
        for partner, distance in self.tenants[number].partners:
            address = int(self.addresses[partner]) + distance
            if self.addresses[partner] == _NOWHERE or not 0 <= address <= last:
                continue
            in_way = (address < high) & (address > low) & (near != partner)
            cost = float(self.importance[near[in_way]].sum())
            if cost < best[1]:
                best = address, cost, in_way
        return best


def pack_below(
    tenants: Sequence[Tenant], limit: int, alignment: int, *, rounds: int, seed: int = 0
) -> list[int] | None:
    """Addresses from 0 to `limit` for all tenants; None where `rounds` placements find none.

    Deterministic. Addresses are multiples of `alignment`. No tenant may be larger than `limit`.
    """
    packing = _Packing(tenants, limit, alignment, seed)
    waiting: list[tuple[float, int, int]] = []

    def wait(number: int) -> None:
        importance = float(packing.importance[number])
        heapq.heappush(waiting, (-importance, tenants[number].chain_first, number))

    for number, tenant in enumerate(tenants):
        if tenant.size:
            wait(number)
        else:
            packing.addresses[number] = 0
    for _ in range(rounds):
        if not waiting:
            break
        for evicted in packing.place(heapq.heappop(waiting)[2]):
            wait(int(evicted))
    return None if waiting else [int(address) for address in packing.addresses]
