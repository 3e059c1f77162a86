"""The image on its board: the numbers of the semantics, exact counts, no stray access unseen."""

import collections
import dataclasses

import numpy as np
import pytest
import small_network
from unicorn import unicorn_const

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidOption
from tiny_dialect.semantics import initial_state, run
from tiny_passes.graph import find_function
from tiny_targets import firmware
from tiny_targets.boards import find_board, generic_board
from tiny_targets.codegen import compile_kernels
from tiny_targets.emulate import EmulationError, Emulator
from tiny_targets.firmware import build_image
from tiny_targets.schedule import ARENA, build_schedule
from tiny_targets.target import TARGETS, find_target

M7 = find_target("cortex-m7")
RATE = 0.05


@pytest.fixture(scope="module")
def module():
    """The planned small network; its context stays entered for the module."""
    with new_context(), ir.Location.unknown():
        yield small_network.planned()


def image_of(module, board, **options):
    schedule = build_schedule(module, board.target)
    return build_image(schedule, compile_kernels(schedule.kernels, board.target), board, **options)


@pytest.fixture(scope="module")
def image(module):
    return image_of(module, generic_board(M7))


@pytest.fixture
def emulator(image):
    return Emulator(image)


def expected_step(module, state, x, label):
    arguments = [x, np.array(label, np.int32), np.array(RATE, np.float32)]
    return run(find_function(module, "train_step"), arguments, state)


BOARDS = [*(f"generic-{name}" for name in TARGETS), "esp32-c3", "nrf52840"]


@pytest.mark.parametrize("name", BOARDS)
def test_steps_equal_the_semantics(module, name):
    emulator = Emulator(image_of(module, find_board(name)))
    state = initial_state(find_function(module, "train_step"))
    for step in range(3):
        x, label = small_network.sample(step), step % small_network.CLASSES
        loss, logits = emulator.train_step(x, label, RATE)
        wanted_loss, wanted_logits = expected_step(module, state, x, label)
        assert loss == pytest.approx(float(wanted_loss), rel=1e-5)
        np.testing.assert_allclose(logits, wanted_logits, rtol=1e-4, atol=1e-5)
    for symbol, wanted in state.items():
        got = emulator.read_state(symbol)
        if got.dtype == np.float32:
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        else:  # a float sum in another order may cross a rounding boundary
            assert np.abs(got.astype(np.int64) - wanted).max() <= 1
            assert (got != wanted).mean() < 0.02
    (wanted,) = run(find_function(module, "infer"), [x], state)
    np.testing.assert_allclose(emulator.infer(x), wanted, rtol=1e-3, atol=1e-3)


def test_every_result_can_be_observed(module, emulator):
    seen, wanted = [], []
    x = small_network.sample(5)
    emulator.infer(x, observe=lambda command, results: seen.append((command.layer, results[0])))
    run(
        find_function(module, "infer"),
        [x],
        initial_state(find_function(module, "infer")),
        observe=lambda op, results: wanted.append((op, results)),
    )
    wanted = [
        (op.attributes["layer"].value, results[0])
        for op, results in wanted
        if op.operation.name != "tiny.parameter"
    ]
    assert [name for name, _ in seen] == [name for name, _ in wanted]
    for (_, got), (_, want) in zip(seen, wanted, strict=True):
        if want.dtype == np.int8:
            np.testing.assert_array_equal(got, want)


def test_init_forgets_what_was_learned(emulator):
    x = small_network.sample(0)
    before = emulator.infer(x)
    start = emulator.read_state("stem.weight")
    emulator.train_step(x, 1, 1.0)
    assert not np.array_equal(emulator.read_state("stem.weight"), start)
    emulator.init()
    np.testing.assert_array_equal(emulator.read_state("stem.weight"), start)
    np.testing.assert_array_equal(emulator.infer(x), before)


def test_rate_zero_changes_nothing(emulator):
    before = [emulator.read_state(buffer.name) for buffer in emulator.image.schedule.state]
    emulator.train_step(small_network.sample(0), 1, 0.0)
    for buffer, value in zip(emulator.image.schedule.state, before, strict=True):
        np.testing.assert_array_equal(emulator.read_state(buffer.name), value)


def conditioned(machine, address):
    """Addresses of the instructions that a Thumb IT instruction at `address` guards."""
    half = int.from_bytes(machine.read(address, 2), "little")
    mask = half & 0xF if half >> 8 == 0xBF else 0
    addresses, address = [], address + 2
    while mask:
        addresses.append(address)
        first = int.from_bytes(machine.read(address, 2), "little")
        address += 4 if first >> 11 >= 0x1D else 2
        mask = mask << 1 & 0xF
    return addresses


@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7", "rv32imc"])
def test_count_equals_counting_one_by_one(module, name):
    emulator = Emulator(image_of(module, generic_board(find_target(name))))
    executed = collections.Counter()
    emulator.machine.engine.hook_add(
        unicorn_const.UC_HOOK_CODE, lambda engine, address, size, data: executed.update([address])
    )
    emulator.machine.engine.ctl_flush_tb()  # blocks translated before have no such hook
    emulator.infer(small_network.sample(1))
    if name.startswith("cortex"):  # what an IT block skips is issued all the same
        for address, count in list(executed.items()):
            for guarded in conditioned(emulator.machine, address):
                executed[guarded] = count
    assert emulator.last_call is not None
    assert emulator.last_call.instructions == executed.total()


def test_counts_are_attributed_to_commands(emulator):
    emulator.train_step(small_network.sample(1), 2, RATE)
    report = emulator.last_call
    assert report is not None
    step = emulator.image.schedule.functions["train_step"]
    assert [command for command, _ in report.per_command] == list(step.commands)
    total = sum(count for _, count in report.per_command)
    assert report.instructions - 300 < total <= report.instructions
    assert all(count > 20 for _, count in report.per_command)
    emulator.train_step(small_network.sample(1), 2, 0.0)
    assert 0 < report.stack_bytes == emulator.stack_bytes_used < 600


def test_stack_overflow_faults(module, monkeypatch):
    """Behind the proof that refuses such an image, the emulator has no memory below the stack."""
    monkeypatch.setattr(firmware, "require_stack", lambda *_: None)
    with pytest.raises(EmulationError, match="unmapped address 0x1fff"):
        emulator = Emulator(image_of(module, generic_board(M7), stack_bytes=112))
        emulator.train_step(small_network.sample(0), 0, RATE)


def test_stray_access_names_the_op(module):
    board = generic_board(M7)
    schedule = build_schedule(module, M7)
    infer = schedule.functions["infer"]
    index = next(i for i, command in enumerate(infer.commands) if command.layer == "project")
    good = infer.commands[index]
    bad = dataclasses.replace(good, bindings=((ARENA, 1 << 20),) * len(good.bindings))
    commands = (*infer.commands[:index], bad, *infer.commands[index + 1 :])
    functions = {**schedule.functions, "infer": dataclasses.replace(infer, commands=commands)}
    broken = dataclasses.replace(schedule, functions=functions)
    emulator = Emulator(build_image(broken, compile_kernels(schedule.kernels, M7), board))
    with pytest.raises(EmulationError, match=r"^project conv2d: read of unmapped address 0x2010"):
        emulator.infer(small_network.sample(0))


def test_bad_calls_are_refused(emulator):
    with pytest.raises(InvalidOption, match="expects an input of 1x9x7x3 i8, got 9x7x3 uint8"):
        emulator.infer(small_network.sample(0)[0].astype(np.uint8))
    with pytest.raises(EmulationError, match="device_train_step returned status 5"):
        emulator.train_step(small_network.sample(0), small_network.CLASSES, RATE)
    with pytest.raises(InvalidOption, match=r"'stem.wait'; did you mean stem.weight"):
        emulator.read_state("stem.wait")


def test_kernels_of_another_schedule_are_noticed(module):
    schedule = build_schedule(module, M7)
    fewer = compile_kernels(schedule.kernels[:-1], M7)
    with pytest.raises(EmulationError, match="device_init returned status 4"):
        Emulator(build_image(schedule, fewer, generic_board(M7))).init()
