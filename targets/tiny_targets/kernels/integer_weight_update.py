"""Integer weight updates of convolutions: the pointwise form, and the choice of the form.

    w[o, i] -= step(sum_p g[p, o] (x[p, i] - z))

A block of outputs by inputs is summed over all pixels in registers, then its weights move: no
gradient is stored. With `dot2` both operands are panels of pixel pairs in scratch memory: all
inputs of a tile once, the outputs of a block when their turn comes. Without, both are read where
they lie.

Lanes behind the last output or input repeat it with a sum of zero, before it moves itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tiny_dialect.ops import IntegerConv2DWeightUpdate, IntegerStochasticConv2DWeightUpdate
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_targets.kernels.address import ANY_SIZE, ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.integer_header import numbers
from tiny_targets.kernels.integer_storage import storage_of
from tiny_targets.kernels.integer_update import update_weights
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.primitives import pinned, primitives_of
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, minimum, number, select
from tiny_targets.kernels.scratch import ScratchWish, register_scratch, scratch_of

Sums = tuple[Scalar, ...]

_PAIR_BYTES = 8
"""Two lanes of a pixel pair."""
_LONGEST_CHUNK = 16
_TILES = (2, 8, 16, 32, 64, 128)
"""Inputs of a tile that are worth asking for."""


@dataclass(frozen=True)
class Plan:
    """How one pointwise weight update is computed."""

    outputs: int
    inputs: int
    pixels: int
    pairs: bool

    @property
    def lanes(self) -> tuple[int, int]:
        """Outputs by inputs of a block."""
        if self.pairs:
            return 2, 2
        return _lanes(self.outputs, (4, 3, 2)), _lanes(self.inputs, (3, 2))

    @property
    def pixel_pairs(self) -> int:
        """The last one may be half empty."""
        return -(-self.pixels // 2)

    @property
    def panel_bytes(self) -> int:
        """A panel of two lanes."""
        return self.pixel_pairs * _PAIR_BYTES

    def scratch_bytes(self, tile: int) -> int:
        """The panel of a block of outputs and those of a tile of inputs."""
        return self.panel_bytes * (1 + -(-tile // 2)) if self.pairs else 0

    def tile(self, scratch: int) -> int:
        """The most inputs of a tile in `scratch` bytes; even, or all."""
        if not self.pairs:
            return self.inputs
        return min(2 * max(scratch // self.panel_bytes - 1, 0), self.inputs)


def _lanes(count: int, choices: Sequence[int]) -> int:
    """The most lanes that divide `count`, or simply the most."""
    return next((n for n in choices if count % n == 0), choices[0])


def plan_of(op: Any, target: Any) -> Plan | None:
    """The plan of a pointwise weight update; None for any other."""
    shape, geo = shape_of(op.parameter), geometry(op)
    if shape[1:3] != (1, 1) or geo.strides != (1, 1) or any(geo.pads) or geo.groups != 1:
        return None
    if "output_channels" in op.attributes:
        return None
    pixels = prod(shape_of(op.x)[1:3])
    return Plan(shape[0], shape[3], pixels, primitives_of(target).has_dot2)


@register_scratch(IntegerConv2DWeightUpdate)
@register_scratch(IntegerStochasticConv2DWeightUpdate)
def scratch_wish(op: Any, target: Any) -> ScratchWish | None:
    """Panels of as many inputs as there is room for."""
    plan = plan_of(op, target)
    if plan is None or not plan.pairs:
        return None
    tiles = sorted({min(tile, plan.inputs) for tile in (*_TILES, plan.inputs)})
    return ScratchWish([plan.scratch_bytes(tile) for tile in tiles])


@register_kernel(IntegerConv2DWeightUpdate)
@register_kernel(IntegerStochasticConv2DWeightUpdate)
def integer_conv2d_weight_update(nest: Nest, op: Any, target: Any) -> None:
    """The pointwise form where it applies and has its scratch memory, else the general one."""
    plan = plan_of(op, target)
    tile = 0 if plan is None else plan.tile(scratch_of(op))
    if plan is None or not tile:
        update_weights(nest, op, target)
        return
    (PairUpdate if plan.pairs else SingleUpdate)(nest, op, plan, target).emit(tile)


class _Lanes:
    """Neighbouring rows or columns: those behind the last one repeat it and count for nothing."""

    def __init__(self, first: Scalar, lanes: int, count: Scalar, ragged: bool) -> None:
        self.first, self.ragged = first, ragged
        last = count - 1 - first
        self.offsets: list[Index] = [
            minimum(last, lane) if ragged and lane else lane for lane in range(lanes)
        ]
        self._valid = [last >= lane if ragged and lane else None for lane in range(lanes)]

    def kept(self, lane: int, total: Scalar) -> Scalar:
        """`total`, or zero for a lane that counts for nothing."""
        valid = self._valid[lane]
        return total if valid is None else select(valid, total, 0)


class _Update:
    """What both forms share: arguments, the loop over outputs, and the step itself."""

    def __init__(self, nest: Nest, op: Any, plan: Plan, target: Any) -> None:
        self._nest, self._plan, self._core = nest, plan, primitives_of(target)
        self._element = element_name(op.g)
        self._size = ELEMENT_BYTES[self._element]
        self._x = address_of(nest.read(op.x, ANY_SIZE))
        self._g = address_of(nest.read(op.g, ANY_SIZE))
        row = plan.outputs * self._size
        _, zero = quantization(op.x)
        values = [plan.outputs, plan.inputs, row, plan.pixels * row, zero, op.align.value]
        self._outputs, self._inputs, self._g_row, self._g_size, self._zero, align = numbers(
            nest, values
        )
        aligned = element_name(op.parameter) == "i8"
        self._storage = storage_of(nest, op, self._core, align if aligned else 0)

    def _rows(self, first: Scalar) -> _Lanes:
        lanes = self._plan.lanes[0]
        return _Lanes(first, lanes, self._outputs, self._plan.outputs % lanes != 0)

    def _columns(self, first: Scalar) -> _Lanes:
        lanes = self._plan.lanes[1]
        return _Lanes(first, lanes, self._inputs, self._plan.inputs % lanes != 0)

    def _for_rows(self, body: Any) -> None:
        """`body(rows, multipliers)` for every block of outputs."""
        lanes = self._plan.lanes[0]

        def block(first: Scalar) -> tuple[Scalar]:
            rows = self._rows(first)
            body(rows, [self._storage.multiplier(first + offset) for offset in rows.offsets])
            return (first + lanes,)

        (end,) = numbers(self._nest, [-(-self._plan.outputs // lanes) * lanes])
        walk(end, (number(0),), block)

    def _apply(
        self, rows: _Lanes, columns: _Lanes, multipliers: list[Scalar], sums: Sums, at: Address
    ) -> None:
        """Move the weights of a block, the first of which lies at `at`; backwards, see above."""
        width, storage = len(columns.offsets), self._storage
        lines = [at + self._inputs * storage.bytes * offset for offset in rows.offsets]
        for lane in reversed(range(len(sums))):
            row, column = divmod(lane, width)
            total = rows.kept(row, columns.kept(column, sums[lane]))
            place = lines[row] + columns.offsets[column] * storage.bytes
            storage.move(place, storage.aligned(total), multipliers[row])


class SingleUpdate(_Update):
    """Operands read where they lie, pixel by pixel."""

    def emit(self, tile: int) -> None:
        """All outputs by all inputs."""
        lanes = self._plan.lanes[1]
        (end,) = numbers(self._nest, [-(-tile // lanes) * lanes])

        def block(rows: _Lanes, multipliers: list[Scalar]) -> None:
            line = self._storage.start + rows.first * self._inputs * self._storage.bytes

            def inner(first: Scalar) -> tuple[Scalar]:
                columns = self._columns(first)
                sums = self._sums(rows, columns)
                at = line + first * self._storage.bytes
                self._apply(rows, columns, multipliers, sums, at)
                return (first + lanes,)

            walk(end, (number(0),), inner)

        self._for_rows(block)

    def _sums(self, rows: _Lanes, columns: _Lanes) -> Sums:
        width = len(columns.offsets)
        start = self._g + rows.first * self._size

        def pixel(g: Address, x: Address, *sums: Scalar) -> tuple[Any, ...]:
            left = [
                (g + offset * self._size).load(self._element, volatile=True)
                for offset in rows.offsets
            ]
            right = [(x + o).load("i8", volatile=True) - self._zero for o in columns.offsets]
            sums = tuple(
                pinned(total + left[lane // width] * right[lane % width])
                for lane, total in enumerate(sums)
            )
            return g + self._g_row, x + self._inputs, *sums

        zeros = (number(0),) * (len(rows.offsets) * width)
        places = (start, self._x + columns.first, *zeros)
        _, _, *sums = walk(start + self._g_size, places, pixel)
        return tuple(sums)


class PairUpdate(_Update):
    """Operands as panels of pixel pairs: `[pair][lane]`, words of two int16."""

    def __init__(self, nest: Nest, op: Any, plan: Plan, target: Any) -> None:
        super().__init__(nest, op, plan, target)
        self._outputs_panel = address_of(nest.scratch(ANY_SIZE, "i8"))
        self._inputs_panel = self._outputs_panel + plan.panel_bytes

    def emit(self, tile: int) -> None:
        """Tile by tile of the inputs, all outputs each."""
        if tile == self._plan.inputs:
            self._tile(number(0), self._inputs)
        else:
            end, size = numbers(self._nest, [-(-self._plan.inputs // tile) * tile, tile])

            def one(start: Scalar) -> tuple[Scalar]:
                self._tile(start, minimum(self._inputs - start, size))
                return (start + size,)

            walk(end, (number(0),), one)

    def _tile(self, start: Scalar, count: Scalar) -> None:
        size, pairs = self._plan.panel_bytes, (count + 1) >> 1
        end = self._inputs_panel + pairs * size

        def pack(panel: Address, first: Scalar) -> tuple[Any, ...]:
            columns = self._columns(first)
            self._pack_inputs(panel, columns)
            return panel + size, first + 2

        walk(end, (self._inputs_panel, start), pack)

        def block(rows: _Lanes, multipliers: list[Scalar]) -> None:
            self._pack_outputs(rows)
            bytes_ = self._storage.bytes
            line = self._storage.start + (rows.first * self._inputs + start) * bytes_

            def inner(panel: Address, at: Address, first: Scalar) -> tuple[Any, ...]:
                columns = self._columns(first)
                behind, sums = self._sums(panel)
                self._apply(rows, columns, multipliers, sums, at)
                return behind, at + 2 * bytes_, first + 2

            walk(end, (self._inputs_panel, line, start), inner)

        self._for_rows(block)

    def _pack_inputs(self, panel: Address, columns: _Lanes) -> None:
        starts = [self._x + columns.first + offset for offset in columns.offsets]
        self._pack(panel, starts, self._inputs, lambda at: at.load("i8") - self._zero)

    def _pack_outputs(self, rows: _Lanes) -> None:
        if self._element == "i16" and self._plan.outputs % 2 == 0:
            self._pack_words(self._g + rows.first * self._size)
            return
        starts = [self._g + (rows.first + offset) * self._size for offset in rows.offsets]
        self._pack(self._outputs_panel, starts, self._g_row, lambda at: at.load(self._element))

    def _pack_words(self, start: Address) -> None:
        """Write the panel of two outputs whose mantissas share a word."""
        core, panel = self._core, self._outputs_panel

        def store(at: Address, low: Scalar, high: Scalar) -> None:
            core.store_pair(core.pack(low, high), core.pack_high(low, high), at)

        def pair(at: Address, source: Address) -> tuple[Address, Address]:
            below = source + self._g_row
            store(at, source.load("i32"), below.load("i32"))
            return at + _PAIR_BYTES, below + self._g_row

        places: tuple[Address, ...] = (panel, start)
        full = self._plan.pixels // 2
        if full:
            places = walk(panel + full * _PAIR_BYTES, places, pair)
        if self._plan.pixels % 2:
            store(places[0], places[1].load("i32"), number(0))

    def _pack(self, panel: Address, starts: list[Address], row: Scalar, read: Any) -> None:
        """Write a panel from columns whose elements are `row` bytes apart."""

        def pair(at: Address, *sources: Address) -> tuple[Address, ...]:
            low, sources = [read(s) for s in sources], tuple(s + row for s in sources)
            high, sources = [read(s) for s in sources], tuple(s + row for s in sources)
            words = [self._core.pack(*halves) for halves in zip(low, high, strict=True)]
            self._core.store_pair(words[0], words[1], at)
            return at + _PAIR_BYTES, *sources

        places: tuple[Address, ...] = (panel, *starts)
        full = self._plan.pixels // 2
        if full:
            places = walk(panel + full * _PAIR_BYTES, places, pair)
        if self._plan.pixels % 2:
            at, *sources = places
            words = [read(source) & 0xFFFF for source in sources]
            self._core.store_pair(words[0], words[1], at)

    def _sums(self, panel: Address) -> tuple[Address, Sums]:
        """The address behind a panel of inputs, and its products with that of the outputs."""
        pairs, core = self._plan.pixel_pairs, self._core
        unroll = max(n for n in range(1, _LONGEST_CHUNK + 1) if pairs % n == 0)

        def chunk(x: Address, g: Address, *sums: Scalar) -> tuple[Any, ...]:
            for i in range(unroll):
                left = core.load_pair(g + i * _PAIR_BYTES)
                right = core.load_pair(x + i * _PAIR_BYTES)
                sums = tuple(
                    core.dot2(left[lane // 2], right[lane % 2], total)
                    for lane, total in enumerate(sums)
                )
            return x + unroll * _PAIR_BYTES, g + unroll * _PAIR_BYTES, *sums

        places = (panel, self._outputs_panel, *(number(0),) * 4)
        if unroll == pairs:
            behind, _, *sums = chunk(*places)
        else:
            behind, _, *sums = walk(panel + self._plan.panel_bytes, places, chunk)
        return behind, tuple(sums)
