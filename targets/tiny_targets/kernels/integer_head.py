"""The head in fixed point: linear layer, loss, their gradients, and conversions at the border."""

from collections.abc import Callable
from math import prod
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
from tiny_dialect.ops import (
    DequantizeFixed,
    FixedToFloat,
    IntegerLinear,
    IntegerLinearInputGrad,
    IntegerSoftmaxCrossEntropy,
    IntegerSoftmaxCrossEntropyGrad,
)
from tiny_dialect.types import quantization, shape_of
from tiny_targets.kernels.elementwise import flat
from tiny_targets.kernels.integer_header import (
    EXPONENT,
    Result,
    bit_length,
    round_shift,
    wide_bit_length,
)
from tiny_targets.kernels.nest import Buffer, Nest, Span
from tiny_targets.kernels.numerics import rounding_shift
from tiny_targets.kernels.primitives import primitives_of, shift_right_unsigned
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, clamp, maximum, minimum, number, select

_SIGN, _FLOAT_FRACTION, _FLOAT_BIAS = -(2**31), 23, 127


def _requantize(nest: Nest, value: Scalar, factor: float) -> Scalar:
    """`value * factor` rounded half up; an `i64` for an `i32`."""
    multiplier, shift = quantize_multiplier(factor)
    product = value.as_wide() * int(multiplier)
    return (product + (1 << (int(shift) - 1))) >> int(shift)


@register_kernel(DequantizeFixed)
def dequantize_fixed(nest: Nest, op: Any, target: Any) -> None:
    """`(x - z) s` with 16 fraction bits."""
    scale, zero = quantization(op.x)
    x, y = nest.read(op.x, flat(op.x)), nest.write(op.y, flat(op.y))
    for i in nest.loop(prod(shape_of(op.x))):
        y[i] = _requantize(nest, x[i] - zero, scale * 2.0**LOGIT_FRACTION).as_integer()


@register_kernel(FixedToFloat)
def fixed_to_float(nest: Nest, op: Any, target: Any) -> None:
    """`x 2^-16` in float32; without an FPU, by the bits."""
    x, y = nest.read(op.x, flat(op.x)), nest.write(op.y, flat(op.y))
    for i in nest.loop(prod(shape_of(op.x))):
        if target.has("fpu"):
            y[i] = x[i].as_float() * 2.0**-LOGIT_FRACTION
        else:
            y[i] = _float_bits(x[i]).bits()


def _float_bits(value: Scalar) -> Scalar:
    """The bits of `value * 2^-16` in float32, rounded half to even."""
    sign = value & _SIGN
    magnitude = select(value < 0, 0 - value, value)
    length = bit_length(magnitude)
    # The leading one at bit 31; eight bits are dropped, the carry may reach the exponent.
    leading = magnitude << ((32 - length) & 31)
    kept = shift_right_unsigned(leading, 8)
    dropped = leading & 0xFF
    above = (dropped > 128) | (dropped.equals(128) & (kept & 1).equals(1))
    field = (length + (_FLOAT_BIAS - 2 - LOGIT_FRACTION)) << _FLOAT_FRACTION
    rounded = kept + above.as_integer() + field
    return select(value.equals(0), number(0), rounded | sign)


@register_kernel(IntegerLinear)
def integer_linear(nest: Nest, op: Any, target: Any) -> None:
    """64-bit sums of `w (x - z)`, brought to 16 fraction bits, plus the bias."""
    (classes, features), fraction = shape_of(op.w), op.fraction.value
    scale, zero = quantization(op.x)
    x, w, bias = nest.read(op.x, flat(op.x)), nest.read(op.w), nest.read(op.bias)
    y, shift = nest.write(op.y, (classes,)), logit_shift(features)
    factor = scale * 2.0 ** (LOGIT_FRACTION + shift - fraction)
    for k in nest.loop(classes):

        def add_product(total: Scalar, c: Index, k: Index = k) -> Scalar:
            return total + w[k, c].as_wide() * (x[c] - zero).as_wide()

        total = nest.fold((features,), nest.wide(0), add_product)
        logit = _requantize(nest, round_shift(total, shift), factor)
        logit = logit + round_shift(bias[k].as_wide(), fraction - LOGIT_FRACTION)
        y[k] = clamp(logit, -LOGIT_LIMIT, LOGIT_LIMIT).as_integer()


@register_kernel(IntegerLinearInputGrad)
def integer_linear_input_grad(nest: Nest, op: Any, target: Any) -> None:
    """`sum_k w[k, c] g[k]` in 64 bits; one walk finds their width, a second one stores."""
    core, (classes, features) = primitives_of(target), shape_of(op.w)
    g, w, header = nest.read(op.g, flat(op.g)), nest.read(op.w), nest.read(op.g_header)
    result = Result(nest, core, op)

    def total_of(c: Index) -> Scalar:
        def add_product(total: Scalar, k: Index) -> Scalar:
            return total + w[k, c].as_wide() * g[k].as_wide()

        return nest.fold((classes,), nest.wide(0), add_product)

    def add_bits(used: Scalar, c: Index) -> Scalar:
        total = total_of(c)
        return used | (total ^ (total << 1))

    used = nest.fold((features,), nest.wide(0), add_bits)
    shift = maximum(wide_bit_length(used) - MANTISSA_BITS, 0)
    wide = shift.as_wide()
    half = (nest.wide(1) << wide) >> 1
    for c in nest.loop(features):
        mantissa = clamp((total_of(c) + half) >> wide, -(2**15), 2**15 - 1).as_integer()
        (result.start + nest.index(c).as_integer() * 2).store(mantissa, "i16")
    result.finish(header[EXPONENT] - op.fraction.value + shift)


class _Exponentials:
    """`exp(logit - max)` of each class in fixed point, see `block_float.exponentials`."""

    def __init__(self, nest: Nest, logits: Buffer) -> None:
        self._nest, self._logits = nest, logits
        self.classes = logits.shape[0]
        self.fraction = exponential_fraction(self.classes)
        span = Span(1, self.classes)
        self.largest = nest.fold((span,), logits[0], lambda top, k: maximum(logits[k], top))

    def __getitem__(self, k: Index) -> Scalar:
        difference = maximum(self._logits[k] - self.largest, LOWEST_DIFFERENCE)
        power = round_shift(difference.as_wide() * LOG2_E, LOGIT_FRACTION).as_integer()
        fraction = (power & ((1 << LOGIT_FRACTION) - 1)).as_wide()
        value = self._nest.wide(EXP2_COEFFICIENTS[-1])
        for coefficient in reversed(EXP2_COEFFICIENTS[:-1]):
            value = ((value * fraction) >> LOGIT_FRACTION) + coefficient
        lost = EXPONENTIAL_FRACTION - self.fraction
        return value.as_integer() >> minimum(lost - (power >> LOGIT_FRACTION), 31)

    def fold(self, initial: Any, body: Callable[[Any, Index, Scalar], Any]) -> Any:
        """Carry `initial` through `body(carried, k, exponential)`."""
        return self._nest.fold((self.classes,), initial, lambda c, k: body(c, k, self[k]))

    def total(self) -> Scalar:
        """The sum over the classes; 31 bits."""
        return self.fold(number(0), lambda total, _, value: total + value)


def _log2(nest: Nest, value: Scalar) -> Scalar:
    """`block_float.log2` of a positive `i32`: one squaring a bit."""
    whole = bit_length(value) - 1
    mantissa = value << (EXPONENTIAL_FRACTION - whole)

    def add_bit(state: tuple[Scalar, Scalar], _: Index) -> tuple[Scalar, Scalar]:
        result, root = state
        square = (root.as_wide() * root.as_wide()) >> EXPONENTIAL_FRACTION
        low = square.as_integer()
        # 32 bits without sign: the top one says that the square reached two.
        above = shift_right_unsigned(low, EXPONENTIAL_FRACTION + 1)
        return (result << 1) + above, shift_right_unsigned_by(low, above)

    result, _ = nest.fold((LOGIT_FRACTION,), (whole, mantissa), add_bit)
    return result


def shift_right_unsigned_by(value: Scalar, bit: Scalar) -> Scalar:
    """`value >> bit` without sign, for a `bit` of 0 or 1."""
    return select(bit.equals(0), value, shift_right_unsigned(value, 1))


@register_kernel(IntegerSoftmaxCrossEntropy)
def integer_softmax_cross_entropy(nest: Nest, op: Any, target: Any) -> None:
    """`ln(sum of exponentials) - (logit of the label - max)`."""
    logits, label = nest.read(op.logits, flat(op.logits)), nest.read(op.label)
    loss = nest.write(op.loss)
    powers, chosen = _Exponentials(nest, logits), label[()]

    # The label is compared with every class and never used as an address: it cannot reach outside.
    def pick(picked: Scalar, k: Index) -> Scalar:
        return select(nest.index(k).as_integer().equals(chosen), logits[k], picked)

    picked = nest.fold((powers.classes,), powers.largest, pick)
    log = _log2(nest, powers.total()) - (powers.fraction << LOGIT_FRACTION)
    natural = round_shift(log.as_wide() * LN_2, LOGIT_FRACTION).as_integer()
    loss[()] = natural - (picked - powers.largest)


@register_kernel(IntegerSoftmaxCrossEntropyGrad)
def integer_softmax_cross_entropy_grad(nest: Nest, op: Any, target: Any) -> None:
    """Exponentials, the label's less their sum, by one reciprocal of 16 bits."""
    logits, label = nest.read(op.logits, flat(op.logits)), nest.read(op.label)
    result = Result(nest, primitives_of(target), op)
    powers, chosen = _Exponentials(nest, logits), label[()]
    total = powers.total()

    def less_label(k: Index, value: Scalar) -> Scalar:
        return select(nest.index(k).as_integer().equals(chosen), value - total, value)

    def add_bits(used: Scalar, k: Index, value: Scalar) -> Scalar:
        wide = less_label(k, value)
        return used | (wide ^ (wide << 1))

    shift = maximum(bit_length(powers.fold(number(0), add_bits)), 1)
    drop = bit_length(total) - MANTISSA_BITS
    reciprocal = (number(-(2**31)) // (total >> drop)).as_wide()  # 2^31, read without sign
    for k in nest.loop(powers.classes):
        product = less_label(k, powers[k]).as_wide() * reciprocal
        mantissa = clamp(rounding_shift(nest, product, shift), -(2**15), 2**15 - 1)
        (result.start + nest.index(k).as_integer() * 2).store(mantissa.as_integer(), "i16")
    result.finish(shift - 31 - drop)
