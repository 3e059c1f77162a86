"""Dense convolution with any window, one group: no im2col, windows are read where the rows lie.

In an NHWC image the part of a window that lies in one row is contiguous: `kernel width x channels`
elements, `stride x channels` further for each output. So the rows of a band are widened once into
padded rows in scratch memory (`plane`), the weights of all output channels into a panel, and blocks
of pixels by channels walk both. With `dot2` the elements are int16 in pairs; a window that starts
at half a word begins with a zero weight instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.types import quantization
from tiny_targets.kernels.address import Address, address_of, walk
from tiny_targets.kernels.dense_panel import Dense, DensePanel, dense_within
from tiny_targets.kernels.masks import as_i32, put_bits
from tiny_targets.kernels.nest import Buffer, Nest, Span
from tiny_targets.kernels.plane import PlaneWriter
from tiny_targets.kernels.primitives import primitives_of, settled
from tiny_targets.kernels.rescale import Rescaling, rescaling_of
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index, Scalar, minimum
from tiny_targets.kernels.scratch import scratch_of
from tiny_targets.kernels.windows import Axis

UNROLLED_STEPS = 24
"""Steps of a window up to which a block of word pairs is straight code; else rows are a loop."""

LONGEST_ROW = 16
"""Steps up to which a row of the window is straight code."""


def emit_dense(nest: Nest, op: Any, target: Any) -> bool:
    """The kernel of a dense `conv2d` whose scratch memory suffices; False for any other."""
    form, rescaling = dense_within(op, target, scratch_of(op)), rescaling_of(op)
    if form is None or rescaling is None:
        return False
    x, y = address_of(nest.read(op.x)), address_of(nest.write(op.y))
    mask = None if op.mask is None else nest.write(op.mask)
    start = address_of(nest.scratch((form.scratch_bytes // 4,), "i32"))
    rows = start + form.panel_bytes
    emitter = DenseEmitter(nest, op, form, rescaling, target, start, rows)
    emitter.emit_image(x, y, mask)
    return True


@dataclass(frozen=True)
class _Channels:
    """Output channels whose weights are in the panel."""

    first: Index
    blocks: Index
    """Whole blocks of them, at least one where the device alone knows how many."""
    rest: bool
    """Whether the block of those that are left comes behind."""


@dataclass(frozen=True)
class _Place:
    """Where the mask bits of a block go."""

    mask: Buffer | None
    pixel: Index
    channel: Scalar | None

    def at(self, *channel: Scalar) -> "_Place":
        """The same from a channel on."""
        return replace(self, channel=channel[0]) if channel else self

    def put(self, nest: Nest, inside: list[list[Scalar]]) -> None:
        """Store the bits of a block, by pixel and channel."""
        if self.mask is None or self.channel is None:
            return
        for pixel, bits in enumerate(inside):
            put_bits(nest, self.mask, self.pixel + pixel, self.channel.as_index(), bits)


class DenseEmitter:
    """The arguments of one kernel, and its code; `prepare` comes before all rows.

    A panel of all channels stays, any other and the rows are used anew by each `emit_rows`.
    """

    def __init__(
        self,
        nest: Nest,
        op: Any,
        form: Dense,
        rescaling: Rescaling,
        target: Any,
        panel: Address,
        rows: Address,
    ) -> None:
        self._nest, self._form, self._rescaling = nest, form, rescaling
        self._core = core = primitives_of(target)
        self._limits = [int(bound) for bound in to_list(op.attributes["clamp"])]
        # A constant in the code would be added apart; a scalar goes into the product.
        self._offset = nest.read(np.array([rescaling.offset], np.int32))[0]
        self._panel = DensePanel(nest, op, form, rescaling, panel)
        self._rows = rows
        self._writer = PlaneWriter(
            nest, core, form.plane, self._rows, quantization(op.x)[1], 1, centred=True
        )

    @property
    def vertical(self) -> Axis:
        """Of rows."""
        return self._form.plane.vertical

    def prepare(self) -> None:
        """Write the panel, where it is one for all rows."""
        if self._holds_all:
            self._panel.fill()

    def emit_image(self, x: Address, y: Address, mask: Buffer | None) -> None:
        """All rows, a band after the other, for the channels that the panel holds at once."""
        self._writer.clear()
        if self._form.plane.bands == 1:
            self._writer.gather_all(x)
        if self._holds_all:
            self._panel.fill()
        self._for_held(lambda channels: self._emit_bands(x, y, mask, channels))

    @property
    def _holds_all(self) -> bool:
        return self._form.held == self._form.outputs

    def _for_held(self, emit: Callable[[_Channels], None]) -> None:
        """`emit` with all channels; where the panel is for fewer, a panel after the other."""
        form, lanes = self._form, self._form.lanes[1]
        whole, held = form.outputs // lanes, form.held // lanes
        if self._holds_all:
            emit(_Channels(0, whole, True))
            return
        for start in self._nest.loop(Span(0, whole, -(-whole // held)), held):
            blocks = minimum(whole - start, held)
            self._panel.fill_blocks(start * lanes, blocks)
            emit(_Channels(start * lanes, blocks, False))
        if form.outputs % lanes:
            self._panel.fill_rest(self._panel.start)
            emit(_Channels(whole * lanes, 0, True))

    def _emit_bands(self, x: Address, y: Address, mask: Buffer | None, channels: _Channels) -> None:
        nest, plane = self._nest, self._form.plane
        down, width = plane.vertical, plane.horizontal.output
        for band in nest.loop(plane.bands):
            if plane.bands > 1:
                self._writer.gather_band(x, band)
            first = band * plane.band_rows
            for row in nest.loop(Span(0, minimum(down.output - first, plane.band_rows))):
                window = self._rows + row * (down.stride * plane.row_bytes)
                pixel = (first + row) * width
                start = y + pixel * self._form.outputs
                self._emit_row(window, start, mask, pixel, channels)

    def emit_rows(self, first: Index, count: Index, x: Rows, y: Rows, mask: Buffer | None) -> None:
        """`count` rows of `y`, from the rows of `x` that their windows meet."""
        down, plane = self.vertical, self._form.plane
        self._writer.clear_edges()
        window = self._writer.window_at(first * down.stride - down.pad)
        self._writer.gather_window(x.address, window)

        def emit(channels: _Channels) -> None:
            for i in self._nest.loop(count if isinstance(count, int) else Span(0, count)):
                row = first + i
                window = self._rows + i * (down.stride * plane.row_bytes)
                pixel = row * plane.horizontal.output
                self._emit_row(window, y.address(row), mask, pixel, channels)

        self._for_held(emit)

    def _emit_row(
        self, window: Address, y: Address, mask: Buffer | None, pixel: Index, channels: _Channels
    ) -> None:
        """One row of outputs, the first of them number `pixel` of the mask."""
        lanes, width = self._form.lanes[0], self._form.plane.horizontal.output
        step = self._form.plane.horizontal.stride * self._form.plane.element_bytes
        outputs = self._form.outputs
        rest = width % lanes
        for block in self._nest.loop(width // lanes):
            place = _Place(mask, pixel + block * lanes, None)
            start = window + block * (lanes * step)
            self._emit_pixels(start, y + block * (lanes * outputs), place, lanes, channels)
        if rest:
            first = width - rest
            place = _Place(mask, pixel + first, None)
            start = window + first * step
            self._emit_pixels(start, y + first * outputs, place, rest, channels)

    def _emit_pixels(
        self, window: Address, y: Address, place: _Place, count: int, channels: _Channels
    ) -> None:
        """`count` neighbouring pixels, the channels of the panel."""
        form, panel = self._form, self._panel.start
        lanes, full = form.lanes[1], channels.blocks
        rest = form.outputs % lanes if channels.rest else 0
        y = y + channels.first

        def block(panel: Address, y: Address, *channel: Scalar) -> tuple[Any, ...]:
            self._emit_block(window, panel, y, (count, lanes), place.at(*channel))
            following = tuple(c + lanes for c in channel)
            return panel + form.block_bytes(lanes), y + lanes, *following

        if not isinstance(full, int) or full:
            size = full * form.block_bytes(lanes)
            first = () if place.mask is None else (as_i32(self._nest, channels.first),)
            panel, y, *_ = walk(panel + size, (panel, y, *first), block)
        if rest:
            last = place.at(self._nest.number(form.outputs - rest))
            self._emit_block(window, panel, y, (count, rest), last)

    def _emit_block(
        self,
        window: Address,
        panel: Address,
        y: Address,
        shape: tuple[int, int],
        place: _Place,
    ) -> None:
        """The outputs of a block of pixels by channels."""
        pixels, lanes = shape
        biases = self._words(panel, lanes)
        totals = self._sums(window, panel + 4 * lanes * self._form.heads, biases, shape)
        inside: list[list[Scalar]] = []
        heads = [self._words(panel + 4 * lanes * row, lanes) for row in range(1, self._form.heads)]
        for pixel in range(pixels):
            line: list[Scalar] = []
            for lane in range(lanes):
                total = totals[pixel * lanes + lane]
                value = self._rescaled(total, [words[lane] for words in heads])
                limited = self._core.limit(value, *self._limits)
                (y + (pixel * self._form.outputs + lane)).store(limited, "i8")
                line.append(limited.equals(value))
            inside.append(line)
        place.put(self._nest, inside)

    def _rescaled(self, total: Scalar, head: list[Scalar]) -> Scalar:
        rescaling = self._rescaling
        high = self._core.high_product(total, head[0])
        if rescaling.uniform:
            return (high + self._offset) >> rescaling.shift
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
        full, unroll = form.steps // form.unroll, form.unroll
        step = unroll * form.step_bytes

        def chunk(panel: Address, row: Address, *totals: Scalar) -> tuple[Any, ...]:
            sums = self._steps(row, panel, list(totals), shape, unroll)
            return panel + step * shape[1], row + step, *sums

        end = panel + full * step * shape[1]
        panel, row, *sums = walk(end, (panel, row, *totals), chunk)
        return self._steps(row, panel, sums, shape, form.steps % unroll)

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

    def _element_reader(self, row: Address, count: int, reach: int) -> Callable[[int], Scalar]:
        """Reads the operand at a byte offset of the row, each once; words in pairs if aligned."""
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
