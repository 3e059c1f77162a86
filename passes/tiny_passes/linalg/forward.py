"""Rules of the forward ops; each takes the op and the lowered operands and returns its results.

A mask becomes an i8 tensor of 0 and 1.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.fixed_point import (
    ACCUMULATOR_LIMIT,
    paired_multipliers,
    quantize_multipliers,
)
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import quantization, shape_of
from tiny_passes.linalg.convolution import convolve, pad_for
from tiny_passes.linalg.elementary import exponential, logarithm
from tiny_passes.linalg.scalars import Scalar
from tiny_passes.linalg.tensors import (
    channel_sums,
    collapse,
    constant,
    dims,
    elementwise,
    expand,
    filled,
    gather,
    generic,
    loop_index,
    opaque,
    reshape,
    transpose,
    zeros,
)
from tiny_passes.linalg.weights import effective_weight

_RAW_PRODUCT = 128 * 128


def trained_channels(op: Any) -> list[int]:
    """The chosen channels of a partly trained convolution; empty where nothing is split."""
    return to_list(op.attributes["trained_channels"]) if "trained_channels" in op.attributes else []


def clamp_with_mask(op: Any, wide: Scalar) -> Any:
    """The int8 result and, where the op has a mask, whether the clamp changed nothing."""
    low, high = to_list(op.attributes["clamp"])
    clamped = wide.at_most(high).at_least(low).to("i8")
    if len(op.results) == 1:
        return clamped
    kept = wide.compare("ge", low) & wide.compare("le", high).to("i1")
    return clamped, kept.to("i8")


def result_elements(op: Any) -> list[str]:
    """The host element type of each result: values and masks are i8."""
    return ["i8"] * len(op.results)


def as_list(values: Any) -> list[Any]:
    """One value or several, as a list."""
    return values if isinstance(values, list) else [values]


def conv2d(op: Any, x: Any, w: Any, bias: Any, trained: Any | None = None) -> list[Any]:
    """Raw int8 products in 32 bits; bias and zero point of x enter as one constant a channel.

    `sum((x - z) w) + b = sum(x w) + (b - z sum(w))`: the padding holds z, so the correction is the
    same at the border. Where the sums are proven to fit 32 bits the correction is added there.
    """
    _, zero_x = quantization(op.operands[0])
    geo = geometry(op)
    weight = effective_weight(w, trained, trained_channels(op), geo.groups)
    taps = int(np.prod(shape_of(w)[1:]))
    frozen = _frozen(op.operands[1])
    if frozen is not None and taps > 1 and (frozen == frozen.flat[0]).all():
        weight = opaque(weight)
    wide = "i32" if taps * _RAW_PRODUCT <= ACCUMULATOR_LIMIT else "i64"
    sums = convolve(pad_for(x, geo, shape_of(w), zero_x), weight, geo, wide)
    correction, element = _correction(op, weight, bias, zero_x)
    return _requantized(op, sums, correction, element)


def _frozen(value: Any) -> Any | None:
    """The array of a frozen tiny.parameter operand, else None."""
    owner = value.owner
    if getattr(owner, "name", "") != "tiny.parameter" or "trained" in owner.attributes:
        return None
    return to_array(owner.attributes["value"])


def _correction(op: Any, weight: Any, bias: Any, zero: int) -> tuple[Any, str]:
    """`b - z sum(w)` for each channel, and the element type in which `sum(x w)` is completed."""
    frozen_w = _frozen(op.operands[1]) if len(op.operands) == 3 else None
    frozen_b = _frozen(op.operands[2])
    if frozen_w is not None and frozen_b is not None and frozen_w.dtype == np.int8:
        by_channel = frozen_w.astype(np.int64).reshape(frozen_w.shape[0], -1)
        correction = frozen_b.astype(np.int64) - zero * by_channel.sum(axis=1)
        bound = np.abs(correction) + 128 * np.abs(by_channel).sum(axis=1)
        if bound.max() <= ACCUMULATOR_LIMIT:
            return constant(correction.astype(np.int32)), "i32"
        return constant(correction), "i64"
    sums = channel_sums(transpose(weight, (1, 2, 3, 0)), "i64")
    return elementwise([bias, sums], ["i64"], lambda b, s: b.to("i64") - s * zero), "i64"


def _requantized(op: Any, sums: Any, correction: Any, element: str) -> list[Any]:
    """Q31 with one rounding in 64 bits, zero point, clamp."""
    scale_x, _ = quantization(op.operands[0])
    scale_y, zero_y = quantization(op.results[0])
    factors = scale_x * to_array(op.attributes["weight_scales"]) / scale_y
    multipliers, shifts = quantize_multipliers(factors)
    halves = np.int64(1) << (shifts.astype(np.int64) - 1)

    def body(total: Scalar, extra: Scalar, multiplier: Scalar, half: Scalar, shift: Scalar) -> Any:
        accumulator = (total.to(element) + extra).to("i64")
        rounded = (accumulator * multiplier.to("i64") + half) >> shift.to("i64")
        return clamp_with_mask(op, rounded + zero_y)

    operands = [sums, correction, constant(multipliers), constant(halves), constant(shifts)]
    return as_list(elementwise(operands, result_elements(op), body))


def add(op: Any, a: Any, b: Any) -> list[Any]:
    """Both operands rescaled on a common shift, summed, rounded once, clamped."""
    (scale_a, zero_a), (scale_b, zero_b) = map(quantization, op.operands)
    scale_y, zero_y = quantization(op.results[0])
    m_a, m_b, shift = paired_multipliers(scale_a / scale_y, scale_b / scale_y)

    def body(left: Scalar, right: Scalar) -> Any:
        total = (left.to("i64") - zero_a) * m_a + (right.to("i64") - zero_b) * m_b
        return clamp_with_mask(op, ((total + (1 << (shift - 1))) >> shift) + zero_y)

    return as_list(elementwise([a, b], result_elements(op), body))


def global_average_pool(op: Any, x: Any) -> list[Any]:
    """Mean of the raw values, half to even, in integers."""
    _, height, width, channels = shape_of(x)
    count = height * width

    def body(total: Scalar) -> Scalar:
        quotient = total // count
        twice = (total - quotient * count) * 2
        odd = (quotient & 1).compare("ne", 0)
        up = twice.compare("gt", count) | (twice.compare("eq", count) & odd)
        return (quotient + up.to("i32")).to("i8")

    means = elementwise([channel_sums(opaque(x), "i32")], ["i8"], body)
    return [expand(means, (1, 1, 1, channels))]


def gather_channels(op: Any, x: Any) -> list[Any]:
    """A copy of the chosen channels."""
    return [gather(x, 3, to_list(op.attributes["channels"]))]


def dequantize(op: Any, x: Any) -> list[Any]:
    """`(x - z) * s`, one float32 product."""
    scale, zero = quantization(op.operands[0])
    scale32 = float(np.float32(scale))
    return [elementwise([x], ["f32"], lambda q: (q.to("i32") - zero).to("f32") * scale32)]


def linear(op: Any, x: Any, w: Any, bias: Any) -> list[Any]:
    """`w @ x + bias` in float32."""
    classes, features = shape_of(w)
    k, c = dims(2)
    flat = collapse(x, (features,)) if len(shape_of(x)) > 1 else x
    sums = generic(
        [(w, [k, c]), (flat, [c])],
        [(zeros((classes,), "f32"), [k])],
        "pr",
        lambda weight, value, total: total + weight * value,
    )
    y = elementwise([sums, bias], ["f32"], lambda total, b: total + b)
    return [expand(y, (1, classes))]


def softmax_parts(logits: Any) -> tuple[Any, Any]:
    """(logits minus their maximum [K], the sum of their exponentials [])."""
    flat = reshape(logits, (int(np.prod(shape_of(logits))),))
    (k,) = dims(1)
    lowest = filled((), "f32", float(np.finfo(np.float32).min))
    top = generic([(flat, [k])], [(lowest, [])], "r", lambda value, best: value.at_least(best))
    shifted = elementwise([flat, top], ["f32"], lambda value, best: value - best)
    total = generic(
        [(shifted, [k])], [(zeros((), "f32"), [])], "r", lambda value, acc: acc + exponential(value)
    )
    return shifted, total


def softmax_cross_entropy(op: Any, logits: Any, label: Any) -> list[Any]:
    """`log(sum(exp(logits - max))) - (logits[label] - max)`."""
    shifted, total = softmax_parts(logits)
    (k,) = dims(1)

    def chosen(value: Scalar, wanted: Scalar, acc: Scalar) -> Scalar:
        return loop_index(0, "i32").compare("eq", wanted).select(value, acc)

    own = generic([(shifted, [k]), (label, [])], [(zeros((), "f32"), [])], "r", chosen)
    return [elementwise([total, own], ["f32"], lambda t, o: logarithm(t) - o)]
