"""The random words of stochastic rounding: `tiny_dialect.rounding` in kernels."""

from typing import Any

from tiny_dialect.rounding import GOLDEN, MIX_FACTORS, MIX_SHIFTS, WORD
from tiny_targets.kernels.integer_header import numbers
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.primitives import shift_right_unsigned
from tiny_targets.kernels.scalar import Scalar


def _signed(word: int) -> int:
    """The i32 of the same bits."""
    return word - WORD if word >= WORD // 2 else word


def _mixed(word: Scalar) -> Scalar:
    """`tiny_dialect.rounding.mix`."""
    first, second, third = MIX_SHIFTS
    word = (word ^ shift_right_unsigned(word, first)) * _signed(MIX_FACTORS[0])
    word = (word ^ shift_right_unsigned(word, second)) * _signed(MIX_FACTORS[1])
    return word ^ shift_right_unsigned(word, third)


class RandomWords:
    """The words of an op with a counter; stream and counter are arguments of the kernel."""

    def __init__(self, nest: Nest, op: Any, first: Scalar | int = 0) -> None:
        """`first` is what stands for the index of element 0, where that is not 0."""
        (stream,) = numbers(nest, [_signed(op.stream.value)])
        key = _mixed(_mixed(nest.read(op.counter)[0]) ^ stream)
        unmoved = isinstance(first, int) and first == 0
        self._key = key if unmoved else key - first * _signed(GOLDEN)

    def word(self, element: Scalar) -> Scalar:
        """The random word of an element, an `i32`."""
        return _mixed(self._key + element * _signed(GOLDEN))
