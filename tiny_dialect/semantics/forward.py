"""Meaning of the forward ops; each function takes the op and its operand arrays, in order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.fixed_point import (
    paired_multipliers,
    quantize_multipliers,
    requantize,
    rounding_shift,
)
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.semantics.convolution import convolve, effective_weight
from tiny_dialect.types import quantization, shape_of

Array = NDArray[Any]


def clamp_with_mask(op: Any, value: Array) -> list[Array]:
    """The clamped int8 value and, where the op has a mask, where the clamp changed nothing."""
    low, high = to_list(op.attributes["clamp"])
    clamped = np.clip(value, low, high)
    results: list[Array] = [clamped.astype(np.int8)]
    if len(op.results) == 2:
        results.append(clamped == value)
    return results


def trained_channels(op: Any) -> list[int]:
    """The chosen channels of a partly trained convolution; empty where nothing is split."""
    return to_list(op.attributes["trained_channels"]) if "trained_channels" in op.attributes else []


def parameter(op: Any) -> list[Array]:
    """The initial value; the interpreter replaces it by the state of a trained parameter."""
    return [to_array(op.attributes["value"])]


def conv2d(op: Any, x: Array, w: Array, bias: Array, trained: Array | None = None) -> list[Array]:
    """Exact integer convolution, Q31 requantization, clamp; the mask where the op has one."""
    scale_x, zero_x = quantization(op.operands[0])
    scale_y, zero_y = quantization(op.results[0])
    geo = geometry(op)
    weight = effective_weight(w, trained, trained_channels(op), geo.groups)
    sums = convolve(x.astype(np.int16) - zero_x, weight, geo)
    accumulator = np.rint(sums).astype(np.int64) + bias.astype(np.int64)
    factors = scale_x * to_array(op.attributes["weight_scales"]) / scale_y
    return clamp_with_mask(op, requantize(accumulator, *quantize_multipliers(factors)) + zero_y)


def add(op: Any, a: Array, b: Array) -> list[Array]:
    """Both operands rescaled on a common shift, summed, rounded once, clamped."""
    (scale_a, zero_a), (scale_b, zero_b) = (
        quantization(op.operands[0]),
        quantization(op.operands[1]),
    )
    scale_y, zero_y = quantization(op.results[0])
    m_a, m_b, shift = paired_multipliers(scale_a / scale_y, scale_b / scale_y)
    total = (a.astype(np.int64) - zero_a) * m_a + (b.astype(np.int64) - zero_b) * m_b
    return clamp_with_mask(op, rounding_shift(total, shift) + zero_y)


def global_average_pool(op: Any, x: Array) -> list[Array]:
    """Mean of the raw values, half to even, in integers."""
    count = x.shape[1] * x.shape[2]
    total = x.astype(np.int64).sum(axis=(1, 2), keepdims=True)
    quotient, remainder = total // count, total % count
    odd_tie = (2 * remainder == count) & (quotient % 2 != 0)
    return [(quotient + ((2 * remainder > count) | odd_tie)).astype(np.int8)]


def gather_channels(op: Any, x: Array) -> list[Array]:
    """A copy of the chosen channels."""
    return [np.ascontiguousarray(x[..., to_list(op.attributes["channels"])])]


def dequantize(op: Any, x: Array) -> list[Array]:
    """`(x - z) * s` with the scale rounded to float32, one float32 product."""
    scale, zero = quantization(op.operands[0])
    return [(x.astype(np.int32) - zero).astype(np.float32) * np.float32(scale)]


def linear(op: Any, x: Array, w: Array, bias: Array) -> list[Array]:
    """`w @ x + bias`."""
    y = w.astype(np.float64) @ x.reshape(-1).astype(np.float64) + bias
    return [y.astype(np.float32).reshape(shape_of(op.results[0]))]


def softmax_cross_entropy(op: Any, logits: Array, label: Array) -> list[Array]:
    """`log(sum(exp(logits - max))) - (logits[label] - max)`."""
    shifted = logits.reshape(-1).astype(np.float64)
    shifted = shifted - shifted.max()
    return [np.asarray(np.log(np.exp(shifted).sum()) - shifted[int(label)], np.float32)]
