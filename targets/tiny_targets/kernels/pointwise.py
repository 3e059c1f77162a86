"""Pointwise convolution as a product of panels: 1x1, stride 1, no pads, one group.

A tile of pixels is widened once into a panel in scratch memory. For each block of output channels
the weight rows are widened into a second, small panel, whatever they are stored as; then the pixels
of the tile stream past it, a block of pixels by channels at a time, and each sum is requantized and
stored at once. Before the weights lie the block's biases and requantization constants, so that the
innermost loops need two addresses.

Blocks at the end overlap: the last pixels of an image are computed twice, and lanes behind the last
channel repeat it. Pixels of a tile are read before any of its outputs is written.

Where sizes need not be known they are arguments: layers that walk their depth alike share the code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import quantization, shape_of
from tiny_targets.kernels.address import ANY_SIZE, Address, address_of, walk
from tiny_targets.kernels.blocking import blocking_of
from tiny_targets.kernels.masks import MASK_BITS, BlockMask
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.panels import (
    STEP,
    Depth,
    Floats,
    Format,
    Halves,
    Offset,
    Sums,
    Words,
    depth_of,
    fill,
    form_name,
    multiply_panels,
)
from tiny_targets.kernels.primitives import Primitives, primitives_of, twice
from tiny_targets.kernels.rescale import Rescaling, rescaling_of
from tiny_targets.kernels.scalar import Index, Scalar, maximum, minimum, number, real
from tiny_targets.kernels.scratch import ScratchWish, scratch_of
from tiny_targets.kernels.weight_rows import WeightRows
from tiny_targets.kernels.weights import frozen_part

_MOST_PIXELS = 64
"""Of a tile: a larger one saves next to nothing."""

_NO_LIMITS = [-(2**31), 2**31 - 1]
"""Of a bias: layers with limits and without share their code."""


@dataclass(frozen=True)
class Plan:
    """How one convolution is computed: everything that decides about the code."""

    form: Format
    pixels: int
    """Lanes of a pixel panel."""
    channels: int
    """Lanes of a weight panel."""
    depth: Depth
    rescaling: Rescaling

    @property
    def head_bytes(self) -> int:
        """Constants of a channel block: bias, multiplier; in the channel form half, shift."""
        return 4 * self.channels * (2 if self.rescaling.uniform else 4)

    @property
    def weight_bytes(self) -> int:
        """Scratch memory of a channel block."""
        assert isinstance(self.depth.steps, int)
        return self.head_bytes + self.depth.steps * self.form.step_bytes(self.channels)

    @property
    def pixel_bytes(self) -> int:
        """Scratch memory of one pixel."""
        assert isinstance(self.depth.steps, int)
        return self.depth.steps * self.form.step_bytes(1)

    def scratch_bytes(self, pixels: int) -> int:
        """Scratch memory for tiles of up to `pixels` pixels."""
        return self.weight_bytes + -(-pixels // self.pixels) * self.pixels * self.pixel_bytes

    def tile(self, scratch: int) -> int:
        """The most pixels of a tile in `scratch` bytes."""
        blocks = (scratch - self.weight_bytes) // (self.pixels * self.pixel_bytes)
        return max(blocks, 0) * self.pixels


_FORMS: dict[str, type[Format]] = {"halves": Halves, "floats": Floats, "words": Words}


def is_pointwise(op: Any) -> bool:
    """True for 1x1, stride 1, no pads, one group."""
    geo = geometry(op)
    plain = geo.strides == (1, 1) and not any(geo.pads) and geo.groups == 1
    return shape_of(op.w)[1:3] == (1, 1) and plain


def plan_of(op: Any, target: Any) -> Plan | None:
    """The plan of a pointwise convolution; None for any other, and where only 64 bits will do."""
    shape, rescaling = shape_of(op.w), rescaling_of(op)
    if rescaling is None or not is_pointwise(op):
        return None
    name = form_name(op, target)
    form = _FORMS[name](primitives_of(target))
    blocking = blocking_of(op, f"pointwise.{name}", target)
    pixels = prod(shape_of(op.x)[1:3])
    most = max(n for n in (1, 2, 4) if n <= min(pixels, blocking.pixels))
    depth = depth_of(form, shape[3], blocking.steps)
    return Plan(form, most, blocking.channels, depth, rescaling)


def pointwise_scratch(op: Any, target: Any) -> ScratchWish | None:
    """Panels for a tile of pixels: from 8 pixels on, weights are seldom widened again."""
    plan = plan_of(op, target)
    if plan is None:
        return None
    pixels = prod(shape_of(op.x)[1:3])
    sizes = sorted({min(pixels, count) for count in (4, 8, 16, 32, _MOST_PIXELS)})
    return ScratchWish([plan.scratch_bytes(count) for count in sizes])


def emit_pointwise(nest: Nest, op: Any, target: Any) -> bool:
    """The kernel of a pointwise `conv2d` whose scratch memory suffices; False for any other.

    Pixels come in order, each is read before it is written.
    """
    plan = plan_of(op, target)
    tile = 0 if plan is None else plan.tile(scratch_of(op))
    if plan is None or not tile:
        return False
    outputs, _, _, inputs = shape_of(op.w)
    pixels = prod(shape_of(op.x)[1:3])
    numbers = [pixels, outputs, inputs, min(tile, pixels), *_constants(op, plan)]
    table = nest.read(np.array(numbers, np.int32))
    sizes, constants = [table[i] for i in range(4)], [table[i] for i in range(4, len(numbers))]
    depth = plan.depth
    if depth.chunks != 1 and inputs == depth.unroll * (depth.chunks or 0) * STEP:
        depth = Depth(sizes[2], depth.unroll, None)
    x = address_of(nest.read(op.x, ANY_SIZE))
    y = address_of(nest.write(op.y, ANY_SIZE))
    mask = None if op.mask is None else address_of(nest.write(op.mask, ANY_SIZE))
    scratch = address_of(nest.scratch(ANY_SIZE, "i8"))
    product = Pointwise(nest, op, plan, scratch, depth, sizes[1], sizes[3], constants)
    product.emit(x, y, mask, sizes[0])
    return True


class _PanelWeights:
    """Weight rows as a source of panels."""

    def __init__(self, rows: WeightRows, form: Format) -> None:
        self._rows, self._form = rows, form

    def read(self, place: Address) -> Scalar:
        """The weight there, as the panel holds it."""
        is_float = isinstance(self._form, Floats)
        return self._rows.real(place) if is_float else self._rows.integer(place)

    def copy(self, rows: Sequence[Address], panel: Address) -> None:
        """Write one whole step of a panel."""
        if self._rows.element == "i8":
            self._form.widen(rows, panel, None)
        else:
            self._form.write(rows, panel, self._rows.stride, self.read, STEP)

    def fill(self, channels: Sequence[Index], panel: Address, depth: Depth) -> None:
        """Write the panel of a block of output channels."""
        rows = [self._rows.at(channel) for channel in channels]
        fill(
            self._form, rows, panel, depth,
            stride=self._rows.stride, copy=self.copy, read=self.read,
        )  # fmt: skip


class _TrainedWeights:
    """The trained inputs of a partly trained weight, written over a panel of the frozen ones."""

    def __init__(self, nest: Nest, op: Any, plan: Plan) -> None:
        channels = to_list(op.attributes["trained_channels"])
        form, lanes = plan.form, plan.channels
        places = [
            channel // STEP * form.step_bytes(lanes) + form.offset(channel % STEP, 0, lanes)
            for channel in channels
        ]
        self._form = form
        self._lane_bytes = form.offset(0, 1, lanes) - form.offset(0, 0, lanes)
        count = nest.read(np.array([len(channels)], np.int32))[0]
        self._places = address_of(nest.read(np.array(places, np.int32), ANY_SIZE))
        self._end = self._places + count * 4
        self._rows = WeightRows(nest, op.trained, count)
        self._source = _PanelWeights(self._rows, form)

    def write(self, channels: Sequence[Index], panel: Address) -> None:
        """Write the trained weights of a block of output channels."""
        rows = [self._rows.at(channel) for channel in channels]

        def element(place: Address, *sources: Address) -> tuple[Address, ...]:
            target = panel + place.load("i32")
            for lane, source in enumerate(sources):
                value = self._source.read(source)
                (target + lane * self._lane_bytes).store(value, self._form.element)
            return place + 4, *(source + self._rows.stride for source in sources)

        walk(self._end, (self._places, *rows), element)


class Pointwise:
    """A pointwise convolution, emitted by tiles; weights and tables are arguments of a nest."""

    def __init__(
        self, nest: Nest, op: Any, plan: Plan, scratch: Address, depth: Depth, outputs: Index,
        tile: Index, constants: Sequence[Index] | None = None,
    ) -> None:  # fmt: skip
        """`outputs`, `tile`, `constants`: the plan's own numbers, or scalars that hold them."""
        self._plan, self._depth = plan, depth
        plus, plus_pair, self._offset, *self._limits = constants or _constants(op, plan)
        self._input_offset = Offset(plus, plus_pair)
        self._core: Primitives = plan.form.core
        self._outputs, self._tile_pixels = outputs, tile
        self._ragged = shape_of(op.w)[0] % plan.channels != 0
        self._clamp = to_list(op.attributes["clamp"])
        self._trained = None if op.trained is None else _TrainedWeights(nest, op, plan)
        rows = WeightRows(nest, frozen_part(op), depth.elements)
        self._weights = _PanelWeights(rows, plan.form)
        self._bias = address_of(nest.read(op.bias, ANY_SIZE))
        self._constants = [address_of(nest.read(t, ANY_SIZE)) for t in _tables(plan.rescaling)]
        self._head = scratch
        self._weight_panel = scratch + plan.head_bytes
        weight_bytes = depth.panel_bytes(plan.form, plan.channels)
        self._pixel_panel = self._weight_panel + weight_bytes

    def emit(self, x: Address, y: Address, mask: Address | None, pixels: Index) -> None:
        """Compute `pixels` consecutive pixels; the addresses are those of the first one."""
        block, tile = self._plan.pixels, self._tile_pixels
        known = isinstance(pixels, int) and isinstance(tile, int)
        if known and pixels <= tile and pixels % block == 0:
            self._tile(x, y, mask, pixels)
            return
        total = number(pixels).as_integer()

        def one(start: Scalar) -> tuple[Scalar]:
            first = minimum(start, total - block)
            count = minimum(tile, total - first) & -block
            spot = None if mask is None else mask + first * self._mask_bytes
            source = x + first * self._depth.elements
            self._tile(source, y + first * self._outputs, spot, count)
            return (first + count,)

        walk(total, (number(0),), one)

    @property
    def _mask_bytes(self) -> Index:
        return (self._outputs + (MASK_BITS - 1)) // MASK_BITS

    def _tile(self, x: Address, y: Address, mask: Address | None, pixels: Index) -> None:
        """Compute `pixels`, a multiple of the block, that fit into the panel."""
        end = self._fill_pixels(x, pixels)
        lanes = self._plan.channels
        whole = (self._outputs + (lanes - 1)) // lanes * lanes

        def block(first: Scalar) -> tuple[Scalar]:
            offsets = self._lane_offsets(first)
            self._fill_weights([first + offset for offset in offsets])
            self._pixels(y + first, mask, first, offsets, end)
            return (first + lanes,)

        walk(number(whole), (number(0),), block)

    def _lane_offsets(self, first: Scalar) -> list[Index]:
        """How far behind `first` the channel of each lane lies."""
        lanes: list[Index] = list(range(self._plan.channels))
        if not self._ragged:
            return lanes
        last = self._outputs - 1 - first
        return [0, *(minimum(last, lane) for lane in lanes[1:])]

    def _fill_pixels(self, x: Address, pixels: Index) -> Address:
        form, lanes = self._plan.form, self._plan.pixels
        row = self._depth.elements
        panel = self._pixel_panel
        end = panel + pixels * self._depth.panel_bytes(form, 1)

        def block(at: Address, source: Address) -> tuple[Address, Address]:
            rows = [source + row * lane for lane in range(lanes)]
            behind = fill(
                form, rows, at, self._depth, stride=1,
                copy=lambda sources, place: form.widen(sources, place, self._input_offset),
                read=self._read_pixel,
            )  # fmt: skip
            return behind, source + row * lanes

        walk(end, (panel, x), block)
        return end

    def _read_pixel(self, at: Address) -> Scalar:
        value = at.load("i8") + self._input_offset.value
        return value.as_float() if isinstance(self._plan.form, Floats) else value

    def _fill_weights(self, channels: list[Index]) -> None:
        """The head and the panel of a block of output channels."""
        for lane, channel in enumerate(channels):
            words = [(table + channel * 4).load("i32") for table in (self._bias, *self._constants)]
            if self._limits != _NO_LIMITS:
                words[0] = maximum(minimum(words[0], self._limits[1]), self._limits[0])
            for i, word in enumerate(words):
                (self._head + 4 * (i * len(channels) + lane)).store(word, "i32")
        self._weights.fill(channels, self._weight_panel, self._depth)
        if self._trained is not None:
            self._trained.write(channels, self._weight_panel)

    def _pixels(
        self, y: Address, mask: Address | None, first: Scalar, offsets: list[Index], end: Address
    ) -> None:
        """All pixels of the tile for one block of channels."""
        lanes = self._plan.pixels
        bits = None if mask is None else BlockMask(first, offsets, self._mask_bytes)
        carried = (self._pixel_panel, y)
        if mask is not None:
            carried = (*carried, mask + first // MASK_BITS)

        def block(left: Address, out: Address, *masks: Address) -> tuple[Address, ...]:
            behind, sums = self._sums(left)
            inside = self._finish(sums, out, offsets)
            if bits is not None:
                bits.put(masks[0], inside)
                masks = (masks[0] + self._mask_bytes * lanes,)
            return behind, out + self._outputs * lanes, *masks

        walk(end, carried, block)

    def _head_words(self, row: int) -> list[Scalar]:
        lanes = self._plan.channels
        at = self._head + 4 * row * lanes
        pairs = [self._core.load_pair(at + 8 * i) for i in range(lanes // 2)]
        return [word for pair in pairs for word in pair]

    def _sums(self, left: Address) -> tuple[Address, Sums]:
        """The address behind the pixel block, and its sums, biases included."""
        plan = self._plan
        shape = (plan.pixels, plan.channels)
        if isinstance(plan.form, Floats):
            zeros = (real(0.0),) * prod(shape)
            behind, sums = multiply_panels(
                plan.form, left, self._weight_panel, zeros, shape, self._depth
            )
            biases = self._head_words(0)
            return behind, tuple(
                total.as_integer() + biases[i % plan.channels] for i, total in enumerate(sums)
            )
        start = tuple(self._head_words(0)) * plan.pixels
        return multiply_panels(plan.form, left, self._weight_panel, start, shape, self._depth)

    def _finish(self, sums: Sums, out: Address, offsets: list[Index]) -> list[list[Scalar]]:
        """Requantize, clamp and store; by pixel and channel whether the clamp changed nothing."""
        channels, rescaling = self._plan.channels, self._plan.rescaling
        multipliers = self._head_words(1)
        rest = [] if rescaling.uniform else [self._head_words(2), self._head_words(3)]
        inside: list[list[Scalar]] = []
        for pixel in range(self._plan.pixels):
            line = out + self._outputs * pixel
            inside.append([])
            for lane in range(channels):
                high = self._core.high_product(sums[pixel * channels + lane], multipliers[lane])
                if rescaling.uniform:
                    value = (high + self._offset) >> rescaling.shift
                else:
                    value = ((high + rest[0][lane]) >> rest[1][lane]) + self._offset
                limited = self._core.limit(value, *self._clamp)
                (line + offsets[lane]).store(limited, "i8")
                inside[-1].append(limited.equals(value))
        return inside


def _constants(op: Any, plan: Plan) -> tuple[int, ...]:
    """Numbers of a layer: what is added to its inputs, as `Offset` has it; offset; bias limits."""
    _, zero = quantization(op.x)
    limit = plan.rescaling.bias_limit
    limits = _NO_LIMITS if limit is None else [-limit, limit]
    return -zero, twice(-zero), plan.rescaling.offset, *limits


def _tables(rescaling: Rescaling) -> list[np.ndarray]:
    """Constants that follow the bias in a block's head."""
    if rescaling.uniform:
        return [rescaling.multipliers]
    half = (1 << (rescaling.shifts.astype(np.int64) - 1)).astype(np.int32)
    return [rescaling.multipliers, half, rescaling.shifts]
