"""The sensor example: its windows, its model, and what it learns on host and board."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tiny_dialect.dialect import read_module
from tiny_dialect.semantics import run
from tiny_dialect.types import quantization, shape_of
from tiny_passes.graph import INFER, find_function
from tiny_pipelines.datasets import load_dataset
from tiny_pipelines.experiment import TrainingPlan, load_experiment
from tiny_pipelines.training import TrainingOptions, build_training_step

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "sensor"


@pytest.fixture(scope="module")
def windows():
    sys.path.insert(0, str(FOLDER))
    import windows

    yield windows
    sys.path.remove(str(FOLDER))


@pytest.fixture
def module(context):
    return read_module(FOLDER / "motion.mlirbc")


def samples_of(windows, mounting, count, seed=1):
    return windows.windows(mounting, count, np.random.default_rng(seed))


def test_windows_are_seeded_and_balanced(windows) -> None:
    first, labels = samples_of(windows, windows.BELT, 50)
    again, _ = samples_of(windows, windows.BELT, 50)
    other, _ = samples_of(windows, windows.BELT, 50, seed=2)
    assert first.shape == (50, 1, windows.SAMPLES, 3)
    assert first.dtype == np.int8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.bincount(labels).tolist() == [10] * len(windows.CLASSES)


def test_windows_obey_physics(windows) -> None:
    matrix = windows.rotation(np.array(windows.ARM.angles))
    assert np.allclose(matrix @ matrix.T, np.eye(3))
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    generator = np.random.default_rng(3)
    for mounting in windows.MOUNTINGS:
        still = windows.window("still", mounting, generator).astype(float)
        length = np.linalg.norm(still, axis=1).mean() / windows.COUNTS_A_G
        assert length == pytest.approx(mounting.gain, abs=0.1)
        strength = [
            np.mean([windows.window(kind, mounting, generator).std(axis=0).sum() for _ in range(9)])
            for kind in ("still", "walk", "run")
        ]
        assert strength == sorted(strength)


def test_the_model_is_small_and_takes_what_the_sensor_hands_out(module) -> None:
    assert (FOLDER / "motion.mlirbc").stat().st_size < 8_000
    argument = find_function(module, INFER).regions[0].blocks[0].arguments[0]
    assert shape_of(argument) == (1, 1, 64, 3)
    assert quantization(argument) == (1 / 32, 0)


def test_the_model_knows_the_belt_only(module, windows) -> None:
    function = find_function(module, INFER)
    for mounting, least, most in ((windows.BELT, 0.95, 1.0), (windows.ARM, 0.0, 0.5)):
        samples, labels = samples_of(windows, mounting, 100)
        guesses = [int(run(function, [sample[None]])[0].argmax()) for sample in samples]
        assert least <= np.mean(np.array(guesses) == labels) <= most


def test_the_scheme_learns_the_arm_and_the_classifier_does_not(windows, context, tmp_path) -> None:
    data = load_dataset(windows.write_data(tmp_path, windows.ARM))
    reached = {}
    for scheme in (str(FOLDER / "sparse.json"), "classifier-only"):
        module = read_module(FOLDER / "motion.mlirbc")
        build_training_step(module, TrainingOptions(scheme))
        reached[scheme] = load_experiment(module, data).run(TrainingPlan(rate=0.03)).accuracy_after
    sparse, classifier = reached.values()
    assert sparse > 0.9
    assert classifier < 0.7


def test_the_board_learns_the_same_bits() -> None:
    command = [sys.executable, FOLDER / "motion.py", "--steps", "60", "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    record = json.loads(shown)
    before, after = record["accuracy"]["arm"]
    assert after > before + 0.15
    assert record["accuracy"]["belt"][0] > 0.95
    assert record["equal_values"] > 60
    assert record["sram_bytes"]["total"] < 8_000
    assert record["instructions"]["forward"] < record["instructions"]["step"]
    assert record["board"] == "nrf52840"


def test_an_unknown_board_is_one_line() -> None:
    command = [sys.executable, FOLDER / "motion.py", "--board", "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "motion.py: " in done.stderr
