"""Exponential and logarithm inside a linalg body, operation by operation as the kernels do them."""

from tiny_dialect.bindings import load
from tiny_dialect.elementary import (
    EXP_COEFFICIENTS,
    EXP_FLOOR,
    EXPONENT_BIAS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_COEFFICIENTS,
    MANTISSA_BITS,
    MANTISSA_MASK,
    ONE_BITS,
    SQRT_HALF_BITS,
)
from tiny_passes.linalg.scalars import Scalar, element_type, number

_arith = load("dialects.arith")


def exponential(x: Scalar) -> Scalar:
    """`exp(x)` of an f32 `x <= 0`; anything below -87 becomes exp(-87)."""
    bounded = x.at_least(EXP_FLOOR)
    power = (bounded * LOG2_E).round_half_even()
    rest = (bounded - power * LN2_HIGH) - power * LN2_LOW
    mantissa = _polynomial(rest, EXP_COEFFICIENTS) * (rest * rest) + rest + 1.0
    exponent = power.to("i32") + EXPONENT_BIAS
    shifted = _arith.ShLIOp(exponent.value, number(MANTISSA_BITS, exponent.type).value)
    return mantissa * _bits(Scalar(shifted.result), "f32")


def logarithm(x: Scalar) -> Scalar:
    """`log(x)` of a finite f32 `x >= 1`."""
    shifted = _bits(x, "i32") + (ONE_BITS - SQRT_HALF_BITS)
    power = ((shifted >> MANTISSA_BITS) - EXPONENT_BIAS).to("f32")
    m = _bits((shifted & MANTISSA_MASK) + SQRT_HALF_BITS, "f32") - 1.0
    square = m * m
    tail = _polynomial(m, LOG_COEFFICIENTS) * (square * m) + power * LN2_LOW - square * 0.5
    return (m + tail) + power * LN2_HIGH


def _polynomial(x: Scalar, coefficients: tuple[float, ...]) -> Scalar:
    total = number(coefficients[0], x.type)
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def _bits(x: Scalar, name: str) -> Scalar:
    """The same 32 bits as an element type `name`."""
    return Scalar(_arith.BitcastOp(element_type(name), x.value).result)
