"""Reads an ONNX file into its graph, with typed access to attributes and checked constants.

Needs the `onnx` package, which is imported when the first file is read.
"""

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidModel, InvalidOption

_MAX_ELEMENTS = 2**28
_FLOAT, _UINT8, _INT8, _INT32, _INT64 = 1, 2, 3, 6, 7
KINDS = {
    _FLOAT: np.dtype(np.float32),
    _UINT8: np.dtype(np.uint8),
    _INT8: np.dtype(np.int8),
    _INT32: np.dtype(np.int32),
    _INT64: np.dtype(np.int64),
}
"""The element types that are read, by their number in a file."""

_EXTERNAL = 1
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_TENSOR = 1, 2, 3, 4
_ATTRIBUTE_FLOATS, _ATTRIBUTE_INTS = 6, 7
DEFAULT_DOMAINS = ("", "ai.onnx")


def load_graph(data: bytes, source: str) -> Any:
    """The `GraphProto` in the bytes of a file; `InvalidModel` for a damaged one."""
    try:
        import onnx  # pyright: ignore[reportMissingImports]
        from google.protobuf.message import DecodeError  # pyright: ignore[reportMissingModuleSource]
    except ImportError as error:
        raise InvalidOption(
            "an ONNX model needs the onnx package: pip install 'tiny-training-compiler[onnx]'",
            source,
        ) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError) as error:
        raise InvalidModel("truncated or damaged ONNX file", source) from error
    if not model.HasField("graph") or not model.graph.node:
        raise InvalidModel("ONNX file without a graph", source)
    return model.graph


class Node:
    """A node of the graph with its attributes by name."""

    def __init__(self, index: int, proto: Any, source: str) -> None:
        self.index = index
        self.type = str(proto.op_type)
        self.inputs = tuple(str(name) for name in proto.input)
        self.outputs = tuple(str(name) for name in proto.output)
        self._attributes = {str(a.name): a for a in proto.attribute}
        self._source = source
        domain = str(proto.domain)
        if domain not in DEFAULT_DOMAINS:
            self.type = f"{domain}::{self.type}"
        title = f" {proto.name}" if proto.name else ""
        self.title = f"node {index} ({self.type}{title})"

    def fail(self, message: str) -> NoReturn:
        """Raise `InvalidModel` at this node."""
        raise InvalidModel(message, f"{self._source}:{self.title}")

    def _attribute(self, name: str, kind: int) -> Any | None:
        found = self._attributes.get(name)
        if found is not None and found.type != kind:
            self.fail(f"has an attribute {name} of another type than expected")
        return found

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        found = self._attribute(name, _ATTRIBUTE_INT)
        return default if found is None else int(found.i)

    def real(self, name: str, default: float) -> float:
        """A float attribute."""
        found = self._attribute(name, _ATTRIBUTE_FLOAT)
        return default if found is None else float(found.f)

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        found = self._attribute(name, _ATTRIBUTE_STRING)
        return default if found is None else found.s.decode("utf-8", "replace")

    def integers(self, name: str, default: Sequence[int] | None) -> list[int] | None:
        """A list of integers, or the default where the attribute is absent."""
        found = self._attribute(name, _ATTRIBUTE_INTS)
        if found is None:
            return None if default is None else list(default)
        return [int(number) for number in found.ints]

    def constant(self) -> NDArray[Any]:
        """What a Constant holds: a tensor, a number or a list of numbers."""
        kinds = {
            "value_int": (_ATTRIBUTE_INT, "i", np.int64),
            "value_ints": (_ATTRIBUTE_INTS, "ints", np.int64),
            "value_float": (_ATTRIBUTE_FLOAT, "f", np.float32),
            "value_floats": (_ATTRIBUTE_FLOATS, "floats", np.float32),
        }
        for name, (kind, field, element) in kinds.items():
            found = self._attribute(name, kind)
            if found is not None:
                value = getattr(found, field)
                return np.array(list(value) if field.endswith("s") else value, element)
        value = self.tensor("value")
        if value is None:
            self.fail("has no tensor and no number as its value, which is not supported")
        return value

    def tensor(self, name: str) -> NDArray[Any] | None:
        """A tensor attribute."""
        found = self._attribute(name, _ATTRIBUTE_TENSOR)
        return None if found is None else constant_of(found.t, f"{self._source}:{self.title}")


def constant_of(proto: Any, where: str) -> NDArray[Any]:
    """The elements of a `TensorProto`; `InvalidModel` at `where` for what cannot be read."""
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    shape = [int(size) for size in proto.dims]
    kind = KINDS.get(proto.data_type)
    if kind is None:
        raise InvalidModel(f"constant {proto.name!r} has data type {proto.data_type}", where)
    if proto.data_location == _EXTERNAL:
        raise InvalidModel(
            f"constant {proto.name!r} lies in another file; save the model as one file", where
        )
    if any(size < 0 for size in shape) or math.prod(shape) > _MAX_ELEMENTS:
        raise InvalidModel(f"constant {proto.name!r} has shape {shape}", where)
    try:
        array = numpy_helper.to_array(proto)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise InvalidModel(f"constant {proto.name!r} is damaged: {error}", where) from error
    if array.dtype != kind or list(array.shape) != shape:
        raise InvalidModel(f"constant {proto.name!r} is damaged", where)
    return array


def input_shape(proto: Any, source: str) -> tuple[int, tuple[int, ...]]:
    """(data type, shape) of a graph input; a symbolic first axis is a batch of one."""
    where = f"{source}:input {proto.name}"
    tensor = proto.type.tensor_type
    if not tensor.HasField("shape"):
        raise InvalidModel("has no shape", where)
    shape: list[int] = []
    for axis, dimension in enumerate(tensor.shape.dim):
        size = int(dimension.dim_value) if dimension.HasField("dim_value") else 0
        if size < 1 and axis:
            name = dimension.dim_param or "?"
            raise InvalidModel(f"has no fixed size {name!r} on axis {axis}; export it fixed", where)
        shape.append(max(size, 1))
    return int(tensor.elem_type), tuple(shape)
