"""Full-precision fine-tuning: the meaning of the ops, finite differences, and other machines."""

import json
import subprocess
import sys

import numpy as np
import pytest
import small_network
from test_pooled_network import image_network, signal_network

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.dialect import read_module
from tiny_dialect.errors import InvalidOption
from tiny_dialect.semantics.relaxed import relax
from tiny_passes.graph import TRAIN_STEP, body, find_function
from tiny_passes.registry import run_pipeline
from tiny_pipelines.cli import tiny_accuracy
from tiny_pipelines.datasets import DataSet, Split, load_dataset
from tiny_pipelines.dequantize import dequantized
from tiny_pipelines.float_experiment import FloatExperiment, FrozenFeatures
from tiny_pipelines.float_network import read_float_network
from tiny_pipelines.float_step import FloatStep
from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.gradient_ratios import StepGradients
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_pipelines.training_plan import TrainingPlan

torch = pytest.importorskip("torch")

NETWORKS = {
    "small": small_network.build,
    "image": lambda: emit(image_network()),
    "signal": lambda: emit(signal_network()),
}
PARTIAL = {"name": "partial", "biases": 1, "weights": {"1": 0.4}}


def samples_for(module, count=6):
    """A data set of random int8 inputs of the model's shape."""
    function = find_function(module, "infer")
    shape = function.regions[0].blocks[0].arguments[0].type.shape
    rng = np.random.default_rng(3)
    split = Split(
        rng.integers(-128, 128, (count, *shape[1:])).astype(np.int8), np.arange(count) % 4
    )
    return DataSet(split, split, 4, "random")


def network_of(name, scheme="full"):
    """(the sparse step, its float network, data)."""
    module = NETWORKS[name]()
    data = samples_for(module)
    options = TrainingOptions(scheme, "float32", "float32")
    module = build_training_step(module, options, until="sparse")
    return module, dequantized(module, data), data


def relaxed_logits(module, x):
    """Logits by the relaxed meaning of every op, float64, clamped where the integers are."""
    step = find_function(module, TRAIN_STEP)
    values = {step.regions[0].blocks[0].arguments[0]: x}
    for op in body(step):
        name = op.operation.name
        if name == "tiny.softmax_cross_entropy":
            return values[op.operands[0]].reshape(-1)
        if name == "tiny.parameter":
            values[op.results[0]] = to_array(op.value)
            continue
        y = relax(op, [values[operand] for operand in op.operands])
        if "clamp" in op.attributes:
            y = np.clip(y, *to_list(op.attributes["clamp"]))
        values[op.results[0]] = y
    raise AssertionError("no loss")


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_the_relaxed_ops(name, context):
    module, network, data = network_of(name)
    step = FloatStep(network, precision="float64")
    found = step.logits(step.features(data.train.samples)).detach().numpy()
    for x, logits in zip(data.train.samples, found, strict=True):
        np.testing.assert_allclose(logits, relaxed_logits(module, x[None]), rtol=1e-5, atol=1e-6)


@pytest.fixture
def partial(tmp_path):
    path = tmp_path / "partial.json"
    path.write_text(json.dumps(PARTIAL))
    return str(path)


@pytest.mark.parametrize("name", NETWORKS)
def test_partly_trained_weights_and_a_frozen_part_change_no_logit(name, context, partial):
    logits = []
    for scheme in ("full", partial):
        _, network, data = network_of(name, scheme)
        step = FloatStep(network, precision="float64")
        features = step.features(data.train.samples)
        logits.append(step.logits(features).detach().numpy())
        assert (features[0].shape[1:] == data.train.samples.shape[1:]) == (scheme == "full")
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_update_is_minus_the_rate_times_the_finite_difference(name, context, partial):
    for scheme in ("full", partial):
        _, network, data = network_of(name, scheme)
        step = FloatStep(network, precision="float64")
        features = step.features(data.train.samples[:3])
        labels = step.labels(data.train.labels[:3])
        before = step.state()
        expected = {symbol: slope(step, features, labels, symbol) for symbol in before}
        step.load_state(before)
        step.train(features, labels, 0.5)
        for symbol, (direction, derivative) in expected.items():
            moved = ((step.state()[symbol] - before[symbol]) * direction).sum()
            assert moved == pytest.approx(-0.5 * derivative, rel=1e-4, abs=1e-7), symbol


def slope(step, features, labels, symbol, distance=1e-6):
    """A direction of one parameter and the derivative of the loss along it."""
    state = step.state()
    direction = np.random.default_rng(7).normal(size=state[symbol].shape) * state[symbol].std()
    direction += 1e-3
    losses = []
    for sign in (1, -1):
        moved = {**state, symbol: state[symbol] + sign * distance * direction}
        step.load_state(moved)
        losses.append(float(step.losses(features, labels).sum().detach()))
    step.load_state(state)
    return direction, (losses[0] - losses[1]) / (2 * distance)


@pytest.fixture
def digits(repository):
    return repository / "examples" / "digits"


def test_gradients_are_those_of_the_backward_ops_without_rounding(digits, context):
    """Two implementations of one derivative; they differ by half a unit at clamps."""
    data = load_dataset(digits / "shifted.npz")
    made = {}
    for update, until in (("float32", "sparse"), ("int8", "scaled")):
        module = read_module(digits / "digits.mlirbc")
        options = TrainingOptions("full", update, "float32")
        made[update] = build_training_step(module, options, until=until)
    network = dequantized(made["float32"], data)
    x, label = network.preprocessing.apply(data.train.samples[0]), int(data.train.labels[0])
    step = FloatStep(network)
    before = step.state()
    step.train(step.features(x), step.labels(np.array([label])), 1.0)
    moved = {symbol: before[symbol] - value for symbol, value in step.state().items()}
    backward = StepGradients(find_function(made["int8"], TRAIN_STEP), rounding=False)
    backward.add(x, label)
    stored = {one.symbol: one.value for one in network.parameters.values()}
    assert set(moved) == set(backward.sums) and set(moved) <= set(stored)
    for symbol, gradient in backward.sums.items():
        # A direction only: the two count in other units, channel by channel.
        one, other = (g.reshape(len(g), -1) for g in (moved[symbol], gradient))
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosines = ((one * other).sum(axis=1) / np.maximum(norms, 1e-30))[norms > 1e-12]
        assert cosines.size and np.median(cosines) > 0.98, symbol


def test_large_features_are_not_kept_and_change_nothing(digits, context, monkeypatch):
    data = load_dataset(digits / "shifted.npz")
    losses = []
    for most in (1, 1 << 30):
        module = read_module(digits / "digits.mlirbc")
        options = TrainingOptions("classifier-only", "float32", "float32")
        network = dequantized(build_training_step(module, options, until="sparse"), data)
        monkeypatch.setattr("tiny_pipelines.float_experiment.MOST_CACHED_BYTES", most)
        experiment = FloatExperiment(FloatStep(network), data, FrozenFeatures())
        losses.append(experiment.train(TrainingPlan(steps=5, batch=3, rate=0.001)))
        experiment.model.reset()
        assert experiment.train(TrainingPlan(steps=1, batch=3, rate=0.001))[0] == losses[-1][0]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_an_op_without_a_float_form_is_named(context):
    module, _, data = network_of("small")
    run_pipeline(module, "tiny-rescale-gradients,tiny-extract-inference,tiny-fuse-blocks{all=true}")
    with pytest.raises(InvalidOption, match="no float form"):
        dequantized(module, data)


def test_a_device_that_is_not_there_is_named(context):
    _, network, _ = network_of("small")
    with pytest.raises(InvalidOption, match="PyTorch has no device nonsense here"):
        FloatStep(network, device="nonsense")


def test_a_file_that_holds_no_network_is_named(tmp_path):
    path = tmp_path / "odd.npz"
    np.savez(path, x=np.zeros(3))
    for wrong in (path, tmp_path / "none.npz"):
        with pytest.raises(InvalidOption) as raised:
            read_float_network(wrong)
        assert str(wrong) in str(raised.value)


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch_mlir", "iree", "unicorn", "ortools"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from pathlib import Path
from tiny_pipelines.accuracy.experiments import Places
from tiny_pipelines.accuracy.run import experiments_of
from tiny_pipelines.accuracy.study import read_study
study, files, networks = (Path(one) for one in sys.argv[1:])
study = read_study(study)
record = experiments_of(study, study.rows[0], Places(files, networks)).make(3.0, 0, False)
print(record["accuracy"], *record["loss"])
"""


def test_a_row_in_float_runs_where_there_is_no_mlir(digits, tmp_path, capsys):
    row = {"name": "float", "arithmetic": "float", "rate": 3.0}
    record = {
        "title": "t", "data": "shifted.npz", "seeds": [0], "limits": [60, 40],
        "defaults": {"model": "digits.mlirbc", "scheme": "sparse.json"},
        "sections": [{"title": "s", "rows": [row]}],
    }  # fmt: skip
    study, networks, runs = tmp_path / "study.json", tmp_path / "networks", tmp_path / "runs"
    study.write_text(json.dumps(record))
    arguments = [str(study), "--files", str(digits), "-o", str(runs)]
    assert tiny_accuracy.main([*arguments, "--export", str(networks)]) == 0
    assert not runs.exists() and len(capsys.readouterr().out.splitlines()) == 1
    assert tiny_accuracy.main(arguments) == 0
    here = json.loads((runs / "float.seed-0.json").read_text())
    assert "arena_bytes" not in here and "update" not in here
    data = tmp_path / "data"
    data.mkdir()
    (data / "shifted.npz").write_bytes((digits / "shifted.npz").read_bytes())
    line = [sys.executable, "-c", BLOCKED, str(study), str(data), str(networks)]
    there = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    assert [float(one) for one in there] == [here["accuracy"], *here["loss"]]
