"""QDQ ONNX against ONNX Runtime without optimisations: at most one unit a layer, stated a case."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the onnx package: pip install -e '.[onnx]'")

from onnx_files import SCALE, ZERO, QdqGraph, spread

from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidModel
from tiny_dialect.semantics import run
from tiny_dialect.types import quantization, shape_of
from tiny_passes.graph import find_function
from tiny_pipelines.frontends import format_of, import_bytes

Build = Callable[[QdqGraph, str], tuple[str, tuple[int, ...]]]
MOST_DIFFERING = 0.01
"""Of the values of one layer, at most so many may differ, and by one unit."""


def session(data: bytes) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime as the oracle")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def to_file_layout(image: np.ndarray, rank: int) -> np.ndarray:
    """NHWC as the file has it: channels first."""
    first = np.moveaxis(image, 3, 1)
    return first if rank == 4 else first.reshape(1, first.shape[1], -1)


def compare(
    data: bytes, shape: tuple[int, ...], samples: int = 4, channels_first: bool = True
) -> tuple[int, float]:
    """(largest difference in units, share of values that differ) over random inputs.

    `channels_first` is true of files whose images are; others have the order of the model.
    """
    oracle = session(data)
    rng = np.random.default_rng(0)
    differences = []
    with new_context():
        module = import_bytes(data, "m.onnx")
        function = find_function(module, "infer")
        argument = function.regions[0].blocks[0].arguments[0]
        scale, zero = quantization(argument)
        scale_y, zero_y = quantization(function.type.results[0])
        for _ in range(samples):
            image = rng.integers(-128, 128, shape_of(argument)).astype(np.int8)
            real = ((image.astype(np.float32) - zero) * np.float32(scale)).astype(np.float32)
            moved = channels_first and len(shape) > 2
            given = to_file_layout(real, len(shape)) if moved else real
            (want,) = oracle.run(None, {"x": given.reshape(shape)})
            units = np.rint(want / np.float32(scale_y)).astype(int) + zero_y
            (got,) = run(function, [image])
            if channels_first and want.ndim > 2:
                got = to_file_layout(got, want.ndim)
            differences.append(np.abs(got.reshape(want.shape).astype(int) - units))
    stacked = np.concatenate([d.reshape(-1) for d in differences])
    return int(stacked.max()), float((stacked > 0).mean())


def graph_of(build: Build, shape: Any, **options: Any) -> bytes:
    graph = QdqGraph(**options)
    output, output_shape = build(graph, graph.quantize("x", SCALE, ZERO))
    return graph.model(shape, output, output_shape)


def conv(
    weight: Any,
    x_shape: Any,
    y_shape: Any,
    after: str = "",
    per_channel: bool = True,
    **attributes: Any,
) -> Build:
    """A convolution, with an activation function or none."""

    def build(graph: QdqGraph, x: str) -> tuple[str, Any]:
        w, scales = graph.weights(weight, 0, per_channel)
        b = graph.bias(scales, SCALE, weight[0])
        y = graph.op("Conv", x, w, b, **attributes)
        if after == "Relu":
            y = graph.op("Relu", y)
        elif after == "Clip":
            y = graph.op("Clip", y, graph.constant(np.float32(0)), graph.constant(np.float32(6)))
        zero = -128 if after else 11
        return graph.quantize(y, spread(int(np.prod(weight[1:]))), zero), y_shape

    return build


def pool(kind: str, y_shape: Any, rescaled: bool = False, **attributes: Any) -> Build:
    def build(graph: QdqGraph, x: str) -> tuple[str, Any]:
        scale, zero = (SCALE * 0.6, 3) if rescaled else (SCALE, ZERO)
        return graph.quantize(graph.op(kind, x, **attributes), scale, zero), y_shape

    return build


def residual(graph: QdqGraph, x: str) -> tuple[str, Any]:
    other = graph.quantize(graph.op("Relu", x), 0.01137, -128)
    return graph.quantize(graph.op("Relu", graph.op("Add", other, x)), 0.03171, -128), (1, 5, 4, 3)


def gemm(transposed: bool) -> Build:
    def build(graph: QdqGraph, x: str) -> tuple[str, Any]:
        shape, axis = ((7, 60), 0) if transposed else ((60, 7), 1)
        w, scales = graph.weights(shape, axis)
        flat = graph.op("Flatten", x)
        y = graph.op("Gemm", flat, w, graph.bias(scales, SCALE, 7), transB=int(transposed))
        return graph.quantize(y, spread(60), 4), (1, 7)

    return build


def matmul(graph: QdqGraph, x: str) -> tuple[str, Any]:
    w, _ = graph.weights((60, 7), 1)
    flat = graph.op("Reshape", x, graph.constant(np.array([0, -1], np.int64)))
    bias = graph.constant((graph.rng.normal(size=7) * 0.5).astype(np.float32))
    y = graph.op("Add", graph.op("MatMul", flat, w), bias)
    return graph.quantize(y, spread(60), 4), (1, 7)


IMAGE, SIGNAL = (1, 5, 4, 3), (1, 3, 21)
CASES: dict[str, tuple[Build, tuple[int, ...]]] = {
    "conv": (conv((6, 5, 3, 3), IMAGE, (1, 6, 4, 3), pads=[1, 1, 1, 1]), IMAGE),
    "conv strided relu": (
        conv((7, 5, 3, 2), IMAGE, (1, 7, 2, 1), "Relu", strides=[2, 2], pads=[1, 0, 1, 0]),
        IMAGE,
    ),
    "conv relu6": (conv((6, 5, 1, 1), IMAGE, (1, 6, 4, 3), "Clip"), IMAGE),
    "conv per tensor": (conv((6, 5, 1, 1), IMAGE, (1, 6, 4, 3), "", False), IMAGE),
    "conv same": (
        conv((6, 5, 3, 2), IMAGE, (1, 6, 2, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
        IMAGE,
    ),
    "conv same, in front": (
        conv((6, 5, 3, 2), IMAGE, (1, 6, 2, 2), auto_pad="SAME_LOWER", strides=[2, 2]),
        IMAGE,
    ),
    "depthwise": (conv((5, 1, 3, 3), IMAGE, (1, 5, 4, 3), group=5, pads=[1, 1, 1, 1]), IMAGE),
    "conv in one dimension": (
        conv((4, 3, 5), SIGNAL, (1, 4, 9), "Relu", strides=[2], pads=[0, 0]),
        SIGNAL,
    ),
    "max pool": (
        pool("MaxPool", (1, 5, 2, 2), kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 1]),
        IMAGE,
    ),
    "max pool of windows that are not whole": (
        pool(
            "MaxPool",
            (1, 5, 3, 2),
            kernel_shape=[3, 2],
            strides=[2, 2],
            pads=[1, 0, 0, 0],
            ceil_mode=1,
        ),
        IMAGE,
    ),
    "average pool of windows that are not whole": (
        pool(
            "AveragePool",
            (1, 5, 3, 2),
            kernel_shape=[3, 2],
            strides=[2, 2],
            pads=[1, 0, 0, 0],
            ceil_mode=1,
        ),
        IMAGE,
    ),
    "average pool of windows that are not whole, with its pads": (
        pool(
            "AveragePool",
            (1, 5, 3, 2),
            kernel_shape=[3, 2],
            strides=[2, 2],
            pads=[1, 0, 0, 0],
            ceil_mode=1,
            count_include_pad=1,
        ),
        IMAGE,
    ),
    "max pool in one dimension": (
        pool("MaxPool", (1, 3, 7), kernel_shape=[3], strides=[3]),
        SIGNAL,
    ),
    "average pool": (
        pool("AveragePool", (1, 5, 4, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        IMAGE,
    ),
    "average pool with its pads": (
        pool(
            "AveragePool", (1, 5, 4, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
        ),
        IMAGE,
    ),
    "global average pool": (pool("GlobalAveragePool", (1, 5, 1, 1), rescaled=True), IMAGE),
    "global max pool": (pool("GlobalMaxPool", (1, 5, 1, 1)), IMAGE),
    "mean": (pool("ReduceMean", (1, 5, 4, 1), rescaled=True, axes=[3]), IMAGE),
    "rescaled max pool": (pool("MaxPool", (1, 5, 3, 2), rescaled=True, kernel_shape=[2, 2]), IMAGE),
    "residual": (residual, IMAGE),
    "gemm": (gemm(True), IMAGE),
    "gemm of plain weights": (gemm(False), IMAGE),
    "matmul": (matmul, IMAGE),
}


@pytest.mark.parametrize("kind", [np.uint8, np.int8], ids=["uint8", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_one_layer_differs_by_one_unit_at_most(name: str, kind: Any) -> None:
    build, shape = CASES[name]
    data = graph_of(build, shape, kind=kind, constants_as_nodes=kind == np.int8)
    assert format_of(data, "m") == "onnx"
    largest, share = compare(data, shape)
    # An average is rounded twice where its result has another scale.
    assert largest <= 1
    assert share <= (0.2 if "average" in name or name == "mean" else MOST_DIFFERING), share


def network(graph: QdqGraph, x: str) -> tuple[str, tuple[int, ...]]:
    """Convolutions, a residual, pools and a classifier behind a flattened image."""
    scale = SCALE

    def layer(x: str, weight: Any, after: str, **attributes: Any) -> str:
        nonlocal scale
        w, scales = graph.weights(weight)
        y = graph.op("Conv", x, w, graph.bias(scales, scale, weight[0]), **attributes)
        y = graph.op(after, y) if after else y
        scale = float(np.sqrt(np.prod(weight[1:])) * 74 * 74 * scale * 0.006 / 50)
        return graph.quantize(y, scale, -128 if after else 5)

    a = layer(x, (8, 3, 3, 3), "Relu", pads=[1, 1, 1, 1], strides=[2, 2])
    a_scale = scale
    b = layer(a, (8, 1, 3, 3), "Relu", pads=[1, 1, 1, 1], group=8)
    b = layer(b, (8, 8, 1, 1), "")
    scale = max(scale, a_scale) * 1.3
    c = graph.quantize(graph.op("Add", a, b), scale, 0)
    d = graph.quantize(graph.op("MaxPool", c, kernel_shape=[2, 2], strides=[2, 2]), scale, 0)
    w, scales = graph.weights((5, 8 * 3 * 4))
    flat = graph.op("Flatten", d)
    y = graph.op("Gemm", flat, w, graph.bias(scales, scale, 5), transB=1)
    scale = float(np.sqrt(96) * 74 * 74 * scale * 0.006 / 50)
    return graph.op("Softmax", graph.quantize(y, scale, 0)), (1, 5)


def test_network_gives_the_same_class() -> None:
    shape = (1, 3, 12, 15)
    data = graph_of(network, shape)
    oracle = session(data)
    rng = np.random.default_rng(3)
    with new_context():
        module = import_bytes(data, "m.onnx")
        function = find_function(module, "infer")
        assert shape_of(function.type.inputs[0]) == (1, 12, 15, 3)
        scale, _ = quantization(function.type.results[0])
        for _ in range(10):
            image = rng.integers(-128, 128, (1, 12, 15, 3)).astype(np.int8)
            real = ((image.astype(np.float32) - ZERO) * np.float32(SCALE)).astype(np.float32)
            (want,) = oracle.run(None, {"x": to_file_layout(real, 4)})
            (got,) = run(function, [image])
            logits = got.reshape(-1).astype(np.float64) * scale
            found = np.exp(logits - logits.max())
            np.testing.assert_allclose(found / found.sum(), want[0], atol=2.5 * scale)
            assert found.argmax() == want[0].argmax()


def test_trains_behind_a_max_pool() -> None:
    from tiny_pipelines.training import TrainingOptions, build_training_step

    data = graph_of(network, (1, 3, 12, 15))
    for gradients in ("float32", "int16"):
        with new_context():
            module = import_bytes(data, "m.onnx", classes=3)
            build_training_step(module, TrainingOptions("full", gradients=gradients))
            names = {op.operation.name for op in find_function(module, "train_step").body.blocks[0]}
        wanted = "tiny.max_pool2d_grad" if gradients == "float32" else "tiny.integer_pool2d_grad"
        assert wanted in names


def refused(build: Build, message: str, shape: Any = IMAGE) -> None:
    with new_context(), pytest.raises(InvalidModel, match=message) as caught:
        import_bytes(graph_of(build, shape), "m.onnx")
    assert "\n" not in str(caught.value)


def test_refuses_what_it_cannot_read_by_node() -> None:
    def unknown(graph: QdqGraph, x: str) -> Any:
        return graph.quantize(graph.op("Tanh", x), SCALE, ZERO), IMAGE

    refused(unknown, r"m.onnx:node \d+ \(Tanh /tanh_\d+\): is not supported; supported are Add, ")

    def asymmetric(graph: QdqGraph, x: str) -> Any:
        w = graph.constant(np.ones((4, 5, 1, 1), np.int8))
        scale, zero = graph.constant(np.float32(0.1)), graph.constant(np.int8(3))
        weights = graph.op("DequantizeLinear", w, scale, zero)
        return graph.quantize(graph.op("Conv", x, weights), 0.1, 0), (1, 4, 4, 3)

    refused(asymmetric, r"Conv /conv_\d+\): has asymmetric weights")

    def unrounded(graph: QdqGraph, x: str) -> Any:
        y = graph.op("GlobalAveragePool", x)
        return graph.quantize(graph.op("MaxPool", y, kernel_shape=[1, 1]), 0.1, 0), (1, 5, 1, 1)

    refused(unrounded, "a float result that no QuantizeLinear has rounded")

    def float_result(graph: QdqGraph, x: str) -> Any:
        return graph.op("GlobalAveragePool", x), (1, 5, 1, 1)

    refused(float_result, "is a float result: no QuantizeLinear follows the last op")

    def transposed(graph: QdqGraph, x: str) -> Any:
        y = graph.op("Transpose", x, perm=[0, 2, 1, 3])
        w, _ = graph.weights((4, 4, 1, 1))
        return graph.quantize(graph.op("Conv", y, w), 0.1, 0), (1, 4, 5, 3)

    refused(transposed, "the data would have to be transposed in memory")


def test_channels_last_input_behind_a_transpose() -> None:
    def build(graph: QdqGraph, x: str) -> Any:
        y = graph.op("Transpose", x, perm=[0, 3, 1, 2])
        w, _ = graph.weights((4, 3, 1, 1))
        return graph.quantize(graph.op("Conv", y, w), 0.1, 0), (1, 4, 5, 4)

    with new_context():
        module = import_bytes(graph_of(build, (1, 5, 4, 3)), "m.onnx")
        assert shape_of(find_function(module, "infer").type.inputs[0]) == (1, 5, 4, 3)
        assert "tiny.reshape" not in str(module)
