"""Poison and access modes: silent on correct images, and loud on each kind of planted fault."""

import ast
import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import small_network

from tiny_dialect.attributes import to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.types import storage_bytes
from tiny_passes import arena_contents
from tiny_passes.arena_contents import Place, function_memory, gaps, merged
from tiny_passes.graph import body, find_function, functions
from tiny_passes.registry import run_pipeline
from tiny_pipelines.cli import tiny_compile, tiny_run
from tiny_pipelines.training import TrainingOptions, build_training_step, pipeline_text
from tiny_targets.boards import generic_board
from tiny_targets.codegen import compile_kernels
from tiny_targets.emulate import EmulationError, Emulator
from tiny_targets.firmware import build_image
from tiny_targets.memory_monitor import MemoryMonitor
from tiny_targets.schedule import ARENA, build_schedule
from tiny_targets.target import find_target

M7 = find_target("cortex-m7")
PLANNER = {"liveness", "plan_memory", "offset_search", "order_search", "reorder", "row_schedule"}
RATE = 0.05
TARGET = ("--target", "cortex-m7")


@pytest.fixture(scope="module")
def module():
    """The planned small network; its context stays entered for the module."""
    with new_context(), ir.Location.unknown():
        options = TrainingOptions("full", gradients="float32")
        yield build_training_step(small_network.build(), options)


def overlapping_module(gradients, scheme="full"):
    """The small network with blocks fused and rows overwritten wherever that is legal."""
    text = pipeline_text(TrainingOptions(scheme, gradients=gradients), target="cortex-m7")
    for name in ("fuse-blocks{row_overlap=true}", "overlap-rows"):
        assert f"tiny-{name}," in text
    text = text.replace("tiny-fuse-blocks{row_", "tiny-fuse-blocks{all=true row_")
    text = text.replace("tiny-overlap-rows,", "tiny-overlap-rows{all=true},")
    made = small_network.build()
    run_pipeline(made, text)
    return made


def emulator_of(schedule, kernels=None):
    target = M7
    compiled = compile_kernels(kernels or schedule.kernels, target)
    return Emulator(build_image(schedule, compiled, generic_board(target)))


def with_command(schedule, change, *, op, layer, function="train_step"):
    """The schedule with one command changed."""
    found = schedule.functions[function]
    commands = tuple(change(c) if (c.op, c.layer) == (op, layer) else c for c in found.commands)
    assert commands != found.commands
    functions_ = {**schedule.functions, function: dataclasses.replace(found, commands=commands)}
    return dataclasses.replace(schedule, functions=functions_)


def moved(number, distance):
    """A change of one arena binding of a command."""

    def change(command):
        bindings = list(command.bindings)
        space, offset = bindings[number]
        assert space == ARENA
        bindings[number] = (space, offset + distance)
        return dataclasses.replace(command, bindings=tuple(bindings))

    return change


def digests(schedule, module, kernels=None, **modes):
    """What each op of a step and an inference wrote, and the monitor."""
    emulator = emulator_of(schedule, kernels)
    monitor = MemoryMonitor(emulator, functions(module), **modes)
    x = small_network.sample(0)
    emulator.train_step(x, 1, RATE)
    found = list(monitor.digests)
    emulator.infer(x)
    return found + monitor.digests, monitor


def test_modes_change_nothing_and_look_at_much(module):
    schedule = build_schedule(module, M7)
    plain, _ = digests(schedule, module, poison=False, access=False)
    watched, monitor = digests(schedule, module, poison=True, access=True)
    assert watched == plain
    commands = sum(len(function.commands) for function in schedule.functions.values())
    assert len(plain) == commands > 30
    assert monitor.poisoned_bytes > 100 * commands
    assert monitor.watched_accesses > 1000


@pytest.mark.parametrize("gradients", ["float32", "int16"])
def test_rows_and_fused_blocks_keep_to_their_lifetimes(context, gradients):
    made = overlapping_module(gradients)
    ops = [op for name in ("train_step", "infer") for op in body(find_function(made, name))]
    assert any(op.operation.name == "tiny.fused_block" for op in ops)
    assert any("tiny.traversal" in op.attributes for op in ops)
    schedule = build_schedule(made, M7)
    plain, _ = digests(schedule, made, poison=False, access=False)
    watched, _ = digests(schedule, made, poison=True, access=True)
    assert watched == plain


def test_a_residual_may_finish_rows_that_lie_over_its_input(context):
    """The addition reads what the last convolution of the block has just written."""
    made = overlapping_module("int16", "classifier-only")
    (block,) = [
        op
        for op in body(find_function(made, "train_step"))
        if op.operation.name == "tiny.fused_block"
    ]
    assert "tiny.traversal" in block.attributes
    assert any(op.operation.name == "tiny.add" for op in body(block))
    schedule = build_schedule(made, M7)
    plain, _ = digests(schedule, made, poison=False, access=False)
    watched, _ = digests(schedule, made, poison=True, access=True)
    assert watched == plain


def test_access_mode_finds_a_wrong_offset_in_the_schedule(module):
    schedule = build_schedule(module, M7)
    wrong = with_command(schedule, moved(0, 4), op="global_average_pool_grad", layer="pool")
    with pytest.raises(
        EmulationError, match=r"^pool global_average_pool_grad: stray read of \d bytes at 0x20"
    ) as caught:
        digests(wrong, module, poison=False, access=True)
    assert "past the end of operand 0 at [" in caught.value.message


def test_poison_mode_finds_a_wrong_offset_in_the_schedule(module):
    """A shift that reads bytes which are dead, and which happen to be harmless without poison."""
    schedule = build_schedule(module, M7)
    wrong = with_command(schedule, moved(2, 64), op="scale_gradient", layer="head")
    plain, _ = digests(wrong, module, poison=False, access=False)
    poisoned, _ = digests(wrong, module, poison=True, access=False)
    differing = [name for (name, a), (_, b) in zip(plain, poisoned, strict=True) if a != b]
    assert differing[0] == "head scale_gradient"


def reading_one_past(schedule):
    """The kernels, of which one reads the element behind the last one of its operand."""
    command = next(
        command
        for command in schedule.functions["train_step"].commands
        if (command.op, command.layer) == ("scale_gradient", "head")
    )
    kernel = schedule.kernels[command.kernel]
    last, past = "llvm.getelementptr %2[16]", "llvm.getelementptr %2[20]"
    assert kernel.text.count(last) == 1, "the head has five gradients"
    broken = dataclasses.replace(kernel, text=kernel.text.replace(last, past))
    return [broken if k is kernel else k for k in schedule.kernels]


def test_access_mode_finds_a_kernel_that_reads_one_past(module):
    schedule = build_schedule(module, M7)
    with pytest.raises(EmulationError, match=r"^head scale_gradient: stray read") as caught:
        digests(schedule, module, reading_one_past(schedule), poison=False, access=True)
    assert "1 bytes past the end of operand 0" in caught.value.message


def test_poison_mode_finds_a_kernel_that_reads_one_past(module):
    schedule = build_schedule(module, M7)
    kernels = reading_one_past(schedule)
    plain, _ = digests(schedule, module, kernels, poison=False, access=False)
    poisoned, _ = digests(schedule, module, kernels, poison=True, access=False)
    differing = [name for (name, a), (_, b) in zip(plain, poisoned, strict=True) if a != b]
    assert differing[0] == "head scale_gradient"


def test_access_mode_finds_a_row_that_was_overwritten_too_early(context):
    """The plan and the schedule agree on the wrong distance; only the order of accesses tells."""
    made = overlapping_module("int16")
    op = next(op for op in body(find_function(made, "infer")) if "tiny.traversal" in op.attributes)
    arguments = to_list(find_function(made, "infer").attributes["tiny.argument_offsets"])
    operand = op.operands[0]
    owner = operand.owner
    source = (
        arguments[operand.arg_number]
        if isinstance(owner, ir.Block)
        else to_list(owner.attributes["tiny.offsets"])[operand.result_number]
    )
    offsets = to_list(op.attributes["tiny.offsets"])
    late = source + storage_bytes(operand) // 2 // 4 * 4
    assert offsets[0] < source < late
    op.attributes["tiny.offsets"] = ir.DenseI64ArrayAttr.get([late, *offsets[1:]])
    with pytest.raises(EmulationError, match="which it has overwritten"):
        digests(build_schedule(made, M7), made, poison=False, access=True)


def test_live_bytes_are_those_of_values_that_are_still_read(module):
    for name in ("train_step", "infer"):
        memory = function_memory(find_function(module, name))
        assert memory.ops[-1].name == "func.return" and not memory.ops[-1].writes
        for op in memory.ops:
            reads = merged(place for place in op.reads if place.region == "arena")
            assert all(any(s <= a and b <= e for s, e in op.live) for a, b in reads), op.name
            assert all(start < end <= memory.arena_bytes for start, end in op.live)
        for op, following in zip(memory.ops, memory.ops[1:], strict=False):
            written = {(p.start, p.end) for p in op.writes if p.what != "scratch"}
            grown = set(following.live) - set(op.live)
            assert not grown or written, op.name


def test_poison_leaves_what_only_another_function_reads(context):
    """The counter of random rounding is no business of an inference, and alive all the same."""
    options = TrainingOptions("full", update="int8-stochastic", gradients="int16")
    with ir.Location.unknown():
        made = build_training_step(small_network.build(), options)
        emulator = emulator_of(build_schedule(made, M7))
        MemoryMonitor(emulator, functions(made), poison=True, access=True)
        before = {b.name: emulator.read_buffer(b) for b in emulator.image.schedule.state}
        emulator.infer(small_network.sample(0))
    infer = {
        op.attributes["symbol"].value
        for op in body(find_function(made, "infer"))
        if op.operation.name == "tiny.parameter"
    }
    assert set(before) - infer
    for buffer in emulator.image.schedule.state:
        assert np.array_equal(emulator.read_buffer(buffer), before[buffer.name]), buffer.name


def test_ranges():
    places = [Place("", "arena", *pair) for pair in ((8, 12), (0, 4), (10, 20), (20, 24), (30, 30))]
    assert merged(places[:4]) == ((0, 4), (8, 24))
    assert gaps(((0, 4), (8, 24)), 30) == ((4, 8), (24, 30))
    assert gaps((), 5) == ((0, 5),) and gaps(((0, 5),), 5) == ()


def test_lifetimes_share_no_code_with_the_planner():
    tree = ast.parse(Path(arena_contents.__file__).read_text())
    imported = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    assert imported and not {name.rpartition(".")[2] for name in imported} & PLANNER
    assert not any(name.startswith("tiny_passes") for name in imported)


def both_modes(model, data, folder, capsys, *options, steps="2"):
    """The `memory` record of a compiled image that runs in both modes."""
    assert tiny_compile.main([str(model), "-o", str(folder), "--json", *options]) == 0
    capsys.readouterr()
    run = [str(folder), "--data", str(data), "--steps", steps, "--poison", "--access", "--json"]
    status = tiny_run.main(run)
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)["memory"]


@pytest.mark.parametrize("target", ["cortex-m7", "rv32imafc"])
def test_shipped_model_in_both_modes(repository, tmp_path, capsys, target):
    digits = repository / "examples" / "digits"
    scheme = ["--scheme", str(digits / "sparse.json"), "--gradients", "int16", "--target", target]
    memory = both_modes(
        digits / "digits.mlirbc", digits / "shifted.npz", tmp_path / "image", capsys, *scheme
    )
    assert memory["modes"] == ["poison", "access"]
    assert memory["op_runs"] > 100
    assert memory["poisoned_bytes"] > 100_000
    assert memory["watched_accesses"] > 100_000


def test_a_changed_result_fails_the_command(repository, tmp_path, capsys):
    """The image of a schedule with a wrong offset, in the folder of the right one."""
    from tiny_targets.firmware import load_image

    digits, folder = repository / "examples" / "digits", tmp_path / "image"
    both_modes(digits / "digits.mlirbc", digits / "digits.npz", folder, capsys, *TARGET, steps="1")
    elf = (folder / "firmware.elf").read_bytes()
    image = load_image(folder)
    command = next(c for c in image.schedule.functions["infer"].commands if c.op == "add")
    bindings = [space << 30 | offset for space, offset in command.bindings]
    place = elf.index(np.array(bindings, "<u4").tobytes())
    wrong = bindings[0] + 4
    patched = elf[:place] + np.array([wrong], "<u4").tobytes() + elf[place + 4 :]
    (folder / "firmware.elf").write_bytes(patched)
    manifest = (folder / "manifest.json").read_text()
    hashes = [hashlib.sha256(data).hexdigest() for data in (elf, patched)]
    (folder / "manifest.json").write_text(manifest.replace(*hashes))
    run = [str(folder), "--data", str(digits / "digits.npz"), "--steps", "1"]
    for mode in ("--poison", "--access"):
        assert tiny_run.main([*run, mode]) == 1
        assert f"{command.layer} add" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("gradients", ["int16", "float32"])
@pytest.mark.parametrize("target", ["cortex-m7", "rv32imafc"])
def test_mcunet_in_both_modes(zoo, tmp_path, capsys, target, gradients):
    model = zoo / "models" / "original" / "mcunet-5fps.pkl"
    data = zoo / "images" / "cifar10_32.npz"
    options = ["--classes", "10", "--scheme", "mcunet-5fps-49kb", "--gradients", gradients]
    memory = both_modes(
        model, data, tmp_path / "image", capsys, *options, "--target", target, steps="1"
    )
    assert memory["op_runs"] > 150
    assert memory["watched_accesses"] > 10_000_000
