"""Importers refuse what they cannot read: file, layer and reason on one line."""

import dataclasses
import pickle

import numpy as np
import pytest
from mcunet_files import model_file, network, zipped

from tiny_dialect.errors import InvalidModel
from tiny_dialect.semantics import run
from tiny_pipelines.frontends import import_bytes
from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.frontends.inference import infer_function
from tiny_pipelines.frontends.layers import (
    INPUT,
    AddLayer,
    ConvLayer,
    GlobalAveragePoolLayer,
    LinearLayer,
    Network,
    Quantization,
)

pytestmark = pytest.mark.usefixtures("context")


# Bad MCUNet files


def change(path, value):
    """A network with one field replaced; `path` is a sequence of keys."""
    contents = network()
    part = contents
    for key in path[:-1]:
        part = part[key]
    if value is KeyError:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return contents


FIRST = ("first_conv", "params")
SKIP = ("blocks", 0, "residual", "params")
NAN_SCALES = np.array([0.1, np.nan, 0.1], np.float32)

BAD_FIELDS = [
    (("first_conv",), KeyError, "no first_conv"),
    (("first_conv",), 3, "expects first_conv to be a dict, got 3"),
    (("blocks",), None, "expects blocks to be a list"),
    (("blocks",), [None], r"expects blocks\.0 to be a dict"),
    (("classifier",), KeyError, "has no classifier"),
    (("extra_stage",), [], "'extra_stage', which is not supported"),
    (("blocks", 0, "se"), {"reduce": 4}, r"blocks\.0: has 'se', which is not supported"),
    (("first_conv", "act"), "swish", "first_conv: has activation 'swish'"),
    (("first_conv", "dilation"), 2, "first_conv: has 'dilation'"),
    (("first_conv", "stride"), 0, "first_conv: has stride"),
    (("first_conv", "stride"), "2", "expects stride to be one or two integers"),
    (("first_conv", "stride"), KeyError, "first_conv: has no stride"),
    (("first_conv", "kernel_size"), (3, 3, 3), "expects kernel_size"),
    (("first_conv", "kernel_size"), (5, 5), "declares weights"),
    (("first_conv", "in_shape"), (0, 7), "first_conv|input"),
    (("first_conv", "in_shape"), 10**30, "first_conv|input"),
    (("first_conv", "out_shape"), (4, 4), "declares out_shape"),
    (("blocks", 0, "pointwise1", "in_shape"), (4, 4), r"blocks\.0\.pointwise1: declares in_shape"),
    (("first_conv", "groups"), 2, "declares weights"),
    (("first_conv", "groups"), 0, "declares weights"),
    (("first_conv", "groups"), 1.5, "expects groups to be an integer"),
    (("first_conv", "out_channel"), 4, "declares weights"),
    ((*FIRST, "weight"), None, "expects weight to be an array, got None"),
    ((*FIRST, "weight"), np.zeros((3, 2, 3, 3), np.float32), "expects non-empty int8 weights"),
    ((*FIRST, "weight"), np.zeros((3, 18), np.int8), "expects non-empty int8 weights"),
    ((*FIRST, "bias"), np.zeros(3, np.float32), "biases that fit int32"),
    ((*FIRST, "bias"), np.full(3, 2**31, np.int64), "biases that fit int32"),
    ((*FIRST, "bias"), np.zeros(2, np.int32), "expects 3 int32 biases"),
    ((*FIRST, "w_scales"), NAN_SCALES, "first_conv: has weight scale nan in channel 1"),
    ((*FIRST, "w_scales"), np.zeros(3, np.float32), "has weight scale 0.0 in channel 0"),
    ((*FIRST, "w_scales"), -np.ones(3), "has weight scale -1.0"),
    ((*FIRST, "w_scales"), np.full(3, np.inf), "has weight scale inf"),
    ((*FIRST, "w_scales"), np.full(3, 1e30), "has requantization factor"),
    ((*FIRST, "w_scales"), np.full(3, 5e-324), "has requantization factor 0.0"),
    ((*FIRST, "w_scales"), np.ones(3, np.int32), "expects floating-point w_scales"),
    ((*FIRST, "w_scales"), np.ones(4), "expects 3 float64 weight scales"),
    ((*FIRST, "x_scale"), float("nan"), "input: has activation scale nan"),
    ((*FIRST, "x_scale"), 0.0, "input: has activation scale 0.0"),
    ((*FIRST, "x_scale"), "0.1", "expects x_scale to be a number, got '0.1'"),
    ((*FIRST, "x_scale"), 10**400, "expects x_scale to be a number"),
    ((*FIRST, "x_scale"), True, "expects x_scale to be a number, got True"),
    ((*FIRST, "x_zero"), 128, "input: has zero point 128"),
    ((*FIRST, "y_scale"), float("inf"), "first_conv: has activation scale inf"),
    ((*FIRST, "y_scale"), -0.1, "first_conv: has activation scale -0.1"),
    ((*FIRST, "x_scale"), 1e300, "input: has activation scale 1e.300; .* within float32"),
    ((*FIRST, "x_scale"), 1e-300, "input: has activation scale 1e-300; .* within float32"),
    ((*FIRST, "y_zero"), -129, "first_conv: has zero point -129"),
    ((*FIRST, "y_zero"), 0.5, "expects y_zero to be an integer"),
    ((*FIRST, "y_scale"), 0.071, "reads 'first_conv' with scale 0.07 .* written with 0.071"),
    ((*SKIP, "x_scale"), 0.06, r"blocks\.0\.add: reads 'first_conv' with scale 0.06"),
    ((*SKIP, "y_scale"), 0.0, r"blocks\.0\.add: has activation scale 0.0"),
    (("blocks", 1, "residual", "params", "out_scale"), KeyError, "has no out_scale"),
    (("blocks", 1, "residual", "stride"), 1, "declares out_shape"),
    (("blocks", 0, "residual", "kernel"), 3, "has 'kernel', which is not supported"),
    (("blocks", 1, "pointwise2"), None, "around no layer"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD_FIELDS)
def test_a_bad_field_is_an_error_with_file_layer_and_reason(path, value, message):
    with pytest.raises(InvalidModel, match=message) as caught:
        import_bytes(model_file(change(path, value)), "bad.pkl")
    assert str(caught.value).startswith("bad.pkl:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (model_file()[:200], "truncated or damaged zip"),
        (model_file()[:-30], "truncated or damaged zip"),
        (model_file().replace(b"first_conv", b"FIRST_CONV", 1), "truncated or damaged zip"),
        (zipped(b"N.", name="model.json"), "0 files data.pkl"),
        (zipped(b""), "truncated or corrupt pickle"),
        (zipped(pickle.dumps(network(), 2)[:-100]), "truncated or corrupt pickle"),
        (zipped(b"N."), "not an MCUNet network"),
        (zipped(pickle.dumps([1, 2])), "not an MCUNet network"),
        (b"\x1c\0\0\0TFL3" + b"\0" * 20, "bad: damaged TFLite file: "),
        (b"\x1c\0\0\0TFLX" + b"\0" * 20, "unknown format, .* supported: MCUNet"),
        (b"\xff\xfe\xfd", "unknown format"),
        (b"ML\xefR broken", "bad"),
        (b"func.func @infer(", "bad:1:"),
        (b"module { \xe2\x82\xac }", "bad:1:"),
        (b"module {}", "has no function @infer"),
        (b"func.func private @infer()", "@infer is only declared"),
        (b"func.func @main() { return }", r"it has \['main'\]"),
    ],
)
def test_a_bad_file_is_one_line_with_its_name(data, message):
    with pytest.raises(InvalidModel, match=message) as caught:
        import_bytes(data, "bad")
    assert str(caught.value).startswith("bad")
    assert "\n" not in str(caught.value)


def test_a_file_that_unpacks_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr("tiny_pipelines.frontends.mcunet_pickle.MAX_BYTES", 1000)
    with pytest.raises(InvalidModel, match="unpacks to more than 1000 bytes"):
        import_bytes(model_file(), "bomb.pkl")


def test_a_module_of_a_later_stage_or_with_a_repeated_symbol_is_refused():
    text = str(import_bytes(model_file(), "s"))
    with pytest.raises(InvalidModel, match='is at stage "planned"'):
        import_bytes(text.replace('stage = "model"', 'stage = "planned"').encode(), "m.mlir")
    with pytest.raises(InvalidModel, match=r"'first_conv\.weight' names two parameters"):
        repeated = text.replace('"first_conv.bias"', '"first_conv.weight"')
        import_bytes(repeated.encode(), "m.mlir")
    step = text.replace("module {", "module { func.func @train_step() { return }", 1)
    with pytest.raises(InvalidModel, match="is a training step already"):
        import_bytes(step.encode(), "m.mlir")


def test_the_verifier_of_the_dialect_is_reported_with_its_position():
    text = str(import_bytes(model_file(), "s")).replace("groups = 7", "groups = 3")
    with pytest.raises(InvalidModel, match=r"m\.mlir:\d+:\d+: .*tiny\.conv2d"):
        import_bytes(text.encode(), "m.mlir")


# The emitter on records of any importer

SAME = Quantization(0.1, 0)


def conv_record(name="conv", source=INPUT, **fields):
    record = ConvLayer(
        name,
        (source,),
        SAME,
        np.ones((2, 1, 1, 2), np.int8),
        np.full(2, 0.1),
        np.zeros(2, np.int32),
        SAME,
    )
    return dataclasses.replace(record, **fields)


def network_record(*layers, output=None, **fields):
    record = Network("net", "net.bin", (1, 1, 5, 2), SAME, layers, output or layers[-1].name)
    return dataclasses.replace(record, **fields)


def test_a_one_dimensional_network_of_all_kinds_is_emitted():
    head = LinearLayer("fc", ("pool",), np.ones((3, 2), np.float32), np.zeros(3, np.float32))
    module = emit(
        network_record(
            conv_record("a", pads=(0, 1, 0, 2), weight=np.ones((2, 1, 4, 1), np.int8), groups=2),
            AddLayer("sum", ("a", INPUT), (SAME, SAME), Quantization(0.2, -1)),
            GlobalAveragePoolLayer("pool", ("sum",)),
            head,
        )
    )
    function = infer_function(module)
    assert "tiny.preprocess" not in function.attributes
    image = np.arange(10, dtype=np.int8).reshape(1, 1, 5, 2)
    assert run(function, [image])[0].shape == (1, 3)


BAD_RECORDS = [
    ([conv_record(""), conv_record("b", "")], "has no name"),
    ([conv_record(), conv_record()], "conv: is the name of more than one layer"),
    ([conv_record(INPUT)], "is the name of more than one layer"),
    ([conv_record(source="missing")], "reads 'missing', which no earlier layer computes"),
    ([conv_record("a", "b"), conv_record("b")], "reads 'b'"),
    ([conv_record(clamp=(5, 5))], r"has clamp \[5, 5\]"),
    ([conv_record(clamp=(-129, 5))], "has clamp"),
    ([conv_record(strides=(0, 1))], "has strides"),
    ([conv_record(pads=(0, 0, -1, 0))], "has pads"),
    ([conv_record(pads=(0, 0, 0, 2**40))], "too many elements"),
    ([conv_record(groups=3)], "in 3 groups, but its input has 2 channels"),
    ([conv_record(weight=np.ones((3, 1, 1, 1), np.int8), groups=2)], "3|2 groups"),
    ([conv_record(weight=np.ones((2, 2, 1, 2), np.int8))], "has an empty output"),
    ([conv_record(weight=np.ones((2, 1, 1, 2), np.int16))], "expects non-empty int8 weights"),
    ([conv_record(bias=np.zeros(2, np.int64))], "expects 2 int32 biases"),
    ([conv_record(weight_scales=np.ones(2, np.float32))], "expects 2 float64 weight scales"),
    ([conv_record("a", input_quantization=Quantization(0.1, 1))], "a: reads 'input'"),
    (
        [conv_record("a", strides=(1, 2)), AddLayer("s", ("a", INPUT), (SAME, SAME), SAME)],
        "s: adds 'a' of shape",
    ),
    ([LinearLayer("fc", (INPUT,), np.ones((3, 4), np.float32), np.zeros(3, np.float32))], "fc: "),
    (
        [LinearLayer("fc", (INPUT,), np.full((3, 10), np.nan, np.float32), np.ones(3, np.float32))],
        "fc: has weights or biases that are not finite",
    ),
    (
        [
            LinearLayer("fc", (INPUT,), np.ones((3, 10), np.float32), np.ones(3, np.float32)),
            GlobalAveragePoolLayer("pool", ("fc",)),
        ],
        "pool: reads 'fc', which is float32 already",
    ),
]


@pytest.mark.parametrize(("layers", "message"), BAD_RECORDS)
def test_an_inconsistent_record_is_an_error_that_names_its_layer(layers, message):
    with pytest.raises(InvalidModel, match=message) as caught:
        emit(network_record(*layers))
    assert str(caught.value).startswith("net.bin:")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output": "missing"}, "missing: is named as the output"),
        ({"output": INPUT}, "is both the input and the output"),
        ({"input_shape": (2, 1, 5, 2)}, "expects a non-empty NHWC shape with N = 1"),
        ({"input_shape": (1, 1, 0, 2)}, "expects a non-empty NHWC shape"),
        ({"input_shape": (1, 2**20, 2**20, 2)}, "too many elements"),
        ({"input_quantization": Quantization(float("nan"), 0)}, "has activation scale nan"),
    ],
)
def test_an_inconsistent_network_is_an_error(fields, message):
    with pytest.raises(InvalidModel, match=message):
        emit(network_record(conv_record(), **fields))
