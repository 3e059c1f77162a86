"""Rules of the integer updates: each returns the new value of the parameter's storage."""

from typing import Any

from tiny_dialect.attributes import to_list
from tiny_dialect.block_float import BYTE_FRACTION, HEAD_ALIGN, PRODUCT_SHIFT
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.rounding import WORD_BITS
from tiny_dialect.semantics.update import BIAS_LIMIT
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_passes.linalg.block_float import real_multipliers, step_multipliers
from tiny_passes.linalg.convolution import convolve_weight_gradient, pad_for
from tiny_passes.linalg.scalars import Scalar
from tiny_passes.linalg.tensors import (
    channel_sums,
    dims,
    elementwise,
    empty,
    flatten,
    gather,
    generic,
)
from tiny_passes.linalg.update import random_key, random_word

_RANGES = {
    "i8": (-128, 127),
    "i16": (-(2**15), 2**15 - 1),
    "i32": (-BIAS_LIMIT, BIAS_LIMIT),
}


def _step(acc: Scalar, multiplier: Scalar, align: int) -> Scalar:
    """`(acc << align) * K + 2^31 >> 32` in i64."""
    product = acc.to("i64") * (1 << align) * multiplier
    return (product + (1 << (PRODUCT_SHIFT - 1))) >> PRODUCT_SHIFT


def _moved(old: Scalar, step: Scalar, element: str) -> Scalar:
    """`old - step` within the range of the storage."""
    low, high = _RANGES[element]
    inside = (old.to("i64") - step).at_most(high).at_least(low).to(element)
    return step.compare("eq", 0).select(old, inside)


def _apply(op: Any, parameter: Any, total: Any, g_header: Any, rate: Any, align: int) -> Any:
    """`parameter - step`, as its storage demands."""
    element = element_name(parameter)
    if element == "f32":
        return _apply_real(op, parameter, total, g_header, rate)
    multipliers = step_multipliers(op, g_header, rate, align)

    def body(old: Scalar, acc: Scalar, k: Scalar) -> Scalar:
        step = _step(acc, k, align)
        if element == "i8":
            step = (step + (1 << (BYTE_FRACTION - 1))) >> BYTE_FRACTION
        return _moved(old, step, element)

    return elementwise([parameter, total, multipliers], [element], body, channel_first=True)


def _apply_real(op: Any, parameter: Any, total: Any, g_header: Any, rate: Any) -> Any:
    """`parameter - float(total) * k`."""
    multipliers = real_multipliers(op, g_header, rate)

    def body(old: Scalar, acc: Scalar, k: Scalar) -> Scalar:
        return acc.compare("eq", 0).select(old, old - acc.to("f32") * k)

    return elementwise([parameter, total, multipliers], ["f32"], body, channel_first=True)


def _sums(op: Any, parameter: Any, x: Any, g: Any) -> Any:
    """The weight gradient of the mantissas, i32."""
    _, zero = quantization(op.x)
    geo, shape = geometry(op), shape_of(parameter)
    if "output_channels" in op.attributes:
        g = gather(g, 3, to_list(op.attributes["output_channels"]))
    centred = elementwise([x], ["i32"], lambda q: q.to("i32") - zero)
    wide = elementwise([g], ["i32"], lambda value: value.to("i32"))
    return convolve_weight_gradient(pad_for(centred, geo, shape, 0), wide, geo, shape)


def integer_conv2d_weight_update(
    op: Any, parameter: Any, x: Any, g: Any, g_header: Any, rate: Any
) -> Any:
    """The weight gradient of the mantissas, stepped into the weight."""
    align = op.attributes["align"].value
    return _apply(op, parameter, _sums(op, parameter, x, g), g_header, rate, align)


def integer_stochastic_conv2d_weight_update(
    op: Any, parameter: Any, x: Any, g: Any, g_header: Any, rate: Any, counter: Any
) -> Any:
    """The same, with a step rounded up with a probability of its fraction."""
    align, shape, key = op.attributes["align"].value, shape_of(parameter), random_key(op, counter)
    multipliers = step_multipliers(op, g_header, rate, align)

    def body(old: Scalar, acc: Scalar, k: Scalar, base: Scalar) -> Scalar:
        word = random_word(base, shape)
        chance = word.shift_right_unsigned(WORD_BITS - BYTE_FRACTION).to("i64")
        return _moved(old, (_step(acc, k, align) + chance) >> BYTE_FRACTION, "i8")

    operands = [parameter, _sums(op, parameter, x, g), multipliers, key]
    return elementwise(operands, ["i8"], body, channel_first=True)


def integer_bias_update(op: Any, parameter: Any, g: Any, g_header: Any, rate: Any) -> Any:
    """The channel sums of the mantissas, stepped into the bias."""
    align = op.attributes["align"].value
    return _apply(op, parameter, channel_sums(g, "i32"), g_header, rate, align)


def integer_linear_weight_update(
    op: Any, parameter: Any, x: Any, g: Any, g_header: Any, rate: Any
) -> Any:
    """The outer product of the mantissas and the centred input, stepped into the head."""
    _, zero = quantization(op.x)
    k, c = dims(2)
    products = generic(
        [(flatten(g), [k]), (flatten(x), [c])],
        [(empty(shape_of(parameter), "i32"), [k, c])],
        "pp",
        lambda gradient, value, _: gradient.to("i32") * (value.to("i32") - zero),
    )
    return _apply(op, parameter, products, g_header, rate, HEAD_ALIGN)
