"""Dense convolution with any window, one group: no im2col, windows are read where the rows lie.

In an NHWC image the part of a window that lies in one row is contiguous: `kernel width x channels`
elements, `stride x channels` further for each output. So the rows of a band are widened once into
padded rows in scratch memory (`plane`), the weights of all output channels into a panel, and blocks
of pixels by channels walk both. With `dot2` the elements are int16 in pairs; a window that starts at
half a word begins with a zero weight instead.

    panel, a block of channels after the other: bias | multiplier | rounding | shift | weights
    weights of a block: row of the window, step, channel
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_targets.kernels.address import ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.channel_record import weight_reader
from tiny_targets.kernels.masks import put_bits
from tiny_targets.kernels.nest import Nest, Span
from tiny_targets.kernels.plane import Plane, PlaneWriter
from tiny_targets.kernels.primitives import Primitives, primitives_of, settled
from tiny_targets.kernels.rescale import Rescaling, rescaling_of
from tiny_targets.kernels.scalar import Index, Scalar, clamp, minimum
from tiny_targets.kernels.scratch import ScratchWish, scratch_of
from tiny_targets.kernels.weights import sum_bounds
from tiny_targets.kernels.windows import Axis, axes

LANES = {"dot2": (2, 2), "f32": (2, 4), "i16": (2, 4)}
"""Pixels and channels of a block."""

UNROLLED_STEPS = 24
"""Steps of a window up to which a block of word pairs is straight code; else its rows are a loop."""

LONGEST_ROW = 16
"""Steps up to which a row of the window is straight code."""

_ROW_UNROLL = 4
_EXACT_FLOAT = 2**24
_BAND_BYTES = 4096


@dataclass(frozen=True)
class Dense:
    """What the code of a dense convolution is chosen by."""

    plane: Plane
    """Of elements, not of pixels: its horizontal axis counts channels in."""
    element: str
    pairs: bool
    outputs: int
    lanes: tuple[int, int]
    heads: int
    """Words of a channel before its weights: bias and multiplier, and rounding and shift."""

    @property
    def lead(self) -> int:
        """Elements before the first window of a row that are read with it."""
        return self.plane.window % 2 if self.pairs and self.aligned else 0

    @property
    def aligned(self) -> bool:
        """True where all windows start alike within a word."""
        return self.plane.horizontal.stride % 2 == 0 or self.plane.horizontal.output == 1

    @property
    def steps(self) -> int:
        """Weight operands of one row of the window: words of two, or elements."""
        across = self.lead + self.plane.horizontal.kernel
        return -(-across // 2) if self.pairs else across

    @property
    def step_bytes(self) -> int:
        """Of one weight operand."""
        return 4 if self.pairs else self.plane.element_bytes

    def block_bytes(self, lanes: int) -> int:
        """The panel of a block of `lanes` channels."""
        return lanes * (4 * self.heads + self.weight_bytes)

    @property
    def weight_bytes(self) -> int:
        """The weights of one channel, whole words."""
        return -(-self.plane.vertical.kernel * self.steps * self.step_bytes // 4) * 4

    @property
    def scratch_bytes(self) -> int:
        """The panel of all channels, then the rows."""
        return self.block_bytes(self.outputs) + self.plane.bytes + 8


def dense_of(op: Any, target: Any) -> Dense | None:
    """The form of a `conv2d` with one group; None for any other, or where only 64 bits will do."""
    shape, rescaling = shape_of(op.w), rescaling_of(op)
    if op.groups.value != 1 or rescaling is None:
        return None
    pairs = primitives_of(target).has_dot2
    exact = target.has("fpu") and int(sum_bounds(op).max()) < _EXACT_FLOAT
    element = "f32" if exact and not pairs else "i16"
    down, across = axes(op, op.x, op.y, shape)
    inputs = shape[3]
    elements = Axis(
        across.input * inputs, across.output, across.kernel * inputs, across.stride * inputs,
        across.pad * inputs,
    )  # fmt: skip
    plane = Plane.of(down, elements, element, _BAND_BYTES)
    lanes = LANES["dot2" if pairs else element]
    return Dense(plane, element, pairs, shape[0], lanes, 2 if rescaling.uniform else 4)


def dense_scratch(op: Any, target: Any) -> ScratchWish | None:
    """Weights and rows of a dense `conv2d`."""
    form = dense_of(op, target)
    return None if form is None else ScratchWish([form.scratch_bytes])


def emit_dense(nest: Nest, op: Any, target: Any) -> bool:
    """The kernel of a dense `conv2d` whose scratch memory suffices; False for any other."""
    form, rescaling = dense_of(op, target), rescaling_of(op)
    if form is None or rescaling is None or scratch_of(op) < form.scratch_bytes:
        return False
    DenseEmitter(nest, op, form, rescaling, primitives_of(target)).emit()
    return True


class _Panel:
    """The weights of all channels in the order of use; written once."""

    def __init__(
        self, nest: Nest, op: Any, core: Primitives, form: Dense, rescaling: Rescaling, start: Address
    ) -> None:
        self._nest, self._core, self._form, self._rescaling = nest, core, form, rescaling
        self.start = start
        self._shape = shape_of(op.w)
        self._storage = element_name(op.w)
        self._stored = address_of(nest.read(op.w))
        self._trained = None
        if op.trained is not None:
            channels = np.array(to_list(op.attributes["trained_channels"]), np.int16)
            self._channels, self._count = nest.read(channels), len(channels)
            self._trained = address_of(nest.read(op.trained))
            self._trained_storage = element_name(op.trained)
        tables: list[Any] = [op.bias, rescaling.multipliers]
        if not rescaling.uniform:
            half = 1 << (rescaling.shifts.astype(np.int64) - 1)
            tables += [half.astype(np.int32), rescaling.shifts]
        self._tables = [nest.read(table) for table in tables]

    def fill(self) -> None:
        """All blocks, the last one of the channels that are left."""
        lanes = self._form.lanes[1]
        outputs, size = self._form.outputs, self._form.block_bytes(lanes)
        for block in self._nest.loop(outputs // lanes):
            self._fill_block(block * lanes, lanes, self.start + block * size)
        rest = outputs % lanes
        if rest:
            self._fill_block(outputs - rest, rest, self.start + outputs // lanes * size)

    def _fill_block(self, first: Index, lanes: int, target: Address) -> None:
        limit = self._rescaling.bias_limit
        for lane in self._nest.loop(lanes):
            channel, head = first + lane, target + lane * 4
            for row, table in enumerate(self._tables):
                word = table[channel]
                if row == 0 and limit is not None:
                    word = clamp(word, -limit, limit)
                (head + row * lanes * 4).store(word, "i32")
            weights = target + 4 * lanes * self._form.heads + lane * self._form.step_bytes
            self._fill_lane(channel, lanes, weights)

    def _fill_lane(self, channel: Index, lanes: int, target: Address) -> None:
        form = self._form
        length, height = form.plane.horizontal.kernel, form.plane.vertical.kernel
        size = ELEMENT_BYTES[self._storage]
        source = self._stored + channel * (length * height * size)
        row_bytes = form.steps * form.step_bytes * lanes
        for u in self._nest.loop(height):
            row, to = source + u * (length * size), target + u * row_bytes
            if form.pairs:
                self._clear_ends(to, lanes)
            read = weight_reader(row, self._storage)
            for e in self._nest.loop(length):
                self._store(to, e, lanes, read(e))
            if self._trained is not None:
                self._overwrite(channel, u, to, lanes)

    def _clear_ends(self, row: Address, lanes: int) -> None:
        """Zero the halves before the first weight and behind the last."""
        for step in {0, self._form.steps - 1}:
            (row + step * 4 * lanes).store(self._nest.number(0), "i32")

    def _store(self, row: Address, element: Index, lanes: int, value: Scalar) -> None:
        form = self._form
        if form.pairs:
            place = self._nest.index(element + form.lead)
            offset = (place // 2) * (4 * lanes) + (place % 2) * 2
            (row + offset).store(value, "i16")
            return
        offset = element * (form.step_bytes * lanes)
        (row + offset).store(value.as_float() if form.element == "f32" else value, form.element)

    def _overwrite(self, channel: Index, u: Index, row: Address, lanes: int) -> None:
        """The trained input channels of one row of the window."""
        assert self._trained is not None
        _, height, width, inputs = self._shape
        size = ELEMENT_BYTES[self._trained_storage]
        source = (channel * height + u) * (width * self._count)
        for v in self._nest.loop(width):
            for i in self._nest.loop(self._count):
                at = self._trained + (source + v * self._count + i) * size
                element = self._channels[i].as_index() + v * inputs
                value = weight_reader(at, self._trained_storage)(0)
                self._store(row, element, lanes, value)


class DenseEmitter:
    """The arguments of one kernel, and its code."""

    def __init__(
        self, nest: Nest, op: Any, form: Dense, rescaling: Rescaling, core: Primitives
    ) -> None:
        self._nest, self._form, self._rescaling, self._core = nest, form, rescaling, core
        self._limits = [int(bound) for bound in to_list(op.attributes["clamp"])]
        self._x = address_of(nest.read(op.x))
        self._y = address_of(nest.write(op.y))
        self._mask = None if op.mask is None else nest.write(op.mask)
        start = address_of(nest.scratch((form.scratch_bytes // 4,), "i32"))
        self._panel = _Panel(nest, op, core, form, rescaling, start)
        self._rows = start + form.block_bytes(form.outputs)
        self._writer = PlaneWriter(
            nest, core, form.plane, self._rows, quantization(op.x)[1], 1, centred=True
        )

    def emit(self) -> None:
        """All bands."""
        nest, plane = self._nest, self._form.plane
        self._panel.fill()
        self._writer.clear()
        down, width = plane.vertical, plane.horizontal.output
        for band in nest.loop(plane.bands):
            if plane.bands == 1:
                self._writer.gather_all(self._x)
            else:
                self._writer.gather_band(self._x, band)
            first = band * plane.band_rows
            for row in nest.loop(Span(0, minimum(down.output - first, plane.band_rows))):
                window = self._rows + row * (down.stride * plane.row_bytes)
                self._emit_row(window, (first + row) * width)

    def _emit_row(self, window: Address, pixel: Index) -> None:
        """One row of outputs, the first of them number `pixel`."""
        lanes, width = self._form.lanes[0], self._form.plane.horizontal.output
        step = self._form.plane.horizontal.stride * self._form.plane.element_bytes
        for block in self._nest.loop(width // lanes):
            self._emit_pixels(window + block * (lanes * step), pixel + block * lanes, lanes)
        rest = width % lanes
        if rest:
            first = width - rest
            self._emit_pixels(window + first * step, pixel + first, rest)

    def _emit_pixels(self, window: Address, pixel: Index, count: int) -> None:
        """`count` neighbouring pixels, all channels."""
        form = self._form
        lanes, outputs = form.lanes[1], form.outputs
        y, panel = self._y + pixel * outputs, self._panel.start
        full = outputs // lanes

        def block(panel: Address, y: Address, *channel: Scalar) -> tuple[Any, ...]:
            spot = (pixel, channel[0]) if channel else None
            self._emit_block(window, panel, y, (count, lanes), spot)
            following = tuple(c + lanes for c in channel)
            return panel + form.block_bytes(lanes), y + lanes, *following

        if full:
            size = full * form.block_bytes(lanes)
            first = () if self._mask is None else (self._nest.number(0),)
            panel, y, *_ = walk(panel + size, (panel, y, *first), block)
        rest = outputs % lanes
        if rest:
            spot = None if self._mask is None else (pixel, self._nest.number(full * lanes))
            self._emit_block(window, panel, y, (count, rest), spot)

    def _emit_block(
        self,
        window: Address,
        panel: Address,
        y: Address,
        shape: tuple[int, int],
        spot: tuple[Index, Scalar] | None,
    ) -> None:
        """The outputs of a block of pixels by channels; `spot` is its first one, for the mask."""
        pixels, lanes = shape
        biases = self._words(panel, lanes)
        totals = self._sums(window, panel + 4 * lanes * self._form.heads, biases, shape)
        inside: list[list[Scalar]] = []
        heads = [
            self._words(panel + 4 * lanes * row, lanes) for row in range(1, self._form.heads)
        ]
        for pixel in range(pixels):
            line: list[Scalar] = []
            for lane in range(lanes):
                total = totals[pixel * lanes + lane]
                value = self._rescaled(total, [words[lane] for words in heads])
                limited = self._core.limit(value, *self._limits)
                (y + (pixel * self._form.outputs + lane)).store(limited, "i8")
                line.append(limited.equals(value))
            inside.append(line)
        if spot is not None and self._mask is not None:
            number, channel = spot
            for pixel, bits in enumerate(inside):
                put_bits(self._nest, self._mask, number + pixel, channel.as_index(), bits)

    def _rescaled(self, total: Scalar, head: list[Scalar]) -> Scalar:
        rescaling = self._rescaling
        high = self._core.high_product(total, head[0])
        if rescaling.uniform:
            return (high + rescaling.offset) >> rescaling.shift
        return ((high + head[1]) >> head[2]) + rescaling.zero

    def _words(self, start: Address, count: int) -> list[Scalar]:
        words: list[Scalar] = []
        for i in range(0, count - 1, 2):
            words += self._core.load_pair(start + 4 * i)
        if count % 2:
            words.append((start + 4 * (count - 1)).load("i32", volatile=True))
        return words

    def _sums(
        self, window: Address, weights: Address, biases: list[Scalar], shape: tuple[int, int]
    ) -> list[Scalar]:
        """Sums of products by pixel and channel, biases included."""
        form, floats = self._form, self._form.element == "f32"
        zero = self._nest.real(0.0)
        totals = ([zero] * len(biases) if floats else biases) * shape[0]
        straight = form.pairs and shape == form.lanes
        straight = straight and form.steps * form.plane.vertical.kernel <= UNROLLED_STEPS
        row_weights = form.steps * form.step_bytes * shape[1]
        row_bytes, height = form.plane.row_bytes, form.plane.vertical.kernel
        start = window + (form.plane.window - form.lead) * form.plane.element_bytes
        if straight or height == 1:
            for u in range(height):
                row, panel = start + u * row_bytes, weights + u * row_weights
                totals = self._row(row, panel, totals, shape)
        else:

            def one(panel: Address, row: Address, *totals: Scalar) -> tuple[Any, ...]:
                sums = self._row(row, panel, list(totals), shape)
                return panel + row_weights, row + row_bytes, *sums

            end = weights + height * row_weights
            _, _, *totals = walk(end, (weights, start, *totals), one)
        if floats:
            totals = [t.as_integer() + biases[i % shape[1]] for i, t in enumerate(totals)]
        return totals

    def _row(
        self, row: Address, panel: Address, totals: list[Scalar], shape: tuple[int, int]
    ) -> list[Scalar]:
        """One row of the window."""
        form = self._form
        if form.steps <= LONGEST_ROW:
            return self._steps(row, panel, totals, shape, form.steps)
        full = form.steps // _ROW_UNROLL
        step = _ROW_UNROLL * form.step_bytes

        def chunk(panel: Address, row: Address, *totals: Scalar) -> tuple[Any, ...]:
            sums = self._steps(row, panel, list(totals), shape, _ROW_UNROLL)
            return panel + step * shape[1], row + step, *sums

        end = panel + full * step * shape[1]
        panel, row, *sums = walk(end, (panel, row, *totals), chunk)
        return self._steps(row, panel, sums, shape, form.steps % _ROW_UNROLL)

    def _steps(
        self,
        row: Address,
        panel: Address,
        totals: list[Scalar],
        shape: tuple[int, int],
        count: int,
    ) -> list[Scalar]:
        """`count` steps of one row of the window."""
        form, core, totals = self._form, self._core, list(totals)
        pixels, lanes = shape
        step = form.plane.horizontal.stride * form.plane.element_bytes
        read = self._element_reader(row, count, (pixels - 1) * step)
        product: Callable[[Scalar, Scalar, Scalar], Scalar] = (
            core.dot2 if form.pairs else lambda x, w, total: total + x * w
        )
        for k in range(count):
            at = panel + k * lanes * form.step_bytes
            if form.pairs:
                operands = self._words(at, lanes)
            else:
                operands = [
                    (at + lane * form.step_bytes).load(form.element, volatile=True)
                    for lane in range(lanes)
                ]
            for pixel in range(pixels):
                x = read(pixel * step + k * form.step_bytes)
                for lane in range(lanes):
                    i = pixel * lanes + lane
                    totals[i] = product(x, operands[lane], totals[i])
        return totals if form.pairs else [settled(total) for total in totals]

    def _element_reader(
        self, row: Address, count: int, reach: int
    ) -> Callable[[int], Scalar]:
        """Reads the operand at a byte offset of the row, each only once; words in pairs if aligned."""
        form = self._form
        loaded: dict[int, Scalar] = {}

        def read(offset: int) -> Scalar:
            if offset not in loaded:
                if form.pairs and form.aligned:
                    even = offset - offset % 8
                    loaded[even], loaded[even + 4] = self._core.load_pair(row + even)
                elif form.pairs:
                    loaded[offset] = (row + offset).load("i32", volatile=True)
                else:
                    loaded[offset] = (row + offset).load(form.element)
            return loaded[offset]

        return read
