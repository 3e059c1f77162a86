"""Meaning of the fixed-point head: exact integers but for the conversion to float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.block_float import (
    LN_2,
    LOGIT_FRACTION,
    LOGIT_LIMIT,
    MANTISSA_BITS,
    Int64s,
    exponential_fraction,
    exponentials,
    log2,
    logit_shift,
    round_shift,
    saturate,
    width_of,
)
from tiny_dialect.fixed_point import quantize_multiplier, requantize
from tiny_dialect.semantics.integer_backward import with_header
from tiny_dialect.types import quantization, shape_of

Array = NDArray[Any]


def dequantize_fixed(op: Any, x: Array) -> list[Array]:
    """`(x - z) * s` with 16 fraction bits, rounded once."""
    scale, zero = quantization(op.operands[0])
    multiplier, shift = quantize_multiplier(scale * 2.0**LOGIT_FRACTION)
    return [requantize(x.astype(np.int64) - zero, multiplier, shift).astype(np.int32)]


def fixed_to_float(op: Any, x: Array) -> list[Array]:
    """`x * 2^-16` in float32."""
    return [np.asarray(x.astype(np.float32) * np.float32(2.0**-LOGIT_FRACTION), np.float32)]


def integer_linear(op: Any, x: Array, w: Array, bias: Array) -> list[Array]:
    """The fixed-point linear layer."""
    scale, zero = quantization(op.operands[0])
    fraction = op.attributes["fraction"].value
    pre_shift = logit_shift(x.size)
    sums = w.astype(np.int64) @ (x.reshape(-1).astype(np.int64) - zero)
    factor = quantize_multiplier(scale * 2.0 ** (LOGIT_FRACTION + pre_shift - fraction))
    logits = requantize(round_shift(sums, pre_shift), *factor)
    logits = logits + round_shift(bias, fraction - LOGIT_FRACTION)
    limited = np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)
    return [limited.astype(np.int32).reshape(shape_of(op.results[0]))]


def integer_linear_input_grad(op: Any, g: Array, g_header: Array, w: Array) -> list[Array]:
    """`g @ w` in 64 bits, normalized into i16."""
    sums = g.reshape(-1).astype(np.int64) @ w.astype(np.int64)
    shift = max(width_of(sums) - MANTISSA_BITS, 0)
    exponent = int(g_header[0]) - op.attributes["fraction"].value + shift
    return with_header(op, saturate(round_shift(sums, shift), MANTISSA_BITS), exponent)


def _wide(logits: Array) -> Int64s:
    return logits.reshape(-1).astype(np.int64)


def integer_softmax_cross_entropy(op: Any, logits: Array, label: Array) -> list[Array]:
    """`ln(sum of exponentials) - (logit of the label - max)`."""
    wide = _wide(logits)
    total = int(exponentials(wide).sum())
    log = log2(total) - (exponential_fraction(len(wide)) << LOGIT_FRACTION)
    natural = int(round_shift(log * LN_2, LOGIT_FRACTION))
    return [np.array(natural - int(wide[int(label)] - wide.max()), np.int32)]


def integer_softmax_cross_entropy_grad(op: Any, logits: Array, label: Array) -> list[Array]:
    """Exponentials over their sum, the label's less one, by one reciprocal."""
    wide = exponentials(_wide(logits))
    total = int(wide.sum())
    wide[int(label)] -= total
    drop = total.bit_length() - MANTISSA_BITS
    reciprocal = 2**31 // (total >> drop)
    shift = max(width_of(wide), 1)
    mantissas = saturate(round_shift(wide * reciprocal, shift), MANTISSA_BITS)
    return with_header(op, mantissas, shift - 31 - drop)
