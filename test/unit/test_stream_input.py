"""A streamed input: rows arrive in a ring, in order and once, and no bit of a result changes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import small_network
from chain_case import chain_case, random_links
from kernel_cases import Geometry

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_passes.check_plan import check_plan
from tiny_passes.check_stream import first_lost
from tiny_passes.graph import find_function
from tiny_passes.registry import PassError
from tiny_passes.row_schedule import chain_of
from tiny_passes.streamed import RING_ROWS, mark_streamed, rows_for
from tiny_pipelines.device_check import DeviceCheck
from tiny_pipelines.firmware import build_firmware
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.boards import generic_board
from tiny_targets.emulate import Emulator
from tiny_targets.input_stream import Stream
from tiny_targets.machine import EmulationError
from tiny_targets.row_feed import RowFeed
from tiny_targets.schedule import ARENA, Buffer, Function
from tiny_targets.target import find_target

TARGETS = ("cortex-m7", "rv32imafc")


def emulator(target, module, **options):
    training = TrainingOptions("bias-only", gradients="int16", **options)
    board = generic_board(find_target(target))
    return Emulator(build_firmware(module, training, board).image)


def trained(device, check=None):
    """(bits of results and state after three steps, logits of one inference)."""
    found = [device.infer(small_network.sample(7)).tobytes()]
    for number in range(3):
        step = device.train_step if check is None else check.step
        loss, logits = step(small_network.sample(number), number % small_network.CLASSES, 0.05)
        found += [np.float32(loss).tobytes(), logits.tobytes()]
    return [*found, *(device.read_state(b.name).tobytes() for b in device.image.schedule.state)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fuse_blocks", [False, True])
def test_device_learns_the_same_bits(target, fuse_blocks):
    with new_context():
        whole = emulator(target, small_network.build(), fuse_blocks=fuse_blocks)
        module = small_network.build()
        device = emulator(target, module, fuse_blocks=fuse_blocks, stream_input=True)
        check = DeviceCheck(module, device)
        assert trained(device, check) == trained(whole)
        assert check.check.passed and check.check.device.integers
    stream = device.image.schedule.functions["train_step"].stream
    ring = device.image.schedule.functions["train_step"].arguments[0]
    assert stream.rows == small_network.INPUT_SHAPE[1] > ring.shape[1]
    assert device.image.schedule.arena_bytes < whole.image.schedule.arena_bytes


def test_a_failing_source_ends_the_step_and_nothing_is_learned():
    with new_context():
        device = emulator("cortex-m7", small_network.build(), stream_input=True)
    before = [device.read_state(buffer.name) for buffer in device.image.schedule.state]
    fails = bytes.fromhex("01207047")  # movs r0, #1; bx lr
    device.machine.write(device.address_of("device_rows") & ~1, fails)
    with pytest.raises(EmulationError, match="returned status 20"):
        device.train_step(small_network.sample(0), 1, 0.05)
    after = [device.read_state(buffer.name) for buffer in device.image.schedule.state]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def planned():
    training = TrainingOptions("bias-only", gradients="int16", stream_input=True)
    return build_training_step(small_network.build(), training)


def test_a_ring_without_a_slot_is_refused():
    with new_context():
        module = planned()
        check_plan(module)
        step = find_function(module, "train_step")
        slots = step.arg_attrs[0][RING_ROWS].value
        mark_streamed(step, **{RING_ROWS: slots - 1})
        with pytest.raises(PassError, match="reads row"):
            check_plan(module)


def test_weights_of_the_first_layer_need_the_whole_input():
    with new_context(), pytest.raises(PassError, match=r"stem.*read again here"):
        options = TrainingOptions("full", gradients="int16", stream_input=True)
        build_training_step(small_network.build(), options)


def chains(seeds):
    for seed in seeds:
        rng = np.random.default_rng(seed)
        yield chain_case(seed, random_links(rng, int(rng.integers(1, 5))))


def test_the_slots_are_what_a_replay_needs_and_no_more():
    """The closed form against the checker, which lets rows arrive and shares no code with it."""
    tight = 0
    with new_context(), ir.Location.unknown():
        for case in chains(range(700, 760)):
            chain = chain_of(case.op)
            x = case.op.operands[0]
            assert chain.convolutions[0].operands[0] == case.op.regions[0].blocks[0].arguments[0]
            slots = rows_for(chain)
            assert first_lost(case.op, x, slots) is None, case.label
            tight += slots > 1 and first_lost(case.op, x, slots - 1) is not None
    assert tight > 30


def feed(rows, arrivals):
    """A feed of an image of `rows` rows of two bytes, and what the machine was told to write."""
    written, arguments = [], [0, 0, 0, 0]
    machine = SimpleNamespace(
        argument=lambda number: arguments[number], write=lambda at, data: written.append((at, data))
    )
    ring = Buffer("x", ARENA, 0, (1, 2, 2, 1), "i8")
    function = Function("infer", (ring,), (), ())
    image = np.arange(2 * rows, dtype=np.int8)
    return RowFeed(machine, function, Stream(0, rows, arrivals), image), arguments, written


def test_feed_supplies_rows_in_order():
    source, arguments, written = feed(4, (2, 3))
    for first, count in ((0, 2), (2, 1)):
        arguments[1:] = [100 + first, first, count]
        source.on_request()
    source.require_complete()
    assert written == [(100, bytes([0, 1, 2, 3])), (102, bytes([4, 5]))]


@pytest.mark.parametrize("requests", [[(1, 1)], [(0, 2), (0, 2)], [(0, 5)], [(0, 0)], [(0, 1)]])
def test_feed_insists_on_every_row_once(requests):
    source, arguments, _ = feed(4, (2, 3))
    for first, count in requests:
        arguments[1:] = [100, first, count]
        source.on_request()
    with pytest.raises(EmulationError, match="rows"):
        source.require_complete()


def test_one_axis_streams_too():
    """A signal is an image of one row: it arrives at once."""
    geometry = Geometry((1, 12), 3, 4, (1, 3), (1, 2), (0, 1, 0, 1))
    with new_context(), ir.Location.unknown():
        rng = np.random.default_rng(5)
        link = replace(random_links(rng, 1)[0], geometry=geometry, mask=False, gather=False)
        assert rows_for(chain_of(chain_case(5, [link]).op)) == 1
