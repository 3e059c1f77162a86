"""What stands at the edges of a TFLite file, and files that are not int8."""

import numpy as np
import pytest

pytest.importorskip("tflite", reason="needs tflite and flatbuffers: pip install -e '.[oracles]'")

from test_tflite_import import IMAGE, imported, mean, refused
from tflite_files import SCALE, ZERO, TfliteFile, fully_connected, options

from tiny_dialect.dialect import new_context
from tiny_pipelines.frontends import import_bytes


def test_edges_are_dropped() -> None:
    file = TfliteFile()
    raw = file.tensor(IMAGE, np.uint8, SCALE, ZERO + 128)
    x = file.op("QUANTIZE", [raw], file.activation(IMAGE))
    y = mean([1, 2], (1, 3), False, False)(file, x)
    logits = fully_connected(file, y, 3, 4)
    real = file.op("DEQUANTIZE", [logits], file.tensor((1, 4), np.float32))
    result = file.op(
        "SOFTMAX", [real], file.tensor((1, 4), np.float32), options("SoftmaxOptions", Beta=1.0)
    )
    with new_context():
        text = str(import_bytes(file.build(raw, result), "m.tflite"))
    assert 'tiny.preprocess = "int8 value = uint8 pixel - 128, NHWC"' in text
    assert "softmax" not in text and "dequantize" not in text


def test_sigmoid_of_logits_is_dropped() -> None:
    def detector(file: TfliteFile, x: int) -> int:
        return file.op("LOGISTIC", [fully_connected(file, x, 105, 1)], file.activation((1, 1)))

    text = imported(detector)
    assert "-> tensor<1x1x1x1x!quant" in text and "logistic" not in text


def test_names_the_type_of_a_model_that_is_not_int8() -> None:
    def mixed(file: TfliteFile, x: int) -> int:
        w, _ = file.weights((4, 105), 0)
        real = file.tensor((1, 105), np.float32)
        return file.op("FULLY_CONNECTED", [real, w, -1], file.tensor((1, 4), np.float32))

    refused(mixed, r"of type float32 as input 0; only int8 activations .* full integer quantizat")
