"""Attribute constraints and builders: dense arrays of integers, dense vectors of constants."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_dialect.bindings import ir


class DenseArray(ir.Attribute):
    """`array<i64: ...>` as a field constraint (the bindings' own class carries no name)."""

    attr_name = "builtin.dense_array"


class DenseElements(ir.Attribute):
    """`dense<...> : tensor<...>` as a field constraint."""

    attr_name = "builtin.dense_typed_elements"


def integers(values: Sequence[int]) -> Any:
    """`array<i64: values>`."""
    return ir.DenseI64ArrayAttr.get([int(value) for value in values])


def integer(value: int) -> Any:
    """`value : i64`."""
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def string(value: str) -> Any:
    """A string attribute."""
    return ir.StringAttr.get(value)


def real(value: float) -> Any:
    """`value : f32`."""
    return ir.FloatAttr.get(ir.F32Type.get(), value)


def dense(values: Any) -> Any:
    """`dense<values>` of the array's own shape and element type (int8/16/32, float32/64)."""
    array = np.ascontiguousarray(values)
    shape = list(array.shape)
    if array.dtype == np.int8:
        element = ir.IntegerType.get_signless(8)
    elif array.dtype == np.int16:
        element = ir.IntegerType.get_signless(16)
    elif array.dtype == np.int32:
        element = ir.IntegerType.get_signless(32)
    elif array.dtype == np.float32:
        element = ir.F32Type.get()
    elif array.dtype == np.float64:
        element = ir.F64Type.get()
    else:
        raise TypeError(f"no dense attribute for {array.dtype}")
    return ir.DenseElementsAttr.get(array, type=element, shape=shape)


def to_array(attribute: Any) -> Any:
    """The NumPy array of a dense attribute, splats expanded."""
    if attribute.is_splat:
        value = np.array(attribute.get_splat_value().value)
        shape = tuple(attribute.type.shape)
        from tiny_dialect.types import numpy_type

        return np.full(shape, value, numpy_type(attribute.type))
    return np.array(attribute)


def to_list(attribute: Any) -> list[int]:
    """The integers of `array<i64: ...>`; any other element width is a `TypeError`."""
    if not isinstance(attribute, ir.DenseI64ArrayAttr):
        raise TypeError(f"expected array<i64: ...>, got {attribute}")
    return list(attribute)
