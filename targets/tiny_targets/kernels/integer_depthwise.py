"""The input gradient of a depthwise convolution: channel by channel from a plane of g.

A transposed convolution with strides is `stride x stride` ordinary ones of the same plane: the
inputs of one *phase*, `h = stride u + phase - pad`, meet every `stride`-th tap,

    gx[h] = sum_t g[u - t] w[phase + stride t]

which is a window that starts at `u - (taps - 1)` over the flipped taps. So no product with an
inserted zero is computed, and with stride 1 there is a single phase.

For each channel its plane of g is gathered into zero-padded int16 rows in scratch memory, its taps,
flipped, beside it; then the inputs of each phase are computed four side by side. With `dot2` taps
are words of two int16 (`tap_pairs`), else bytes. A channel of g is read whole before it is written,
so the result may lie over g where both have the same shape and element.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.types import element_name, shape_of
from tiny_targets.kernels.address import ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.convolution import axes
from tiny_targets.kernels.integer_header import EXPONENT, Result, limit_mantissa
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.primitives import pinned, primitives_of
from tiny_targets.kernels.scalar import Index, Scalar, number
from tiny_targets.kernels.scratch import ScratchWish
from tiny_targets.kernels.tap_pairs import RowProducts, row_products, weight_words
from tiny_targets.kernels.windows import Axis
from tiny_targets.kernels.word_stream import WordStream

OUTPUTS = 4
"""Inputs of the convolution computed side by side."""
_COPIED = 16
"""Elements of a row that are gathered side by side."""
_HALF, _WORD = 2, 4


@dataclass(frozen=True)
class Phase:
    """The inputs of one phase along an axis, and the taps that they meet."""

    first: int
    """The first input of the phase."""
    count: int
    """Its inputs, `stride` apart."""
    taps: tuple[int, ...]
    """In the order of the plane: flipped."""
    start: int
    """The element of g at which the first window starts; negative in the padding."""


def phases_of(axis: Axis) -> list[Phase]:
    """The phases of an axis that have inputs."""
    found = []
    for phase in range(axis.stride):
        first = (phase - axis.pad) % axis.stride
        count = -(-(axis.input - first) // axis.stride)
        taps = tuple(reversed(range(phase, axis.kernel, axis.stride)))
        lowest = (first + axis.pad - phase) // axis.stride
        if count > 0:
            found.append(Phase(first, count, taps, lowest - max(len(taps) - 1, 0)))
    return found


@dataclass(frozen=True)
class Plan:
    """The layout of plane and taps."""

    vertical: Axis
    horizontal: Axis
    pairs: bool

    @property
    def rows(self) -> list[Phase]:
        """Vertical phases."""
        return phases_of(self.vertical)

    @property
    def columns(self) -> list[Phase]:
        """Horizontal phases."""
        return phases_of(self.horizontal)

    @property
    def top(self) -> int:
        """Rows of zeros above g."""
        return max(0, *(-phase.start for phase in self.rows))

    @property
    def left(self) -> int:
        """Zeros before a row of g, up to a whole word."""
        reach = max(0, *(-phase.start for phase in self.columns))
        return -(-reach // 2) * 2

    @property
    def height(self) -> int:
        """Rows of the plane."""
        return self.top + _reach(self.vertical, self.rows)

    @property
    def row_bytes(self) -> int:
        """A row of the plane; whole pairs of words behind its start stay inside."""
        return -(-(self.left + _reach(self.horizontal, self.columns)) // 2) * _WORD

    @property
    def plane_bytes(self) -> int:
        """With the word that a pair of words may reach beyond the last row."""
        return self.height * self.row_bytes + _WORD

    def window(self, phase: Phase) -> int:
        """The element of a row at which the first window of a horizontal phase starts."""
        return self.left + phase.start

    def tap_words(self, phase: Phase) -> tuple[Any, ...]:
        """The words of one row of taps of a horizontal phase, as pairs."""
        if not phase.taps:
            return ()
        return weight_words(self.window(phase) % 2, 1, len(phase.taps))

    def taps_bytes(self, row: Phase, column: Phase) -> int:
        """The taps of a pair of phases."""
        if self.pairs:
            words = len(row.taps) * len(self.tap_words(column))
            return -(-words // 2) * 2 * _WORD
        return -(-len(row.taps) * len(column.taps) // _WORD) * _WORD

    @property
    def scratch_bytes(self) -> int:
        """The plane, then the taps of all pairs of phases."""
        taps = sum(self.taps_bytes(r, c) for r in self.rows for c in self.columns)
        return -(-self.plane_bytes // 8) * 8 + taps


def _reach(axis: Axis, phases: list[Phase]) -> int:
    """Elements of g that a window can need, behind its first one."""
    return max(axis.output, *(p.start + p.count - 1 + max(len(p.taps), 1) for p in phases))


def plan_of(op: Any, target: Any) -> Plan | None:
    """The plan of a depthwise input gradient with one output a channel; None for any other."""
    shape = shape_of(op.w)
    if shape[0] != op.groups.value or shape[3] != 1:
        return None
    return Plan(*axes(op, op.gx, op.g, shape), primitives_of(target).has_dot2)


def depthwise_scratch(op: Any, target: Any) -> ScratchWish | None:
    """The plane and the taps."""
    plan = plan_of(op, target)
    return None if plan is None else ScratchWish([plan.scratch_bytes])


class _Taps:
    """The stored taps of a channel: frozen, or trained where the channel is."""

    def __init__(self, nest: Nest, op: Any) -> None:
        self._nest = nest
        _, self._height, self._width, _ = shape_of(op.w)
        self._whole = self._source(op.w)
        self._rows = None
        if op.trained is not None:
            rows = np.full(shape_of(op.w)[0], -1, np.int16)
            channels = to_list(op.attributes["trained_channels"])
            rows[channels] = np.arange(len(channels))
            self._rows, self._trained = nest.read(rows), self._source(op.trained)

    def _source(self, value: Any) -> tuple[Address, int]:
        return address_of(self._nest.read(value)), ELEMENT_BYTES[element_name(value)]

    def use(self, channel: Index, consume: Callable[[Callable[[int, int], Scalar]], None]) -> None:
        """`consume(read)` with the function that reads the tap (kh, kw) of `channel`."""

        def from_source(source: tuple[Address, int], row: Index) -> None:
            start, size = source
            taps = start + row * (self._height * self._width * size) + (size - 1)

            def read(kh: int, kw: int) -> Scalar:
                return (taps + (kh * self._width + kw) * size).load("i8")

            consume(read)

        if self._rows is None:
            from_source(self._whole, channel)
            return
        row = self._rows[channel]

        def chosen(source: tuple[Address, int], index: Index) -> tuple[()]:
            from_source(source, index)
            return ()

        self._nest.branch(
            row >= 0, lambda: chosen(self._trained, row), lambda: chosen(self._whole, channel), ()
        )


class DepthwiseInputGradient:
    """The code of one input gradient."""

    def __init__(self, nest: Nest, op: Any, plan: Plan, target: Any) -> None:
        self._nest, self._plan, self._core = nest, plan, primitives_of(target)
        self._channels, self._shift = shape_of(op.gx)[3], op.shift.value
        g, self._header = nest.read(op.g), nest.read(op.g_header)
        self._g, self._element = address_of(g), g.element
        self._taps = _Taps(nest, op)
        self._result = Result(nest, self._core, op)
        self._plane = address_of(nest.scratch((plan.scratch_bytes // _WORD,), "i32"))
        self._records = self._plane + -(-plan.plane_bytes // 8) * 8

    def emit(self) -> None:
        """All channels, then the header."""
        self._clear()
        for channel in self._nest.loop(self._channels):
            self._gather(channel)
            self._taps.use(channel, self._prepare)
            record = self._records
            for row in self._plan.rows:
                for column in self._plan.columns:
                    self._emit_phases(channel, row, column, record)
                    record = record + self._plan.taps_bytes(row, column)
        self._result.finish(self._header[EXPONENT] + self._shift)

    def _clear(self) -> None:
        zero = number(0)
        for word in self._nest.loop(-(-self._plan.plane_bytes // _WORD)):
            (self._plane + word * _WORD).store(zero, "i32")

    def _gather(self, channel: Index) -> None:
        """The plane of a channel of g; the zeros around it stay."""
        plan, size = self._plan, ELEMENT_BYTES[self._element]
        width, step = plan.horizontal.output, self._channels * size
        start = self._plane + (plan.top * plan.row_bytes + plan.left * _HALF)
        at = self._g + channel * size

        def copy(target: Address, source: Address, count: int) -> tuple[Address, Address]:
            for i in range(count):
                value = (source + i * step).load(self._element)
                (target + i * _HALF).store(value, "i16")
            return target + count * _HALF, source + count * step

        def row(target: Address, source: Address) -> tuple[Address, Address]:
            full, places = width // _COPIED, (target, source)
            if full > 1:
                end = target + full * _COPIED * _HALF
                places = walk(end, places, lambda t, s: copy(t, s, _COPIED))
            copy(*places, count=width % _COPIED if full > 1 else width)
            return target + plan.row_bytes, source + width * step

        walk(start + plan.vertical.output * plan.row_bytes, (start, at), row)

    def _prepare(self, read: Callable[[int, int], Scalar]) -> None:
        """Write the taps of all phases."""
        record = self._records
        for row in self._plan.rows:
            for column in self._plan.columns:
                if self._plan.pairs:
                    self._write_pairs(record, read, row, column)
                else:
                    for i, kh in enumerate(row.taps):
                        for j, kw in enumerate(column.taps):
                            place = record + (i * len(column.taps) + j)
                            place.store(read(kh, kw), "i8")
                record = record + self._plan.taps_bytes(row, column)

    def _write_pairs(
        self, at: Address, read: Callable[[int, int], Scalar], row: Phase, column: Phase
    ) -> None:
        for kh in row.taps:
            taps = [read(kh, kw) for kw in column.taps]
            for low, high in self._plan.tap_words(column):
                words = [number(0) if tap is None else taps[tap] for tap in (low, high)]
                at.store(self._core.pack(*words), "i32")
                at = at + _WORD

    def _emit_phases(self, channel: Index, row: Phase, column: Phase, record: Address) -> None:
        """All inputs of a pair of phases."""
        plan, pixel = self._plan, self._channels * _HALF
        width = plan.horizontal.input
        window = self._plane + (plan.top + row.start) * plan.row_bytes
        first = (row.first * width + column.first) * pixel
        line = self._result.start + channel * _HALF + first
        down, across = plan.vertical.stride * width * pixel, plan.horizontal.stride * pixel
        full = column.count // OUTPUTS

        def group(at: Address, out: Address, count: int = OUTPUTS) -> tuple[Address, Address]:
            for i, total in enumerate(self._sums(at, row, column, record, count)):
                value = limit_mantissa(self._core, total >> self._shift)
                (out + i * across).store(value, "i16")
            return at + count * _HALF, out + count * across

        def one(at: Address, out: Address) -> tuple[Address, Address]:
            places = (at + plan.window(column) // 2 * _WORD, out)
            if full == 1:
                places = group(*places)
            elif full:
                places = walk(places[0] + full * OUTPUTS * _HALF, places, group)
            if column.count % OUTPUTS:
                group(*places, count=column.count % OUTPUTS)
            return at + plan.row_bytes, out + down

        walk(window + row.count * plan.row_bytes, (window, line), one)

    def _sums(
        self, at: Address, row: Phase, column: Phase, record: Address, count: int
    ) -> list[Scalar]:
        """`count` neighbours whose first window starts in the word at `at`."""
        totals = [number((1 << self._shift) >> 1)] * count
        if not column.taps:
            return totals
        odd = self._plan.window(column) % 2
        if not self._plan.pairs:
            return self._single_sums(at + odd * _HALF, row, column, record, totals)
        products = row_products(odd, 1, len(column.taps), count)
        return self._pair_sums(at, row, products, record, totals)

    def _pair_sums(
        self, at: Address, row: Phase, form: RowProducts, record: Address, totals: list[Scalar]
    ) -> list[Scalar]:
        core, words = self._core, len(form.words)
        taps = WordStream(core, record, len(row.taps) * words)
        for u in range(len(row.taps)):
            elements = WordStream(core, at + u * self._plan.row_bytes, form.element_words)
            for product in form.products:
                x, w = elements[product.word], taps[u * words + product.weight]
                total = totals[product.output]
                if product.halves is None:
                    totals[product.output] = core.dot2(x, w, total)
                else:
                    totals[product.output] = core.dot(x, w, total, product.halves)
        return totals

    def _single_sums(
        self, at: Address, row: Phase, column: Phase, record: Address, totals: list[Scalar]
    ) -> list[Scalar]:
        width = len(column.taps)
        for u in range(len(row.taps)):
            start = at + u * self._plan.row_bytes
            taps = [(record + (u * width + v)).load("i8", volatile=True) for v in range(width)]
            for place in range(len(totals) - 1 + width):
                value = (start + place * _HALF).load("i16", volatile=True)
                for i in range(len(totals)):
                    if 0 <= place - i < width:
                        totals[i] = totals[i] + value * taps[place - i]
                totals = [pinned(total) for total in totals]
        return totals
