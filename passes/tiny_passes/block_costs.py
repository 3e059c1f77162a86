"""What it costs in arena bytes to run ops of a chain as they are, or some of them as one op."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiny_passes.block_chains import (
    chain_in,
    chain_operands,
    chain_ops,
    chain_results,
    is_legal,
)
from tiny_passes.liveness import (
    GRANULE_BYTES,
    FunctionGraph,
    Order,
    Sharing,
    choose_sharings,
    lifetimes,
    live_bytes,
    read_function,
    round_up,
    saved_bytes,
)
from tiny_passes.order_search import find_order
from tiny_passes.overwriting import chain_distances
from tiny_passes.row_schedule import Chain, scratch_bytes
from tiny_passes.streamed import is_streamed, row_bytes, rows_for


@dataclass(frozen=True)
class Price:
    """Bytes that the step of a segment needs; `plain` without a result over read rows."""

    needed: int
    plain: int


class BlockCosts:
    """Bytes that the steps of a function need in its best order, fused and as they are."""

    def __init__(self, function: Any, row_overlap: bool) -> None:
        self._row_overlap = row_overlap
        self._source: FunctionGraph = read_function(function, row_overlap=row_overlap)
        self._graph = self._source.graph
        self._order: Order = find_order(self._graph).order
        self._needs = live_bytes(
            self._graph, self._order, choose_sharings(self._graph, self._order)
        )
        plain = read_function(function).graph if row_overlap else self._graph
        self._plain_needs = live_bytes(plain, self._order, choose_sharings(plain, self._order))
        self._lives = lifetimes(self._graph, self._order)
        self._place = {
            self._source.ops[step].operation: place
            for place, step in enumerate(self._order)
            if self._source.ops[step] is not None
        }
        self._buffer = {value: number for number, value in enumerate(self._source.values)}

    def floor(self, runs: Sequence[Sequence[Any]]) -> int:
        """What the ops outside `runs` need."""
        inside = {self._place[op.operation] for run in runs for op in run}
        return max(need for place, need in enumerate(self._needs) if place not in inside)

    def price(self, segment: Sequence[Any]) -> Price | None:
        """The bytes that `segment` needs as one op; None where it cannot be one."""
        if len(segment) == 1:
            place = self._place[segment[0].operation]
            return Price(self._needs[place], self._plain_needs[place])
        chain = chain_in(segment)
        if not is_legal(chain, self._place):
            return None
        place = self._place[segment[-1].operation]
        hidden = {self._buffer[r] for op in chain_ops(chain) for r in op.results}
        touched = {self._buffer[value] for value in chain_results(chain)}
        touched |= {self._buffer[v] for v in chain_operands(chain) if v in self._buffer}
        across = {
            number
            for number, life in enumerate(self._lives)
            if life.first <= place <= life.last and number not in hidden
        }
        plain = self._graph.size(across | touched) + scratch_bytes(chain) + self._longer_ring(chain)
        return Price(plain - self._saved(chain, place), plain)

    def _longer_ring(self, chain: Chain) -> int:
        """The bytes that a streamed input needs besides those for the first convolution alone."""
        x = chain.convolutions[0].operands[0]
        if not is_streamed(x):
            return 0
        return round_up(rows_for(chain) * row_bytes(x), GRANULE_BYTES) - self._graph.size(
            {self._buffer[x]}
        )

    def _saved(self, chain: Chain, place: int) -> int:
        """The bytes that the output has in common with an operand that dies at `place`."""
        if not self._row_overlap:
            return 0
        result = self._buffer[chain.output]
        sharings = [
            Sharing(result, self._buffer[value], distance)
            for value, distance in chain_distances(chain).items()
            if self._lives[self._buffer[value]].last <= place
        ]
        return max((saved_bytes(self._graph, sharing) for sharing in sharings), default=0)

    def lowest_peak(self, run: Sequence[Any]) -> int:
        """The dearest segment of the best partition of `run`."""
        best = [0]
        for end in range(1, len(run) + 1):
            prices = [(start, self.price(run[start:end])) for start in range(end)]
            best.append(min(max(best[at], price.needed) for at, price in prices if price))
        return best[-1]

    def partition(self, run: Sequence[Any], limit: int | None) -> list[list[Any]]:
        """The segments that need at most `limit` bytes at the lowest cost.

        Cheapest is what has the fewest results over an operand, because each of those ties two
        addresses to each other, and of that what fuses the fewest ops. Without a limit the fewest
        segments.
        """
        best: list[tuple[tuple[int, ...], list[list[Any]]] | None] = [((0, 0, 0), [])]
        for end in range(1, len(run) + 1):
            reached = []
            for start in range(end):
                segment, before = list(run[start:end]), best[start]
                price = self.price(segment)
                if price is None or before is None or (limit and limit < price.needed):
                    continue
                cost, segments = before
                own = _cost(price, len(segment), limit)
                total = (*(a + b for a, b in zip(cost, own, strict=True)),)
                reached.append((total, [*segments, segment]))
            best.append(min(reached, key=lambda entry: entry[0], default=None))
        assert best[-1] is not None, "a limit that the best partition does not keep"
        return best[-1][1]


def _cost(price: Price, ops: int, limit: int | None) -> tuple[int, int, int]:
    """What a segment adds to the cost of a partition."""
    if limit is None:
        return 1, 0, 0
    return int(price.plain > limit), ops if ops > 1 else 0, price.needed
