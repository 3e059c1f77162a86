"""Importers: what a file says is what the module holds, and every bad file is one located line."""

import pickle

import numpy as np
import pytest
from mcunet_files import model_file, network, zipped

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.dialect import to_bytecode
from tiny_dialect.errors import InvalidModel, InvalidOption
from tiny_dialect.semantics import run
from tiny_dialect.types import quantization, shape_of
from tiny_pipelines.frontends import import_bytes, import_model
from tiny_pipelines.frontends.head import replace_head
from tiny_pipelines.frontends.inference import infer_function, parameters
from tiny_pipelines.frontends.layers import (
    ConvLayer,
)
from tiny_pipelines.frontends.mcunet_pickle import read_network

pytestmark = pytest.mark.usefixtures("context")

LAYERS = [
    "first_conv",
    "blocks.0.pointwise1",
    "blocks.0.depthwise",
    "blocks.0.pointwise2",
    "blocks.0.add",
    "blocks.1.pointwise2",
    "blocks.1.residual",
    "blocks.1.add",
    "feature_mix",
    "avgpool",
    "classifier",
]


def layer_ops(module):
    """The op of each layer, in program order, without parameters."""
    return [
        op
        for op in infer_function(module).regions[0].blocks[0].operations
        if "layer" in op.attributes and op.operation.name != "tiny.parameter"
    ]


def logits(module, seed=0):
    function = infer_function(module)
    shape = shape_of(function.regions[0].blocks[0].arguments[0])
    image = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    return run(function, [image])[0]


# What a good file becomes


def test_every_layer_of_a_file_is_one_op_in_order_with_its_name_and_place():
    module = import_bytes(model_file(), "folder/small.pkl")
    ops = layer_ops(module)
    assert [op.attributes["layer"].value for op in ops] == LAYERS
    assert str(ops[2].location) == 'loc("blocks.0.depthwise"("small.pkl":0:0))'
    attributes = infer_function(module).attributes
    assert attributes["tiny.model"].value == "small"
    assert attributes["tiny.stage"].value == "model"
    assert "pixel - 128" in attributes["tiny.preprocess"].value


def test_weights_scales_and_geometry_are_those_of_the_file():
    contents = network()
    module = import_bytes(model_file(contents), "small.pkl")
    depthwise, source = layer_ops(module)[2], contents["blocks"][0]["depthwise"]
    values = {op.symbol.value: to_array(op.value) for op in parameters(infer_function(module))}
    np.testing.assert_array_equal(
        values["blocks.0.depthwise.weight"], source["params"]["weight"].transpose(0, 2, 3, 1)
    )
    np.testing.assert_array_equal(values["blocks.0.depthwise.bias"], source["params"]["bias"])
    np.testing.assert_array_equal(
        to_array(depthwise.weight_scales), source["params"]["w_scales"].astype(np.float64)
    )
    assert to_list(depthwise.pads) == [2, 1, 2, 1]
    assert depthwise.groups.value == 7
    assert quantization(depthwise.y) == (0.04, 3)


def test_a_residual_reads_the_blocks_input_or_its_convolution():
    module = import_bytes(model_file(), "s")
    ops = {op.attributes["layer"].value: op for op in layer_ops(module)}
    assert ops["blocks.0.add"].a == ops["first_conv"].y
    assert ops["blocks.0.add"].b == ops["blocks.0.pointwise2"].y
    assert ops["blocks.1.residual"].x == ops["blocks.0.add"].y
    assert ops["blocks.1.add"].a == ops["blocks.1.residual"].y


def test_a_network_without_the_optional_parts():
    contents = network()
    contents["blocks"], contents["feature_mix"] = [], None
    contents["classifier"]["params"] |= {"x_scale": 0.07}
    contents["classifier"]["params"]["weight"] = np.ones((4, 3, 1, 1), np.int8)
    contents["classifier"]["in_channel"] = 3
    module = import_bytes(model_file(contents), "s")
    names = [op.attributes["layer"].value for op in layer_ops(module)]
    assert names == ["first_conv", "avgpool", "classifier"]


def test_scalars_may_be_arrays_of_one_element_and_biases_wider_integers():
    contents = network()
    params = contents["first_conv"]["params"]
    params["x_scale"], params["x_zero"] = np.array([0.05]), np.array(3)
    params["bias"] = params["bias"].astype(np.int64)
    expected = import_bytes(model_file(), "s")
    assert str(import_bytes(model_file(contents), "s")) == str(expected)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_any_pickle_protocol_of_numpy_arrays(protocol):
    data = zipped(pickle.dumps(network(), protocol), name="data.pkl")
    assert str(import_bytes(data, "s")) == str(import_bytes(model_file(), "s"))


def test_text_and_bytecode_read_back_as_the_same_model(tmp_path):
    module = import_bytes(model_file(), "small.pkl")
    text, bytecode = tmp_path / "a.mlir", tmp_path / "renamed.bin"
    text.write_text(str(module))
    bytecode.write_bytes(to_bytecode(module))
    assert str(import_model(text)) == str(import_model(bytecode)) == str(module)


# Heads


@pytest.mark.parametrize("classes", [2, 10])
def test_a_new_head_replaces_the_classifier_and_nothing_else(classes):
    module = import_bytes(model_file(), "small.pkl")
    before = layer_ops(module)[-2]
    replace_head(module, classes, seed=0)
    assert module.operation.verify()
    ops = layer_ops(module)
    assert ops[-3] == before
    assert [op.operation.name for op in ops[-2:]] == ["tiny.dequantize", "tiny.linear"]
    symbols = [op.symbol.value for op in parameters(infer_function(module))]
    assert symbols[-2:] == ["classifier.weight", "classifier.bias"]
    assert len(symbols) == len(set(symbols)) == 2 * 8
    assert logits(module).shape == (1, classes)


def test_a_head_depends_on_its_seed_alone():
    first, same, other = (import_bytes(model_file(), "s", 5, seed) for seed in (1, 1, 2))
    assert str(first) == str(same) != str(other)
    np.testing.assert_array_equal(logits(first), logits(same))


def test_head_weights_are_within_the_bound_and_spread():
    module = import_bytes(model_file(), "s", 500)
    weight, bias = (to_array(op.value) for op in parameters(infer_function(module))[-2:])
    bound = 1 / np.sqrt(6)
    assert weight.shape == (500, 6)
    assert bound * 0.95 < np.abs(weight).max() <= bound
    assert bound * 0.9 < np.abs(bias).max() <= bound
    assert abs(weight.mean()) < 0.05 * bound


def test_a_float_head_gets_its_new_class_count():
    module = import_bytes(model_file(), "s", 5)
    replace_head(module, 3, seed=4)
    assert module.operation.verify()
    assert str(module) == str(import_bytes(model_file(), "s", 3, 4))


def test_a_head_on_dequantized_logits_and_under_another_name():
    text = str(import_bytes(model_file(), "s")).replace('"classifier', '"fc')
    result = "tensor<1x1x1x4x!quant.uniform<i8:f32, 1.300000e-01:3>>"
    assert result in text
    lines = text.splitlines()
    returned = next(line for line in lines if line.strip().startswith("return"))
    value = returned.split()[1]
    dequantize = f'%r = "tiny.dequantize"({value}) : ({result}) -> tensor<1x1x1x4xf32>'
    lines[lines.index(returned)] = f"{dequantize}\nreturn %r : tensor<1x1x1x4xf32>"
    text = "\n".join(lines).replace(f"-> {result} attributes", "-> tensor<1x1x1x4xf32> attributes")
    module = import_bytes(text.encode(), "m.mlir", 7)
    assert logits(module).shape == (1, 7)
    ops = layer_ops(module)
    assert [op.operation.name for op in ops[-2:]] == ["tiny.dequantize", "tiny.linear"]
    assert str(ops[-1].location).startswith('loc("classifier"("m.mlir":')


@pytest.mark.parametrize(("classes", "seed"), [(1, 0), (0, 0), (-5, 0), (10**9, 0), (4, -1)])
def test_an_impossible_head_is_refused(classes, seed):
    with pytest.raises(InvalidOption):
        import_bytes(model_file(), "s", classes, seed)


def test_logits_that_are_not_a_classifier_are_refused():
    head = "func.func @infer(%x: tensor<1x2x2x3x!quant.uniform<i8:f32, 0.1>>) -> T { BODY }"
    q3, q1 = (f"tensor<1x{s}x{s}x3x!quant.uniform<i8:f32, 0.1>>" for s in (2, 1))
    for body, result, reason in (
        (f"return %x : {q3}", q3, "an argument"),
        (
            f'%y = "tiny.global_average_pool"(%x) : ({q3}) -> {q1}\nreturn %y : {q1}',
            q1,
            "tiny.global_average_pool",
        ),
    ):
        text = head.replace("BODY", body).replace("T {", f"{result} {{")
        with pytest.raises(InvalidModel, match=f"come from {reason}"):
            import_bytes(text.encode(), "m.mlir", 3)


# The published files


@pytest.mark.data
@pytest.mark.parametrize("name", ["mcunet-5fps", "mbv2-w0.35"])
def test_the_published_files_equal_their_converted_twins(zoo, name):
    """The `.npz` twins were made independently: same arrays, layer by layer."""
    data = (zoo / "models" / "original" / f"{name}.pkl").read_bytes()
    twin = np.load(zoo / "models" / f"{name}.npz")
    convs = [
        layer for layer in read_network(data, name, name).layers if isinstance(layer, ConvLayer)
    ]
    for layer in convs:
        np.testing.assert_array_equal(
            layer.weight, twin[f"{layer.name}.weight"].transpose(0, 2, 3, 1)
        )
        np.testing.assert_array_equal(layer.bias, twin[f"{layer.name}.bias"])
        np.testing.assert_array_equal(layer.weight_scales, twin[f"{layer.name}.w_scale"])
    assert {f"{layer.name}.weight" for layer in convs} == {
        key for key in twin if key.endswith(".weight")
    }
