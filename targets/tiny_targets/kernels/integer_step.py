"""The step of an integer update: `(sum * K[c] + 2^31) >> 32`, with `K[c]` from two floats' bits.

`K[c] = round(factors[c] * rate * 2^(exponent + 32 - align))`, limited to +-(2^31 - 1); the meaning
is `block_float.step_multipliers`. No floating point: the bits are read as integers.
"""

from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.block_float import PRODUCT_SHIFT
from tiny_targets.kernels.address import ANY_SIZE, address_of
from tiny_targets.kernels.integer_header import EXPONENT
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.scalar import Index, Scalar, clamp, maximum, minimum, number, select

_LARGEST_MULTIPLIER = 2**31 - 1
_FIELD_BITS, _FIELD_MASK = 23, 255
_FRACTION_MASK, _LEADING_BIT = 0x7FFFFF, 0x800000
_TWO_BIASES = 300
"""A float is `mantissa * 2^(field - 150)`."""
_ALIGN = 7
"""Mantissas of 24 bits and sign shifted left: their product fills 62 bits."""
_PRE_SHIFT = 32 - 2 * _ALIGN
"""What the upper word of that product is shifted by."""


def _parts(real: Scalar) -> tuple[Scalar, Scalar]:
    """(signed mantissa, exponent field) of an `f32`; subnormals as zero."""
    bits = real.bits()
    field = (bits >> _FIELD_BITS) & _FIELD_MASK
    mantissa = select(field.equals(0), number(0), (bits & _FRACTION_MASK) | _LEADING_BIT)
    return select(bits < 0, 0 - mantissa, mantissa), field


class Steps:
    """What an update subtracts; `factors`, `rate` and the header are arguments of the kernel."""

    def __init__(self, nest: Nest, op: Any, align: Index = 0) -> None:
        self._nest = nest
        self._factors = address_of(nest.read(to_array(op.factors), ANY_SIZE))
        rate, header = nest.read(op.rate), nest.read(op.g_header)
        self._rate, field = _parts(rate[()])
        self._offset = align + (_TWO_BIASES - PRODUCT_SHIFT) - header[EXPONENT] - field

    def multiplier(self, channel: Index) -> Scalar:
        """`K[channel]`."""
        factor, field = _parts((self._factors + channel * 4).load("f32"))
        shift = self._offset - field
        return self._nest.branch(
            shift > _PRE_SHIFT,
            lambda: self._usual(factor, shift),
            lambda: self._large(factor, shift),
            like=shift,
        )

    def _usual(self, factor: Scalar, shift: Scalar) -> Scalar:
        """From the upper word of the product: what it lacks lies below the rounding position."""
        aligned = (factor << _ALIGN).as_wide() * (self._rate << _ALIGN).as_wide()
        high = (aligned >> 32).as_integer()
        # 30 bits, so a shift by 31 leaves nothing, and so do all longer ones.
        rest = minimum(shift - _PRE_SHIFT, 31)
        return (high + (number(1) << (rest - 1))) >> rest

    def _large(self, factor: Scalar, shift: Scalar) -> Scalar:
        """Products that come near the limit, or beyond."""
        product = factor.as_wide() * self._rate.as_wide()
        amount = maximum(shift, 1).as_wide()
        rounded = (product + (self._nest.wide(1) << (amount - 1))) >> amount
        limited = clamp(rounded, -_LARGEST_MULTIPLIER, _LARGEST_MULTIPLIER).as_integer()
        # Without a right shift, 49 bits leave room for nothing but zero.
        sign = select(product < 0, number(-_LARGEST_MULTIPLIER), _LARGEST_MULTIPLIER)
        huge = select(product.equals(0), number(0), sign)
        return select(shift < 1, huge, limited)


def step_of(total: Scalar, multiplier: Scalar) -> Scalar:
    """What is subtracted, in units of the storage: a high product, rounded half up."""
    product = total.as_wide() * multiplier.as_wide()
    rounded = product + product.like(1 << (PRODUCT_SHIFT - 1))
    return (rounded >> PRODUCT_SHIFT).as_integer()
