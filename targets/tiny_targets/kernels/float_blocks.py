"""Blocks of float32 sums of products: the inner loops of pointwise gradients.

A block has rows and columns. For each step of depth the columns lie side by side in memory (a panel
made for the purpose), the rows either side by side too or one stride apart; all advance together.
Sums run over depth in order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tiny_targets.kernels.address import Address, walk
from tiny_targets.kernels.primitives import fused_multiply_add, keep_loads_behind
from tiny_targets.kernels.scalar import Index, Scalar, number

BLOCK_ROWS, COLUMNS = 4, 6
"""24 sums, six columns and a row value: the 32 registers of the FPUs at hand."""

FLOAT_BYTES = 4

Sums = tuple[Scalar, ...]


@dataclass(frozen=True)
class Walker:
    """Lanes of one side of a product, walked along the depth."""

    places: tuple[Address, ...]
    """One address where lanes are neighbours, else one a lane."""
    lanes: int
    step: Index
    """Bytes from one step of depth to the next."""

    def load(self, places: Sequence[Address]) -> list[Scalar]:
        """The values of all lanes at one step."""
        if len(places) == self.lanes:
            return [place.load("f32") for place in places]
        return [(places[0] + FLOAT_BYTES * lane).load("f32") for lane in range(self.lanes)]

    def next(self, places: Sequence[Address]) -> list[Address]:
        """The places one step further."""
        return [place + self.step for place in places]


def multiply(rows: Walker, columns: Walker, sums: Sums, end: Address, unroll: int) -> Sums:
    """`sums`, by row and column, plus the products from the walkers' places to `end`.

    `end` is where the column walker arrives; the depth is a multiple of `unroll`.
    """
    row_places, column_places = rows.places, columns.places

    def body(*carried: Any) -> tuple[Any, ...]:
        right = carried[: len(column_places)]
        left = carried[len(column_places) : len(column_places) + len(row_places)]
        totals = carried[len(column_places) + len(row_places) :]
        for step in range(unroll):
            if step:
                keep_loads_behind()
            xs, ws = rows.load(left), columns.load(right)
            totals = tuple(
                fused_multiply_add(xs[lane // len(ws)], ws[lane % len(ws)], total)
                for lane, total in enumerate(totals)
            )
            left, right = rows.next(left), columns.next(right)
        return *right, *left, *totals

    results = walk(end, (*column_places, *row_places, *sums), body)
    return tuple(results[len(column_places) + len(row_places) :])


def in_blocks(count: Index, size: int, known: int, body: Callable[[Scalar, int], None]) -> None:
    """`body(first, lanes)` for blocks that cover `[0, count)`: whole ones in a loop, then the rest.

    `known` is the value of `count`. Of it only what decides about the code is used: whether there
    are whole blocks, and the rest.
    """
    rest = known % size
    whole = number(count) - rest
    if known >= size:

        def block(first: Scalar) -> tuple[Scalar]:
            body(first, size)
            return (first + size,)

        walk(whole, (number(0),), block)
    if rest:
        body(whole, rest)


def unroll_of(depth: int) -> int:
    """How many steps of a depth, or of its pieces, are worth unrolling."""
    return max(n for n in (1, 2, 4) if depth % n == 0)
