"""How the storage of a parameter takes the sum of an integer update: one class a rule.

    storage = storage_of(nest, op, core, align)
    k = storage.multiplier(channel)                       once a channel
    storage.move(place, storage.aligned(total), k)        once an element

A sum of zero moves nothing, whatever the rule: kernels rely on it for lanes that count for nothing.
"""

from __future__ import annotations

from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.bindings import load
from tiny_dialect.block_float import BYTE_FRACTION
from tiny_dialect.rounding import WORD_BITS
from tiny_dialect.types import element_name
from tiny_targets.kernels.address import ANY_SIZE, ELEMENT_BYTES, Address, address_of
from tiny_targets.kernels.integer_header import EXPONENT, round_shift
from tiny_targets.kernels.integer_step import Steps, step_of
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.primitives import Primitives, settled, shift_right_unsigned
from tiny_targets.kernels.random_words import RandomWords
from tiny_targets.kernels.scalar import Index, Scalar, clamp, maximum, minimum, select
from tiny_targets.kernels.weights import BIAS_LIMIT

_llvm = load("dialects.llvm")

_LARGEST_FLOAT = float.fromhex("0x1.fffffep127")
_MIN_POWER, _MAX_POWER = -126, 127
_EXPONENT_BIAS, _FRACTION_FIELD = 127, 23


class Storage:
    """A parameter in memory; `start` is its first element."""

    def __init__(self, nest: Nest, op: Any, core: Primitives, align: Index) -> None:
        self._core, self._align = core, align
        self.element = element_name(op.parameter)
        self.bytes = ELEMENT_BYTES[self.element]
        self.start = address_of(nest.update(op.parameter, ANY_SIZE))
        self._steps = Steps(nest, op, align)

    def aligned(self, total: Scalar) -> Scalar:
        """A sum, or a factor of its products, shifted left by `align`."""
        unmoved = isinstance(self._align, int) and self._align == 0
        return total if unmoved else total << self._align

    def multiplier(self, channel: Index) -> Scalar:
        """What the sums of a channel are multiplied with."""
        return self._steps.multiplier(channel)

    def move(self, place: Address, total: Scalar, multiplier: Scalar) -> None:
        """Subtract the step of an aligned sum from the element at `place`."""
        old = place.load(self.element)
        place.store(self._moved(place, old, step_of(total, multiplier)), self.element)

    def _moved(self, place: Address, old: Scalar, step: Scalar) -> Scalar:
        raise NotImplementedError


class _Master(Storage):
    """An i16 of 8 fraction bits."""

    def _moved(self, place: Address, old: Scalar, step: Scalar) -> Scalar:
        return self._core.limit(old - step, -(2**15), 2**15 - 1)


class _Wide(Storage):
    """An i32 within its limit; an initial value may lie beyond."""

    def _moved(self, place: Address, old: Scalar, step: Scalar) -> Scalar:
        moved = Scalar(_llvm.intr_ssub_sat(old.value, step.value))
        return select(step.equals(0), old, clamp(moved, -BIAS_LIMIT, BIAS_LIMIT))


class _Byte(Storage):
    """An i8, to nearest."""

    def _moved(self, place: Address, old: Scalar, step: Scalar) -> Scalar:
        # A step is at most 2^30.
        return self._core.limit(old - self._whole(place, step), -128, 127)

    def _whole(self, place: Address, step: Scalar) -> Scalar:
        """The step without its fraction bits."""
        return round_shift(step, BYTE_FRACTION)


class _RandomByte(_Byte):
    """An i8 whose step is rounded up with a probability of its fraction."""

    def __init__(self, nest: Nest, op: Any, core: Primitives, align: Index) -> None:
        super().__init__(nest, op, core, align)
        # One byte an element: its address counts the elements.
        self._words = RandomWords(nest, op, self.start.as_integer())

    def _whole(self, place: Address, step: Scalar) -> Scalar:
        word = self._words.word(place.as_integer())
        chance = shift_right_unsigned(word, WORD_BITS - BYTE_FRACTION)
        return (step + chance) >> BYTE_FRACTION


class _Real(Storage):
    """An f32: `value - float(sum) * k`, where a sum of zero moves nothing."""

    def __init__(self, nest: Nest, op: Any, core: Primitives, align: Index) -> None:
        self._core, self._align = core, 0
        self.element, self.bytes = "f32", ELEMENT_BYTES["f32"]
        self.start = address_of(nest.update(op.parameter, ANY_SIZE))
        self._factors = address_of(nest.read(to_array(op.factors), ANY_SIZE))
        self._rate, exponent = nest.read(op.rate)[()], nest.read(op.g_header)[EXPONENT]
        half = exponent >> 1
        self._powers = _power(half), _power(exponent - half)

    def multiplier(self, channel: Index) -> Scalar:
        """`factors[channel] * rate * 2^exponent`, finite."""
        k = (self._factors + channel * self.bytes).load("f32") * self._rate
        for power in self._powers:
            k = k * power
        return clamp(k, -_LARGEST_FLOAT, _LARGEST_FLOAT)

    def move(self, place: Address, total: Scalar, multiplier: Scalar) -> None:
        """Product and difference are rounded apart."""
        old, product = place.load("f32"), total.as_float() * multiplier
        # In an integer register for a moment: else both become one fused operation.
        moved = old - settled(product.bits()).bits()
        place.store(select(total.equals(0), old, moved), "f32")


def _power(exponent: Scalar) -> Scalar:
    """`2^exponent` as `f32`, with the exponent limited to that of normal numbers."""
    limited = maximum(minimum(exponent, _MAX_POWER), _MIN_POWER)
    return ((limited + _EXPONENT_BIAS) << _FRACTION_FIELD).bits()


_RULES: dict[str, type[Storage]] = {"i8": _Byte, "i16": _Master, "i32": _Wide, "f32": _Real}


def storage_of(nest: Nest, op: Any, core: Primitives, align: Index = 0) -> Storage:
    """The storage of an update's parameter; sums are shifted left by `align` but for f32."""
    rule = _RandomByte if "stream" in op.attributes else _RULES[element_name(op.parameter)]
    return rule(nest, op, core, align)
