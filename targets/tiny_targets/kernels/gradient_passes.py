"""Passes over a gradient tensor: the factor and the mask of an op, and the sums that update a bias.

Sizes are arguments, so that all layers share the code.

With a mask the bits of a byte become words of ones or zeros, and select by conjunction; where the
factor is 1 nothing else is left.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array
from tiny_dialect.ops import BiasUpdate, ScaleGradient
from tiny_targets.kernels.address import ANY_SIZE, ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.elementwise import by_pixel
from tiny_targets.kernels.nest import Buffer, Nest, Span
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar
from tiny_targets.kernels.updates import subtract_step

_FLOAT = 4
_MASK_BITS = 8
_WORD_BITS = 32

SUMS = 8
"""Channels summed side by side: neighbours in memory."""


@register_kernel(ScaleGradient)
def scale_gradient(nest: Nest, op: Any, target: Any) -> None:
    """`g * factor`, zero where the mask is false."""
    pixels, channels = by_pixel(op.g)
    rest = channels % _MASK_BITS
    if op.mask is None or not rest:
        pixels, channels, rest = 1, pixels * channels, pixels * channels % _MASK_BITS
    sizes = nest.read(np.array([pixels, channels - rest], np.int32))
    factor = None
    if op.factor.value != 1.0:
        factor = nest.read(np.array([op.factor.value], np.float32))[0]
    places = [address_of(nest.read(op.g, ANY_SIZE)), address_of(nest.write(op.gx, ANY_SIZE))]
    if op.mask is not None:
        places.append(address_of(nest.read(op.mask, ANY_SIZE)))
    pass_ = _Scaling(nest, factor)
    if pixels == 1:
        pass_.run(places, sizes[1], rest, whole=channels >= _MASK_BITS)
        return
    size = channels * _FLOAT
    steps = (size, size, -(-channels // _MASK_BITS))
    for pixel in nest.loop(Span(0, sizes[0].as_index())):
        here = [place + pixel * step for place, step in zip(places, steps, strict=False)]
        pass_.run(here, sizes[1], rest, whole=channels >= _MASK_BITS)


class _Scaling:
    """The code for a run of elements."""

    def __init__(self, nest: Nest, factor: Scalar | None) -> None:
        self._nest, self._factor = nest, factor

    def run(self, places: list[Address], count: Scalar, rest: int, *, whole: bool) -> None:
        """`count` elements in blocks of eight, where there are any, then `rest`."""

        def block(*places: Address) -> tuple[Address, ...]:
            self._block(places, _MASK_BITS)
            size = _MASK_BITS * _FLOAT
            return tuple(place + step for place, step in zip(places, (size, size, 1), strict=False))

        carried: tuple[Address, ...] = tuple(places)
        if whole:
            carried = walk(carried[0] + count * _FLOAT, carried, block)
        if rest:
            self._block(carried, rest)

    def _block(self, places: tuple[Address, ...], count: int) -> None:
        g, gx, *masks = places
        bits = masks[0].load("i8") if masks else None
        for i in range(count):
            at, to = g + i * _FLOAT, gx + i * _FLOAT
            if bits is None:
                value = at.load("f32")
            else:
                ones = (bits << (_WORD_BITS - 1 - i)) >> (_WORD_BITS - 1)
                word = at.load("i32") & ones
                if self._factor is None:
                    to.store(word, "i32")
                    continue
                value = word.bits()
            to.store(value if self._factor is None else value * self._factor, "f32")


@register_kernel(BiasUpdate)
def bias_update(nest: Nest, op: Any, target: Any) -> None:
    """Each channel sum, over pixels in order, is applied to its bias."""
    pixels, channels = by_pixel(op.g)
    table = nest.read(np.array([pixels, channels, channels // SUMS], np.int32))
    sizes = [table[i].as_index() for i in range(3)]
    parameter: Any = _Elements(nest.update(op.parameter, ANY_SIZE))
    factors, rate = _Elements(nest.read(to_array(op.factors), ANY_SIZE)), nest.read(op.rate)[()]
    g = address_of(nest.read(op.g, ANY_SIZE))
    step = sizes[1] * _FLOAT

    def sums(first: Index, count: int) -> None:
        """The sums of `count` channels and what follows from them."""
        start = g + first * _FLOAT

        def add(place: Address, *totals: Scalar) -> tuple[Any, ...]:
            values = [(place + i * _FLOAT).load("f32") for i in range(count)]
            added = (total + value for total, value in zip(totals, values, strict=True))
            return place + step, *added

        zeros = (nest.real(0.0),) * count
        _, *totals = walk(start + step * sizes[0], (start, *zeros), add)
        for i, total in enumerate(totals):
            subtract_step(parameter, first + i, total * (factors[first + i] * rate))

    for block in nest.loop(Span(0, sizes[2])):
        sums(block * SUMS, SUMS)
    for channel in nest.loop(Span(sizes[2] * SUMS, sizes[1])):
        sums(channel, 1)


class _Elements:
    """Elements in a row, indexed like a kernel argument of any size."""

    def __init__(self, buffer: Buffer) -> None:
        self._start, self.element = address_of(buffer), buffer.element

    def __getitem__(self, index: Index) -> Scalar:
        return (self._start + index * ELEMENT_BYTES[self.element]).load(self.element)

    def __setitem__(self, index: Index, value: Scalar) -> None:
        (self._start + index * ELEMENT_BYTES[self.element]).store(value, self.element)
