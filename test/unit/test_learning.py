"""Training as a tool: batches, the cached prefix, checkpoints, collapse, rates, curves, sources."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import small_network

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, to_bytecode
from tiny_dialect.errors import InvalidOption
from tiny_dialect.semantics import initial_state, run
from tiny_passes.graph import functions
from tiny_pipelines.checkpoint import InvalidCheckpoint
from tiny_pipelines.cli import tiny_train
from tiny_pipelines.collapse import CollapseGuard, still_falls
from tiny_pipelines.datasets import DataSet, InvalidData, Split
from tiny_pipelines.experiment import Logging, TrainingPlan, load_experiment
from tiny_pipelines.image_folders import dataset_of, open_dataset
from tiny_pipelines.learning_curve import learning_curve
from tiny_pipelines.rate_proposal import propose_rate, validation_split
from tiny_pipelines.training import TrainingOptions, build_training_step


def corners(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (count, 9, 7, 3)).astype(np.uint8)
    labels = rng.integers(0, 2, count)
    for image, label in zip(images, labels, strict=True):
        image[:, :, label] += 120
    return Split(images, labels.astype(np.int64))


DATA = DataSet(corners(60, 0), corners(40, 1), 2, "corners")
LAST = '{"name": "last", "biases": 1, "weights": {}}'


@pytest.fixture(scope="module")
def scheme(tmp_path_factory):
    path = tmp_path_factory.mktemp("scheme") / "last.json"
    path.write_text(LAST)
    return str(path)


def module_of(scheme, **options):
    chosen = TrainingOptions(scheme, **options)
    return build_training_step(small_network.build(), chosen, until="scheduled")


@pytest.fixture(scope="module")
def batched(scheme):
    """An experiment that sums gradients, with a cached prefix and random rounding."""
    with new_context(), ir.Location.unknown():
        options = {"accumulate": True, "split_prefix": True, "update": "int8-stochastic"}
        module = module_of("full", **options)
        yield load_experiment(module, DATA)


def test_summed_gradients_equal_the_semantics_and_move_once_a_batch(context):
    module = module_of("full", accumulate=True, update="int8-stochastic")
    known = functions(module)
    state = initial_state(known["train_step"]) | initial_state(known["apply_updates"])
    start = {name: value.copy() for name, value in state.items()}
    model = load_experiment(module, DATA).model
    assert set(model.symbols) == set(state)
    one, rate = np.array(1, np.float32), np.array(0.01, np.float32)
    for number in range(3):
        x, label = small_network.sample(number), np.array(number, np.int32)
        run(known["train_step"], [x, label, one], state)
        model.train_step(x, number, 1.0)
        for name in start:
            moved = (state[name] != start[name]).any()
            assert not moved or name.endswith(".gradient"), name
    run(known["apply_updates"], [rate], state)
    model.apply_updates(0.01)
    for name, value in model.state().items():
        if name.endswith(".gradient"):
            assert not value.any() and not state[name].any()
        elif value.dtype == np.float32:
            np.testing.assert_allclose(value, state[name], rtol=1e-4, atol=1e-5)
        else:
            assert (value != state[name]).mean() <= 0.01, name
    assert state["step_counter"].tolist() == [1]


def test_a_batch_of_one_is_the_plain_step(context):
    plain = load_experiment(module_of("full", gradients="float32"), DATA)
    summed = load_experiment(module_of("full", accumulate=True), DATA)
    plan = TrainingPlan(steps=15, rate=0.003)
    np.testing.assert_allclose(plain.train(plan), summed.train(plan), rtol=1e-4)
    with pytest.raises(InvalidOption, match="batch 1 only"):
        plain.train(replace(plan, batch=2))
    with pytest.raises(InvalidOption, match="integer gradients need --update"):
        TrainingOptions("full", "int8-truncate", gradients="int8", accumulate=True)


def test_the_prefix_changes_no_integer_and_is_computed_once(context, scheme):
    whole = load_experiment(module_of(scheme), DATA)
    split_module = module_of(scheme, split_prefix=True)
    assert set(functions(split_module)) == {"prefix", "train_step", "infer"}
    split = load_experiment(split_module, DATA)
    calls = []
    compute = split.model.prefix
    split.inputs._prefix = lambda x: calls.append(1) or compute(x)
    plan = TrainingPlan(epochs=2, rate=0.003)
    results = [experiment.run(plan) for experiment in (whole, split)]
    assert len(calls) == len(DATA.train) + len(DATA.test)
    np.testing.assert_allclose(results[0].losses, results[1].losses, rtol=1e-4)
    for name, value in whole.model.state().items():
        difference = np.abs(value.astype(np.float64) - split.model.state()[name])
        assert difference.max() <= (1e-4 if value.dtype == np.float32 else 1)


def test_a_network_without_a_frozen_layer_keeps_its_input(context):
    module = module_of("full", split_prefix=True)
    assert "prefix" not in functions(module)


class Stop(Exception):
    pass


def test_a_stopped_run_goes_on_bit_for_bit(batched, tmp_path):
    plan = TrainingPlan(epochs=3, rate=0.001, batch=8, warmup=1, seed=3)
    batched.model.reset()
    expected = batched.run(plan)
    state = batched.model.state()

    path = tmp_path / "run.npz"
    logging = Logging(path, {"model": "a"})

    def stop_after_two(epochs):
        if len(epochs) == 2:
            raise Stop

    batched.model.reset()
    with pytest.raises(Stop):
        batched.run(plan, replace(logging, on_epoch=stop_after_two))
    batched.model.reset()
    result = batched.run(plan, logging)
    assert result.losses == expected.losses
    assert result.accuracy_before == expected.accuracy_before
    assert [record["epoch"] for record in result.epochs] == [1, 2, 3]
    np.testing.assert_equal(batched.model.state(), state)
    with pytest.raises(InvalidCheckpoint, match="another run: model, seed differ"):
        batched.run(replace(plan, seed=4), Logging(path, {"model": "b"}))
    path.write_bytes(b"PK no zip")
    with pytest.raises(InvalidCheckpoint, match="not a readable checkpoint"):
        batched.run(plan, logging)


def write_files(folder):
    """(model file, data file) of the small network."""
    model, data = folder / "small.mlirbc", folder / "corners.npz"
    with new_context(), ir.Location.unknown():
        model.write_bytes(to_bytecode(small_network.build()))
    np.savez(
        data,
        train_images=DATA.train.samples,
        train_labels=DATA.train.labels,
        test_images=DATA.test.samples,
        test_labels=DATA.test.labels,
    )
    return str(model), str(data)


def test_a_killed_command_goes_on_bit_for_bit(tmp_path):
    model, data = write_files(tmp_path)
    command = [
        sys.executable, "-m", "tiny_pipelines.cli.tiny_train", model, "--data", data,
        "--scheme", "full", "--epochs", "60", "--lr", "0.0005", "--json",
    ]  # fmt: skip
    runner = "import sys; from tiny_pipelines.cli.tiny_train import main; sys.exit(main())"
    command[1:3] = ["-c", runner]
    checkpoint = tmp_path / "run.npz"
    whole, parts = str(tmp_path / "whole.npz"), str(tmp_path / "parts.npz")
    resumed = [*command, "--checkpoint", str(checkpoint), "-o", parts]
    process = subprocess.Popen(resumed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    assert not (tmp_path / "parts.npz").exists()
    records = [
        json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
        for line in (resumed, [*command, "-o", whole])
    ]
    assert records[0]["loss"] == records[1]["loss"]
    np.testing.assert_equal(dict(np.load(parts)), dict(np.load(whole)))


def test_warm_up_rises_then_the_cosine_falls():
    plan = TrainingPlan(epochs=4, rate=1.0, batch=8, warmup=1)
    assert plan.steps_an_epoch(60) == 8 and plan.total_steps(60) == 32
    rates = [plan.rate_at(step, 32, plan.warmup_steps(60)) for step in range(32)]
    assert rates[:8] == sorted(rates[:8]) and rates[8] == 1.0
    assert rates[8:] == sorted(rates[8:], reverse=True) and rates[-1] < 0.01
    batches = plan.batches(60)
    epoch = [next(batches) for _ in range(8)]
    assert [len(batch) for batch in epoch] == [8] * 7 + [4]
    assert sorted(index for batch in epoch for index in batch) == list(range(60))
    for wrong in ({"batch": 0}, {"warmup": -1.0}):
        with pytest.raises(InvalidOption):
            TrainingPlan(**wrong)


def test_the_guard_sees_a_collapse_and_a_recovery():
    guard = CollapseGuard(10, 1000)
    assert guard.window == 100
    assert not any(guard.observe(2.0) for _ in range(300))
    assert sum(guard.observe(9.0) for _ in range(100)) == 1
    assert guard.collapsed_at is not None and guard.collapsed_at > 300
    assert not any(guard.observe(0.1) for _ in range(200))
    assert guard.collapsed_at is None


def test_a_run_that_never_left_guessing_was_too_slow_where_its_loss_falls():
    falling = list(np.linspace(3.5, 3.0, 200))
    assert still_falls(falling, 17)
    assert still_falls([3.0, 2.9] * 100, 10), "flat"
    assert not still_falls([2.0] * 150 + [9.0] * 50, 10), "it was better before"
    assert not still_falls([11.0] * 20 + [1.0] * 100 + [6.0] * 80, 10), "no more than the first"
    assert not still_falls([1.2] * 4 + [250.0] * 150 + [60.0] * 46, 4), "too fast from the start"


def test_a_collapsed_run_says_so_and_no_such_rate_is_proposed(batched):
    batched.model.reset()
    assert batched.run(TrainingPlan(epochs=5, rate=30.0, batch=4)).collapsed_at is not None
    plan = TrainingPlan(epochs=3, batch=4)
    proposal = propose_rate(batched, plan, [1e-9, 0.001, 30.0])
    assert proposal.rate == 0.001
    assert proposal.trials[2].accuracy is None
    assert batched.data is DATA
    with pytest.raises(InvalidOption, match="every rate"):
        propose_rate(batched, replace(plan, epochs=5), [30.0])


class _Reaching:
    """An experiment that reaches an accuracy that its rate decides; None collapses.

    What reaches no more than guessing has the guard's mark of a collapse, but a loss that falls.
    """

    def __init__(self, accuracies):
        self.data, self.model, self.tried = DATA, SimpleNamespace(reset=lambda: None), []
        self._accuracies = accuracies

    def accuracy(self, _split, _phase):
        return 0.25

    def run(self, plan):
        self.tried.append(plan.rate)
        reached = self._accuracies(plan.rate)
        losses = [1.0] * 50 + [9.0] * 50 if reached is None else [3.0] * 50 + [2.9] * 50
        collapsed = 1 if reached is None or reached <= 0.25 else None
        return SimpleNamespace(accuracy_after=reached, collapsed_at=collapsed, losses=losses)


@pytest.mark.parametrize(
    ("accuracies", "best", "tried"),
    [
        # Better and better, until it collapses.
        (lambda rate: None if rate > 8 else 0.3 + rate / 20, 8.0, [1, 2, 4, 8, 16]),
        # None has learned anything yet.
        (lambda rate: 0.25 if rate < 8 else 0.9, 8.0, [1, 2, 4, 8, 16]),
        # All of them are too high, or the lowest is much the best.
        (lambda rate: None if rate > 0.3 else 0.5, 0.125, [1, 2, 0.5, 0.25, 0.125]),
        (lambda rate: 0.9 - abs(rate - 0.5), 0.5, [1, 2, 0.5, 0.25]),
        # The best is between them, or all are as good.
        (lambda rate: 0.9 - abs(rate - 1), 1.0, [1, 2, 0.5]),
        (lambda rate: 0.9, 1.0, [1, 2]),
        # As far as it goes, and no farther.
        (lambda rate: 0.3 + rate / 100, 512.0, [2.0**n for n in range(10)]),
    ],
)
def test_rates_beyond_those_asked_for_are_tried_while_the_best_may_lie_there(
    accuracies, best, tried
):
    experiment = _Reaching(accuracies)
    proposal = propose_rate(experiment, TrainingPlan(), [1.0, 2.0], beyond=True)
    assert proposal.rate == best
    assert experiment.tried == tried
    assert experiment.data is DATA


def test_validation_comes_from_the_training_images_alone():
    parted = validation_split(DATA, 0)
    assert (len(parted.train), len(parted.test)) == (48, 12)
    rows = {sample.tobytes() for sample in DATA.train.samples}
    assert {s.tobytes() for s in (*parted.train.samples, *parted.test.samples)} == rows


def test_a_curve_is_well_formed():
    epochs = [{"epoch": i, "loss": 2 / i, "accuracy": 1 - 1 / i} for i in range(1, 5)]
    root = ElementTree.fromstring(learning_curve(epochs, "a <b> & c"))
    lines = [child for child in root if child.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [4, 4]
    ElementTree.fromstring(learning_curve([{"epoch": 1, "loss": 0.0}], "one"))
    ElementTree.fromstring(learning_curve([], "none"))


def test_the_command_logs_batches_and_draws(tmp_path, capsys):
    model, data = write_files(tmp_path)
    log, curve = tmp_path / "log.jsonl", tmp_path / "curve.svg"
    arguments = [
        model, "--data", data, "--scheme", "full", "--epochs", "3", "--batch", "4",
        "--update", "int8-stochastic", "--propose-rate", "--rates", "0.0005,0.001",
        "--log", str(log), "--curve", str(curve), "--json",
    ]  # fmt: skip
    assert tiny_train.main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["steps"] == 45 and record["rate"] in (0.0005, 0.001)
    assert len(record["proposal"]["trials"]) == 2
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["accuracy"] == record["accuracy_after"]
    ElementTree.fromstring(curve.read_text())
    for extra, complaint in (
        (["--lr", "0.1"], "drop --lr"),
        (["--rates", "a,b"], "expected numbers"),
        (["--batch", "0"], "batch of at least 1"),
        (["--update", "int8-truncate", "--gradients", "int8"], "integer gradients need"),
    ):
        assert tiny_train.main([*arguments, *extra]) == 1
        assert complaint in capsys.readouterr().err


def test_the_command_says_that_a_run_has_collapsed_and_proposes_a_rate_below(tmp_path, capsys):
    model, data = write_files(tmp_path)
    arguments = [model, "--data", data, "--scheme", "full", "--epochs", "5", "--batch", "4"]
    assert tiny_train.main([*arguments, "--lr", "30", "--json"]) == 0
    captured = capsys.readouterr()
    assert "the run has collapsed: from sample" in captured.err
    assert json.loads(captured.out)["collapsed_at"] is not None
    propose = [*arguments, "--propose-rate", "--rates", "0.001,30"]
    assert tiny_train.main([*propose, "--json"]) == 0
    captured = capsys.readouterr()
    assert "30.000000 (7.68e+03/256): collapsed" in captured.err
    assert json.loads(captured.out)["rate"] == 0.001


def test_folders_of_images_are_data_sets(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is optional")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 5, 4, 3)).astype(np.uint8)
    for number, sample in enumerate(pixels):
        folder = tmp_path / "set" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(sample).save(folder / f"{number:02}.png")
    data = open_dataset(tmp_path / "set")
    assert (len(data.train), len(data.test), data.classes) == (10, 2, 2)
    np.testing.assert_array_equal(data.train.samples[0], pixels[0])
    np.testing.assert_array_equal(data.test.labels, [0, 1])
    assert open_dataset(tmp_path / "set", (8, 6)).train.samples.shape == (10, 8, 6, 3)
    (tmp_path / "set" / "cat" / "00.png").write_bytes(b"no image")
    with pytest.raises(InvalidData, match=r"00\.png: is not a readable image"):
        open_dataset(tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidData, match="one folder for each class"):
        open_dataset(tmp_path / "empty")


def test_iterables_of_pairs_are_data_sets():
    pairs = list(zip(DATA.train.samples, DATA.train.labels, strict=True))
    data = dataset_of(iter(pairs), (pair for pair in pairs[:5]))
    np.testing.assert_array_equal(data.train.samples, DATA.train.samples)
    assert (len(data.test), data.classes) == (5, 2)
    for wrong, complaint in (
        ([], "no samples"),
        ([(np.zeros((2, 2), np.uint8), 0), (np.zeros((2, 3), np.uint8), 0)], "samples differ"),
        ([(np.zeros((2, 2), np.int32), 0)], "int32"),
        ([(np.zeros((2, 2), np.uint8), -1)], "negative label"),
    ):
        with pytest.raises(InvalidData, match=complaint):
            dataset_of(wrong, pairs)
