"""Many steps on the host and on an emulated device leave the same trained weights."""

import numpy as np
import pytest

from tiny_dialect.dialect import read_module
from tiny_pipelines.datasets import load_dataset
from tiny_pipelines.experiment import load_experiment
from tiny_pipelines.firmware import compile_firmware
from tiny_pipelines.frontends import import_bytes
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import find_board
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import load_image

BOARD = "stm32f746"


def trained_on_both(module, options, data, steps, rate, folder):
    """(symbol, initial, host, device) after `steps` steps; losses too."""
    compile_firmware(module, options, find_board(BOARD), folder)
    device = Emulator(load_image(folder))
    host = load_experiment(module, data)
    start, losses = host.model.state(), []
    for index in range(steps):
        x, label = host.preprocessing.apply(data.train.samples[index]), data.train.labels[index]
        arguments = x, int(label), rate
        losses.append((host.model.train_step(*arguments)[0], device.train_step(*arguments)[0]))
    state = host.model.state()
    return [(name, start[name], state[name], device.read_state(name)) for name in state], losses


def test_a_hundred_steps_leave_identical_weights(context, repository, tmp_path):
    folder = repository / "examples" / "digits"
    options = TrainingOptions(str(folder / "sparse.json"), gradients="int16")
    data = load_dataset(folder / "shifted.npz")
    module = read_module(folder / "digits.mlirbc")
    state, losses = trained_on_both(module, options, data, 100, 0.012, tmp_path)
    for name, start, host, device in state:
        assert np.array_equal(host, device), name
        assert (host != start).any(), name
    assert all(host == device for host, device in losses)


def test_float_gradients_leave_integers_a_rounding_apart(context, repository, tmp_path):
    folder = repository / "examples" / "digits"
    options = TrainingOptions(str(folder / "sparse.json"), gradients="float32")
    data = load_dataset(folder / "shifted.npz")
    module = read_module(folder / "digits.mlirbc")
    state, losses = trained_on_both(module, options, data, 100, 0.003, tmp_path)
    for name, _, host, device in state:
        difference = np.abs(host.astype(np.float64) - device)
        if host.dtype == np.float32:
            assert difference.max() <= 1e-3, name
        else:
            # A step to nearest in the last of 8 fraction bits, or of a bias of some hundreds.
            assert difference.max() <= (2 if host.dtype == np.int16 else 8), name
    assert max(abs(host - device) for host, device in losses) <= 1e-2


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("scheme", ["mcunet-5fps-49kb", "mcunet-5fps-99kb"])
def test_five_steps_of_mcunet_leave_identical_weights(context, zoo, tmp_path, scheme):
    path = zoo / "models" / "original" / "mcunet-5fps.pkl"
    module = import_bytes(path.read_bytes(), str(path), 10, 0)
    data = load_dataset(zoo / "images" / "cifar10_32.npz")
    options = TrainingOptions(scheme, gradients="int16")
    state, losses = trained_on_both(module, options, data, 5, 0.2 / 256, tmp_path)
    for name, _, host, device in state:
        assert np.array_equal(host, device), name
    assert sum(int((host != start).any()) for _, start, host, _ in state) > len(state) // 2
    assert all(host == device for host, device in losses)
