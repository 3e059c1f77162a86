"""What a device check must not overlook: one wrong value on the device or on the host."""

import math

import numpy as np
import pytest
import small_network

from tiny_dialect.dialect import new_context
from tiny_pipelines.device_check import DeviceCheck
from tiny_pipelines.differential.compare import Comparison
from tiny_pipelines.firmware import build_firmware
from tiny_pipelines.host import HostModel
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import find_board
from tiny_targets.emulate import Emulator
from tiny_targets.schedule import CONSTANTS

RATE = 0.05


@pytest.fixture(scope="module", params=["int16", "float32"])
def built(request):
    """(planned module, image) of the small network."""
    with new_context():
        module = small_network.build()
        options = TrainingOptions("full", gradients=request.param)
        yield module, build_firmware(module, options, find_board("stm32f746")).image


def step(check, number=0):
    return check.step(small_network.sample(number), number % small_network.CLASSES, RATE)


def test_device_and_host_agree_with_the_semantics(built):
    module, image = built
    check = DeviceCheck(module, Emulator(image))
    for number in range(2):
        step(check, number)
    check.infer(small_network.sample(5))
    check.run_host()
    record = check.check.record()
    assert record["passed"], record["mismatches"]
    state = sum(math.prod(buffer.shape) for buffer in image.schedule.state)
    assert record["device"]["updated"] >= 2 * state == record["host"]["updated"]
    assert record["device"]["integers"] > 1000
    assert record["device"]["floats"] and record["host"]["floats"]
    assert max(record[side]["largest_error"] for side in ("device", "host")) <= 1
    assert record["device"]["uncompared"] == record["host"]["uncompared"] == 0


def test_a_changed_constant_is_found_where_it_is_read(built):
    module, image = built
    emulator = Emulator(image)
    check = DeviceCheck(module, emulator)
    command = image.schedule.functions["train_step"].commands[0]
    offset = next(offset for space, offset in command.bindings if space == CONSTANTS)
    table = emulator.address_of("tiny_constants") + offset
    (multiplier,) = emulator.machine.words(table, 1)
    emulator.machine.write(table, (multiplier // 2).to_bytes(4, "little"))
    step(check)
    assert any(text.startswith("stem conv2d result 0: ") for text in check.check.mismatches)


def test_a_changed_initial_value_is_found(built):
    module, image = built
    emulator = Emulator(image)
    symbol = image.schedule.state[0].name
    emulator.write_state(symbol, emulator.read_state(symbol) + 1)
    assert DeviceCheck(module, emulator).check.mismatches[0].startswith(f"initial {symbol}: ")


def test_an_update_that_is_off_by_one_step_is_found(built, monkeypatch):
    module, image = built
    emulator = Emulator(image)
    check = DeviceCheck(module, emulator)
    read, symbol = emulator.read_state, "project.weight"

    def shifted(name):
        value = read(name)
        if name == symbol and started:
            value.reshape(-1)[3] += 1 if value.dtype.kind == "i" else 0.01
        return value

    started = []
    monkeypatch.setattr(emulator, "read_state", shifted)
    run = emulator.train_step

    def and_note(*arguments, observe):
        def noted(command, found):
            started.append(command)
            observe(command, found)

        return run(*arguments, observe=noted)

    monkeypatch.setattr(emulator, "train_step", and_note)
    step(check)
    assert [text for text in check.check.mismatches if f"of {symbol}: 1 of" in text]


@pytest.mark.parametrize("wrong", [math.nan, 1.0001])
def test_a_wrong_loss_of_the_host_is_found(built, monkeypatch, wrong):
    module, image = built
    check = DeviceCheck(module, Emulator(image))
    step(check)
    call = HostModel.call

    def scaled(self, name, *arguments):
        results = call(self, name, *arguments)
        if name == "train_step":
            results[0] = np.float32(results[0] * wrong)
        return results

    monkeypatch.setattr(HostModel, "call", scaled)
    check.run_host()
    assert check.check.mismatches[0].startswith("host: loss of train_step: 1 of 1 values")


def test_what_is_no_number_is_not_within_its_bound():
    comparison = Comparison()
    one = np.ones(1, np.float32)
    comparison.result("x", one, one * math.nan, np.ones(1))
    assert comparison.mismatches
