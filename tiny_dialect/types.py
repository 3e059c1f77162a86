"""Tensor types: quantized activations, float gradients, masks; their shapes and storage bytes.

Every activation is NHWC with N = 1; a one-dimensional signal has H = 1.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.bindings import ir, load

_quant = load("dialects.quant")

Shape = tuple[int, ...]


def quantized(shape: Sequence[int], scale: float, zero_point: int) -> Any:
    """`tensor<shape x !quant.uniform<i8:f32, scale:zero_point>>`, int8 asymmetric, per tensor."""
    element = _quant.UniformQuantizedType.get(
        1, ir.IntegerType.get_signless(8), ir.F32Type.get(), scale, zero_point, -128, 127
    )
    return ir.RankedTensorType.get(list(shape), element)


def tensor(shape: Sequence[int], element: str) -> Any:
    """`tensor<shape x element>` for an element type in MLIR spelling: `i1 i8 i16 i32 f32 f64`."""
    return ir.RankedTensorType.get(list(shape), ir.Type.parse(element))


def shape_of(value_or_type: Any) -> Shape:
    """The static shape of a value or of a tensor type."""
    return tuple(_tensor_type(value_or_type).shape)


def _tensor_type(value_or_type: Any) -> Any:
    return value_or_type if isinstance(value_or_type, ir.Type) else value_or_type.type


def quantization(value_or_type: Any) -> tuple[float, int]:
    """(scale, zero point) of a quantized tensor; raises `TypeError` for any other type."""
    element = _tensor_type(value_or_type).element_type
    if not isinstance(element, _quant.UniformQuantizedType):
        raise TypeError(f"{_tensor_type(value_or_type)} is not quantized")
    return float(element.scale), int(element.zero_point)


def is_quantized(value_or_type: Any) -> bool:
    """True for tensors of `!quant.uniform` elements."""
    return isinstance(_tensor_type(value_or_type).element_type, _quant.UniformQuantizedType)


def element_name(value_or_type: Any) -> str:
    """The *storage* element type in MLIR spelling; `i8` for quantized tensors."""
    return "i8" if is_quantized(value_or_type) else str(_tensor_type(value_or_type).element_type)


NUMPY_TYPES = {
    "i1": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
}


def numpy_type(value_or_type: Any) -> np.dtype[Any]:
    """The NumPy dtype that holds one element."""
    return NUMPY_TYPES[element_name(value_or_type)]


def storage_bytes(value_or_type: Any) -> int:
    """Bytes of a tensor on the device; masks are packed to bits, each pixel padded to bytes."""
    shape = shape_of(value_or_type)
    if element_name(value_or_type) == "i1":
        return prod(shape[:-1]) * ((shape[-1] + 7) // 8)
    return prod(shape) * numpy_type(value_or_type).itemsize
