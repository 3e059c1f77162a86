"""The files that some pages begin with: a user's own model, which the repository does not hold."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "unit"))


def tflite_model() -> bytes:
    """An int8 TFLite classifier of 12×10×3 images into 5 classes, as converters write it."""
    from tflite_files import RELU6, TfliteFile, conv, fully_connected, options

    file = TfliteFile()
    x = file.activation((1, 12, 10, 3))
    y = conv(file, x, (8, 3, 3, 3), (1, 6, 5, 8), strides=(2, 2), activation=RELU6)
    y = conv(file, y, (1, 3, 3, 8), (1, 6, 5, 8), activation=RELU6, depthwise=True)
    y = conv(file, y, (12, 1, 1, 8), (1, 6, 5, 12))
    axes = file.constant(np.array([1, 2], np.int32))
    mean = options("ReducerOptions", KeepDims=False)
    y = file.op("MEAN", [y, axes], file.activation((1, 12), 0.2, 3), mean)
    return file.build(x, fully_connected(file, y, 12, 5))


def float_onnx_model() -> bytes:
    """A float32 ONNX classifier of 3×12×10 images into 5 classes, as exporters write it."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> object:
        fan_in = int(np.prod(shape[1:])) or 1
        values = rng.normal(size=shape) / np.sqrt(fan_in)
        return numpy_helper.from_array(values.astype(np.float32), name)

    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], "stem", strides=[2, 2], **same),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "depthwise", group=8, **same),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "project"),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], "classifier", transB=1),
    ]
    weights = [
        tensor("w0", 8, 3, 3, 3), tensor("b0", 8), tensor("w1", 8, 1, 3, 3), tensor("b1", 8),
        tensor("w2", 12, 8, 1, 1), tensor("b2", 12), tensor("w3", 5, 12), tensor("b3", 5),
    ]  # fmt: skip
    kind = TensorProto.FLOAT
    x = helper.make_tensor_value_info("image", kind, [1, 3, 12, 10])
    y = helper.make_tensor_value_info("logits", kind, [1, 5])
    graph = helper.make_graph(nodes, "classifier", [x], [y], weights)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


MAKERS: Mapping[str, Callable[[], bytes]] = {
    "model.tflite": tflite_model,
    "float.onnx": float_onnx_model,
}


def make(name: str, folder: Path) -> None:
    """Write the input `name` into `folder`; raises `ImportError` without the packages it needs."""
    (folder / name).write_bytes(MAKERS[name]())
