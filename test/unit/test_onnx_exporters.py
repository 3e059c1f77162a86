"""ONNX graphs as exporters and quantizers write them, against ONNX Runtime.

What surrounds the layers: shapes computed in the graph, flags without effect, constants that are
quantized where they stand, activations behind the logits.
"""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the onnx package: pip install -e '.[onnx]'")

import onnx
from onnx import TensorProto, helper
from onnx_files import SCALE, ZERO, QdqGraph, spread
from test_onnx_import import IMAGE, MOST_DIFFERING, compare, graph_of, refused

from tiny_dialect.dialect import new_context
from tiny_dialect.types import quantization, shape_of
from tiny_passes.graph import find_function
from tiny_pipelines.frontends import import_bytes


def shape(graph: QdqGraph, *sizes: int) -> str:
    return graph.constant(np.array(sizes, np.int64))


def classifier(graph: QdqGraph, flat: str, features: int = 60) -> tuple[str, Any]:
    w, scales = graph.weights((7, features))
    y = graph.op("Gemm", flat, w, graph.bias(scales, SCALE, 7), transB=1)
    return graph.quantize(y, spread(features), 4), (1, 7)


def flattened_batch(graph: QdqGraph, x: str) -> tuple[str, Any]:
    """`x.view(x.size(0), -1)` of a batch that is not fixed."""
    axis, zero = shape(graph, 0), graph.constant(np.array(0, np.int64))
    size = graph.op("Unsqueeze", graph.op("Gather", graph.op("Shape", x), zero, axis=0), axis)
    wanted = graph.op("Concat", size, shape(graph, -1), axis=0)
    return classifier(graph, graph.op("Reshape", x, wanted))


def flattened_by_arithmetic(graph: QdqGraph, x: str) -> tuple[str, Any]:
    """The number of features as a product of sizes, which come as a slice of the shape."""
    sizes = graph.op("Slice", graph.op("Shape", x), shape(graph, 3), shape(graph, 0),
                     shape(graph, 0), shape(graph, -1))  # fmt: skip
    width, height, channels = (
        graph.op("Gather", sizes, graph.constant(np.array(i, np.int64)), axis=0) for i in range(3)
    )
    product = graph.op("Mul", graph.op("Mul", width, height), channels)
    half = graph.op("Div", product, graph.constant(np.array(1, np.int64)))
    wanted = graph.op("Concat", shape(graph, 1), graph.op("Reshape", half, shape(graph, 1)), axis=0)
    return classifier(graph, graph.op("Reshape", x, wanted))


def allowed_zero(graph: QdqGraph, x: str) -> tuple[str, Any]:
    return classifier(graph, graph.op("Reshape", x, shape(graph, 1, -1), allowzero=1))


def zero_pads(graph: QdqGraph, x: str) -> tuple[str, Any]:
    """`ZeroPad2d((1, 0, 0, 2))`: amounts of the last axis first, reversed in pairs."""
    zeros = graph.op("ConstantOfShape", shape(graph, 4),
                     value=helper.make_tensor("v", TensorProto.INT64, [1], [0]))  # fmt: skip
    pairs = graph.op("Reshape", graph.op("Concat", shape(graph, 1, 0, 0, 2), zeros, axis=0),
                     shape(graph, -1, 2))  # fmt: skip
    least = np.iinfo(np.int64).min + 1
    turned = graph.op("Slice", pairs, shape(graph, -1), shape(graph, least), shape(graph, 0),
                      shape(graph, -1))  # fmt: skip
    amounts = graph.op("Reshape", graph.op("Transpose", turned, perm=[1, 0]), shape(graph, -1))
    amounts = graph.op("Cast", amounts, to=TensorProto.INT64)
    value = graph.quantize(graph.constant(np.float32(0)), SCALE, ZERO)
    padded = graph.quantize(graph.op("Pad", x, amounts, value, mode="constant"), SCALE, ZERO)
    w, scales = graph.weights((4, 5, 3, 3))
    y = graph.op("Conv", padded, w, graph.bias(scales, SCALE, 4))
    return graph.quantize(y, spread(45), 4), (1, 4, 4, 2)


def constant_numbers(graph: QdqGraph, x: str) -> tuple[str, Any]:
    """A Constant that holds numbers, no tensor."""
    wanted = graph.op("Constant", value_ints=[1, -1])
    low, high = graph.op("Constant", value_float=-0.5), graph.op("Constant", value_float=0.75)
    x = graph.quantize(graph.op("Clip", x, low, high), SCALE, ZERO)
    return classifier(graph, graph.op("Reshape", x, wanted))


def float_weights(graph: QdqGraph, x: str) -> tuple[str, Any]:
    """Float weights behind QuantizeLinear and DequantizeLinear, then a transpose."""
    real = graph.constant(graph.rng.normal(0, 0.3, (7, 60)).astype(np.float32))
    scales = graph.rng.uniform(0.004, 0.01, 7).astype(np.float32)
    parameters = [graph.constant(scales), graph.constant(np.zeros(7, np.int8))]
    integers = graph.op("QuantizeLinear", real, *parameters, axis=0)
    w = graph.op("DequantizeLinear", integers, *parameters, axis=0)
    w = graph.op("Transpose", w, perm=[1, 0])
    bias = graph.constant((graph.rng.normal(size=7) * 0.5).astype(np.float32))
    y = graph.op("Add", bias, graph.op("MatMul", graph.op("Flatten", x), w))
    return graph.quantize(y, spread(60), 4), (1, 7)


def without_zero_points(graph: QdqGraph, x: str) -> tuple[str, Any]:
    """Zero points that are left out are 0 of the type in front of them."""
    array = graph.rng.integers(-127, 128, (4, 5, 1, 1)).astype(np.int8)
    scale = graph.constant(np.float32(0.006))
    w = graph.op("DequantizeLinear", graph.constant(array), scale)
    y = graph.op("Relu", graph.op("Conv", x, w))
    output = graph.constant(np.float32(spread(5)))
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", y, output), output), (1, 4, 4, 3)


def sequence(graph: QdqGraph, x: str) -> tuple[str, Any]:
    """A linear layer on each step of a sequence, its bias added behind, an asymmetric constant."""
    w, _ = graph.weights((6, 8), 1)
    scale = spread(6)
    y = graph.quantize(graph.op("MatMul", x, w), scale, 3)
    stored = graph.constant(graph.rng.integers(-128, 128, 8).astype(np.int8))
    bias = graph.op("DequantizeLinear", stored, graph.constant(np.float32(0.02)),
                    graph.constant(np.int8(17)))  # fmt: skip
    return graph.quantize(graph.op("Relu", graph.op("Add", bias, y)), scale, -128), (1, 20, 8)


def shifted_image(graph: QdqGraph, x: str) -> tuple[str, Any]:
    offset = graph.constant(graph.rng.normal(size=(5, 1, 1)).astype(np.float32))
    return graph.quantize(graph.op("Add", x, offset), SCALE * 1.3, 2), IMAGE


CASES = {
    "flattened batch": (flattened_batch, IMAGE),
    "flattened by arithmetic": (flattened_by_arithmetic, IMAGE),
    "allowed zero": (allowed_zero, IMAGE),
    "zero pads": (zero_pads, (1, 5, 4, 3)),
    "constant numbers": (constant_numbers, IMAGE),
    "float weights": (float_weights, IMAGE),
    "without zero points": (without_zero_points, IMAGE),
    "sequence": (sequence, (1, 20, 6)),
    "shifted image": (shifted_image, IMAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_differs_by_one_unit_at_most(name: str) -> None:
    build, given = CASES[name]
    largest, share = compare(graph_of(build, given), given, channels_first=build is not sequence)
    assert largest <= 1
    assert share <= 3 * MOST_DIFFERING, share  # two layers each


def test_sequence_has_its_last_axis_as_channels() -> None:
    with new_context():
        module = import_bytes(graph_of(sequence, (1, 20, 6)), "m.onnx")
        assert shape_of(find_function(module, "infer").type.inputs[0]) == (1, 1, 20, 6)


def test_batch_without_a_size_is_one() -> None:
    model = onnx.ModelProto()
    model.ParseFromString(graph_of(flattened_batch, IMAGE))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with new_context():
        module = import_bytes(model.SerializeToString(), "m.onnx")
        assert shape_of(find_function(module, "infer").type.results[0]) == (1, 1, 1, 7)


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax", "Sigmoid"])
@pytest.mark.parametrize("rounded", [True, False])
def test_activation_at_the_end_is_dropped(last: str, rounded: bool) -> None:
    """Quantizers round its result too; what is imported are the logits in front."""

    def build(graph: QdqGraph, x: str) -> tuple[str, Any]:
        logits, found = classifier(graph, graph.op("Flatten", x))
        y = graph.op(last, logits)
        return (graph.quantize(y, 1 / 256, -128) if rounded else y), found

    with new_context():
        module = import_bytes(graph_of(build, IMAGE), "m.onnx")
        scale, _ = quantization(find_function(module, "infer").type.results[0])
        assert scale == np.float32(spread(60))


def test_refuses_what_is_not_known_when_the_file_is_read() -> None:
    def joined(graph: QdqGraph, x: str) -> Any:
        return graph.quantize(graph.op("Concat", x, x, axis=1), SCALE, ZERO), (1, 10, 4, 3)

    refused(joined, r"\(Concat /concat_\d+\): is not supported; supported are Add, ")

    def huge(graph: QdqGraph, x: str) -> Any:
        zeros = graph.op("ConstantOfShape", shape(graph, 200, 200, 200))
        return graph.quantize(graph.op("Add", x, zeros), SCALE, ZERO), IMAGE

    refused(huge, "cannot be computed from its constants: its shape is .200, 200, 200.")

    def outside(graph: QdqGraph, x: str) -> Any:
        size = graph.op("Gather", graph.op("Shape", x), shape(graph, 9), axis=0)
        return classifier(graph, graph.op("Reshape", x, size))

    refused(outside, r"\(Gather /gather_\d+\): cannot be computed from its constants: index 9 ")

    def map_added(graph: QdqGraph, x: str) -> Any:
        offset = graph.constant(np.ones((4, 3), np.float32))
        return graph.quantize(graph.op("Add", x, offset), SCALE, ZERO), IMAGE

    refused(map_added, "adds a constant of shape .4, 3. to .1, 5, 4, 3.; expected one number, or")

    def activation_inside(graph: QdqGraph, x: str) -> Any:
        y = graph.quantize(graph.op("Sigmoid", x), 1 / 256, -128)
        return graph.quantize(graph.op("Add", x, y), SCALE, ZERO), IMAGE

    refused(activation_inside, "the result of a Softmax or Sigmoid, which is only allowed at the")


def test_names_the_other_quantized_form_and_the_op_that_does_not_fit() -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", kind, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 4])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with new_context(), pytest.raises(Exception, match="another quantized form; quantize stat"):
        import_bytes(model.SerializeToString(), "m.onnx")

    def large(graph: QdqGraph, x: str) -> Any:
        w, _ = graph.weights((4, 5, 9, 1))
        return graph.quantize(graph.op("Conv", x, w), SCALE, ZERO), (1, 4, 1, 3)

    refused(large, r"\(Conv /conv_\d+\): computes shape .*empty: its window does not fit")
