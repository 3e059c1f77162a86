"""The input gradient of a pointwise convolution: rows of g against panels of weight columns.

    gx[p, i] = sum_o g[p, o] w[o, i]                1x1, stride 1, no pads, one group

For a block of columns the weights, row-major int8 or the upper bytes of int16 masters, are repacked
into a panel in scratch memory that the innermost loop reads in order; then all pixels stream past
it, a block of pixels by columns at a time (`integer_panels`). Where four weights are a word, two
panels are packed together.

Of a partly trained weight the trained columns come first, then the frozen ones: two lists of
columns. Blocks at the end overlap: what they share with the block before is computed and written
twice. Sizes are arguments: layers that walk their depth alike share the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import element_name, shape_of
from tiny_targets.kernels.address import ANY_SIZE, ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.blocking import blocking_of
from tiny_targets.kernels.integer_header import EXPONENT, Result, limit_mantissa, numbers
from tiny_targets.kernels.integer_panels import STEP, Format, Pairs, Singles, Sums
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.primitives import primitives_of
from tiny_targets.kernels.scalar import Index, Scalar, minimum, number
from tiny_targets.kernels.scratch import ScratchWish, scratch_of


@dataclass(frozen=True)
class Plan:
    """How one input gradient is computed."""

    form: Format
    pixels: int
    """Of a block."""
    unroll: int
    """Steps of a chunk; the steps that are left over follow the last one."""

    @property
    def steps(self) -> int:
        """Whole steps."""
        return self.form.outputs // STEP

    @property
    def chunks(self) -> int:
        """Chunks of `unroll` steps."""
        return self.steps // self.unroll if self.unroll else 0

    @property
    def rest(self) -> int:
        """Elements behind the last step."""
        return self.form.outputs % STEP

    @property
    def panel_bytes(self) -> int:
        """One panel."""
        form = self.form
        size = self.steps * form.step_bytes(form.columns)
        return size + self.rest * form.single_bytes(form.columns)


_FORMS: dict[str, type[Format]] = {"pairs": Pairs, "singles": Singles}


def plan_of(op: Any, target: Any) -> Plan | None:
    """The plan of a pointwise input gradient; None for any other."""
    shape, geo = shape_of(op.w), geometry(op)
    if shape[1:3] != (1, 1) or geo.strides != (1, 1) or any(geo.pads) or geo.groups != 1:
        return None
    form = format_of(op, target, shape[0])
    return Plan(form, min(prod(shape_of(op.g)[1:3]), form.pixels), unrolled(form))


def format_of(op: Any, target: Any, outputs: int) -> Format:
    """The panels of a core, of `outputs` elements a column."""
    core = primitives_of(target)
    name = "pairs" if core.has_dot2 else "singles"
    blocking = blocking_of(op, f"input_gradient.{name}", target)
    return _FORMS[name](core, element_name(op.g), outputs, blocking)


def unrolled(form: Format) -> int:
    """The steps of a chunk: long ones save loop instructions, steps behind the last cost code."""
    steps = form.outputs // STEP
    return max(
        range(1, min(form.longest_chunk, steps) + 1), default=0,
        key=lambda n: (steps % n == 0, n),
    )  # fmt: skip


def pointwise_scratch(op: Any, target: Any) -> ScratchWish | None:
    """The panel of one block of columns; or of two, packed together."""
    plan = plan_of(op, target)
    if plan is None:
        return None
    two = [2 * plan.panel_bytes] if _fills_words(op, plan) else []
    return ScratchWish([plan.panel_bytes, *two])


def _fills_words(op: Any, plan: Plan) -> bool:
    """True where four neighbouring weights are an aligned word that becomes two panels."""
    whole = op.trained is None and element_name(op.w) == "i8" and shape_of(op.w)[3] % 4 == 0
    return whole and isinstance(plan.form, Pairs)


@dataclass(frozen=True)
class _Columns:
    """Weight columns in storage, and the channels that they belong to."""

    start: Address
    """The byte that holds the weight of the first output and column."""
    row: Scalar
    """From an output to the next, in bytes."""
    places: Address
    """A table: where each column lies behind `start`, then its channel; two int16 a column."""
    count: Scalar

    @property
    def carried(self) -> tuple[Any, ...]:
        """As the values of a loop."""
        return self.start, self.row, self.places, self.count


class PointwiseInputGradient:
    """The code of one input gradient; pixels, outputs and channels are arguments."""

    def __init__(self, nest: Nest, op: Any, plan: Plan) -> None:
        self._nest, self._op, self._plan, self._form = nest, op, plan, plan.form
        outputs, _, _, channels = shape_of(op.w)
        self._pixel_count = prod(shape_of(op.gx)[1:3])
        g, self._header = nest.read(op.g, ANY_SIZE), nest.read(op.g_header)
        self._g = address_of(g)
        self._sizes(nest, outputs, channels * op.groups.value, op.shift.value)
        self._panel = address_of(nest.scratch(ANY_SIZE, "i8"))
        self._two = _fills_words(op, plan) and scratch_of(op) >= 2 * plan.panel_bytes
        self._result = Result(nest, plan.form.core, op)

    def _sizes(self, nest: Nest, outputs: int, channels: int, shift: int) -> None:
        plan, form, pixels = self._plan, self._plan.form, self._pixel_count
        chunk = plan.unroll * form.step_bytes(form.columns)
        values = [pixels, outputs * form.bytes, channels * 2, plan.chunks * chunk]
        self._pixels, self._g_row, self._gx_row, self._panel_end = numbers(nest, values)
        values = [plan.panel_bytes, shift, (1 << shift) >> 1]
        self._panel_bytes, self._shift, self._half = numbers(nest, values)

    def _ordered(self, nest: Nest, value: Any) -> tuple[Address, int, Scalar, int]:
        """(the first weight, bytes from a column to the next, to the next row, columns)."""
        step, count = ELEMENT_BYTES[element_name(value)], shape_of(value)[3]
        (row,) = numbers(nest, [step * count])
        # The upper byte of a master is the weight.
        return address_of(nest.read(value, ANY_SIZE)) + (step - 1), step, row, count

    def _listed(self, nest: Nest, value: Any, columns: list[int], channels: list[int]) -> _Columns:
        start, step, row, _ = self._ordered(nest, value)
        table = np.array([[step * i, c] for i, c in zip(columns, channels, strict=True)], np.int16)
        (count,) = numbers(nest, [len(channels)])
        return _Columns(start, row, address_of(nest.read(table, ANY_SIZE)), count)

    def emit(self) -> None:
        """All columns, then the header."""
        if self._op.trained is not None:
            self._emit_lists()
        elif self._two:
            self._emit_words()
        else:
            self._emit_ordered()
        self._finish()

    def _finish(self) -> None:
        size = self._pixels * self._gx_row
        self._result.finish(self._header[EXPONENT] + self._shift, size)

    def _emit_ordered(self) -> None:
        """Blocks of neighbouring columns."""
        first, step, row, count = self._ordered(self._nest, self._op.w)
        lanes = min(self._form.columns, count)
        last, end = numbers(self._nest, [count - lanes, -(-count // lanes) * lanes])
        adjacent = count % 2 == 0 and lanes % 2 == 0

        def block(index: Scalar) -> tuple[Scalar]:
            start = index if count % lanes == 0 else minimum(index, last)
            source, out = first + start * step, self._result.start + start * 2
            self._pack(self._panel, [source + lane * step for lane in range(lanes)], row)
            self._stream(self._panel, out, [2 * lane for lane in range(lanes)], adjacent)
            return (index + lanes,)

        walk(end, (number(0),), block)

    def _emit_lists(self) -> None:
        """The trained columns, then the frozen ones, by the same code."""
        nest, op, channels = self._nest, self._op, shape_of(self._op.w)[3]
        trained = to_list(op.attributes["trained_channels"])
        frozen = sorted(set(range(channels)) - set(trained))
        first = self._listed(nest, op.trained, list(range(len(trained))), trained)
        if not frozen:
            self._emit_list(first)
            return
        second = self._listed(nest, op.w, frozen, frozen)

        def one(done: Scalar, *carried: Any) -> tuple[Any, ...]:
            self._emit_list(_Columns(*carried))
            return done + 1, *second.carried

        walk(number(2), (number(0), *first.carried), one)

    def _emit_list(self, columns: _Columns) -> None:
        """Blocks of listed columns; lanes behind the last one repeat it."""
        lanes = self._form.columns

        def block(first: Scalar) -> tuple[Scalar]:
            places = [
                columns.places + minimum(first + i, columns.count - 1) * 4 for i in range(lanes)
            ]
            starts = [columns.start + at.load("i16") for at in places]
            self._pack(self._panel, starts, columns.row)
            outs = [(at + 2).load("i16") * 2 for at in places]
            self._stream(self._panel, self._result.start, outs, adjacent=False)
            return (first + lanes,)

        end = (columns.count + (lanes - 1)) // lanes * lanes
        walk(end, (number(0),), block)

    def _emit_words(self) -> None:
        """All columns, four at a time: two panels are packed from words."""
        first, _, row, count = self._ordered(self._nest, self._op.w)
        size, (length,) = self._panel_bytes, numbers(self._nest, [count])

        def block(source: Address, out: Address) -> tuple[Address, Address]:
            self._pack_words(source, row)

            def stream(panel: Address, start: Address) -> tuple[Address, Address]:
                self._stream(panel, start, [0, 2], adjacent=True)
                return panel + size, start + 4

            _, behind = walk(self._panel + size * 2, (self._panel, out), stream)
            return source + 4, behind

        walk(first + length, (first, self._result.start), block)

    def _pack_words(self, source: Address, row: Scalar) -> None:
        form, plan, size = self._form, self._plan, self._panel_bytes
        assert isinstance(form, Pairs)

        def read(at: Address) -> tuple[Scalar, Address]:
            return at.load("i32"), at + row

        def step(panel: Address, at: Address) -> tuple[Address, Address]:
            words = []
            for _ in range(STEP):
                word, at = read(at)
                words.append(word)
            form.pack_words(words, [panel, panel + size])
            return panel + form.step_bytes(form.columns), at

        panel, at = self._panel, source
        if plan.steps:
            whole = plan.steps * form.step_bytes(form.columns)
            panel, at = walk(panel + self._dynamic(whole, form.columns), (panel, at), step)
        for _ in range(plan.rest):
            found = [(at + lane).load("i8") for lane in range(2 * form.columns)]
            form.pack_single(found[: form.columns], panel)
            form.pack_single(found[form.columns :], panel + size)
            panel, at = panel + form.single_bytes(form.columns), at + row

    def _dynamic(self, size: int, lanes: int) -> Index:
        """The size of the whole steps of a panel: an argument, where it has all its lanes."""
        whole = self._plan.rest * self._form.single_bytes(lanes)
        return self._panel_bytes - whole if lanes == self._form.columns else size

    def _pack(self, panel: Address, sources: list[Address], row: Scalar) -> None:
        """Fill a panel from columns."""
        form, plan, lanes = self._form, self._plan, len(sources)

        def read(starts: Any) -> tuple[list[Scalar], tuple[Address, ...]]:
            return [at.load("i8") for at in starts], tuple(at + row for at in starts)

        def step(panel: Address, *starts: Address) -> tuple[Address, ...]:
            weights = []
            for _ in range(STEP):
                found, starts = read(starts)
                weights.append(found)
            form.pack_step(weights, panel)
            return panel + form.step_bytes(lanes), *starts

        places: tuple[Address, ...] = (panel, *sources)
        if plan.steps:
            whole = plan.steps * form.step_bytes(lanes)
            places = walk(panel + self._dynamic(whole, lanes), places, step)
        panel, *starts = places
        for _ in range(plan.rest):
            found, starts = read(starts)
            form.pack_single(found, panel)
            panel = panel + form.single_bytes(lanes)

    def _stream(
        self, panel: Address, start: Address, outs: Sequence[Index], adjacent: bool
    ) -> None:
        """Multiply all rows of g with a panel; results lie `outs` bytes behind `start`."""
        size = self._plan.pixels
        first, whole = self._pixel_count % size, (self._gx_row * size, self._g_row * size)
        # A first step that is shorter makes the last block end with the last row.
        steps = (self._gx_row * first, self._g_row * first) if first else ()

        def block(line: Address, row: Address, *steps: Scalar) -> tuple[Any, ...]:
            lanes = len(outs)
            sums, out = self._multiply(panel, row, (self._half,) * (size * lanes), lanes), line
            for pixel in range(size):
                self._store(out, outs, sums[pixel * lanes : (pixel + 1) * lanes], adjacent)
                out = out + self._gx_row
            down, across = steps or whole
            return (line + down, row + across, *(whole if steps else ()))

        end = start + self._pixels * self._gx_row
        walk(end, (start, self._g, *steps), block)

    def _multiply(self, start: Address, row: Address, sums: Sums, lanes: int) -> Sums:
        """`sums`, by pixel and column, plus the products of neighbouring rows with a panel."""
        form, plan, pixels = self._form, self._plan, len(sums) // lanes
        size = form.step_bytes(lanes)

        def rows_at(first: Address) -> list[Address]:
            rows = [first]
            for _ in range(1, pixels):
                rows.append(rows[-1] + self._g_row)
            return rows

        def chunk(panel: Address, first: Address, *totals: Scalar) -> tuple[Any, ...]:
            rows = rows_at(first)
            for i in range(plan.unroll):
                moved = [at + i * STEP * form.bytes for at in rows]
                totals = form.multiply_step(moved, panel + i * size, totals, lanes)
            return panel + plan.unroll * size, first + plan.unroll * STEP * form.bytes, *totals

        places: tuple[Any, ...] = (start, row, *sums)
        if plan.chunks == 1:
            places = chunk(*places)
        elif plan.chunks:
            whole = lanes == form.columns
            end = self._panel_end if whole else plan.chunks * plan.unroll * size
            places = walk(start + end, places, chunk)
        panel, first, *totals = places
        sums = tuple(totals)
        rows = rows_at(first)
        for i in range(plan.steps - plan.chunks * plan.unroll):
            moved = [at + i * STEP * form.bytes for at in rows]
            sums = form.multiply_step(moved, panel + i * size, sums, lanes)
        left = plan.steps - plan.chunks * plan.unroll
        panel, rows = panel + left * size, [at + left * STEP * form.bytes for at in rows]
        for i in range(plan.rest):
            moved = [at + i * form.bytes for at in rows]
            sums = form.multiply_single(moved, panel + i * form.single_bytes(lanes), sums, lanes)
        return sums

    def _store(self, line: Address, outs: Sequence[Index], sums: Sums, adjacent: bool) -> None:
        core = self._form.core
        values = [limit_mantissa(core, total >> self._shift) for total in sums]
        if not (adjacent and core.has_dot2):
            for out, value in zip(outs, values, strict=True):
                (line + out).store(value, "i16")
            return
        for i in range(0, len(values), 2):
            (line + outs[i]).store(core.pack(values[i], values[i + 1]), "i32")
