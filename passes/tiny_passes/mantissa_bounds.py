"""How many bits a gradient's mantissas may have so that no 32-bit sum of its consumers overflows.

For mantissas of B bits, sign included, so of at most 2^(B-1):

    weight update over P pixels     P * max|x - z| * 2^(B-1)            < 2^31
    bias update over P pixels       P * 2^(B-1)                         < 2^31
    input gradient                  max_c sum_o |w[o, c]| * 2^(B-1)     < 2^31, rounding included

The weights of a frozen layer are known; a trained one may become 128 everywhere.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.block_float import MANTISSA_BITS, ceil_log2
from tiny_dialect.ops.convolution import geometry, trained_axis
from tiny_dialect.types import quantization, shape_of
from tiny_passes.graph import is_trained, producer

LARGEST_WEIGHT = 128
_LIMIT = 2**31 - 1


def gradient_pixels(g: Any) -> int:
    """The number of values of one channel."""
    return int(np.prod(shape_of(g)[:-1]))


def weight_update_bits(update: Any) -> int:
    """The bits that the sums of a `conv2d_weight_update` leave for its gradient."""
    return _bits_for(_largest_product_sum(update))


def weight_update_align(update: Any, bits: int) -> int:
    """The most that sums of a `conv2d_weight_update` over mantissas of `bits` can be shifted by."""
    return 31 - (_largest_product_sum(update) << (bits - 1)).bit_length()


def bias_update_bits(update: Any) -> int:
    """The bits that the sums of a `bias_update` leave for its gradient."""
    return _bits_for(gradient_pixels(update.g))


def input_gradient_bits(op: Any) -> int:
    """The bits that the sums of a `conv2d_input_grad` leave for its gradient."""
    total = largest_column(op)
    # Rounding adds half a unit of the shift, which is less than half of the largest sum.
    bits = _bits_for(total)
    while bits > 1 and total * 2 ** (bits - 1) + _half(result_shift(total, bits)) > _LIMIT:
        bits -= 1
    return bits


def result_shift(column: int, bits: int) -> int:
    """The least shift that brings every sum of an input gradient into an i16."""
    return max(0, ceil_log2(max(column, 1)) + bits - MANTISSA_BITS)


def largest_column(op: Any) -> int:
    """`max_c sum |w[o, kh, kw, c]|` of the weights of an input gradient, as large as they can get.

    For grouped weights o runs over the group of c.
    """
    groups = geometry(op).groups
    weight = _magnitudes(op.w)
    if op.trained is not None:
        index: list[Any] = [slice(None)] * 4
        index[trained_axis(groups, weight.shape)] = to_list(op.attributes["trained_channels"])
        weight = weight.copy()
        weight[tuple(index)] = LARGEST_WEIGHT
    by_group = weight.reshape(groups, -1, weight.shape[3])
    return int(by_group.sum(axis=1).max())


def _magnitudes(w: Any) -> NDArray[np.int64]:
    """The largest magnitude that each int8 weight can have."""
    parameter = producer(w)
    if parameter is None or is_trained(parameter) or "value" not in parameter.attributes:
        return np.full(shape_of(w), LARGEST_WEIGHT, np.int64)
    value = to_array(parameter.attributes["value"])
    return np.abs((value >> 8 if value.dtype == np.int16 else value).astype(np.int64))


def _largest_product_sum(update: Any) -> int:
    """`sum |x - z|` over the pixels of a gradient, as large as it can get."""
    _, zero = quantization(update.x)
    return gradient_pixels(update.g) * max(127 - zero, zero + 128)


def _bits_for(largest_sum: int) -> int:
    """The most bits B with `largest_sum * 2^(B-1) < 2^31`."""
    return (_LIMIT // max(largest_sum, 1)).bit_length()


def _half(shift: int) -> int:
    return (1 << shift) >> 1
