"""Integer gradients element by element: mask and rescale, add. Results may lie over an operand.

Every block of elements is read whole before it is written, and at the same places, so a result may
take the place of an operand that dies.
"""

from math import prod
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array
from tiny_dialect.block_float import MANTISSA_BITS, MULTIPLIER_BITS
from tiny_dialect.ops import IntegerAddGradients, NormalizeGradient
from tiny_dialect.types import shape_of
from tiny_targets.kernels.address import ANY_SIZE, ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.integer_header import (
    EXPONENT,
    WIDTH,
    Result,
    half_of,
    limit_mantissa,
    numbers,
    sum_target,
)
from tiny_targets.kernels.nest import Buffer, Nest
from tiny_targets.kernels.primitives import Primitives, primitives_of, shift_right_unsigned
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Scalar, maximum, minimum, number

_MASK_BITS = 8
_QUAD = 4

_SPREAD = np.array([0, 0xFFFF, -(2**16), -1], np.int32)
_MASK_WORDS = np.stack([np.tile(_SPREAD, 4), np.repeat(_SPREAD, 4)], axis=1)
"""For each four bits of a mask the two words of int16 that they spread to."""


class _Mantissas:
    """Mantissas read four at a time, as products with a half or a word of multipliers."""

    def __init__(self, core: Primitives, element: str, row: int) -> None:
        """Rows of `row` elements start at whole words only where two halves fill one."""
        self._core = core
        self.element = element
        self.bytes = ELEMENT_BYTES[element]
        self.paired = core.has_dot2 and element == "i16" and row % 2 == 0

    def words(self, at: Address, count: int) -> list[Scalar]:
        """The words of two or four halves."""
        return list(self._core.load_pair(at)) if count == _QUAD else [at.load("i32")]

    def elements(self, at: Address, count: int) -> list[Scalar]:
        """Each element by itself."""
        return [(at + i * self.bytes).load(self.element) for i in range(count)]


def _store(
    core: Primitives, result: Result, at: Address, values: list[Scalar], paired: bool
) -> None:
    """Write up to four mantissas side by side."""
    if not paired or result.element != "i16":
        for i, value in enumerate(values):
            (at + i * result.bytes).store(value, result.element)
        return
    words = [core.pack(low, high) for low, high in zip(values[::2], values[1::2], strict=True)]
    if len(words) == 2:
        core.store_pair(words[0], words[1], at)
    else:
        at.store(words[0], "i32")


class _Normalizer:
    """The code of one `normalize_gradient`, eight channels (a byte of the mask) at a time."""

    def __init__(self, nest: Nest, op: Any, core: Primitives) -> None:
        shape, multipliers = shape_of(op.gx), to_array(op.multipliers)
        self._core, self._bits = core, op.bits.value
        self._rest = shape[-1] % _MASK_BITS
        self._spread = shape_of(op.g) != shape
        self._uniform = multipliers.size == 1
        g = nest.read(op.g, ANY_SIZE)
        self._g = address_of(g)
        self._read = _Mantissas(core, g.element, shape[-1])
        header: Buffer = nest.read(op.g_header)
        self._m = address_of(nest.read(multipliers, ANY_SIZE))
        self._mask = None if op.mask is None else address_of(nest.read(op.mask, ANY_SIZE))
        self._result = Result(nest, core, op)
        row = (shape[-1] - self._rest) * self._result.bytes
        words = self._read.paired and self._result.element == "i16" and self._mask is not None
        self._masks = address_of(nest.read(_MASK_WORDS)) if words else None
        sizes = [self._result.count * self._result.bytes, row, op.scale.value]
        self._size, self._row, scale = numbers(nest, sizes)
        self._has_blocks = shape[-1] >= _MASK_BITS
        base = MULTIPLIER_BITS - self._bits - op.overshoot.value
        self._shift = maximum(header[WIDTH] + base, 1)
        self._half = half_of(self._shift)
        self._exponent = header[EXPONENT] + scale + self._shift

    def emit(self) -> None:
        """All pixels, then the header."""
        carried = [self._result.start, self._g, self._mask]
        end = self._result.start + self._size
        walk(end, [place for place in carried if place is not None], self._pixel)
        self._result.finish(self._exponent, self._size)

    def _pixel(self, gx: Address, g: Address, *mask: Address) -> tuple[Address, ...]:
        m = () if self._uniform else (self._m,)
        places: tuple[Address, ...] = (gx, g, *m, *mask)
        if self._has_blocks:
            places = walk(gx + self._row, places, lambda *p: self._block(p, _MASK_BITS))
        if self._rest:
            places = self._block(places, self._rest)
        return places[0], g if self._spread else places[1], *places[2 + len(m) :]

    def _block(self, places: tuple[Address, ...], count: int) -> tuple[Address, ...]:
        """Up to eight channels of a pixel; the places behind them."""
        gx, g, *others = places
        m = None if self._uniform else others[0]
        bits = others[-1].load_byte() if self._mask is not None else None
        for first in range(0, count, _QUAD):
            size = min(_QUAD, count - first)
            values = [
                self._limit(product >> self._shift) for product in self._products(g, m, first, size)
            ]
            at = gx + first * self._result.bytes
            if bits is not None and self._masks is not None and size == _QUAD:
                self._store_masked(at, values, shift_right_unsigned(bits, first))
                continue
            if bits is not None:
                values = [v & _spread_bit(bits, first + i) for i, v in enumerate(values)]
            _store(self._core, self._result, at, values, self._read.paired)
        steps = [count * self._result.bytes, count * self._read.bytes]
        steps += [] if m is None else [2 * count]
        steps += [] if bits is None else [1]
        return tuple(place + step for place, step in zip(places, steps, strict=True))

    def _limit(self, value: Scalar) -> Scalar:
        """`value` on `bits` bits.

        16 hold any: the product is at most `2^(width - 1) (2^15 - 1)`, shifted by `width - 1`.
        """
        if self._bits == MANTISSA_BITS:
            return value
        return limit_mantissa(self._core, value, self._bits)

    def _store_masked(self, at: Address, values: list[Scalar], bits: Scalar) -> None:
        """Four mantissas as two words, each with the word that its two mask bits stand for."""
        assert self._masks is not None
        masks = self._core.load_pair(self._masks + (bits & 15) * 8)
        words = [self._core.pack(*values[i : i + 2]) & masks[i // 2] for i in (0, 2)]
        self._core.store_pair(words[0], words[1], at)

    def _products(self, g: Address, m: Address | None, first: int, count: int) -> list[Scalar]:
        """`g * m` and half a unit of the result, of `count` channels from `first` on."""
        at = g + first * self._read.bytes
        if not self._read.paired:
            factors = (
                [self._m.load("i16")] * count if m is None
                else [(m + 2 * (first + i)).load("i16") for i in range(count)]
            )  # fmt: skip
            values = self._read.elements(at, count)
            return [v * f + self._half for v, f in zip(values, factors, strict=True)]
        dot, found = self._core.dot, []
        words = self._read.words(at, count)
        factors = [self._m.load("i16")] * 2 if m is None else self._read.words(m + 2 * first, count)
        for word, factor in zip(words, factors, strict=False):
            found.append(dot(word, factor, self._half, "ll"))
            found.append(dot(word, factor, self._half, "hl" if m is None else "hh"))
        return found


def _spread_bit(bits: Scalar, place: int) -> Scalar:
    """All ones where bit `place` is set, else zero."""
    return (bits << (31 - place)) >> 31


@register_kernel(NormalizeGradient)
def normalize_gradient(nest: Nest, op: Any, target: Any) -> None:
    """`gx = saturate((g m[c] + 2^(s-1)) >> s)` where the mask is set, else zero."""
    _Normalizer(nest, op, primitives_of(target)).emit()


class _Term:
    """One operand of a sum: `((v << left) + half) >> right` with one of the shifts zero."""

    def __init__(self, core: Primitives, value: Buffer, header: Buffer, target: Scalar) -> None:
        self._core = core
        self.read = _Mantissas(core, value.element, 2)
        self.start = address_of(value)
        shift = target - header[EXPONENT]
        self._right = minimum(maximum(shift, 0), 31)
        # More than 14 only where all mantissas are zero: a half word holds the power.
        left = minimum(maximum(number(0) - shift, 0), 14)
        self._power, self._half = number(1) << left, half_of(self._right)

    def values(self, at: Address, count: int) -> list[Scalar]:
        """The aligned mantissas of up to four elements."""
        if self.read.paired and count == _QUAD:
            sums = [
                self._core.dot(word, self._power, self._half, halves)
                for word in self.read.words(at, count)
                for halves in ("ll", "hl")
            ]
        else:
            elements = self.read.elements(at, count)
            sums = [value * self._power + self._half for value in elements]
        return [total >> self._right for total in sums]


@register_kernel(IntegerAddGradients)
def integer_add_gradients(nest: Nest, op: Any, target: Any) -> None:
    """Both operands at the exponent of the sum, added, saturated."""
    core = primitives_of(target)
    a, b = nest.read(op.a, ANY_SIZE), nest.read(op.b, ANY_SIZE)
    a_header, b_header = nest.read(op.a_header), nest.read(op.b_header)
    result = Result(nest, core, op)
    exponent = sum_target(a_header, b_header)
    terms = [_Term(core, a, a_header, exponent), _Term(core, b, b_header, exponent)]
    count = prod(shape_of(op.gx))
    size, full = numbers(nest, [count * result.bytes, count // _QUAD * _QUAD * result.bytes])

    def block(gx: Address, *sources: Address, count: int = _QUAD) -> tuple[Address, ...]:
        pairs = zip(*(t.values(s, count) for t, s in zip(terms, sources, strict=True)), strict=True)
        sums = [limit_mantissa(core, x + y) for x, y in pairs]
        _store(core, result, gx, sums, core.has_dot2 and count == _QUAD)
        moved = (s + count * t.read.bytes for t, s in zip(terms, sources, strict=True))
        return gx + count * result.bytes, *moved

    places: tuple[Address, ...] = (result.start, terms[0].start, terms[1].start)
    if count >= _QUAD:
        places = walk(result.start + full, places, block)
    if count % _QUAD:
        block(*places, count=count % _QUAD)
    result.finish(exponent, size)
