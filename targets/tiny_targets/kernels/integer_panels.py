"""Panels of weight columns for the input gradient, and how rows of g are multiplied with them.

    Pairs   2 x 2   words of two int16 on both sides, one dot2 each        (a core with dot2)
    Singles 4 x 3   bytes in the panel, a multiply and an add each         (many registers)

A panel holds its columns, the lanes, side by side: whole steps of four outputs first, then single
ones. Rows of g are read where they lie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from tiny_targets.kernels.address import ELEMENT_BYTES, Address
from tiny_targets.kernels.blocking import Blocking
from tiny_targets.kernels.primitives import Primitives, pinned
from tiny_targets.kernels.scalar import Scalar

STEP = 4
"""Outputs that are handled together."""

Sums = tuple[Scalar, ...]


class Format(ABC):
    """How a panel holds its columns, and how rows of g are multiplied with it."""

    def __init__(self, core: Primitives, element: str, outputs: int, blocking: Blocking) -> None:
        self.core, self.element, self.outputs = core, element, outputs
        self.bytes = ELEMENT_BYTES[element]
        self.pixels, self.columns = blocking.pixels, blocking.channels
        self.longest_chunk = blocking.steps

    @abstractmethod
    def step_bytes(self, lanes: int) -> int:
        """A whole step of a panel."""

    @abstractmethod
    def single_bytes(self, lanes: int) -> int:
        """One element of the rest of a panel."""

    @abstractmethod
    def pack_step(self, weights: list[list[Scalar]], panel: Address) -> None:
        """Write a step; `weights` by element, then column."""

    @abstractmethod
    def pack_single(self, weights: list[Scalar], panel: Address) -> None:
        """Write one element of the rest."""

    @abstractmethod
    def multiply_step(self, rows: list[Address], panel: Address, sums: Sums, lanes: int) -> Sums:
        """`sums`, by row and column, plus the products of a step."""

    @abstractmethod
    def multiply_single(self, rows: list[Address], panel: Address, sums: Sums, lanes: int) -> Sums:
        """`sums` plus the products of one element."""


class _Words:
    """Consecutive words, loaded two at a time when the first of them is asked for."""

    def __init__(self, core: Primitives, start: Address) -> None:
        self._core, self._start = core, start
        self._loaded: dict[int, Scalar] = {}

    def __getitem__(self, index: int) -> Scalar:
        if index not in self._loaded:
            even = index - index % 2
            pair = self._core.load_pair(self._start + 4 * even)
            self._loaded[even], self._loaded[even + 1] = pair
        return self._loaded[index]


class Pairs(Format):
    """Two int16 a word. A step holds its elements in the order in which g's become pairs."""

    def step_bytes(self, lanes: int) -> int:
        """Four elements of each lane: two words."""
        return 8 * lanes

    def single_bytes(self, lanes: int) -> int:
        """A word a lane; its upper half is not used."""
        return 4 * lanes

    def pack_step(self, weights: list[list[Scalar]], panel: Address) -> None:
        """Two elements a word."""
        words = [
            self.core.pack(low, high)
            for i, j in self._pairs
            for low, high in zip(weights[i], weights[j], strict=True)
        ]
        for i in range(0, len(words), 2):
            self.core.store_pair(words[i], words[i + 1], panel + 4 * i)

    def pack_words(self, rows: list[Scalar], panels: list[Address]) -> None:
        """Write a step of two panels from words of four int8 columns."""
        for panel, pack in zip(panels, (self.core.pack, self.core.pack_high), strict=True):
            for place, (i, j) in enumerate(self._pairs):
                # Bytes 0 and 2 of two rows' halves are a column, bytes 1 and 3 the next one.
                first, second = self.core.widen(pack(rows[i], rows[j]))
                self.core.store_pair(first, second, panel + 8 * place)

    @property
    def _pairs(self) -> tuple[tuple[int, int], ...]:
        """Which elements of a step share a word."""
        return ((0, 1), (2, 3)) if self.element == "i16" else ((0, 2), (1, 3))

    def pack_single(self, weights: list[Scalar], panel: Address) -> None:
        """One element a word."""
        for lane, weight in enumerate(weights):
            (panel + 4 * lane).store(weight, "i32")

    def multiply_step(self, rows: list[Address], panel: Address, sums: Sums, lanes: int) -> Sums:
        """Two `dot2` for each sum."""
        lefts = [self._words(row) for row in rows]
        rights = _Words(self.core, panel)
        for pair in range(2):
            words = [rights[pair * lanes + lane] for lane in range(lanes)]
            sums = tuple(
                self.core.dot2(lefts[lane // lanes][pair], words[lane % lanes], total)
                for lane, total in enumerate(sums)
            )
            sums = tuple(self.core.in_order(total) for total in sums)
        return sums

    def _words(self, row: Address) -> tuple[Scalar, Scalar]:
        if self.element == "i8":
            return self.core.widen(row.load("i32", volatile=True))
        if self.outputs % 2 == 0:
            return self.core.load_pair(row)
        # Every other row starts at half a word: a single load may, a double one may not.
        return row.load("i32", volatile=True), (row + 4).load("i32", volatile=True)

    def multiply_single(self, rows: list[Address], panel: Address, sums: Sums, lanes: int) -> Sums:
        """One product for each sum."""
        return _products(
            [row.load(self.element) for row in rows],
            [(panel + 4 * lane).load("i32") for lane in range(lanes)],
            sums,
        )


class Singles(Format):
    """One element after the other."""

    def step_bytes(self, lanes: int) -> int:
        """Four bytes of each lane."""
        return STEP * lanes

    def single_bytes(self, lanes: int) -> int:
        """A byte a lane."""
        return lanes

    def pack_step(self, weights: list[list[Scalar]], panel: Address) -> None:
        """Element by element."""
        for element, row in enumerate(weights):
            self.pack_single(row, panel + element * len(row))

    def pack_single(self, weights: list[Scalar], panel: Address) -> None:
        """A byte a lane."""
        for lane, weight in enumerate(weights):
            (panel + lane).store(weight, "i8")

    def multiply_step(self, rows: list[Address], panel: Address, sums: Sums, lanes: int) -> Sums:
        """Element by element."""
        for element in range(STEP):
            moved = [row + element * self.bytes for row in rows]
            sums = self.multiply_single(moved, panel + element * lanes, sums, lanes)
        return sums

    def multiply_single(self, rows: list[Address], panel: Address, sums: Sums, lanes: int) -> Sums:
        """One product for each sum."""
        return _products(
            [row.load(self.element, volatile=True) for row in rows],
            [(panel + lane).load("i8", volatile=True) for lane in range(lanes)],
            sums,
        )


def _products(lefts: list[Scalar], rights: list[Scalar], sums: Sums) -> Sums:
    lanes = len(rights)
    return tuple(
        pinned(total + lefts[lane // lanes] * rights[lane % lanes])
        for lane, total in enumerate(sums)
    )
