"""The form of a dense convolution, and its panel: weights of channels in the order of use.

    block of channels after block: bias | multiplier | rounding | shift | weights
    weights of a block: row of the window, step, channel

A step is a word of two int16, or one element. A window that starts at half a word begins with a
zero weight, and what is left of the last word is zero. Trained weights replace frozen ones.

Where the weights of all channels are too much to hold at once, the panel is that of some channels,
filled anew for the next ones; the rows are then widened once more for each.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.types import element_name, shape_of
from tiny_targets.kernels.address import ELEMENT_BYTES, Address, address_of
from tiny_targets.kernels.blocking import blocking_of
from tiny_targets.kernels.channel_record import weight_reader
from tiny_targets.kernels.nest import Nest, Span
from tiny_targets.kernels.panels import form_name
from tiny_targets.kernels.plane import Plane
from tiny_targets.kernels.rescale import Rescaling, rescaling_of
from tiny_targets.kernels.scalar import Index, Scalar, clamp
from tiny_targets.kernels.scratch import ScratchWish
from tiny_targets.kernels.windows import Axis, axes

_BAND_BYTES = 4096
_PANEL_BYTES = 10240
"""Widened weights of a dense convolution up to which all of them are held at once."""


@dataclass(frozen=True)
class Dense:
    """What the code of a dense convolution is chosen by."""

    plane: Plane
    """Of elements, not of pixels: its horizontal axis counts channels in."""
    element: str
    pairs: bool
    outputs: int
    lanes: tuple[int, int]
    """Pixels and channels of a block."""
    unroll: int
    """Steps of a long row of the window that are unrolled."""
    heads: int
    """Words of a channel before its weights: bias and multiplier, and rounding and shift."""
    held: int
    """Channels whose weights are in the panel at once: all, or whole blocks of them."""

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

    def band(self, rows: int) -> "Dense":
        """The same with a band of its own for each `rows` output rows."""
        return replace(self, plane=self.plane.band(rows))

    def holding(self, channels: int) -> "Dense":
        """The same with the weights of so many channels at once."""
        return replace(self, held=channels)

    def least(self) -> "Dense":
        """The same with the weights that fit `_PANEL_BYTES` at once, of a block at least."""
        lanes = self.lanes[1]
        held = max(1, _PANEL_BYTES // self.block_bytes(lanes)) * lanes
        return self.holding(min(held, self.outputs))

    @property
    def panel_bytes(self) -> int:
        """The panel."""
        return self.block_bytes(self.held)

    @property
    def row_bytes(self) -> int:
        """The rows, and what a last pair of words may reach beyond."""
        return self.plane.bytes + 8

    @property
    def scratch_bytes(self) -> int:
        """The panel, then the rows."""
        return self.panel_bytes + self.row_bytes


def dense_of(op: Any, target: Any) -> Dense | None:
    """The form of a `conv2d` with one group; None for any other, or where only 64 bits will do."""
    shape, rescaling = shape_of(op.w), rescaling_of(op)
    if op.groups.value != 1 or rescaling is None:
        return None
    name = form_name(op, target)
    pairs, element = name == "halves", "f32" if name == "floats" else "i16"
    down, across = axes(op, op.x, op.y, shape)
    inputs = shape[3]
    elements = Axis(
        across.input * inputs, across.output, across.kernel * inputs, across.stride * inputs,
        across.pad * inputs,
    )  # fmt: skip
    plane = Plane.of(down, elements, element, _BAND_BYTES)
    blocking = blocking_of(op, f"dense.{name}", target)
    lanes, heads = (blocking.pixels, blocking.channels), 2 if rescaling.uniform else 4
    return Dense(plane, element, pairs, shape[0], lanes, blocking.steps, heads, shape[0])


def _panels(form: Dense) -> Iterator[Dense]:
    """Forms that hold more and more channels, up to all of them."""
    held = form.least().held
    while held < form.outputs:
        yield form.holding(held)
        held *= 2
    yield form


def dense_scratch(op: Any, target: Any) -> ScratchWish | None:
    """Weights and rows of a dense `conv2d`: those of all channels at once, or of fewer."""
    form = dense_of(op, target)
    return None if form is None else ScratchWish([one.scratch_bytes for one in _panels(form)])


def dense_within(op: Any, target: Any, budget: int) -> Dense | None:
    """The form that holds the most channels in `budget` bytes of scratch; None where none fits."""
    form = dense_of(op, target)
    fitting = [] if form is None else [f for f in _panels(form) if f.scratch_bytes <= budget]
    return fitting[-1] if fitting else None


class DensePanel:
    """The arguments behind a panel, and the code that writes it."""

    def __init__(
        self, nest: Nest, op: Any, form: Dense, rescaling: Rescaling, start: Address
    ) -> None:
        self._nest, self._form, self._rescaling = nest, form, rescaling
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
        lanes, outputs = self._form.lanes[1], self._form.outputs
        self.fill_blocks(0, outputs // lanes)
        self.fill_rest(self.start + outputs // lanes * self._form.block_bytes(lanes))

    def fill_blocks(self, first: Index, count: Index) -> None:
        """`count` whole blocks of the channels from `first` on."""
        lanes = self._form.lanes[1]
        size = self._form.block_bytes(lanes)
        for block in self._nest.loop(count if isinstance(count, int) else Span(0, count)):
            self._fill_block(first + block * lanes, lanes, self.start + block * size)

    def fill_rest(self, start: Address) -> None:
        """The block of the channels that are left, where there are any, to `start`."""
        outputs = self._form.outputs
        rest = outputs % self._form.lanes[1]
        if rest:
            self._fill_block(outputs - rest, rest, start)

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
