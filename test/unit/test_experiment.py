"""Training on the host over a data set, and `tiny-train` as a user meets it."""

import json

import numpy as np
import pytest
import small_network

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, to_bytecode
from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import tiny_train
from tiny_pipelines.datasets import DataSet, InvalidData, Split
from tiny_pipelines.experiment import TrainingDiverged, TrainingPlan, load_experiment
from tiny_pipelines.training import TrainingOptions, build_training_step


def bright_corners(count, seed):
    """Images whose class is the corner that is bright: what a small network learns at once."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (count, 9, 7, 3)).astype(np.uint8)
    labels = rng.integers(0, 2, count)
    for image, label in zip(images, labels, strict=True):
        image[:, :, label] += 120
    return Split(images, labels.astype(np.int64))


DATA = DataSet(bright_corners(60, 0), bright_corners(40, 1), 2, "corners")


@pytest.fixture(scope="module")
def experiment():
    with new_context(), ir.Location.unknown():
        module = build_training_step(
            small_network.build(), TrainingOptions("full"), until="scheduled"
        )
        yield load_experiment(module, DATA)


def test_training_raises_the_accuracy_and_repeats(experiment):
    experiment.model.reset()
    plan = TrainingPlan(epochs=2, rate=0.003, seed=5)
    result = experiment.run(plan)
    state = experiment.model.state()
    assert result.steps == 120
    assert result.accuracy_after >= result.accuracy_before + 0.3
    assert np.mean(result.losses[-20:]) < np.mean(result.losses[:20])
    summary = result.summary()
    assert len(summary["loss"]) == 10 and summary["steps_per_second"] > 0
    json.dumps(summary)

    experiment.model.reset()
    assert experiment.train(plan) == result.losses
    np.testing.assert_equal(experiment.model.state(), state)
    experiment.model.reset()
    assert experiment.train(TrainingPlan(epochs=2, rate=0.003, seed=6)) != result.losses


def test_a_diverging_run_says_so(context):
    options = TrainingOptions("full", gradients="float32")  # integers saturate instead
    module = build_training_step(small_network.build(), options, until="scheduled")
    experiment = load_experiment(module, DATA)
    with pytest.raises(TrainingDiverged, match=r"at step .* lower rate"):
        experiment.train(TrainingPlan(steps=20, rate=3e38, schedule="constant"))


def test_labels_beyond_the_model_are_refused(context):
    module = build_training_step(small_network.build(), TrainingOptions("full"), until="scheduled")
    labels = DATA.train.labels + 3
    data = DataSet(Split(DATA.train.samples, labels), DATA.test, 5, "corners")
    with pytest.raises(InvalidData, match="label 4, but the model has 4 classes"):
        load_experiment(module, data)
    with pytest.raises(InvalidOption, match="no function @train_step"):
        load_experiment(small_network.build(), DATA)


def test_rates_of_a_plan():
    cosine = TrainingPlan(rate=0.5, epochs=2)
    assert cosine.total_steps(50) == 100
    assert cosine.rate_at(0, 100) == 0.5
    assert cosine.rate_at(50, 100) == pytest.approx(0.25)
    assert 0 < cosine.rate_at(99, 100) < 0.001
    assert TrainingPlan(rate=0.5, schedule="constant").rate_at(99, 100) == 0.5
    rates = ({"rate": rate} for rate in (float("nan"), -1.0, 1e39, 1e-40))
    for wrong in ({"epochs": -1}, {"seed": -1}, {"schedule": "linear"}, *rates):
        with pytest.raises(InvalidOption):
            TrainingPlan(**wrong)


@pytest.fixture
def files(tmp_path, context):
    """(model file, data file) of the small network."""
    model, data = tmp_path / "small.mlirbc", tmp_path / "corners.npz"
    model.write_bytes(to_bytecode(small_network.build()))
    np.savez(
        data,
        train_images=DATA.train.samples,
        train_labels=DATA.train.labels,
        test_images=DATA.test.samples,
        test_labels=DATA.test.labels,
    )
    return str(model), str(data)


def test_the_command_prints_json_and_writes_the_state(files, tmp_path, capsys):
    model, data = files
    state = tmp_path / "state.npz"
    arguments = [model, "--data", data, "--scheme", "full", "--steps", "30", "--lr", "0.003"]
    assert tiny_train.main([*arguments, "--limit-test", "10", "--json", "-o", str(state)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"], record["steps"], record["samples_test"]) == ("small", 30, 10)
    assert 0 <= record["accuracy_before"] <= 1 and 0 <= record["accuracy_after"] <= 1
    saved = dict(np.load(state))
    assert any(value.dtype == np.int16 for value in saved.values())


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ([], "--scheme is needed"),
        (["--scheme", "fulll"], "did you mean full?"),
        (["--scheme", "full", "--update", "int4"], "--update int4"),
        (["--scheme", "full", "--lr", "-1"], "rate of at least 0"),
        (["--scheme", "full", "--limit-train", "0"], "limit of at least 1"),
        (["--scheme", "full", "--epochs", "1", "--steps", "1"], "not allowed with"),
        (["--scheme", "full", "--data", "missing.npz"], "missing.npz: No such file"),
    ],
)
def test_the_command_refuses_in_one_line(files, tmp_path, capsys, extra, complaint):
    model, data = files
    state = tmp_path / "state.npz"
    assert tiny_train.main([model, "--data", data, "-o", str(state), *extra]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert complaint in captured.err
    assert not state.exists()
