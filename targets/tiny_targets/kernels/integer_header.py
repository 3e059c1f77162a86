"""What kernels of integer gradients share: rounding shifts, bit lengths, the header of a result.

A header is (exponent, width), see `tiny_dialect.block_float`. Every kernel finds the width of what
it wrote by one look at the finished result, a word at a time: the bit length of the OR of
`word ^ (word << 1)`. Bits that cross from one mantissa of a word into the next do no harm: they
change the lowest bit of the upper one, and only where the lower one is negative, whose own bits say
at least as much.
"""

from math import prod
from typing import Any

import numpy as np

from tiny_dialect.bindings import load
from tiny_dialect.block_float import MANTISSA_BITS
from tiny_dialect.types import shape_of
from tiny_targets.kernels.address import ANY_SIZE, ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.nest import Buffer, Nest
from tiny_targets.kernels.primitives import Primitives, shift_right_unsigned
from tiny_targets.kernels.scalar import Scalar, maximum, number, select

_llvm = load("dialects.llvm")

EXPONENT, WIDTH = 0, 1
"""Places in a header."""

_WORD_BYTES = 4
_WORDS_AT_ONCE = 4


def numbers(nest: Nest, values: list[int]) -> list[Scalar]:
    """Integers as arguments: kernels that differ in nothing else share their code."""
    table = nest.read(np.array(values, np.int32))
    return [table[i] for i in range(len(values))]


def half_of(shift: Scalar) -> Scalar:
    """What is added before a right shift so that it rounds half up; 0 for a shift of 0."""
    return shift_right_unsigned(number(1) << shift, 1)


def round_shift(value: Scalar, shift: int) -> Scalar:
    """`value * 2^-shift`, rounded half up."""
    return (value + ((1 << shift) >> 1)) >> shift if shift else value


def limit_mantissa(core: Primitives, value: Scalar, bits: int = MANTISSA_BITS) -> Scalar:
    """`value` saturated to two's complement of `bits` bits."""
    return core.limit(value, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def bit_length(value: Scalar) -> Scalar:
    """The bits that an `i32`, read without sign, needs; 0 for 0."""
    zeros = Scalar(_llvm.intr_ctlz(value.value, False))
    return value.like(32) - zeros


def wide_bit_length(value: Scalar) -> Scalar:
    """`bit_length` of an `i64`, as `i32`."""
    low, high = value.as_integer(), (value >> 32).as_integer()
    return select(high.equals(0), bit_length(low), bit_length(high) + 32)


class Result:
    """A result of mantissas and its header, as a kernel writes them."""

    def __init__(self, nest: Nest, core: Primitives, op: Any) -> None:
        self._core = core
        mantissas = nest.write(op.gx, ANY_SIZE)
        self._header = nest.write(op.gx_header)
        self.element = mantissas.element
        self.bytes = ELEMENT_BYTES[self.element]
        """Of one mantissa."""
        self.start = address_of(mantissas)
        self.count = prod(shape_of(op.gx))

    def finish(self, exponent: Scalar, size: Scalar | int | None = None) -> None:
        """Write the header of finished mantissas; `size`, of all of them, in bytes."""
        total = self.count * self.bytes
        self._header[EXPONENT] = exponent
        self._header[WIDTH] = self._width(total, total if size is None else size)

    def _width(self, total: int, size: Scalar | int) -> Scalar:
        words, burst = total // _WORD_BYTES, _WORD_BYTES * _WORDS_AT_ONCE
        at, used = self.start, number(0)
        if words >= _WORDS_AT_ONCE:
            end = self.start + (number(size) & -burst)
            at, used = walk(end, (at, used), self._burst)
        for i in range(words % _WORDS_AT_ONCE):
            used = used | _used_bits((at + _WORD_BYTES * i).load("i32"))
        at = at + words % _WORDS_AT_ONCE * _WORD_BYTES
        for i in range(total % _WORD_BYTES // self.bytes):
            used = used | _used_bits((at + i * self.bytes).load(self.element))
        for half in (16, 8) if self.bytes == 1 else (16,):
            used = used | shift_right_unsigned(used, half)
        return bit_length(used & (0xFF if self.bytes == 1 else 0xFFFF))

    def _burst(self, at: Address, used: Scalar) -> tuple[Address, Scalar]:
        for i in range(0, _WORDS_AT_ONCE, 2):
            for word in self._core.load_pair(at + _WORD_BYTES * i):
                used = used | _used_bits(word)
        return at + _WORD_BYTES * _WORDS_AT_ONCE, used


def _used_bits(word: Scalar) -> Scalar:
    return word ^ (word << 1)


def sum_target(a: Buffer, b: Buffer) -> Scalar:
    """The exponent of a sum of two gradients with these headers."""
    none = number(-(2**31))
    tops = [select(h[WIDTH].equals(0), none, h[EXPONENT] + h[WIDTH]) for h in (a, b)]
    top = maximum(*tops)
    return select(top.equals(none), a[EXPONENT], top - (MANTISSA_BITS - 1))
