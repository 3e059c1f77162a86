"""What a TFLite file says, as plain records: tensors, operators and their options, all checked.

Field numbers are those of TensorFlow's `schema.fbs`. Constants are read when they are asked for.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.flatbuffer import Damaged, Table

IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of a file."""
FLOAT32, INT32, UINT8, INT64, INT8 = 0, 2, 3, 4, 9
TYPE_NAMES = (
    *("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64"),
    *("int8", "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4"),
    "bfloat16",
)
_DTYPES = {FLOAT32: "<f4", INT32: "<i4", UINT8: "<u1", INT64: "<i8", INT8: "<i1"}
_MAX_RANK = 8
_CUSTOM = 32
_MAX_ELEMENTS = 2**28

_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM
CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM
CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE
SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY
STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL
STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER
STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH
STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE
STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE
DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT
STABLEHLO_CBRT
"""
OPERATORS = tuple(_NAMES.split())
"""The builtin operators by their code."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: `scales`, `zero_points` and `dimension` are its quantization, `data` a constant."""

    index: int
    name: str
    shape: tuple[int, ...]
    kind: int
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    dimension: int
    data: NDArray[np.uint8]
    special: str
    """`sparse` or `variable` where the tensor is neither a plain constant nor a plain result."""

    @property
    def type_name(self) -> str:
        """The element type in words."""
        return TYPE_NAMES[self.kind] if 0 <= self.kind < len(TYPE_NAMES) else f"type {self.kind}"

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"tensor {self.index} ({self.name})"

    def constant(self) -> NDArray[Any]:
        """Its elements; raises `Damaged` where bytes and shape do not fit, or there are none."""
        form = _DTYPES.get(self.kind)
        if form is None:
            raise Damaged(f"{self.title} is a constant of type {self.type_name}")
        if self.data.nbytes != math.prod(self.shape) * np.dtype(form).itemsize:
            raise Damaged(f"{self.title} of shape {list(self.shape)} has {self.data.nbytes} bytes")
        return self.data.view(form).reshape(self.shape)


@dataclass(frozen=True)
class Operator:
    """An operator; an input of -1 is absent."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"operator {self.index} ({self.name})"

    def option(self, field: int, element: str, default: float = 0) -> Any:
        """A number among its options."""
        return default if self.options is None else self.options.number(field, element, default)


@dataclass(frozen=True)
class Graph:
    """The one subgraph of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_graph(data: bytes) -> Graph:
    """The graph of a file; raises `Damaged` for anything that is not one."""
    model = Table.root(data)
    subgraphs = model.tables(2)
    if len(subgraphs) != 1:
        raise Damaged(f"has {len(subgraphs)} subgraphs; expected one")
    buffers = [table.array(0, "u8") for table in model.tables(4)]
    names = [_operator_name(code) for code in model.tables(1)]
    graph = subgraphs[0]
    tensors = tuple(_tensor(index, table, buffers) for index, table in enumerate(graph.tables(0)))
    operators = tuple(
        _operator(index, table, names, len(tensors)) for index, table in enumerate(graph.tables(3))
    )
    inputs, outputs = (_indices(graph, field, len(tensors), 0) for field in (1, 2))
    return Graph(tensors, operators, inputs, outputs)


def _operator_name(code: Table) -> str:
    # Old files have only the first field, which ends at 127.
    number = max(code.number(0, "i8"), code.number(3, "i32"))
    if number == _CUSTOM:
        return f"custom operator {code.text(1)!r}"
    return OPERATORS[number] if 0 <= number < len(OPERATORS) else f"builtin operator {number}"


def _indices(table: Table, field: int, tensors: int, least: int) -> tuple[int, ...]:
    found = tuple(int(index) for index in table.array(field, "i32"))
    if any(not least <= index < tensors for index in found):
        raise Damaged(f"names tensors {list(found)[:8]}, but has {tensors}")
    return found


def _tensor(index: int, table: Table, buffers: list[NDArray[np.uint8]]) -> Tensor:
    shape = tuple(int(size) for size in table.array(0, "i32"))
    number = table.number(2, "u32")
    if number >= len(buffers):
        raise Damaged(f"tensor {index} names buffer {number}, but there are {len(buffers)}")
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape):
        raise Damaged(f"tensor {index} has shape {list(shape)[:_MAX_RANK]}")
    if math.prod(shape) > _MAX_ELEMENTS:
        raise Damaged(f"tensor {index} has too many elements: {list(shape)}")
    quantization = table.table(4)
    empty = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    scales, zeros, dimension = empty
    if quantization is not None:
        scales, zeros = quantization.array(2, "f32"), quantization.array(3, "i64")
        dimension = quantization.number(6, "i32")
    special = "sparse" if table.has(6) else "variable" if table.number(5, "u8") else ""
    kind = table.number(1, "i8")
    return Tensor(
        index, table.text(3), shape, kind, scales, zeros, dimension, buffers[number], special
    )


def _operator(index: int, table: Table, names: list[str], tensors: int) -> Operator:
    code = table.number(0, "u32")
    if code >= len(names):
        raise Damaged(f"operator {index} names operator code {code}, but there are {len(names)}")
    inputs, outputs = _indices(table, 1, tensors, -1), _indices(table, 2, tensors, 0)
    return Operator(index, names[code], inputs, outputs, table.table(4))
