"""Weights beside gradients: with rescaling an int8 step treats layers as float training would."""

import json

import numpy as np
import pytest

from tiny_dialect.dialect import read_module
from tiny_passes.graph import TRAIN_STEP, find_function
from tiny_pipelines import gradient_ratios, torch_step
from tiny_pipelines.plot_frame import round_ticks
from tiny_pipelines.ratio_plot import ratio_plot
from tiny_pipelines.training import TrainingOptions, build_training_step


@pytest.fixture
def files(repository):
    folder = repository / "examples" / "digits"
    return folder / "digits.mlirbc", folder / "shifted.npz"


def test_the_command_shows_that_rescaling_brings_int8_to_float(files, tmp_path, capsys):
    model, data = files
    picture = tmp_path / "ratios.svg"
    options = [str(model), "--data", str(data), "--samples", "4", "--svg", str(picture)]
    assert gradient_ratios.main([*options, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["distance"]["int8"] > 4 > 0.3 > record["distance"]["rescaled"]
    symbols = [ratio["symbol"] for ratio in record["ratios"]]
    assert symbols[0] == "stem.weight" and len(set(symbols)) == len(symbols)
    text = picture.read_text()
    assert text.count("<polyline") == 3 and text.count("stem.weight") == 1
    assert gradient_ratios.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(symbols) + 2 and lines[-1].startswith("mean distance")


def test_gradients_without_rounding_point_where_those_of_the_step_do(files, context):
    from tiny_pipelines.datasets import load_dataset, preprocessing_of

    model, path = files
    module = read_module(model)
    options = TrainingOptions("full", "int8", "float32")
    step = find_function(build_training_step(module, options, until="scaled"), TRAIN_STEP)
    data = load_dataset(path)
    x = preprocessing_of(step).apply(data.train.samples[0])
    label = int(data.train.labels[0])
    real, stored = (gradient_ratios.StepGradients(step, rounding=r) for r in (False, True))
    real.add(x, label)
    stored.add(x, label)
    assert set(real.sums) == set(stored.sums)
    for symbol, gradient in real.sums.items():
        other = stored.sums[symbol]
        cosine = (gradient * other).sum() / np.linalg.norm(gradient) / np.linalg.norm(other)
        assert cosine > 0.5 and not np.array_equal(gradient, other), symbol
    before = {symbol: value.copy() for symbol, value in real.sums.items()}
    real.add(x, label)
    for symbol, value in before.items():
        np.testing.assert_allclose(real.sums[symbol], 2 * value)


def test_a_picture_has_gaps_where_there_is_no_ratio():
    text = ratio_plot(["a", "b<"], [[1.0, None], [2.0, 3.0]], ["x", "y"])
    assert "b&lt;" in text and text.count("<polyline") == 2


def test_a_picture_of_many_names_shows_as_many_as_there_is_room_for():
    text = ratio_plot([f"name{i}" for i in range(100)], [[float(i)] for i in range(100)], ["x"])
    assert text.count(">name") == 50 and ">name0<" in text and ">name1<" not in text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.039, 0.094, [-0.02, 0.0, 0.02, 0.04, 0.06, 0.08]),
        (-2.3, 11.6, [0, 5, 10]),
        (1000, 26000, [5000, 10000, 15000, 20000, 25000]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    assert round_ticks(low, high) == ticks


def test_an_unreadable_model_is_one_line(tmp_path, capsys):
    path = tmp_path / "model.mlir"
    path.write_text("nothing")
    assert gradient_ratios.main([str(path), "--data", str(tmp_path / "no.npz")]) == 1
    assert capsys.readouterr().err.startswith("gradient_ratios: ")


def test_pytorch_sees_the_same_loss(files, capsys):
    pytest.importorskip("torch")
    model, data = files
    options = ["--scheme", "classifier-only", "--data", str(data), "--batch", "1", "8"]
    limits = ["--seconds", "0.2", "--samples", "16", "--json"]
    assert torch_step.main([str(model), *options, *limits]) == 0
    for one in json.loads(capsys.readouterr().out):
        assert min(one["compiled"], one["torch"], one["float_torch"]) > 0
        assert one["torch_loss"] == pytest.approx(one["compiled_loss"], rel=0.02)
        assert one["float_torch_loss"] == pytest.approx(one["compiled_loss"], rel=0.05)
