"""Update schemes: reading, resolving, names, and the published analytic memory."""

import json
from pathlib import Path

import pytest

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, parse_module
from tiny_dialect.errors import InvalidOption
from tiny_passes.analytic_memory import (
    ConvolutionShape,
    analytic_bits,
    analytic_bytes,
    convolution_shapes,
)
from tiny_passes.graph import functions
from tiny_passes.update_scheme import UpdateScheme, chosen_count, parse_scheme, read_scheme
from tiny_pipelines.scheme import SCHEMES, find_scheme, find_scheme_file, scheme_names

# docs/design/arithmetic.md: scheme, KB (the last digit is that of the paper's code).
PUBLISHED = {
    "mcunet-5fps": {"49kb": 49.8, "74kb": 74.8, "99kb": 99.8, "124kb": 125.0, "148kb": 148.4},
    "mbv2-w0.35": {"49kb": 49.8, "73kb": 73.9, "99kb": 99.4, "123kb": 123.6, "138kb": 138.2},
    "proxyless-w0.3": {"49kb": 49.7, "74kb": 74.9, "98kb": 98.5, "120kb": 120.2, "148kb": 148.2},
}
FULL = {"mcunet-5fps": 1400, "mbv2-w0.35": 1306, "proxyless-w0.3": 1211}

MODELS = [
    pytest.param("mcunet-5fps", marks=pytest.mark.data),
    pytest.param("mbv2-w0.35", marks=pytest.mark.data),
    "proxyless-w0.3",
]

# ProxylessNAS-mobile: output channels of a stage, (expansion, kernel, stride) of its blocks.
PROXYLESS_MOBILE = (
    (16, ((1, 3, 1),)),
    (32, ((3, 5, 2), (3, 3, 1))),
    (40, ((3, 7, 2), (3, 3, 1), (3, 5, 1), (3, 5, 1))),
    (80, ((6, 7, 2), (3, 5, 1), (3, 5, 1), (3, 5, 1))),
    (96, ((6, 5, 1), (3, 5, 1), (3, 5, 1), (3, 5, 1))),
    (192, ((6, 7, 2), (6, 7, 1), (3, 7, 1), (3, 7, 1))),
    (320, ((6, 7, 1),)),
)


def convolution(name, size, stride, inputs, outputs, kernel, groups=1):
    out = -(-size // stride)
    return ConvolutionShape(
        name,
        (1, size, size, inputs),
        (1, out, out, outputs),
        (outputs, kernel, kernel, inputs // groups),
        groups,
    )


def proxyless_layers():
    """Width 0.3, channels rounded up to multiples of 8, input 128 x 128: it has no model file."""
    width = {channels: -(-channels * 3 // 80) * 8 for channels, _ in PROXYLESS_MOBILE}
    channels, size = width[32], 64
    layers = [convolution("first", 128, 2, 3, channels, 3)]
    for stage, blocks in PROXYLESS_MOBILE:
        for expansion, kernel, stride in blocks:
            inner, number = channels * expansion, len(layers)
            if expansion > 1:
                layers.append(convolution(f"{number}.expand", size, 1, channels, inner, 1))
            layers.append(convolution(f"{number}.dw", size, stride, inner, inner, kernel, inner))
            size = -(-size // stride)
            layers.append(convolution(f"{number}.project", size, 1, inner, width[stage], 1))
            channels = width[stage]
    return layers, channels


def zoo_layers(zoo, model):
    ops = json.loads((zoo / "models" / f"{model}.json").read_text())["ops"]
    *convs, classifier = [op for op in ops if op["op"] == "conv2d"]
    sizes = ("in_hw", "stride", "in_channels", "out_channels")
    layers = [
        convolution(op["name"], *(op[key] for key in sizes), op["kernel"][0], op["groups"])
        for op in convs
    ]
    return layers, classifier["in_channels"]


@pytest.fixture
def layers_of_model(request):
    def layers(model):
        if model == "proxyless-w0.3":
            return proxyless_layers()
        return zoo_layers(request.getfixturevalue("zoo"), model)

    return layers


def kilobytes(layers, scheme):
    return analytic_bits(*layers, scheme) / 8 / 1024


@pytest.mark.parametrize("model", MODELS)
def test_analytic_memory_is_the_published_table(layers_of_model, model):
    layers = layers_of_model(model)
    got = {name: kilobytes(layers, find_scheme(f"{model}-{name}")) for name in PUBLISHED[model]}
    assert got == pytest.approx(PUBLISHED[model], abs=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_full_update(layers_of_model, model):
    assert kilobytes(layers_of_model(model), find_scheme("full")) == pytest.approx(
        FULL[model], abs=0.5
    )


@pytest.mark.data
def test_last_twelve_layers_of_mcunet(layers_of_model):
    last = UpdateScheme("last-12", 12, {str(index): 1.0 for index in range(30, 42)})
    assert kilobytes(layers_of_model("mcunet-5fps"), last) == pytest.approx(448.0, abs=0.1)


@pytest.mark.data
def test_layers_of_the_imported_model_are_those_of_its_list(zoo, layers_of_model):
    from tiny_pipelines.frontends import import_model

    path = zoo / "models" / "original" / "mcunet-5fps.pkl"
    with new_context(), ir.Location.unknown():
        module = import_model(path, classes=10)
        convolutions, features = convolution_shapes(functions(module)["infer"])
    expected, classifier_inputs = layers_of_model("mcunet-5fps")
    assert list(convolutions) == expected
    assert features == classifier_inputs


def test_grouped_and_depthwise_convolutions_save_what_their_weights_read():
    # 6 inputs in 2 groups; one of three input channels of each group is chosen.
    grouped = ConvolutionShape("grouped", (1, 5, 4, 6), (1, 5, 4, 8), (8, 3, 3, 3), 2)
    assert grouped.weight_bits(1 / 3) == 8 * (2 * 5 * 4 + 8 * 3 * 3)
    # Three outputs an input; a quarter of twelve outputs.
    depthwise = ConvolutionShape("depthwise", (1, 5, 4, 4), (1, 5, 4, 12), (12, 3, 3, 1), 4)
    assert depthwise.weight_bits(0.25) == 8 * (3 * 5 * 4 + 3 * 9)
    assert depthwise.bias_bits() == 5 * 4 * 12 + 32 * 12


MODEL = """
func.func @infer(%x: tensor<1x4x3x2x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x3xf32> {
  %w = "tiny.parameter"() {symbol = "a.w", value = dense<1> : tensor<3x1x1x2xi8>}
      : () -> tensor<3x1x1x2xi8>
  %b = "tiny.parameter"() {symbol = "a.b", value = dense<0> : tensor<3xi32>} : () -> tensor<3xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {layer = "a", clamp = array<i64: -128, 127>, groups = 1 : i64,
      operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>,
      resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>,
      weight_scales = dense<0.5> : tensor<3xf64>}
      : (tensor<1x4x3x2x!quant.uniform<i8:f32, 0.5>>, tensor<3x1x1x2xi8>, tensor<3xi32>)
      -> tensor<1x4x3x3x!quant.uniform<i8:f32, 0.5>>
  %p = "tiny.global_average_pool"(%y) {layer = "pool"}
      : (tensor<1x4x3x3x!quant.uniform<i8:f32, 0.5>>)
      -> tensor<1x1x1x3x!quant.uniform<i8:f32, 0.5>>
  %c = "tiny.conv2d"(%p, %cw, %b) {layer = "head", clamp = array<i64: -128, 127>, groups = 1 : i64,
      operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>,
      resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>,
      weight_scales = dense<0.5> : tensor<3xf64>}
      : (tensor<1x1x1x3x!quant.uniform<i8:f32, 0.5>>, tensor<3x1x1x3xi8>, tensor<3xi32>)
      -> tensor<1x1x1x3x!quant.uniform<i8:f32, 0.5>>
  %d = "tiny.dequantize"(%c) : (tensor<1x1x1x3x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x1x1x3xf32>
  return %d : tensor<1x1x1x3xf32>
}
"""


def with_classifier_weight(text):
    weight = """%cw = "tiny.parameter"() {symbol = "c.w", value = dense<1> : tensor<3x1x1x3xi8>}
      : () -> tensor<3x1x1x3xi8>
  %c = """
    return text.replace("%c = ", weight, 1).replace("tensor<1x3xf32> {", "tensor<1x1x1x3xf32> {")


def test_a_convolution_behind_the_logits_is_the_classifier():
    with new_context(), ir.Location.unknown():
        module = parse_module(with_classifier_weight(MODEL).encode(), "model.mlir")
        infer = functions(module)["infer"]
        convolutions, features = convolution_shapes(infer)
        assert [layer.name for layer in convolutions] == ["a"]
        assert features == 3
        # Input of the classifier, mask and bias of `a`: 3 + (36 + 96) / 8 bytes, rounded up.
        assert analytic_bytes(infer, UpdateScheme("biases", None)) == 20


def test_every_shipped_scheme_is_named_like_its_file():
    published = {f"{model}-{name}" for model, table in PUBLISHED.items() for name in table}
    assert set(scheme_names()) == published | {"full", "bias-only", "classifier-only"}
    for name in scheme_names():
        scheme = read_scheme(SCHEMES / f"{name}.json")
        assert scheme.name == name
        assert scheme.model is None or name.startswith(scheme.model)


def test_a_path_is_a_scheme(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "biases": 1, "weights": {"conv": 0.5}}')
    assert find_scheme(str(path)) == UpdateScheme("mine", 1, {"conv": 0.5}, None, str(path))
    assert find_scheme_file(path) == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mcunet-5fps-49k", "did you mean mcunet-5fps-49kb?"),
        ("quite different", "known: bias-only, classifier-only, full"),
        ("missing/scheme.json", "no such file; known schemes: bias-only"),
        ("scheme.json", "no such file"),
    ],
)
def test_unknown_names_are_answered_with_the_known(name, message):
    with pytest.raises(InvalidOption) as caught:
        find_scheme(name)
    assert message in str(caught.value)


def test_a_folder_is_not_a_scheme(tmp_path):
    with pytest.raises(InvalidOption, match="is not a file"):
        find_scheme(tmp_path)
    with pytest.raises(InvalidOption):
        read_scheme(tmp_path)


GOOD = '{"name": "s", "biases": 2, "weights": {}}'


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "f.json:1:1", "malformed JSON"),
        ('{"name": "s",\n "biases" 2}', "f.json:2:11", "malformed JSON"),
        ("[]", "f.json", "expects an object"),
        ("[" * 100_000, "f.json", "nested too deeply"),
        (GOOD[:-1] + ', "bias": 2}', 'f.json: "bias"', "unknown key"),
        (GOOD[:-1] + ', "name": "t"}', 'f.json: "name"', "occurs twice"),
        ('{"name": "s", "biases": 2}', 'f.json: "weights"', "missing"),
        (GOOD.replace('"s"', '""'), "f.json: name", "non-empty string"),
        (GOOD[:-1] + ', "model": 3}', "f.json: model", "non-empty string"),
        (GOOD.replace("2", "-1"), "f.json: biases", "at least 0"),
        (GOOD.replace("2", "2.0"), "f.json: biases", "at least 0"),
        (GOOD.replace("2", "true"), "f.json: biases", "at least 0"),
        (GOOD.replace("2", '"some"'), "f.json: biases", 'or "all"'),
        (GOOD.replace("2", "9" * 5000), "f.json", "malformed JSON"),
        (GOOD.replace("{}", "[1]"), "f.json: weights", "expects an object"),
        (GOOD.replace("{}", '{"3": 0}'), 'f.json: weights["3"]', "outside (0, 1]"),
        (GOOD.replace("{}", '{"3": 1.01}'), 'f.json: weights["3"]', "outside (0, 1]"),
        (GOOD.replace("{}", '{"3": NaN}'), 'f.json: weights["3"]', "outside (0, 1]"),
        (GOOD.replace("{}", '{"3": 1e999}'), 'f.json: weights["3"]', "outside (0, 1]"),
        (GOOD.replace("{}", '{"3": true}'), 'f.json: weights["3"]', "expects a ratio"),
        (GOOD.replace("{}", '{"3": {"a": 1}}'), 'f.json: weights["3"]', "expects a ratio"),
        (GOOD.replace("{}", '{"3": 1, "3": 1}'), 'f.json: "3"', "occurs twice"),
        (GOOD.replace("{}", '{"3": 1, "03": 1}'), 'f.json: weights["03"]', "named twice"),
    ],
)
def test_malformed_schemes_name_file_and_key(text, place, message):
    with pytest.raises(InvalidOption) as caught:
        parse_scheme(text.encode(), "f.json")
    assert caught.value.where == place
    assert message in caught.value.message
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_bytes_that_are_no_text():
    with pytest.raises(InvalidOption, match=r"f\.json: malformed JSON"):
        parse_scheme(b"\xff\xfe{}", "f.json")


def test_a_huge_file_is_refused(tmp_path):
    path = tmp_path / "huge.json"
    path.write_bytes(b" " * (1 << 20) + GOOD.encode())
    with pytest.raises(InvalidOption, match="no update scheme"):
        read_scheme(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidOption, match=r"absent\.json"):
        read_scheme(tmp_path / "absent.json")


LAYERS = ("a", "b", "c", "twin", "twin")


def test_resolution_by_index_by_name_and_for_all():
    scheme = UpdateScheme("s", 2, {"b": 0.5, "0": 1.0})
    selection = scheme.resolve(LAYERS)
    assert selection.biases == {3, 4}
    assert selection.weights == {0: 1.0, 1: 0.5}
    everything = UpdateScheme("s", None, {"all": 0.25, "c": 1.0}).resolve(LAYERS)
    assert everything.biases == {0, 1, 2, 3, 4}
    assert everything.weights == {0: 0.25, 1: 0.25, 2: 1.0, 3: 0.25, 4: 0.25}


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (UpdateScheme("s", 6), "6 biases asked for, the model has 5 convolutions"),
        (UpdateScheme("s", 0, {"5": 1.0}), "no convolution 5; the model has 5 convolutions"),
        (UpdateScheme("s", 0, {"5": 1.0}, "mbv2"), "the scheme is for mbv2"),
        (UpdateScheme("s", 0, {"conv9": 1.0}), "no such layer; the model has 5"),
        (UpdateScheme("s", 0, {"twin": 1.0}), "2 convolutions have this name"),
        (UpdateScheme("s", 0, {"1": 1.0, "b": 0.5}), "convolution 1 is named twice"),
    ],
)
def test_schemes_that_do_not_fit(scheme, message):
    with pytest.raises(InvalidOption) as caught:
        scheme.resolve(LAYERS)
    assert message in str(caught.value)
    assert str(caught.value).startswith("s: ")


def test_ratios_round_down_but_choose_at_least_one():
    assert [chosen_count(48, r) for r in (0.25, 0.5, 1.0, 0.001)] == [12, 24, 48, 1]
    assert chosen_count(100, 0.29) == 29
    assert chosen_count(3, 1 / 3) == 1


def test_shipped_files_are_plain_json():
    for path in sorted(Path(SCHEMES).glob("*.json")):
        text = path.read_text()
        assert text.endswith("}\n")
        assert set(json.loads(text)) <= {"name", "model", "biases", "weights"}
