"""The shipped example: its network, its data, its scheme, and one result on host and device."""

from pathlib import Path

import numpy as np
import pytest

from tiny_dialect.dialect import read_module
from tiny_dialect.semantics import run
from tiny_passes.graph import INFER, find_function
from tiny_passes.layers import layers_of
from tiny_pipelines.datasets import load_dataset, preprocessing_of
from tiny_pipelines.experiment import load_experiment
from tiny_pipelines.scheme import find_scheme
from tiny_pipelines.training import TrainingOptions

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "digits"
SCHEME = FOLDER / "sparse.json"
SAMPLES = 1797


@pytest.fixture
def module(context):
    return read_module(FOLDER / "digits.mlirbc")


@pytest.mark.parametrize(
    ("data", "least", "most"), [("digits.npz", 0.96, 1.0), ("shifted.npz", 0.0, 0.2)]
)
def test_int8_network_knows_one_domain_only(module, data, least, most) -> None:
    function = find_function(module, INFER)
    test = load_dataset(FOLDER / data).test
    prepare = preprocessing_of(function).apply
    guesses = [int(run(function, [prepare(sample)])[0].argmax()) for sample in test.samples]
    accuracy = np.mean(np.array(guesses) == test.labels)
    assert least <= accuracy <= most


def test_files_are_small() -> None:
    sizes = {file.name: file.stat().st_size for file in FOLDER.iterdir() if file.is_file()}
    assert sum(sizes.values()) < 200_000, sizes


def test_splits_hold_every_scan_once() -> None:
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as data:
        labels = [data[f"{split}_labels"] for split in ("train", "adapt", "test")]
    assert sum(map(len, labels)) == SAMPLES
    assert all(set(part.tolist()) == set(range(10)) for part in labels)


def test_shifted_data_is_what_domain_makes(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import domain

    (tmp_path / "digits.npz").write_bytes((FOLDER / "digits.npz").read_bytes())
    monkeypatch.setattr(domain, "FOLDER", tmp_path)
    domain.main()
    with np.load(tmp_path / "shifted.npz") as made, np.load(FOLDER / "shifted.npz") as shipped:
        assert set(made.files) == set(shipped.files)
        assert all(np.array_equal(made[name], shipped[name]) for name in made.files)


def test_scheme_fits_the_network(module) -> None:
    names = layers_of(find_function(module, INFER)).names
    selection = find_scheme(str(SCHEME)).resolve(names)
    assert [names[index] for index in selection.weights] == [
        "blocks.1.expand",
        "blocks.1.project",
        "blocks.2.expand",
        "blocks.2.project",
        "features",
    ]


def test_device_and_host_learn_the_same_bits(module, tmp_path) -> None:
    from tiny_pipelines.firmware import compile_firmware
    from tiny_targets.boards import find_board
    from tiny_targets.emulate import Emulator
    from tiny_targets.firmware import load_image

    options = TrainingOptions(str(SCHEME))
    compile_firmware(module, options, find_board("esp32-p4"), tmp_path)
    device = Emulator(load_image(tmp_path))
    data = load_dataset(FOLDER / "shifted.npz")
    host = load_experiment(module, data)
    for index in range(12):
        x, label = host.preprocessing.apply(data.train.samples[index]), data.train.labels[index]
        loss, logits = device.train_step(x, int(label), 0.012)
        host_loss, host_logits = host.model.train_step(x, int(label), 0.012)
        assert loss == host_loss
        assert np.array_equal(logits, host_logits)
    for symbol, value in host.model.state().items():
        assert np.array_equal(device.read_state(symbol), value), symbol
