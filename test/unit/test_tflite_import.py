"""int8 TFLite files, one operator at a time and whole networks, against LiteRT."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="needs tflite and flatbuffers: pip install -e '.[oracles]'")

from tflite_files import (
    RELU,
    RELU6,
    SAME,
    VALID,
    TfliteFile,
    conv,
    fully_connected,
    options,
)

from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidModel
from tiny_dialect.semantics import run
from tiny_dialect.types import shape_of
from tiny_passes.graph import find_function
from tiny_pipelines.frontends import format_of, import_bytes

Build = Callable[[TfliteFile, int], int]
IMAGE = (1, 7, 5, 3)


def interpreter(data: bytes) -> Any:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    found = litert.Interpreter(model_content=data, num_threads=1)
    found.allocate_tensors()
    return found


def file_of(build: Build, shape: Any) -> bytes:
    file = TfliteFile()
    x = file.activation(shape)
    return file.build(x, build(file, x))


def compare(data: bytes, samples: int = 4) -> tuple[int, float]:
    """(largest difference in units, share of values that differ) over random inputs."""
    oracle = interpreter(data)
    given, result = oracle.get_input_details()[0], oracle.get_output_details()[0]
    rng = np.random.default_rng(0)
    differences = []
    with new_context():
        module = import_bytes(data, "m.tflite")
        function = find_function(module, "infer")
        for _ in range(samples):
            image = rng.integers(-128, 128, given["shape"]).astype(np.int8)
            oracle.set_tensor(given["index"], image)
            oracle.invoke()
            want = oracle.get_tensor(result["index"]).astype(int)
            (got,) = run(function, [image.reshape(shape_of(function.type.inputs[0]))])
            differences.append(np.abs(got.astype(int).reshape(-1) - want.reshape(-1)))
    stacked = np.concatenate(differences)
    return int(stacked.max()), float((stacked > 0).mean())


def pool(kind: str, y: Any, kernel: Any, strides: Any, padding: int) -> Build:
    def build(file: TfliteFile, x: int) -> int:
        chosen = options(
            "Pool2DOptions", Padding=padding, StrideH=strides[0], StrideW=strides[1],
            FilterHeight=kernel[0], FilterWidth=kernel[1], FusedActivationFunction=0,
        )  # fmt: skip
        return file.op(kind, [x], file.activation(y), chosen)

    return build


def mean(axes: list[int], y: Any, keep: bool, rescaled: bool) -> Build:
    def build(file: TfliteFile, x: int) -> int:
        result = file.activation(y, 0.013, 5) if rescaled else file.activation(y)
        indices = file.constant(np.array(axes, np.int32))
        return file.op("MEAN", [x, indices], result, options("ReducerOptions", KeepDims=keep))

    return build


def add(file: TfliteFile, x: int) -> int:
    other = conv(file, x, (3, 1, 1, 3), IMAGE, activation=RELU)
    chosen = options("AddOptions", FusedActivationFunction=RELU6)
    return file.op("ADD", [other, x], file.activation(IMAGE, 0.031, -128), chosen)


def padded(amounts: Any, y: Any, then: str) -> Build:
    """PAD, and behind it a VALID convolution, a pool or nothing."""

    def build(file: TfliteFile, x: int) -> int:
        shape = tuple(n + before + after for n, (before, after) in zip(IMAGE, amounts, strict=True))
        pairs = file.constant(np.array(amounts, np.int32))
        wide = file.op("PAD", [x, pairs], file.activation(shape), options("PadOptions"))
        if then == "conv":
            return conv(file, wide, (4, 3, 3, 3), y, VALID, (2, 2))
        if then == "pool":
            return pool("AVERAGE_POOL_2D", y, (2, 2), (2, 2), VALID)(file, wide)
        return wide

    return build


def reshaped(file: TfliteFile, x: int) -> int:
    """A spectrogram that comes as a flat vector, and a classifier behind a flattened image."""
    shape = file.constant(np.array([1, 6, 4, 2], np.int32))
    image = file.op("RESHAPE", [x, shape], file.activation((1, 6, 4, 2)), options("ReshapeOptions"))
    y = conv(file, image, (5, 3, 2, 2), (1, 3, 2, 5), strides=(2, 2))
    kept = file.tensors[y]
    flat = file.activation((1, 30), float(kept["scales"][0]), int(kept["zeros"][0]))
    file.op("RESHAPE", [y, file.constant(np.array([1, 30], np.int32))], flat)
    return fully_connected(file, flat, 30, 4)


def one_dimension(file: TfliteFile, x: int) -> int:
    """Conv1D as converters write it: EXPAND_DIMS, CONV_2D, RESHAPE."""
    axis = file.constant(np.array(1, np.int32))
    wide = file.op("EXPAND_DIMS", [x, axis], file.activation((1, 1, 21, 3)))
    y = conv(file, wide, (4, 1, 5, 3), (1, 1, 11, 4), strides=(1, 2), activation=RELU)
    kept = file.tensors[y]
    flat = file.activation((1, 11, 4), float(kept["scales"][0]), -128)
    file.op("RESHAPE", [y, file.constant(np.array([1, 11, 4], np.int32))], flat)
    mean_of = file.constant(np.array([1], np.int32))
    result = file.activation((1, 4), float(kept["scales"][0]) / 2, -128)
    return file.op("MEAN", [flat, mean_of], result, options("ReducerOptions", KeepDims=False))


def transposed(file: TfliteFile, x: int) -> int:
    """TRANSPOSE to channels first, two means of one axis each, a classifier."""
    order = file.constant(np.array([0, 3, 1, 2], np.int32))
    y = file.op("TRANSPOSE", [x, order], file.activation((1, 3, 7, 5)), options("TransposeOptions"))
    y = mean([3], (1, 3, 7), False, False)(file, y)
    y = mean([2], (1, 3), False, False)(file, y)
    return fully_connected(file, y, 3, 5)


def flat_transposed(file: TfliteFile, x: int) -> int:
    """A classifier on an image flattened channels first: its weights are permuted."""
    order = file.constant(np.array([0, 3, 1, 2], np.int32))
    y = file.op("TRANSPOSE", [x, order], file.activation((1, 3, 7, 5)), options("TransposeOptions"))
    shape = file.constant(np.array([1, 105], np.int32))
    y = file.op("RESHAPE", [y, shape], file.activation((1, 105)), options("ReshapeOptions"))
    return fully_connected(file, y, 105, 5)


def requantized(file: TfliteFile, x: int) -> int:
    return file.op("QUANTIZE", [x], file.activation(IMAGE, 0.0133, 20))


def relu(file: TfliteFile, x: int) -> int:
    return file.op("RELU", [x], file.activation(IMAGE, 0.0117, -128))


PADS = [(0, 0), (1, 1), (0, 1), (0, 0)]
CASES: dict[str, tuple[Build, Any, float]] = {
    "conv": (lambda f, x: conv(f, x, (6, 3, 3, 3), (1, 7, 5, 6)), IMAGE, 0.01),
    "conv valid": (lambda f, x: conv(f, x, (6, 3, 2, 3), (1, 5, 4, 6), VALID), IMAGE, 0.01),
    "conv strided relu6": (
        lambda f, x: conv(f, x, (6, 3, 4, 3), (1, 4, 3, 6), SAME, (2, 2), RELU6), IMAGE, 0.01,
    ),
    "depthwise": (
        lambda f, x: conv(f, x, (1, 3, 3, 3), (1, 4, 3, 3), SAME, (2, 2), RELU, True), IMAGE, 0.01,
    ),
    "depth multiplier": (
        lambda f, x: conv(f, x, (1, 3, 3, 6), (1, 7, 5, 6), SAME, (1, 1), 0, True),
        (1, 7, 5, 1), 0.01,
    ),
    "max pool": (pool("MAX_POOL_2D", (1, 4, 3, 3), (2, 2), (2, 2), SAME), IMAGE, 0.0),
    "overlapping max pool": (pool("MAX_POOL_2D", (1, 5, 3, 3), (3, 3), (1, 1), VALID), IMAGE, 0.0),
    "average pool": (pool("AVERAGE_POOL_2D", (1, 4, 3, 3), (3, 2), (2, 2), SAME), IMAGE, 0.01),
    "mean": (mean([1, 2], (1, 3), False, False), IMAGE, 0.1),
    "rescaled mean": (mean([1, 2], (1, 1, 1, 3), True, True), IMAGE, 0.1),
    "mean of rows": (mean([1], (1, 5, 3), False, True), IMAGE, 0.1),
    "add": (add, IMAGE, 0.03),
    "pad and conv": (padded(PADS, (1, 4, 2, 4), "conv"), IMAGE, 0.01),
    "pad and pool": (padded(PADS, (1, 4, 3, 3), "pool"), IMAGE, 0.01),
    "pad": (padded(PADS, None, ""), IMAGE, 0.0),
    "fully connected": (lambda f, x: fully_connected(f, x, 50, 6), (1, 50), 0.01),
    "reshapes": (reshaped, (1, 48), 0.05),
    "one dimension": (one_dimension, (1, 21, 3), 0.05),
    "transpose and means": (transposed, IMAGE, 0.3),
    "flattened transpose": (flat_transposed, IMAGE, 0.05),
    "requantize": (requantized, IMAGE, 0.02),
    "relu": (relu, IMAGE, 0.02),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_differs_by_one_unit_at_most(name: str) -> None:
    build, shape, share = CASES[name]
    data = file_of(build, shape)
    assert format_of(data, "m") == "tflite"
    largest, differing = compare(data)
    assert largest <= 1
    assert differing <= share, differing


def imported(build: Build, shape: Any = IMAGE) -> str:
    with new_context():
        return str(import_bytes(file_of(build, shape), "m.tflite"))


def test_layout_costs_nothing_where_no_reader_cares() -> None:
    for build, shape in ((transposed, IMAGE), (one_dimension, (1, 21, 3))):
        assert "tiny.reshape" not in imported(build, shape)
    # In front of a fully connected layer an image is flattened as it is stored.
    assert imported(flat_transposed).count('"tiny.reshape"') == 1
    # A flat input of another shape than its reader's is copied once.
    assert imported(reshaped, (1, 48)).count('"tiny.reshape"') == 2


def test_pads_are_folded_only_where_legal() -> None:
    folded, kept = (
        imported(padded(PADS, (1, 4, 2, 4), "conv")),
        imported(padded(PADS, (1, 4, 3, 3), "pool")),
    )
    assert '"tiny.pad"' not in folded and "pads = array<i64: 1, 0, 1, 1>" in folded
    assert '"tiny.pad"' in kept


def refused(build: Build, message: str, shape: Any = IMAGE) -> None:
    with new_context(), pytest.raises(InvalidModel, match=message) as caught:
        import_bytes(file_of(build, shape), "m.tflite")
    assert "\n" not in str(caught.value)


def test_refuses_by_operator() -> None:
    def unknown(file: TfliteFile, x: int) -> int:
        return file.op("TANH", [x], file.activation(IMAGE))

    refused(unknown, r"m.tflite:operator 0 \(TANH\): is not supported; supported are ADD, AV")

    def newer(file: TfliteFile, x: int) -> int:
        return file.op("GELU", [x], file.activation(IMAGE))

    refused(newer, r"operator 0 \(GELU\): is not supported")

    def dilated(file: TfliteFile, x: int) -> int:
        w, scales = file.weights((4, 3, 3, 3), 0)
        chosen = options(
            "Conv2DOptions", StrideH=1, StrideW=1, DilationHFactor=2, DilationWFactor=1
        )
        return file.op(
            "CONV_2D", [x, w, file.bias(scales, 4)], file.activation((1, 7, 5, 4)), chosen
        )

    refused(dilated, r"operator 0 \(CONV_2D\): has dilation \[2, 1\], which is not supported")

    def asymmetric(file: TfliteFile, x: int) -> int:
        y = fully_connected(file, x, 105, 4)
        file.tensors[1]["zeros"] = np.array([3], np.int64)
        return y

    refused(asymmetric, "has asymmetric weights")

    def broadcast(file: TfliteFile, x: int) -> int:
        other = file.constant(np.zeros((1, 1, 1, 3), np.int8), 0.1)
        return file.op("ADD", [x, other], file.activation(IMAGE), options("AddOptions"))

    refused(broadcast, r"operator 0 \(ADD\): reads tensor 1 \(tensor/1\): a constant")

    def in_the_middle(file: TfliteFile, x: int) -> int:
        real = file.op("DEQUANTIZE", [x], file.tensor(IMAGE, np.float32))
        return file.op("RELU", [real], file.tensor(IMAGE, np.float32))

    refused(in_the_middle, r"operator 1 \(RELU\): tensor 2 .* is float32; only int8 models are")

    def softmax(file: TfliteFile, x: int) -> int:
        y = file.op("SOFTMAX", [x], file.activation(IMAGE), options("SoftmaxOptions", Beta=1.0))
        return file.op("RELU", [y], file.activation(IMAGE))

    refused(softmax, "reads the result of SOFTMAX, which is only allowed at the end")

    def wrong_shape(file: TfliteFile, x: int) -> int:
        return conv(file, x, (6, 3, 3, 3), (1, 7, 6, 6))

    refused(wrong_shape, r"declares shape \[1, 7, 6, 6\], but computes \[1, 7, 5, 6\]")


def photos(zoo: Any, count: int) -> list[np.ndarray]:
    """The demo photos and `count` small ones as int8 images of 80 by 80."""
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    raw = [
        image.open(zoo / "images" / n).convert("RGB")
        for n in ("person.png", "no_person.png", "person_det.jpg")
    ]
    with np.load(zoo / "images" / "cifar10_32.npz") as small:
        raw += [image.fromarray(pixels) for pixels in small["test_images"][:count]]
    sized = [np.asarray(one.resize((80, 80), image.Resampling.BILINEAR)) for one in raw]
    return [(one.astype(np.int16) - 128).astype(np.int8)[None] for one in sized]


def oracle_units(
    data: bytes, images: list[np.ndarray], scale: float, zero: int
) -> list[np.ndarray]:
    """Int8 results of LiteRT with its default kernels, for a file that is float at its ends."""
    oracle = interpreter(data)
    given, result = oracle.get_input_details()[0], oracle.get_output_details()[0]
    found = []
    for image in images:
        oracle.set_tensor(given["index"], image)
        oracle.invoke()
        real = oracle.get_tensor(result["index"]).reshape(-1)
        found.append(np.rint(real / np.float32(scale)).astype(int) + zero)
    return found


def on_host(data: bytes) -> tuple[Any, Any, Any]:
    """(compiled model, input type, output type)."""
    from tiny_pipelines.host import HostModel
    from tiny_pipelines.iree import compile_host

    with new_context():
        module = import_bytes(data, "m.tflite")
        kind = find_function(module, "infer").type
        from tiny_dialect.types import quantization

        scales = quantization(kind.inputs[0]), quantization(kind.results[0])
        return HostModel(compile_host(module)), *scales


def test_published_network_on_photos(zoo: Any) -> None:
    path = zoo / "models" / "tinyengine" / "vww.tflite"
    data, images = path.read_bytes(), photos(zoo, 60)
    model, (scale, zero), (scale_y, zero_y) = on_host(data)
    real = [((i.astype(np.float32) - zero) * np.float32(scale)) for i in images]
    wanted = oracle_units(data, real, scale_y, zero_y)
    found = [model.call("infer", image)[0].reshape(-1).astype(int) for image in images]
    pairs = list(zip(found, wanted, strict=True))
    assert len(pairs) == 63
    assert all(a.argmax() == b.argmax() for a, b in pairs)
    assert sum(np.abs(a - b).max() <= 1 for a, b in pairs) >= 0.98 * len(pairs)


def test_published_digit_network(zoo: Any) -> None:
    path = zoo / "models" / "tinyengine" / "ptq_mnist_lenet-300-100.tflite"
    with np.load(zoo / "small" / "mnist_28.npz") as digits:
        pixels, labels = digits["test_x"][:200], digits["test_labels"][:200]
    images = [(p.astype(np.int16) - 128).astype(np.int8).reshape(1, 28, 28, 1) for p in pixels]
    model, (scale, zero), (scale_y, zero_y) = on_host(path.read_bytes())
    found = [model.call("infer", image)[0].reshape(-1).astype(int) for image in images]
    assert np.mean([f.argmax() == label for f, label in zip(found, labels, strict=True)]) > 0.9
    real = [((i.astype(np.float32) - zero) * np.float32(scale)) for i in images]
    oracle = interpreter(path.read_bytes())
    given, result = oracle.get_input_details()[0], oracle.get_output_details()[0]
    for image, own in zip(real, found, strict=True):
        oracle.set_tensor(given["index"], image)
        oracle.invoke()
        logits = (own - zero_y) * scale_y
        log_softmax = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        want = oracle.get_tensor(result["index"]).reshape(-1)
        np.testing.assert_allclose(log_softmax, want, atol=2.1 * scale_y)
        assert own.argmax() == want.argmax()


@pytest.mark.slow
def test_published_network_trains_on_the_core(zoo: Any, tmp_path: Any, capsys: Any) -> None:
    """A new head of two classes and the last blocks of a published network, on a Cortex-M7."""
    from test_slice import compiled, ran

    scheme = tmp_path / "scheme.json"
    scheme.write_text(
        '{"name": "last", "biases": 6, "weights": {"conv_2d.57": 0.5, "conv_2d.55": 0.25}}'
    )
    np.savez(tmp_path / "photos.npz", x=np.concatenate(photos(zoo, 3)), y=[1, 0, 1, 0, 0, 0])
    model = zoo / "models" / "tinyengine" / "vww.tflite"
    options = ("--classes", "2", "--target", "cortex-m7", "--scheme", str(scheme))
    report = compiled(model, tmp_path / "out", capsys, *options)
    assert report["sram_bytes"]["total"] < 128 * 1024
    result = ran(tmp_path / "out", tmp_path / "photos.npz", capsys, "--steps", "2", "--check")
    assert result["check"]["passed"] and result["check"]["device"]["integers"] > 100_000
