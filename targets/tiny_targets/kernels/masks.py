"""Clamp masks packed to bits: channel c of a pixel is bit `c % 8` of byte `c / 8`."""

from collections.abc import Callable
from typing import Any

from tiny_targets.kernels.address import Address
from tiny_targets.kernels.nest import Buffer, Nest, Span
from tiny_targets.kernels.scalar import Index, Scalar, minimum, number, select

MASK_BITS = 8
"""Channels in a byte of a mask."""


def put_bits(nest: Nest, mask: Buffer, pixel: Index, channel: Index, bits: list[Scalar]) -> None:
    """Store the `i1` of the channels from `channel` on; they lie within one byte.

    Channels of a pixel come in increasing order; the first of a byte overwrites what was there.
    """
    packed = bits[0].as_integer()
    for j, bit in enumerate(bits[1:], 1):
        packed = packed | (bit.as_integer() << j)
    position = as_i32(nest, channel) & 7
    byte = nest.index(channel) // 8
    earlier = select(position.equals(0), nest.number(0), mask[pixel, byte])
    mask[pixel, byte] = earlier | (packed << position)


def _byte_spans(nest: Nest, channels: int) -> Any:
    """Iterate over (byte, first channel, Span of its channels counted from the first)."""
    for byte in nest.loop((channels + 7) // 8):
        first = byte * 8
        if channels % 8 == 0:
            yield byte, first, Span(0, 8)
        else:
            yield byte, first, Span(0, minimum(channels - first, 8))


def write_masked(
    nest: Nest,
    channels: int,
    mask: Buffer | None,
    pixel: Index,
    produce: Callable[[Index], Scalar],
) -> None:
    """Call `produce(channel) -> i1` for every channel of a pixel and pack what it returns.

    Without a mask the bits are dropped.
    """
    if mask is None:
        for channel in nest.loop(channels):
            produce(channel)
        return
    for byte, first, span in _byte_spans(nest, channels):

        def gather(bits: Scalar, offset: Index, first: Index = first) -> Scalar:
            inside = produce(first + offset).as_integer()
            return bits | (inside << as_i32(nest, offset))

        mask[pixel, byte] = nest.fold((span,), nest.number(0), gather)


def read_masked(
    nest: Nest,
    channels: int,
    mask: Buffer,
    pixel: Index,
    consume: Callable[[Index, Scalar], None],
) -> None:
    """Call `consume(channel, i1)` for every channel of a pixel."""
    for byte, first, span in _byte_spans(nest, channels):
        bits = mask[pixel, byte]
        for offset in nest.loop(span):
            set_bit = (bits >> as_i32(nest, offset)) & 1
            consume(first + offset, set_bit.equals(1))


def as_i32(nest: Nest, index: Index) -> Scalar:
    """An index as `i32`."""
    return index.as_integer() if isinstance(index, Scalar) else nest.number(index)


class BlockMask:
    """The mask bits of a block of channels, by address; blocks of channels come upwards."""

    def __init__(self, first: Scalar, offsets: list[Index], stride: Index) -> None:
        self._offsets, self._stride = offsets, stride
        self._position = first & (MASK_BITS - 1)
        # The first channel of a byte overwrites what was there.
        self._kept = select(self._position.equals(0), number(0), 0xFF)

    def put(self, mask: Address, inside: list[list[Scalar]]) -> None:
        """Store the bits of a block of pixels, the first one's at `mask`."""
        for pixel, line in enumerate(inside):
            packed = line[0].as_integer()
            for offset, bit in zip(self._offsets[1:], line[1:], strict=True):
                packed = packed | (bit.as_integer() << offset)
            at = mask + self._stride * pixel
            at.store((at.load_byte() & self._kept) | (packed << self._position), "i8")
