"""Meaning of the ops between layers; each function takes the op and its operand arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_list
from tiny_dialect.fixed_point import quantize_multiplier
from tiny_dialect.fixed_point import requantize as rescale
from tiny_dialect.semantics.forward import clamp_with_mask
from tiny_dialect.types import quantization, shape_of

Array = NDArray[Any]


def requantize(op: Any, x: Array) -> list[Array]:
    """Rescaled by a Q31 multiplier, rounded once, clamped."""
    (scale_x, zero_x), (scale_y, zero_y) = (
        quantization(op.operands[0]),
        quantization(op.results[0]),
    )
    scaled = rescale(x.astype(np.int64) - zero_x, *quantize_multiplier(scale_x / scale_y))
    return clamp_with_mask(op, scaled + zero_y)


def pad(op: Any, x: Array) -> list[Array]:
    """The zero point around the image."""
    top, left, bottom, right = to_list(op.attributes["pads"])
    _, zero = quantization(op.operands[0])
    widths = ((0, 0), (top, bottom), (left, right), (0, 0))
    return [np.pad(x, widths, constant_values=zero)]


def reshape(op: Any, x: Array) -> list[Array]:
    """A copy in another shape."""
    return [x.reshape(shape_of(op.results[0])).copy()]
