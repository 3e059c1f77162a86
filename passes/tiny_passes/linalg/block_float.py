"""Mantissas and headers inside linalg: exact shifts, widths, and the multipliers of an update.

The tensor twins of `tiny_dialect.block_float`. A part of a header is a tensor of rank 0.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array
from tiny_dialect.bindings import load
from tiny_dialect.block_float import PRODUCT_SHIFT
from tiny_passes.linalg.scalars import Scalar, element_type, number
from tiny_passes.linalg.tensors import (
    constant,
    dims,
    elementwise,
    empty,
    extract,
    flatten,
    generic,
    loop_index,
    zeros,
)

_arith = load("dialects.arith")
_math = load("dialects.math")

EXPONENT, WIDTH = 0, 1
_MULTIPLIER_LIMIT = 2**31 - 1
_MANTISSA_FIELD, _HIDDEN_BIT, _EXPONENT_FIELD = 0x7FFFFF, 0x800000, 255


def shift_left(value: Scalar, amount: Scalar | int) -> Scalar:
    """`value << amount`."""
    other = amount if isinstance(amount, Scalar) else number(amount, value.type)
    return Scalar(_arith.ShLIOp(value.value, other.value).result)


def round_shift(value: Scalar, amount: Scalar | int) -> Scalar:
    """`value * 2^-amount` rounded half up; `amount` of the value's type, negative to the left."""
    if isinstance(amount, int):
        return (value + ((1 << amount) >> 1)) >> amount if amount else value
    right, left = amount.at_least(0), (number(0, amount.type) - amount).at_least(0)
    # Unsigned: half of `2^31` is positive, though 32 bits hold `2^31` as a negative number.
    half = shift_left(number(1, value.type), right).shift_right_unsigned(1)
    return (shift_left(value, left) + half) >> right


def saturate(value: Scalar, bits: int) -> Scalar:
    """`value` limited to two's complement of `bits` bits."""
    return value.at_most((1 << (bits - 1)) - 1).at_least(-(1 << (bits - 1)))


def bit_length(value: Scalar) -> Scalar:
    """The number of bits of a value of at least 0."""
    zeros_above = Scalar(_math.CountLeadingZerosOp(value.value).result)
    return number(value.type.width, value.type) - zeros_above


def header_part(header: Any, part: int, element: str = "i32") -> Any:
    """Exponent or width of a header, in `element`."""

    def body(_: Scalar) -> Scalar:
        return extract(header, [number(part, element_type("index"))]).to(element)

    return generic([], [(empty((), element), [])], "", body)


def width_of(mantissas: Any, element: str = "i32") -> Any:
    """The width of all mantissas, as rank 0 of `element`, which holds `2 m` of each."""
    (d,) = dims(1)

    def body(mantissa: Scalar, total: Scalar) -> Scalar:
        wide = mantissa.to(element)
        edges = Scalar(_arith.XOrIOp(wide.value, (wide + wide).value).result)
        return total | edges

    used = generic([(flatten(mantissas), [d])], [(zeros((), element), [])], "r", body)
    return elementwise([used], [element], bit_length)


def header_of(exponent: Any, mantissas: Any) -> Any:
    """The header of mantissas with the exponent in a rank 0 i32."""
    (d,) = dims(1)
    width = width_of(mantissas)

    def body(first: Scalar, second: Scalar, _: Scalar) -> Scalar:
        return loop_index(0, "i32").compare("eq", EXPONENT).select(first, second)

    return generic([(exponent, []), (width, [])], [(empty((2,), "i32"), [d])], "p", body)


def with_header(mantissas: Any, exponent: Any) -> list[Any]:
    """Both results of a gradient op."""
    return [mantissas, header_of(exponent, mantissas)]


def _parts(value: Scalar) -> tuple[Scalar, Scalar]:
    """(mantissa, exponent field) of an f32, in i64; subnormals as 0."""
    bits = Scalar(_arith.BitcastOp(element_type("i32"), value.value).result).to("i64")
    field = (bits >> 23) & _EXPONENT_FIELD
    mantissa = (bits & _MANTISSA_FIELD) | _HIDDEN_BIT
    signed = bits.compare("lt", 0).select(number(0, mantissa.type) - mantissa, mantissa)
    return field.compare("eq", 0).select(number(0, mantissa.type), signed), field


def _power(exponent: Scalar) -> Scalar:
    """`2^exponent` as f32, with the exponent limited to [-126, 127]."""
    field = exponent.at_most(127).at_least(-126) + 127
    return Scalar(_arith.BitcastOp(element_type("f32"), shift_left(field, 23).value).result)


def real_multipliers(op: Any, header: Any, rate: Any) -> Any:
    """`k[c]` of an update op, f32: see `tiny_dialect.block_float.real_multipliers`."""
    largest = float(np.finfo(np.float32).max)

    def body(factor: Scalar, speed: Scalar, exponent: Scalar) -> Scalar:
        half = exponent >> 1
        k = factor * speed * _power(half) * _power(exponent - half)
        return k.at_most(largest).at_least(-largest)

    factors = constant(to_array(op.attributes["factors"]))
    return elementwise([factors, rate, header_part(header, EXPONENT)], ["f32"], body)


def step_multipliers(op: Any, header: Any, rate: Any, align: int) -> Any:
    """`K[c]` of an update op, i64: see `tiny_dialect.block_float.step_multipliers`.

    Summed with that of a factor of zero, which is zero: a sum is not fused into the update, where
    it would be computed for every weight, and where IREE fails to tile the result.
    """
    exponent = header_part(header, EXPONENT, "i64")

    def body(factor: Scalar, speed: Scalar, e: Scalar, total: Scalar) -> Scalar:
        factor_mantissa, factor_field = _parts(factor)
        rate_mantissa, rate_field = _parts(speed)
        base = number(300 - PRODUCT_SHIFT + align, e.type)
        shift = base - e - factor_field - rate_field
        product = factor_mantissa * rate_mantissa
        sign = product.compare("lt", 0).select(number(-1, e.type), 1)
        zero = number(0, e.type)
        large = product.compare("eq", 0).select(zero, shift_left(sign, 50))
        limited = shift.compare("lt", 1).select(large, product)
        rounded = round_shift(limited, shift.at_least(1).at_most(62))
        return total + rounded.at_most(_MULTIPLIER_LIMIT).at_least(-_MULTIPLIER_LIMIT)

    factors = to_array(op.attributes["factors"])
    table = constant(np.stack([factors, np.zeros_like(factors)]))
    c, row = dims(2)
    return generic(
        [(table, [row, c]), (rate, []), (exponent, [])],
        [(zeros(factors.shape, "i64"), [c])],
        "pr",
        body,
    )
