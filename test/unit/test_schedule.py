"""A planned module as a schedule: places, constants, initial values, errors, the manifest."""

import json

import numpy as np
import pytest
import small_network

from tiny_dialect.attributes import integers
from tiny_dialect.errors import InvalidModel
from tiny_dialect.semantics import initial_state
from tiny_passes.graph import find_function
from tiny_targets.json_reader import JsonReader
from tiny_targets.manifest_reader import read_schedule
from tiny_targets.schedule import (
    ARENA,
    CONSTANTS,
    COPY,
    FLOAT,
    MASTER,
    STATE,
    build_schedule,
)
from tiny_targets.target import find_target

M7 = find_target("cortex-m7")


@pytest.fixture
def module(context):
    return small_network.planned()


@pytest.fixture
def schedule(module):
    return build_schedule(module, M7)


def test_functions_and_their_buffers(schedule):
    step, infer = schedule.functions["train_step"], schedule.functions["infer"]
    assert [(b.name, b.shape, b.element) for b in step.arguments] == [
        ("x", (1, 9, 7, 3), "i8"),
        ("label", (), "i32"),
        ("rate", (), "f32"),
    ]
    assert [(b.name, b.shape) for b in step.results] == [("loss", ()), ("logits", (1, 4))]
    assert [b.name for b in infer.results] == ["logits"]
    assert infer.commands[0].name == "stem conv2d"


def test_every_place_lies_in_its_space(schedule):
    limits = {
        ARENA: schedule.arena_bytes,
        STATE: schedule.state_bytes,
        CONSTANTS: len(schedule.constants),
    }
    for function in schedule.functions.values():
        for command in function.commands:
            assert 0 <= command.kernel < len(schedule.kernels)
            assert len(command.bindings) == len(schedule.kernels[command.kernel].accesses)
            for space, offset in command.bindings:
                assert 0 <= offset < limits[space] and offset % 4 == 0
            for buffer in command.results:
                assert buffer.offset + buffer.bytes <= limits[buffer.space]


def test_constants_are_never_written(schedule):
    for function in schedule.functions.values():
        for command in function.commands:
            accesses = schedule.kernels[command.kernel].accesses
            for (space, _), access in zip(command.bindings, accesses, strict=True):
                assert space != CONSTANTS or access == "read"


@pytest.mark.parametrize(
    # Zeros as float32 are one byte each in flash.
    ("gradients", "kind_of_head"),
    [("int16", COPY), ("float32", FLOAT)],
)
def test_trained_parameters_start_from_flash(context, gradients, kind_of_head):
    module = small_network.planned(gradients=gradients)
    schedule = build_schedule(module, M7)
    expected = initial_state(find_function(module, "train_step"))
    assert {buffer.name for buffer in schedule.state} == set(expected)
    by_offset = {entry.state_offset: entry for entry in schedule.initializers}
    kinds = {}
    for buffer in schedule.state:
        entry = by_offset[buffer.offset]
        stored = schedule.constants[entry.constant_offset :]
        if entry.kind == COPY:
            assert entry.count == buffer.bytes
            value = np.frombuffer(stored[: entry.count], expected[buffer.name].dtype)
        else:
            value = np.frombuffer(stored[: entry.count], np.int8).astype(np.int32)
            value = value * 256 + 128 if entry.kind == MASTER else value.astype(np.float32)
        np.testing.assert_array_equal(value.reshape(buffer.shape), expected[buffer.name])
        kinds[buffer.name] = entry.kind
    assert kinds["stem.weight"] == MASTER
    assert kinds["stem.bias"] == COPY
    assert kinds["head.bias"] == kind_of_head


def test_equal_constants_are_stored_once(schedule):
    assert len(schedule.constants) < 6000
    commands = [c for function in schedule.functions.values() for c in function.commands]
    places = {place for command in commands for place in command.bindings}
    assert all(offset % 16 == 0 for space, offset in places if space == CONSTANTS)


def test_kernels_are_shared_between_functions(schedule):
    infer, step = (schedule.functions[name].commands for name in ("infer", "train_step"))
    shared = {command.kernel for command in infer} & {command.kernel for command in step}
    assert shared
    assert len({kernel.name for kernel in schedule.kernels}) == len(schedule.kernels)


def test_manifest_survives_json(schedule):
    record = json.loads(json.dumps(schedule.manifest()))
    again = read_schedule(JsonReader(record, "manifest.json"))
    assert again.functions == schedule.functions
    assert again.state == schedule.state
    assert again.manifest() == schedule.manifest()


def test_unplanned_module_is_refused(context):
    with pytest.raises(InvalidModel, match=r"needs 1 tiny.argument_offsets, has 0; run tiny-plan"):
        build_schedule(small_network.build(), M7)


def test_missing_offsets_name_the_layer(module):
    function = find_function(module, "infer")
    op = next(op for op in function.body.blocks[0] if op.operation.name == "tiny.conv2d")
    op.operation.attributes["tiny.offsets"] = integers([])
    with pytest.raises(InvalidModel, match=r"^stem: tiny.conv2d needs 1 tiny.offsets, has 0"):
        build_schedule(module, M7)


def test_module_without_functions_is_refused(context):
    from tiny_dialect.bindings import ir

    with pytest.raises(InvalidModel, match="neither @infer nor @train_step"):
        build_schedule(ir.Module.create(), M7)
