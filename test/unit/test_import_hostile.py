"""Damaged model files: one clean line or a valid module, never a traceback or a hang."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite", reason="needs tflite and flatbuffers: pip install -e '.[oracles]'")
pytest.importorskip("onnx", reason="needs the onnx package: pip install -e '.[onnx]'")

import onnx_files
import test_onnx_import
import test_tflite_import
import tflite_files

from tiny_dialect.dialect import new_context
from tiny_dialect.errors import TinyError
from tiny_pipelines.frontends import import_bytes


def small_tflite() -> bytes:
    file = tflite_files.TfliteFile()
    x = file.activation(test_tflite_import.IMAGE)
    y = tflite_files.conv(file, x, (4, 3, 3, 3), (1, 7, 5, 4), activation=1)
    kept = file.tensors[y]
    scale, zero = float(kept["scales"][0]), int(kept["zeros"][0])
    pooled = file.activation((1, 4, 3, 4), scale, zero)
    chosen = tflite_files.options(
        "Pool2DOptions", Padding=0, StrideH=2, StrideW=2, FilterHeight=2, FilterWidth=2
    )
    y = file.op("MAX_POOL_2D", [y], pooled, chosen)
    return file.build(x, tflite_files.fully_connected(file, y, 48, 3))


def small_onnx() -> bytes:
    return test_onnx_import.graph_of(test_onnx_import.network, (1, 3, 12, 15))


FILES = {"tflite": small_tflite(), "onnx": small_onnx()}
assert onnx_files.OPSET


def mutated(data: bytes, seed: int) -> bytes:
    """Truncated, or with some bytes, words or pieces changed."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        place = rng.randrange(8, len(out))
        kind = rng.randrange(5)
        if kind == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            word = rng.choice([0, 1, 2**31 - 1, 2**32 - 1, len(data), rng.randrange(2**32)])
            out[place : place + 4] = word.to_bytes(4, "little")
        elif kind == 2:
            out[place : place + rng.randrange(1, 9)] = b""
        elif kind == 3:
            start = rng.randrange(len(out))
            out[place:place] = out[start : start + rng.randrange(1, 17)]
        else:
            del out[max(place, 9) :]
        if len(out) < 10:
            break
    return bytes(out)


def try_import(data: bytes) -> Any:
    """The module, or the error, which must be one line."""
    with new_context():
        try:
            return str(import_bytes(data, "damaged"))
        except TinyError as error:
            assert "\n" not in str(error) and str(error).startswith("damaged")
            return error


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0, -1.0])
def test_scale_of_an_activation_function_that_is_no_scale(scale: float) -> None:
    file = tflite_files.TfliteFile()
    x = file.activation(test_tflite_import.IMAGE)
    y = tflite_files.conv(file, x, (4, 3, 3, 3), (1, 7, 5, 4), activation=1)
    file.tensors[y]["scales"] = np.array([scale], np.float32)
    error = try_import(file.build(x, y))
    assert isinstance(error, TinyError) and "a scale is positive and finite" in str(error)


def test_maximum_of_too_many_values_is_refused_at_its_layer() -> None:
    file = tflite_files.TfliteFile()
    build = test_tflite_import.pool("MAX_POOL_2D", (1, 1, 5, 3), (40_000, 1), (40_000, 1), 0)
    x = file.activation(test_tflite_import.IMAGE)
    error = try_import(file.build(x, build(file, x)))
    assert isinstance(error, TinyError) and "a maximum is of at most 32768 values" in str(error)


@pytest.mark.parametrize("name", FILES)
def test_whole_file_imports(name: str) -> None:
    assert isinstance(try_import(FILES[name]), str)


@pytest.mark.parametrize("name", FILES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_mutated_file_is_refused_in_one_line_or_valid(name: str, seed: int) -> None:
    try_import(mutated(FILES[name], seed))


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_refused(name: str) -> None:
    data = FILES[name]
    for length in sorted({*range(0, 64, 3), *range(64, len(data) - 1, len(data) // 40)}):
        assert isinstance(try_import(data[:length]), TinyError)


def test_vector_of_absurd_length_is_refused_at_once() -> None:
    from tiny_pipelines.frontends.flatbuffer import Damaged, Table

    # Root at 8, its vtable at 16: field 0 is a vector at 24 that claims 2^32 - 1 elements.
    words = [8, 0x334C4654, 2**32 - 8, 12, 0x00080006, 4, 2**32 - 1, 0]
    data = b"".join(word.to_bytes(4, "little") for word in words)
    table = Table.root(data)
    with pytest.raises(Damaged, match="reaches beyond the file"):
        table.array(0, "i32")
