"""Integer updates in place: biases, head, and the general form of convolution weights.

The pointwise form of a weight update is in `integer_weight_update.py`.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.block_float import HEAD_ALIGN
from tiny_dialect.ops import IntegerBiasUpdate, IntegerLinearWeightUpdate
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_targets.kernels.address import ANY_SIZE, ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.convolution import Sums, axes, first_input
from tiny_targets.kernels.elementwise import flat
from tiny_targets.kernels.integer_header import numbers
from tiny_targets.kernels.integer_storage import storage_of
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.primitives import Primitives, primitives_of
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, number
from tiny_targets.kernels.scratch import ScratchWish, register_scratch, scratch_of
from tiny_targets.kernels.windows import as_one_row

_WORD = 4
_BIASES = 4
"""Channels summed at once."""
_UNROLLED_PIXELS = 4
_ROWS, _COLUMNS = 4, 2
"""Weight elements summed at once, output by input channels."""


@register_scratch(IntegerBiasUpdate)
def scratch_wish(op: Any, target: Any) -> ScratchWish | None:
    """A word a channel, for sums of several channels at once."""
    channels = shape_of(op.parameter)[0]
    return ScratchWish([channels * _WORD]) if channels >= _BIASES else None


@register_kernel(IntegerBiasUpdate)
def integer_bias_update(nest: Nest, op: Any, target: Any) -> None:
    """Channel sums, several side by side where there is memory for them; then every bias moves."""
    core, channels = primitives_of(target), shape_of(op.g)[-1]
    sums = _ChannelSums(nest, op, core)
    size, align = numbers(nest, [channels * _WORD, op.align.value])
    storage, stored = storage_of(nest, op, core, align), None
    if scratch_of(op) >= channels * _WORD and channels >= _BIASES:
        stored = address_of(nest.scratch(ANY_SIZE, "i32"))
        sums.store(stored)

    def move(at: Address, channel: Scalar) -> tuple[Any, ...]:
        total = sums.one(channel) if stored is None else (stored + channel * _WORD).load("i32")
        storage.move(at, storage.aligned(total), storage.multiplier(channel))
        return at + _WORD, channel + 1

    walk(storage.start + size, (storage.start, number(0)), move)


class _ChannelSums:
    """The sums of all pixels of a gradient; its sizes are arguments."""

    def __init__(self, nest: Nest, op: Any, core: Primitives) -> None:
        self._core = core
        self._channels, self._element = shape_of(op.g)[-1], element_name(op.g)
        self._size = ELEMENT_BYTES[self._element]
        self._g = address_of(nest.read(op.g, ANY_SIZE))
        pixels, row = prod(shape_of(op.g)[:-1]), self._channels * self._size
        self._unrolled = max(n for n in range(1, _UNROLLED_PIXELS + 1) if pixels % n == 0)
        full = self._channels // _BIASES * _BIASES * self._size
        self._row, self._bytes, self._full = numbers(nest, [row, pixels * row, full])

    def one(self, channel: Scalar) -> Scalar:
        """The sum of one channel."""
        return self._sums(self._g + channel * self._size, 1)[0]

    def store(self, sums: Address) -> None:
        """Write all of them."""

        def block(start: Address, at: Address, count: int = _BIASES) -> tuple[Address, Address]:
            for i, total in enumerate(self._sums(start, count)):
                (at + i * _WORD).store(total, "i32")
            return start + count * self._size, at + count * _WORD

        places = walk(self._g + self._full, (self._g, sums), block)
        if self._channels % _BIASES:
            block(*places, count=self._channels % _BIASES)

    def _sums(self, start: Address, count: int) -> Sums:
        def pixels(at: Address, *sums: Scalar) -> tuple[Any, ...]:
            for _ in range(self._unrolled):
                sums = tuple(
                    total + value
                    for total, value in zip(sums, self._values(at, count), strict=True)
                )
                at = at + self._row
            return at, *sums

        _, *sums = walk(start + self._bytes, (start, *(number(0),) * count), pixels)
        return tuple(sums)

    def _values(self, at: Address, count: int) -> list[Scalar]:
        aligned = self._channels % 2 == 0 and self._element == "i16" and count == _BIASES
        if self._core.has_dot2 and aligned:
            words = self._core.load_pair(at)
            return [part(w) for w in words for part in (self._core.low_half, self._core.high_half)]
        return [(at + i * self._size).load(self._element) for i in range(count)]


@register_kernel(IntegerLinearWeightUpdate)
def integer_linear_weight_update(nest: Nest, op: Any, target: Any) -> None:
    """The outer product of gradient and centred input moves the weights of a head."""
    core, (classes, features) = primitives_of(target), shape_of(op.parameter)
    _, zero = quantization(op.x)
    x, g = nest.read(op.x, flat(op.x)), nest.read(op.g, flat(op.g))
    storage = storage_of(nest, op, core, HEAD_ALIGN)
    for row in nest.loop(classes):
        multiplier, gradient = storage.multiplier(row), storage.aligned(g[row])
        line = storage.start + row * (features * _WORD)
        for c in nest.loop(features):
            storage.move(line + c * _WORD, (x[c] - zero) * gradient, multiplier)


def update_weights(nest: Nest, op: Any, target: Any) -> None:
    """`parameter -= step(corr(x - z_x, g))` for any kernel size, stride, pads and groups."""
    core, shape, groups = primitives_of(target), shape_of(op.parameter), op.groups.value
    (align,) = numbers(nest, [op.align.value])
    storage = storage_of(nest, op, core, align if element_name(op.parameter) == "i8" else 0)
    sizes = [prod(shape[axis + 1 :]) * storage.bytes for axis in range(4)]
    chosen = None
    if "output_channels" in op.attributes:
        chosen = nest.read(np.array(to_list(op.attributes["output_channels"]), np.int16))
    sums_of = _correlation(nest, op, shape)
    for oc, rows in nest.blocks(shape[0], _ROWS):
        multipliers = [storage.multiplier(oc + i) for i in range(rows)]
        outputs = [oc + i if chosen is None else chosen[oc + i].as_index() for i in range(rows)]
        bases = [first_input(shape, groups, oc + i) for i in range(1 if groups == 1 else rows)]
        for kh in nest.loop(shape[1]):
            for kw in nest.loop(shape[2]):
                for c, width in nest.blocks(shape[3], _COLUMNS):
                    inputs = [[base + (c + j) for j in range(width)] for base in bases]
                    sums = sums_of((kh, kw), outputs, inputs)
                    line = storage.start
                    for index, size in zip((oc, kh, kw, c), sizes, strict=True):
                        line = line + index * size
                    for lane, total in enumerate(sums):
                        row, column = divmod(lane, width)
                        place = line + (row * sizes[0] + column * sizes[3])
                        storage.move(place, storage.aligned(total), multipliers[row])


def _correlation(
    nest: Nest, op: Any, shape: tuple[int, ...]
) -> Callable[[tuple[Index, Index], list[Any], list[list[Any]]], Sums]:
    """The function `(tap, outputs, inputs) -> sums over pixels` of `g[output] (x[input] - z)`.

    One row of `inputs` an output, or a single row for all.
    """
    _, zero = quantization(op.x)
    vertical, horizontal = as_one_row(*axes(op, op.x, op.g, shape))
    x = nest.read(op.x, (vertical.input, horizontal.input, shape_of(op.x)[3]))
    g = nest.read(op.g, (vertical.output, horizontal.output, shape_of(op.g)[3]))

    def sums_of(tap: tuple[Index, Index], outputs: list[Any], inputs: list[list[Any]]) -> Sums:
        kh, kw = tap
        width = len(inputs[0])

        def add_products(sums: Sums, oh: Index, ow: Index) -> Sums:
            gradients = [g[oh, ow, channel] for channel in outputs]
            ih, iw = vertical.source(oh, kh), horizontal.source(ow, kw)
            values = [[x[ih, iw, channel] - zero for channel in row] for row in inputs]
            return tuple(
                total + gradients[lane // width] * values[lane // width % len(values)][lane % width]
                for lane, total in enumerate(sums)
            )

        pixels = vertical.outputs_of_tap(kh), horizontal.outputs_of_tap(kw)
        zeros = (nest.number(0),) * (len(outputs) * width)
        found = nest.fold(pixels, zeros, add_products)
        return found if isinstance(found, tuple) else (found,)

    return sums_of
