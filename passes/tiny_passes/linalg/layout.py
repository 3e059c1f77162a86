"""Rules of the ops between layers: another quantization, a border, another shape."""

from typing import Any

from tiny_dialect.attributes import to_list
from tiny_dialect.fixed_point import quantize_multiplier
from tiny_dialect.types import quantization, shape_of
from tiny_passes.linalg.convolution import pad_spatial
from tiny_passes.linalg.forward import as_list, clamp_with_mask, result_elements
from tiny_passes.linalg.scalars import Scalar
from tiny_passes.linalg.tensors import elementwise
from tiny_passes.linalg.tensors import reshape as reshaped


def requantize(op: Any, x: Any) -> list[Any]:
    """Rescaled with one rounding in 64 bits, clamped."""
    (scale_x, zero_x), (scale_y, zero_y) = (
        quantization(op.operands[0]),
        quantization(op.results[0]),
    )
    multiplier, shift = quantize_multiplier(scale_x / scale_y)

    def body(value: Scalar) -> Any:
        scaled = ((value.to("i64") - zero_x) * multiplier + (1 << (shift - 1))) >> shift
        return clamp_with_mask(op, scaled + zero_y)

    return as_list(elementwise([x], result_elements(op), body))


def pad(op: Any, x: Any) -> list[Any]:
    """The zero point around the image."""
    top, left, bottom, right = to_list(op.attributes["pads"])
    return [pad_spatial(x, (top, left, bottom, right), quantization(op.operands[0])[1])]


def reshape(op: Any, x: Any) -> list[Any]:
    """The same elements in another shape."""
    return [reshaped(x, shape_of(op.results[0]))]
