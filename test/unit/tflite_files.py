"""Builds small int8 TFLite files, as converters write them."""

from typing import Any

import flatbuffers
import numpy as np
import tflite

KINDS = {
    np.dtype(np.float32): tflite.TensorType.FLOAT32,
    np.dtype(np.int32): tflite.TensorType.INT32,
    np.dtype(np.uint8): tflite.TensorType.UINT8,
    np.dtype(np.int8): tflite.TensorType.INT8,
}
VERSIONS = {
    tflite.BuiltinOperator.RESHAPE: 1,
    tflite.BuiltinOperator.EXPAND_DIMS: 1,
    tflite.BuiltinOperator.SQUEEZE: 1,
    tflite.BuiltinOperator.CONV_2D: 3,
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: 3,
    tflite.BuiltinOperator.FULLY_CONNECTED: 4,
}
"""The first version of an operator that knows int8; 2 for others."""
SCALE, ZERO = 0.02, -7


def options(kind: str, **fields: Any) -> tuple[int, Any]:
    """(union type, writer) of builtin options; fields as in the schema."""

    def write(builder: Any) -> int:
        getattr(tflite, f"{kind}Start")(builder)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(builder, value)
        return getattr(tflite, f"{kind}End")(builder)

    return getattr(tflite.BuiltinOptions, kind), write


class TfliteFile:
    """Tensors and operators of a file under construction; tensors are numbers."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: list[dict[str, Any]] = []
        self.operators: list[tuple[int, list[int], list[int], Any]] = []

    def tensor(
        self,
        shape: Any,
        kind: Any,
        scale: Any = None,
        zero: Any = 0,
        data: Any = None,
        axis: int = 0,
    ) -> int:
        scales = None if scale is None else np.atleast_1d(np.asarray(scale, np.float32))
        zeros = None if scales is None else np.broadcast_to(zero, scales.shape).astype(np.int64)
        self.tensors.append(
            {
                "shape": list(shape), "kind": KINDS[np.dtype(kind)], "scales": scales,
                "zeros": zeros, "axis": axis, "data": data,
            }
        )  # fmt: skip
        return len(self.tensors) - 1

    def activation(self, shape: Any, scale: float = SCALE, zero: int = ZERO) -> int:
        return self.tensor(shape, np.int8, scale, zero)

    def constant(self, array: Any, scale: Any = None, axis: int = 0) -> int:
        array = np.asarray(array)
        return self.tensor(array.shape, array.dtype, scale, 0, array, axis)

    def weights(self, shape: Any, axis: int, per_channel: bool = True) -> tuple[int, Any]:
        array = self.rng.integers(-127, 128, shape).astype(np.int8)
        scales = self.rng.uniform(0.002, 0.01, shape[axis] if per_channel else 1)
        return self.constant(array, scales, axis), scales

    def bias(self, scales: Any, channels: int) -> int:
        array = self.rng.integers(-9000, 9000, channels).astype(np.int32)
        return self.constant(array, np.asarray(scales) * SCALE)

    def op(self, name: str, inputs: list[int], output: int, chosen: Any = None) -> int:
        self.operators.append((getattr(tflite.BuiltinOperator, name), inputs, [output], chosen))
        return output

    def build(self, source: int, result: int) -> bytes:
        """The bytes of the file."""
        builder = flatbuffers.Builder(1024)
        buffers = [self._buffer(builder, None)]
        tensors = []
        for number, tensor in enumerate(self.tensors):
            buffer = 0
            if tensor["data"] is not None:
                buffers.append(self._buffer(builder, tensor["data"]))
                buffer = len(buffers) - 1
            tensors.append(self._tensor(builder, tensor, f"tensor/{number}", buffer))
        codes = sorted({code for code, *_ in self.operators})
        operators = [self._operator(builder, codes, *operator) for operator in self.operators]
        graph = self._graph(builder, tensors, operators, source, result)
        code_tables = [self._code(builder, code) for code in codes]
        fields = [
            ("OperatorCodes", self._tables(builder, code_tables)),
            ("Subgraphs", self._tables(builder, [graph])),
            ("Buffers", self._tables(builder, buffers)),
        ]
        tflite.ModelStart(builder)
        tflite.ModelAddVersion(builder, 3)
        for name, offset in fields:
            getattr(tflite, f"ModelAdd{name}")(builder, offset)
        builder.Finish(tflite.ModelEnd(builder), b"TFL3")
        return bytes(builder.Output())

    def _tables(self, builder: Any, offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def _buffer(self, builder: Any, data: Any) -> int:
        vector = None
        if data is not None:
            builder.StartVector(1, data.nbytes, 16)
            raw = data.tobytes()
            builder.head -= len(raw)
            builder.Bytes[builder.head : builder.head + len(raw)] = raw
            vector = builder.EndVector()
        tflite.BufferStart(builder)
        if vector is not None:
            tflite.BufferAddData(builder, vector)
        return tflite.BufferEnd(builder)

    def _tensor(self, builder: Any, tensor: dict[str, Any], name: str, buffer: int) -> int:
        title = builder.CreateString(name)
        shape = builder.CreateNumpyVector(np.asarray(tensor["shape"], np.int32))
        quantization = None
        if tensor["scales"] is not None:
            scales = builder.CreateNumpyVector(tensor["scales"])
            zeros = builder.CreateNumpyVector(tensor["zeros"])
            tflite.QuantizationParametersStart(builder)
            tflite.QuantizationParametersAddScale(builder, scales)
            tflite.QuantizationParametersAddZeroPoint(builder, zeros)
            tflite.QuantizationParametersAddQuantizedDimension(builder, tensor["axis"])
            quantization = tflite.QuantizationParametersEnd(builder)
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        tflite.TensorAddType(builder, tensor["kind"])
        tflite.TensorAddBuffer(builder, buffer)
        tflite.TensorAddName(builder, title)
        if quantization is not None:
            tflite.TensorAddQuantization(builder, quantization)
        return tflite.TensorEnd(builder)

    def _operator(
        self, builder: Any, codes: list[int], code: int, inputs: Any, outputs: Any, chosen: Any
    ) -> int:
        reads = builder.CreateNumpyVector(np.asarray(inputs, np.int32))
        writes = builder.CreateNumpyVector(np.asarray(outputs, np.int32))
        table = None if chosen is None else chosen[1](builder)
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, codes.index(code))
        tflite.OperatorAddInputs(builder, reads)
        tflite.OperatorAddOutputs(builder, writes)
        if table is not None:
            tflite.OperatorAddBuiltinOptionsType(builder, chosen[0])
            tflite.OperatorAddBuiltinOptions(builder, table)
        return tflite.OperatorEnd(builder)

    def _code(self, builder: Any, code: int) -> int:
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(code, 127))
        tflite.OperatorCodeAddBuiltinCode(builder, code)
        tflite.OperatorCodeAddVersion(builder, VERSIONS.get(code, 2))
        return tflite.OperatorCodeEnd(builder)

    def _graph(
        self, builder: Any, tensors: list[int], operators: list[int], source: int, result: int
    ) -> int:
        listed = self._tables(builder, tensors)
        steps = self._tables(builder, operators)
        inputs = builder.CreateNumpyVector(np.asarray([source], np.int32))
        outputs = builder.CreateNumpyVector(np.asarray([result], np.int32))
        tflite.SubGraphStart(builder)
        tflite.SubGraphAddTensors(builder, listed)
        tflite.SubGraphAddInputs(builder, inputs)
        tflite.SubGraphAddOutputs(builder, outputs)
        tflite.SubGraphAddOperators(builder, steps)
        return tflite.SubGraphEnd(builder)


def spread(fan_in: int) -> float:
    """An output scale for which the results fill int8 and clamp now and then."""
    return float(np.sqrt(fan_in) * 74 * 74 * SCALE * 0.006 / 50)


SAME, VALID = 0, 1
RELU, RELU6 = 1, 3


def conv(file: TfliteFile, x: int, weight: Any, y: Any, padding: int = SAME, strides: Any = (1, 1),
         activation: int = 0, depthwise: bool = False) -> int:  # fmt: skip
    """CONV_2D or DEPTHWISE_CONV_2D; weights OHWI or 1HWC."""
    axis = 3 if depthwise else 0
    w, scales = file.weights(weight, axis)
    bias = file.bias(scales, weight[axis])
    fan_in = int(np.prod(weight)) // weight[axis]
    result = file.activation(y, spread(fan_in), -128 if activation else 9)
    shared = {"Padding": padding, "StrideH": strides[0], "StrideW": strides[1]}
    shared |= {"DilationHFactor": 1, "DilationWFactor": 1, "FusedActivationFunction": activation}
    if depthwise:
        multiplier = weight[3] // file.tensors[x]["shape"][3]
        chosen = options("DepthwiseConv2DOptions", DepthMultiplier=multiplier, **shared)
        return file.op("DEPTHWISE_CONV_2D", [x, w, bias], result, chosen)
    return file.op("CONV_2D", [x, w, bias], result, options("Conv2DOptions", **shared))


def fully_connected(file: TfliteFile, x: int, features: int, outputs: int) -> int:
    w, scales = file.weights((outputs, features), 0, per_channel=False)
    result = file.activation((1, outputs), spread(features), 4)
    chosen = options("FullyConnectedOptions", FusedActivationFunction=0)
    return file.op("FULLY_CONNECTED", [x, w, file.bias(scales, outputs)], result, chosen)
