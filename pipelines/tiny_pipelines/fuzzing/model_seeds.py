"""Small valid model files of every format, made in code: odd channels, strides, a residual, pools.

Each is a few KiB and has most of what its importer reads.
"""

import io
import pickle
import zipfile
from typing import Any

import numpy as np

from tiny_pipelines.fuzzing.flatbuffer_writer import Scalar, Vector, flatbuffer
from tiny_pipelines.fuzzing.mcunet_writer import Record, convolution

_SCALE, _ZERO = 0.02, -7


def mcunet_file() -> bytes:
    """An MCUNet `.pkl`: two blocks, one with a residual; every optional part."""
    network: Record = {
        "first_conv": _mcunet_conv((2, 3), (9, 7), (5, 4), (3, 3), stride=2),
        "blocks": [_mcunet_block()],
        "feature_mix": _mcunet_conv((3, 6), (5, 4), (5, 4)),
        "classifier": _mcunet_conv((6, 4), 1, 1),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # A fixed date: the same seeds everywhere.
        entry = zipfile.ZipInfo("archive/data.pkl", (2022, 1, 1, 0, 0, 0))
        archive.writestr(entry, pickle.dumps(network, protocol=2))
    return buffer.getvalue()


def _mcunet_block() -> Record:
    size = (5, 4)
    quantization = {"x_scale": 0.05, "x_zero": 3, "y_scale": 0.05, "y_zero": 3}
    return {
        "pointwise1": _mcunet_conv((3, 7), size, size),
        "depthwise": _mcunet_conv((7, 7), size, size, (5, 3), depthwise=True),
        "pointwise2": _mcunet_conv((7, 3), size, size),
        "residual": {"in_channel": 3, "in_shape": size, "params": quantization},
        "se": None,
    }


def _mcunet_conv(
    channels: tuple[int, int],
    in_shape: Any,
    out_shape: Any,
    kernel: tuple[int, int] = (1, 1),
    stride: int = 1,
    depthwise: bool = False,
) -> Record:
    rng = np.random.default_rng(channels[1])
    shapes = in_shape, out_shape
    return convolution(rng, channels, shapes, kernel, stride, depthwise, scales=(0.05, 0.05))


def tiny_module() -> Any:
    """A module at the `model` stage, in the current context."""
    from tiny_pipelines.frontends.emitter import emit
    from tiny_pipelines.frontends.mcunet_pickle import read_network

    return emit(read_network(mcunet_file(), "seed", "seed"))


# Field numbers and codes are those of TensorFlow's schema.fbs.
_MAX_POOL, _CONV, _DEPTHWISE, _DENSE, _RESHAPE = 17, 3, 4, 9, 22
_OPERATORS = (_CONV, _DEPTHWISE, _MAX_POOL, _RESHAPE, _DENSE)
_INT8, _INT32 = 9, 2
_CONV_OPTIONS, _DEPTHWISE_OPTIONS, _POOL_OPTIONS, _DENSE_OPTIONS = 1, 2, 5, 8


class _Tflite:
    """Tensors, buffers and operators of a TFLite file under construction."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._buffers: list[dict[int, Any]] = [{}]
        self.tensors: list[dict[int, Any]] = []
        self.operators: list[dict[int, Any]] = []

    def tensor(self, shape: Any, kind: int, scales: Any, zero: int = 0, data: Any = None) -> int:
        number = 0
        if data is not None:
            self._buffers.append({0: Vector(np.frombuffer(data.tobytes(), np.uint8))})
            number = len(self._buffers) - 1
        scale = np.atleast_1d(np.asarray(scales, np.float32))
        axis = 3 if kind == _INT8 and len(scale) > 1 and shape[0] == 1 else 0
        quantization = {
            2: Vector(scale),
            3: Vector(np.full(len(scale), zero, np.int64)),
            6: Scalar("i", axis),
        }
        self.tensors.append(
            {
                0: Vector(np.asarray(shape, np.int32)),
                1: Scalar("b", kind),
                2: Scalar("I", number),
                3: f"tensor/{len(self.tensors)}",
                4: quantization,
            }
        )
        return len(self.tensors) - 1

    def weights(self, shape: tuple[int, ...], channels: int) -> tuple[int, int]:
        """(weights, biases) of a layer with `channels` results; one scale for a dense one."""
        scales = self._rng.uniform(0.002, 0.01, channels if len(shape) > 2 else 1)
        weight = self._rng.integers(-127, 128, shape).astype(np.int8)
        bias = self._rng.integers(-9000, 9000, channels).astype(np.int32)
        first = self.tensor(shape, _INT8, scales, 0, weight)
        return first, self.tensor((channels,), _INT32, scales * np.float32(_SCALE), 0, bias)

    def activation(self, shape: tuple[int, ...]) -> int:
        return self.tensor(shape, _INT8, _SCALE, _ZERO)

    def operator(
        self, code: int, inputs: tuple[int, ...], output: int, kind: int = 0, chosen: Any = None
    ) -> int:
        record: dict[int, Any] = {
            0: Scalar("I", _OPERATORS.index(code)),
            1: Vector(np.asarray(inputs, np.int32)),
            2: Vector(np.asarray([output], np.int32)),
        }
        if chosen is not None:
            record |= {3: Scalar("B", kind), 4: chosen}
        self.operators.append(record)
        return output

    def file(self, source: int, result: int) -> bytes:
        graph = {
            0: self.tensors,
            1: Vector(np.asarray([source], np.int32)),
            2: Vector(np.asarray([result], np.int32)),
            3: self.operators,
        }
        codes = [{0: Scalar("b", c), 2: Scalar("i", 3), 3: Scalar("i", c)} for c in _OPERATORS]
        root = {0: Scalar("I", 3), 1: codes, 2: [graph], 4: self._buffers}
        return flatbuffer(root, b"TFL3")


def tflite_file() -> bytes:
    """A TFLite file: convolution, depthwise, max-pool, reshape, fully connected."""
    made = _Tflite()
    source = made.activation((1, 7, 5, 3))
    step = {1: Scalar("i", 1), 2: Scalar("i", 1)}
    value = made.operator(
        _CONV, (source, *made.weights((4, 3, 3, 3), 4)), made.activation((1, 7, 5, 4)),
        _CONV_OPTIONS, {0: Scalar("b", 0), **step, 3: Scalar("b", 1)},
    )  # fmt: skip
    value = made.operator(
        _DEPTHWISE, (value, *made.weights((1, 3, 3, 4), 4)), made.activation((1, 7, 5, 4)),
        _DEPTHWISE_OPTIONS, {0: Scalar("b", 0), **step, 3: Scalar("i", 1), 4: Scalar("b", 0)},
    )  # fmt: skip
    window = {number: Scalar("i", 2) for number in (1, 2, 3, 4)}
    value = made.operator(
        _MAX_POOL, (value,), made.activation((1, 4, 3, 4)),
        _POOL_OPTIONS, {0: Scalar("b", 0), **window},
    )  # fmt: skip
    value = made.operator(_RESHAPE, (value,), made.activation((1, 48)))
    value = made.operator(
        _DENSE, (value, *made.weights((3, 48), 3)), made.activation((1, 3)),
        _DENSE_OPTIONS, {0: Scalar("b", 0)},
    )  # fmt: skip
    return made.file(source, value)


class _Onnx:
    """A QDQ graph under construction."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper  # pyright: ignore[reportMissingImports]

        self._helper, self._arrays = helper, numpy_helper
        self._rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._arrays.from_array(np.asarray(array), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def quantize(self, value: str) -> str:
        both = (self.constant(np.float32(_SCALE)), self.constant(np.uint8(128 + _ZERO)))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", value, *both), *both)

    def parameters(self, shape: tuple[int, ...]) -> tuple[str, str]:
        """(weights, biases), quantized a channel."""
        scales = self._rng.uniform(0.002, 0.01, shape[0]).astype(np.float32)
        found: list[str] = []
        for array, unit in (
            (self._rng.integers(-127, 128, shape).astype(np.int8), scales),
            (self._rng.integers(-900, 900, shape[0]).astype(np.int32), scales * np.float32(_SCALE)),
        ):
            inputs = (array, unit, np.zeros(shape[0], array.dtype))
            names = [self.constant(one) for one in inputs]
            found.append(self.node("DequantizeLinear", *names, axis=0))
        return found[0], found[1]

    def file(self, result: str) -> bytes:
        info = self._helper.make_tensor_value_info
        graph = self._helper.make_graph(
            self.nodes, "g", [info("x", 1, [1, 3, 6, 5])], [info(result, 1, [1, 3])], self.constants
        )
        opsets = [self._helper.make_opsetid("", 17)]
        made = self._helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return made.SerializeToString(deterministic=True)


def onnx_file() -> bytes:
    """A QDQ ONNX file; needs the `onnx` package."""
    made = _Onnx()
    value = made.quantize("x")
    value = made.node("Conv", value, *made.parameters((4, 3, 3, 3)), pads=[1, 1, 1, 1])
    value = made.quantize(made.node("Relu", value))
    value = made.node("Conv", value, *made.parameters((4, 1, 3, 3)), group=4, pads=[1, 1, 1, 1])
    value = made.quantize(value)
    value = made.quantize(made.node("GlobalAveragePool", value))
    value = made.node("Flatten", value, axis=1)
    value = made.quantize(made.node("Gemm", value, *made.parameters((3, 4)), transB=1))
    return made.file(value)
