"""Rules of the fixed-point head: 64-bit integers, bit for bit those of the semantics."""

from typing import Any

from tiny_dialect.block_float import (
    EXP2_COEFFICIENTS,
    EXPONENTIAL_FRACTION,
    LN_2,
    LOG2_E,
    LOGIT_FRACTION,
    LOGIT_LIMIT,
    LOWEST_DIFFERENCE,
    MANTISSA_BITS,
    exponential_fraction,
    logit_shift,
)
from tiny_dialect.fixed_point import quantize_multiplier
from tiny_dialect.types import quantization, shape_of
from tiny_passes.linalg.block_float import (
    EXPONENT,
    bit_length,
    header_part,
    round_shift,
    saturate,
    shift_left,
    width_of,
    with_header,
)
from tiny_passes.linalg.scalars import Scalar, number
from tiny_passes.linalg.tensors import (
    dims,
    elementwise,
    filled,
    flatten,
    generic,
    loop_index,
    reshape,
    zeros,
)

_LOWEST_LOGIT = -(2**31)


def dequantize_fixed(op: Any, x: Any) -> list[Any]:
    """`(x - z) * s` with 16 fraction bits, rounded once."""
    scale, zero = quantization(op.operands[0])
    multiplier, shift = quantize_multiplier(scale * 2.0**LOGIT_FRACTION)

    def body(q: Scalar) -> Scalar:
        return round_shift((q.to("i64") - zero) * multiplier, shift).to("i32")

    return [elementwise([x], ["i32"], body)]


def fixed_to_float(op: Any, x: Any) -> list[Any]:
    """`x * 2^-16` in float32."""
    return [elementwise([x], ["f32"], lambda value: value.to("f32") * 2.0**-LOGIT_FRACTION)]


def integer_linear(op: Any, x: Any, w: Any, bias: Any) -> list[Any]:
    """The fixed-point linear layer."""
    scale, zero = quantization(op.operands[0])
    fraction = op.attributes["fraction"].value
    classes, features = shape_of(w)
    pre_shift = logit_shift(features)
    factor = scale * 2.0 ** (LOGIT_FRACTION + pre_shift - fraction)
    multiplier, shift = quantize_multiplier(factor)
    k, c = dims(2)
    sums = generic(
        [(w, [k, c]), (flatten(x), [c])],
        [(zeros((classes,), "i64"), [k])],
        "pr",
        lambda weight, value, total: total + weight.to("i64") * (value.to("i64") - zero),
    )

    def body(total: Scalar, b: Scalar) -> Scalar:
        logit = round_shift(round_shift(total, pre_shift) * multiplier, shift)
        whole = logit + round_shift(b.to("i64"), fraction - LOGIT_FRACTION)
        return whole.at_most(LOGIT_LIMIT).at_least(-LOGIT_LIMIT).to("i32")

    return [reshape(elementwise([sums, bias], ["i32"], body), shape_of(op.results[0]))]


def integer_linear_input_grad(op: Any, g: Any, g_header: Any, w: Any) -> list[Any]:
    """`g @ w` in 64 bits, normalized into i16."""
    fraction = op.attributes["fraction"].value
    c, k = dims(2)
    sums = generic(
        [(flatten(g), [k]), (w, [k, c])],
        [(zeros((shape_of(w)[1],), "i64"), [c])],
        "pr",
        lambda gradient, weight, total: total + gradient.to("i64") * weight.to("i64"),
    )
    width = width_of(sums, "i64")
    shift = elementwise([width], ["i64"], lambda value: (value - MANTISSA_BITS).at_least(0))

    def body(total: Scalar, s: Scalar) -> Scalar:
        return saturate(round_shift(total, s), MANTISSA_BITS).to("i16")

    mantissas = elementwise([sums, shift], ["i16"], body)
    exponent = elementwise(
        [header_part(g_header, EXPONENT), shift], ["i32"], lambda e, s: e + s.to("i32") - fraction
    )
    return with_header(reshape(mantissas, shape_of(op.results[0])), exponent)


def _exponential(difference: Scalar, classes: int) -> Scalar:
    """`exp` of a logit difference of at most 0, i64 with `exponential_fraction(classes)` bits."""
    limited = difference.at_least(LOWEST_DIFFERENCE)
    power = round_shift(limited * LOG2_E, LOGIT_FRACTION)
    fraction = power & ((1 << LOGIT_FRACTION) - 1)
    result = number(EXP2_COEFFICIENTS[-1], power.type)
    for coefficient in reversed(EXP2_COEFFICIENTS[:-1]):
        result = ((result * fraction) >> LOGIT_FRACTION) + coefficient
    lost = number(EXPONENTIAL_FRACTION - exponential_fraction(classes), power.type)
    return result >> (lost - (power >> LOGIT_FRACTION)).at_most(31)


def _exponentials(logits: Any) -> tuple[Any, Any, Any]:
    """(logits minus their maximum, their exponentials, the sum of those): i64."""
    flat = flatten(logits)
    (classes,) = shape_of(flat)
    (k,) = dims(1)
    lowest = filled((), "i32", _LOWEST_LOGIT)
    top = generic([(flat, [k])], [(lowest, [])], "r", lambda value, best: value.at_least(best))
    shifted = elementwise([flat, top], ["i64"], lambda v, best: v.to("i64") - best.to("i64"))
    powers = elementwise([shifted], ["i64"], lambda value: _exponential(value, classes))
    total = generic([(powers, [k])], [(zeros((), "i64"), [])], "r", lambda value, acc: acc + value)
    return shifted, powers, total


def _log2(value: Scalar) -> Scalar:
    """`log2` of a positive value with 16 fraction bits: one squaring a bit."""
    whole = bit_length(value) - 1
    top = number(EXPONENTIAL_FRACTION, value.type)
    mantissa, result = shift_left(value, top - whole), whole
    for _ in range(LOGIT_FRACTION):
        mantissa = (mantissa * mantissa) >> EXPONENTIAL_FRACTION
        above = mantissa >> (EXPONENTIAL_FRACTION + 1)
        mantissa = mantissa >> above
        result = result + result + above
    return result


def integer_softmax_cross_entropy(op: Any, logits: Any, label: Any) -> list[Any]:
    """`ln(sum of exponentials) - (logit of the label - max)`."""
    shifted, powers, total = _exponentials(logits)
    (k,) = dims(1)
    base = exponential_fraction(shape_of(powers)[0]) << LOGIT_FRACTION

    def chosen(value: Scalar, wanted: Scalar, acc: Scalar) -> Scalar:
        return loop_index(0, "i32").compare("eq", wanted).select(value, acc)

    own = generic([(shifted, [k]), (label, [])], [(zeros((), "i64"), [])], "r", chosen)

    def body(whole: Scalar, logit: Scalar) -> Scalar:
        return (round_shift((_log2(whole) - base) * LN_2, LOGIT_FRACTION) - logit).to("i32")

    return [elementwise([total, own], ["i32"], body)]


def integer_softmax_cross_entropy_grad(op: Any, logits: Any, label: Any) -> list[Any]:
    """Exponentials over their sum, the label's less one, by one reciprocal."""
    _, powers, total = _exponentials(logits)

    def less(value: Scalar, whole: Scalar, wanted: Scalar) -> Scalar:
        return loop_index(0, "i32").compare("eq", wanted).select(value - whole, value)

    differences = elementwise([powers, total, label], ["i64"], less)
    drop = elementwise([total], ["i64"], lambda whole: bit_length(whole) - MANTISSA_BITS)
    shift = elementwise([width_of(differences, "i64")], ["i64"], lambda w: w.at_least(1))

    def body(value: Scalar, whole: Scalar, h: Scalar, s: Scalar) -> Scalar:
        reciprocal = number(2**31, value.type) // (whole >> h)
        return saturate(round_shift(value * reciprocal, s), MANTISSA_BITS).to("i16")

    mantissas = elementwise([differences, total, drop, shift], ["i16"], body)
    exponent = elementwise([shift, drop], ["i32"], lambda s, h: (s - h - 31).to("i32"))
    return with_header(reshape(mantissas, shape_of(op.results[0])), exponent)
