"""Residual addition in 32 bits: two multiply-adds, a shift and a saturation, proved exact.

    exact   clamp((((a - z_a) m_a + (b - z_b) m_b + half) >> shift) + z_y)     64 bits, rounded once
    short   clamp((a p_a + b p_b + c) >> n)                                    32 bits

Both operands are int8, so all 65,536 pairs can be tried: for given factors the constants `c` that
give every pair its exact result form an interval, which is found at once. The factors are the exact
ones on the scale `2^n` and their neighbours, for the largest `n` that fits first.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_list
from tiny_dialect.fixed_point import paired_multipliers, rounding_shift
from tiny_dialect.ops import Add
from tiny_dialect.types import quantization
from tiny_targets.kernels.address import ANY_SIZE, Address, address_of, walk
from tiny_targets.kernels.elementwise import Addition, by_pixel
from tiny_targets.kernels.elementwise import add as add_in_64_bits
from tiny_targets.kernels.nest import Buffer, Nest, image_shape
from tiny_targets.kernels.primitives import Primitives, primitives_of
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index, Scalar

_BLOCK = 8
"""Elements of a loop step; with a mask those of one byte."""

_LIMIT = 2**31
_SHIFTS = range(24, 11, -1)
_NEIGHBOURS = (0, 1, -1, 2, -2)


@dataclass(frozen=True)
class ShortAddition:
    """The constants of the short form."""

    factors: tuple[int, int]
    offset: int
    shift: int


@dataclass(frozen=True)
class _Exact:
    """The arguments that decide the exact result."""

    scales: tuple[float, float]
    zeros: tuple[int, int, int]
    limits: tuple[int, int]


def short_addition(op: Any) -> ShortAddition | None:
    """The short form of an `add`; None where no constants are exact for all pairs."""
    (scale_a, zero_a), (scale_b, zero_b) = quantization(op.a), quantization(op.b)
    scale_y, zero_y = quantization(op.y)
    low, high = (int(bound) for bound in to_list(op.attributes["clamp"]))
    scales = (scale_a / scale_y, scale_b / scale_y)
    return _solve(_Exact(scales, (zero_a, zero_b, zero_y), (low, high)))


@lru_cache(maxsize=256)
def _solve(exact: _Exact) -> ShortAddition | None:
    values = np.arange(-128, 128, dtype=np.int64)
    a, b = values[:, None], values[None, :]
    wanted = _results(exact, a, b)
    for shift in _SHIFTS:
        nearest = [round(scale * 2.0**shift) for scale in exact.scales]
        if 128 * sum(nearest) >= _LIMIT:
            continue
        for change in product(_NEIGHBOURS, repeat=2):
            p_a, p_b = (max(factor + d, 0) for factor, d in zip(nearest, change, strict=True))
            offset = _offset(a * p_a + b * p_b, wanted, shift, exact.limits)
            if offset is not None:
                return ShortAddition((p_a, p_b), offset, shift)
    return None


def _results(exact: _Exact, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of all pairs before the clamp, what lies beyond the clamp moved next to it."""
    m_a, m_b, shift = paired_multipliers(*exact.scales)
    zero_a, zero_b, zero_y = exact.zeros
    total = (a - zero_a) * m_a + (b - zero_b) * m_b
    low, high = exact.limits
    return np.clip(rounding_shift(total, shift) + zero_y, low - 1, high + 1)


def _offset(
    sums: NDArray[np.int64], wanted: NDArray[np.int64], shift: int, limits: tuple[int, int]
) -> int | None:
    """A constant that takes every sum to the wanted result, within 32 bits; None if none does."""
    low, high = limits
    at_least = np.where(wanted < low, -(2**40), (wanted << shift) - sums)
    below = np.where(wanted > high, 2**40, ((wanted + 1) << shift) - sums)
    first, last = int(at_least.max()), int(below.min()) - 1
    first = max(first, -_LIMIT - int(sums.min()), -_LIMIT)
    last = min(last, _LIMIT - 1 - int(sums.max()), _LIMIT - 1)
    return None if first > last else (first + last) // 2


class ShortAdditionRows:
    """A residual addition in its short form, emitted row by row or at once."""

    def __init__(self, nest: Nest, op: Any, form: ShortAddition, core: Primitives) -> None:
        self._nest, self._core, self._form = nest, core, form
        self._limits = [int(bound) for bound in to_list(op.attributes["clamp"])]
        _, self._columns, self._channels = image_shape(op.y)
        pixels, channels = by_pixel(op.y)
        whole = pixels * channels // _BLOCK * _BLOCK
        self._table = nest.read(np.array([*form.factors, form.offset, whole], np.int32))

    def emit_row(self, row: Index, a: Rows, b: Rows, y: Rows, mask: Buffer | None) -> None:
        """One row of pixels. `y` may be `a` or `b`."""
        bits = None
        if mask is not None:
            bits = address_of(mask) + row * (self._columns * -(-self._channels // _BLOCK))
        self.emit(a.address(row), b.address(row), y.address(row), bits, self._columns)

    def emit(
        self,
        a: Address,
        b: Address,
        y: Address,
        mask: Address | None,
        pixels: int,
        *,
        all_of_them: bool = False,
    ) -> None:
        """`pixels` neighbouring pixels; `all_of_them` of the image, their number an argument."""
        masks = () if mask is None else (mask,)
        if mask is None or self._channels % _BLOCK == 0:
            count = pixels * self._channels
            whole: Index = count - count % _BLOCK
            if whole and all_of_them:
                whole = self._table[3]
            self._run(a, b, y, masks, whole, count % _BLOCK)
            return
        rest = self._channels % _BLOCK
        stride = -(-self._channels // _BLOCK)
        for pixel in self._nest.loop(pixels):
            first = pixel * self._channels
            places = tuple(place + pixel * stride for place in masks)
            whole = self._channels - rest
            self._run(a + first, b + first, y + first, places, whole, rest)

    def _run(
        self,
        a: Address,
        b: Address,
        y: Address,
        masks: tuple[Address, ...],
        whole: Index,
        rest: int,
    ) -> None:
        """`whole` elements in blocks, then `rest`."""
        factors = tuple(self._table[i] for i in range(3))

        def block(a: Address, b: Address, y: Address, *masks: Address) -> tuple[Address, ...]:
            self._block((a, b, y), masks, _BLOCK, factors)
            return a + _BLOCK, b + _BLOCK, y + _BLOCK, *(mask + 1 for mask in masks)

        if isinstance(whole, Scalar) or whole:
            a, b, y, *places = walk(a + whole, (a, b, y, *masks), block)
            masks = tuple(places)
        if rest:
            self._block((a, b, y), masks, rest, factors)

    def _block(
        self,
        places: tuple[Address, Address, Address],
        masks: tuple[Address, ...],
        count: int,
        factors: tuple[Scalar, ...],
    ) -> None:
        a, b, y = places
        byte = self._nest.number(0)
        for i in range(count):
            total = (a + i).load("i8") * factors[0] + factors[2]
            value = (total + (b + i).load("i8") * factors[1]) >> self._form.shift
            limited = self._core.limit(value, *self._limits)
            (y + i).store(limited, "i8")
            if masks:
                byte = byte | (limited.equals(value).as_integer() << i)
        for mask in masks:
            mask.store(byte, "i8")


def addition_of(nest: Nest, op: Any, target: Any) -> ShortAdditionRows | Addition:
    """The fastest form of an `add`, to be emitted row by row."""
    form = short_addition(op)
    if form is None:
        return Addition(nest, op)
    return ShortAdditionRows(nest, op, form, primitives_of(target))


@register_kernel(Add)
def add(nest: Nest, op: Any, target: Any) -> None:
    """The residual addition of two images."""
    form = short_addition(op)
    if form is None:
        add_in_64_bits(nest, op, target)
        return
    a, b = (address_of(nest.read(value, ANY_SIZE)) for value in (op.a, op.b))
    y = address_of(nest.write(op.y, ANY_SIZE))
    mask = None if op.mask is None else address_of(nest.write(op.mask, ANY_SIZE))
    addition = ShortAdditionRows(nest, op, form, primitives_of(target))
    addition.emit(a, b, y, mask, by_pixel(op.y)[0], all_of_them=True)
