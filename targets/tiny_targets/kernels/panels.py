"""Operand panels: rows of numbers widened and interleaved, so that a block reads them in order.

A panel holds `lanes` rows side by side, in steps of four elements of depth:

    Halves   [step][pair][lane]   words of two int16, elements 0 and 2, then 1 and 3, for dot2
    Words    [step][element][lane]   int16
    Floats   [step][element][lane]   float32

Both operands of a product share the format, so the order within a step does not matter. Depths that
are no multiple of the step are filled up with zeros.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tiny_targets.kernels.address import Address, walk
from tiny_targets.kernels.primitives import (
    Primitives,
    fused_multiply_add,
    pinned,
    primitives_of,
)
from tiny_targets.kernels.scalar import Index, Scalar, number, real
from tiny_targets.kernels.weights import sum_bounds

_EXACT_FLOAT = 2**24

STEP = 4
"""Elements of depth that are handled together."""

Sums = tuple[Scalar, ...]
Rows = Sequence[Address]
Reader = Callable[[Address], Scalar]
"""The value, as the panel holds it, of the element at an address."""


@dataclass(frozen=True)
class Offset:
    """A number to be added to int8 elements, and the same as two halves of a word."""

    value: Index
    pair: Index


class Format(ABC):
    """How panels hold numbers and how they are multiplied."""

    element: str
    bytes: int
    step_cost: int
    """Instructions of one step for the usual block."""

    def __init__(self, core: Primitives) -> None:
        self.core = core

    @abstractmethod
    def offset(self, element: int, lane: int, lanes: int) -> int:
        """Where an element of a step lies, in bytes from the step's start."""

    @abstractmethod
    def multiply(self, x: Address, w: Address, sums: Sums, shape: tuple[int, int]) -> Sums:
        """`sums` plus the products of one step; `shape` is lanes of `x` by lanes of `w`."""

    @abstractmethod
    def widen(self, rows: Rows, panel: Address, plus: Offset | None) -> None:
        """Write one step of int8 rows, each element with `plus` added."""

    def step_bytes(self, lanes: int) -> int:
        """One step of a panel."""
        return STEP * self.bytes * lanes

    def write(self, rows: Rows, panel: Address, stride: int, read: Reader, count: int) -> None:
        """Write the first `count` elements of a step, element by element; the others are zero.

        Elements of a row are `stride` bytes apart.
        """
        lanes = len(rows)
        for lane, row in enumerate(rows):
            for element in range(STEP):
                place = panel + self.offset(element, lane, lanes)
                if element < count:
                    place.store(read(row + element * stride), self.element)
                else:
                    place.store(self.zero(), self.element)

    def zero(self) -> Scalar:
        """Zero, as the panel holds it."""
        return number(0)


class Halves(Format):
    """Two int16 a word, for cores with `dot2`."""

    element, bytes = "i16", 2
    step_cost = 12

    def offset(self, element: int, lane: int, lanes: int) -> int:
        """Words of pairs, lane by lane."""
        return 4 * ((element & 1) * lanes + lane) + 2 * (element >> 1)

    def multiply(self, x: Address, w: Address, sums: Sums, shape: tuple[int, int]) -> Sums:
        """Two `dot2` a lane of `x` and lane of `w`."""
        pixels, channels = shape
        for pair in range(2):
            left = self._words(x + 4 * pair * pixels, pixels)
            right = self._words(w + 4 * pair * channels, channels)
            sums = tuple(
                self.core.dot2(left[lane // channels], right[lane % channels], total)
                for lane, total in enumerate(sums)
            )
        return sums

    def _words(self, address: Address, count: int) -> list[Scalar]:
        if count == 1:
            return [address.load("i32")]
        pairs = [self.core.load_pair(address + 8 * i) for i in range(count // 2)]
        return [word for pair in pairs for word in pair]

    def widen(self, rows: Rows, panel: Address, plus: Offset | None) -> None:
        """Four elements of each row by two `widen`."""
        words = [row.load("i32", volatile=True) for row in rows]
        offset = None if plus is None else number(plus.pair)
        pairs = [self.core.widen(word, offset) for word in words]
        flat = [pair[i] for i in range(2) for pair in pairs]
        for i in range(0, len(flat), 2):
            self.core.store_pair(flat[i], flat[i + 1], panel + 4 * i)


class Words(Format):
    """One int16 at a time, for cores whose multiply takes words."""

    element, bytes = "i16", 2
    step_cost = 160

    def offset(self, element: int, lane: int, lanes: int) -> int:
        """Elements one after the other, lane by lane."""
        return self.bytes * (element * lanes + lane)

    def multiply(self, x: Address, w: Address, sums: Sums, shape: tuple[int, int]) -> Sums:
        """One product an element, lane of `x` and lane of `w`."""
        pixels, channels = shape
        for element in range(STEP):
            lefts = [self._load(x, element, lane, pixels) for lane in range(pixels)]
            rights = [self._load(w, element, lane, channels) for lane in range(channels)]
            sums = tuple(
                self.add_product(lefts[lane // channels], rights[lane % channels], total)
                for lane, total in enumerate(sums)
            )
        return sums

    def add_product(self, x: Scalar, w: Scalar, total: Scalar) -> Scalar:
        """`total + x w`."""
        return pinned(total + x * w)

    def _load(self, panel: Address, element: int, lane: int, lanes: int) -> Scalar:
        return (panel + self.offset(element, lane, lanes)).load(self.element, volatile=True)

    def convert(self, value: Scalar) -> Scalar:
        """An integer as the panel holds it."""
        return value

    def widen(self, rows: Rows, panel: Address, plus: Offset | None) -> None:
        """Element by element."""
        added = 0 if plus is None else plus.value
        self.write(rows, panel, 1, lambda at: self.convert(at.load("i8") + added), STEP)


class Floats(Words):
    """Float32: exact for integers while no sum reaches 2^24, and one multiply-add a product."""

    element, bytes = "f32", 4
    step_cost = 96

    def add_product(self, x: Scalar, w: Scalar, total: Scalar) -> Scalar:
        """`total + x w`, rounded once."""
        return fused_multiply_add(x, w, total)

    def convert(self, value: Scalar) -> Scalar:
        """The float of the same value."""
        return value.as_float()

    def zero(self) -> Scalar:
        """Zero."""
        return real(0.0)


def form_name(op: Any, target: Any) -> str:
    """What a core multiplies the operands of a convolution as: sums must be exact."""
    if primitives_of(target).has_dot2:
        return "halves"
    exact = target.has("fpu") and int(sum_bounds(op).max()) < _EXACT_FLOAT
    return "floats" if exact else "words"


@dataclass(frozen=True)
class Depth:
    """How the depth of a product is walked: `chunks` loops of `unroll` steps, padded with zeros.

    `elements` may be known on the device only: then it is a multiple of the chunk.
    """

    elements: Index
    unroll: int
    chunks: int | None
    """None where only the device knows."""

    @property
    def steps(self) -> Index:
        """Steps of a panel, padding included."""
        if self.chunks is None:
            return self.elements // STEP
        return self.unroll * self.chunks

    @property
    def whole_steps(self) -> Index:
        """Steps that hold nothing but elements."""
        return self.elements // STEP

    @property
    def rest(self) -> int:
        """Elements of the step that is partly filled."""
        return self.elements % STEP if isinstance(self.elements, int) else 0

    @property
    def empty_steps(self) -> int:
        """Steps that hold nothing but zeros."""
        if self.chunks is None or not isinstance(self.elements, int):
            return 0
        return self.unroll * self.chunks - -(-self.elements // STEP)

    def panel_bytes(self, form: Format, lanes: int) -> Index:
        """A panel of `lanes` rows."""
        return self.steps * form.step_bytes(lanes)


_LOOP_COST = 4
"""Instructions of a loop beside its body."""


def depth_of(form: Format, elements: int, longest_chunk: int) -> Depth:
    """The cheapest way to walk `elements`: few padded steps, few and long chunks."""
    steps = -(-elements // STEP)
    options = []
    for unroll in range(1, longest_chunk + 1):
        chunks = -(-steps // unroll)
        cost = chunks * (unroll * form.step_cost + (_LOOP_COST if chunks > 1 else 0))
        options.append((cost, unroll, chunks))
    _, unroll, chunks = min(options)
    return Depth(elements, unroll, chunks)


def fill(
    form: Format,
    rows: Rows,
    panel: Address,
    depth: Depth,
    *,
    stride: int,
    copy: Callable[[Rows, Address], None],
    read: Reader,
) -> Address:
    """Write a panel from `rows` of elements `stride` bytes apart; the address behind it.

    `copy(rows, panel)` writes one whole step, `read` gives a single element.
    """
    lanes = len(rows)
    size = form.step_bytes(lanes)
    places: tuple[Any, ...] = (panel, *rows)
    whole = depth.whole_steps
    if not isinstance(whole, int) or whole:
        burst = _burst(depth.unroll if not isinstance(whole, int) else whole)

        def body(at: Address, *sources: Address) -> tuple[Address, ...]:
            for step in range(burst):
                copy([row + step * STEP * stride for row in sources], at + step * size)
            return at + burst * size, *(row + burst * STEP * stride for row in sources)

        once = isinstance(whole, int) and whole == burst
        places = body(*places) if once else walk(panel + whole * size, places, body)
    at, *sources = places
    if depth.rest:
        form.write(sources, at, stride, read, depth.rest)
        at = at + size
    for _ in range(depth.empty_steps):
        form.write(sources, at, stride, read, 0)
        at = at + size
    return at


def _burst(steps: int) -> int:
    """How many steps a copying loop unrolls: a divisor, at most four."""
    return max(n for n in range(1, 5) if steps % n == 0)


def multiply_panels(
    form: Format, x: Address, w: Address, sums: Sums, shape: tuple[int, int], depth: Depth
) -> tuple[Address, Sums]:
    """(the address behind the panel `x`, `sums` plus the products of all lanes of both panels)."""
    pixels, channels = shape
    x_step, w_step = form.step_bytes(pixels), form.step_bytes(channels)

    def chunk(right: Address, left: Address, *totals: Scalar) -> tuple[Any, ...]:
        for step in range(depth.unroll):
            totals = form.multiply(left + step * x_step, right + step * w_step, totals, shape)
        return right + depth.unroll * w_step, left + depth.unroll * x_step, *totals

    if depth.chunks == 1:
        _, behind, *totals = chunk(w, x, *sums)
    else:
        end = w + depth.panel_bytes(form, channels)
        _, behind, *totals = walk(end, (w, x, *sums), chunk)
    return behind, tuple(totals)
