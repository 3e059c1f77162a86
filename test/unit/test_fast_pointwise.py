"""The pointwise kernels on panels against the semantics: shapes, storage, masks, scratch sizes."""

import kernel_cases as cases
import numpy as np
import pytest
from kernel_case import check, declare_scratch
from kernel_cases import Geometry

from tiny_dialect.attributes import integers, string, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_targets.kernels import build_call
from tiny_targets.kernels.pointwise import plan_of
from tiny_targets.kernels.scratch import scratch_wish_of
from tiny_targets.target import find_target

FULL = ("cortex-m7", "rv32imafc")
SMOKE = ("cortex-m4", "rv32imc")


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


def pointwise(size, inputs, outputs):
    return Geometry(size, inputs, outputs, (1, 1))


def forward_cases():
    """Depths of one step, one chunk, several, padded; odd pixels and channels; a single pixel."""
    conv = cases.conv2d
    yield conv(0, pointwise((8, 8), 16, 16))
    yield conv(1, pointwise((5, 7), 13, 9), mask=True)
    yield conv(2, pointwise((1, 1), 7, 1), mask=True)
    yield conv(3, pointwise((3, 1), 6, 5), mask=True, bias_trained=True)
    yield conv(4, pointwise((4, 4), 96, 11), mask=True)
    yield conv(5, pointwise((2, 3), 202, 6))
    yield conv(6, pointwise((1, 17), 2, 3))
    yield conv(7, pointwise((4, 4), 24, 10), overlay=True, mask=True)
    yield conv(8, pointwise((4, 5), 23, 10), "i16", overlay=True)
    yield conv(9, pointwise((2, 2), 96, 9), "f32", overlay=True)
    yield conv(10, pointwise((4, 5), 23, 7), "i16", mask=True)
    yield conv(11, pointwise((4, 5), 9, 7), "f32")
    yield conv(12, pointwise((4, 4), 16, 6), bias_range=2**31, mask=True)
    yield conv(13, pointwise((4, 4), 16, 6), bias_range=2**31, bias_trained=True)
    yield conv(14, pointwise((3, 3), 5, 6), gain=300.0, mask=True)


def gradient_cases():
    for seed, (size, inputs, outputs) in enumerate(
        [((4, 4), 24, 40), ((3, 5), 13, 9), ((1, 1), 7, 1), ((2, 3), 6, 20)]
    ):
        geo, storage = pointwise(size, inputs, outputs), ("i16", "i8", "f32")[seed % 3]
        yield cases.conv2d_input_grad(seed, geo, ("i8", "f32", "i16", "i8")[seed])
        yield cases.conv2d_input_grad(seed + 20, geo, storage, overlay=True)
        yield cases.conv2d_weight_grad(seed, geo)
        yield cases.conv2d_weight_update(seed, geo, storage)


def with_scratch(made, target, choice):
    for case in made:
        declare_scratch(case, target, choice)
    return made


@pytest.mark.parametrize("choice", [0, 9], ids=["least", "most"])
@pytest.mark.parametrize("target", FULL)
def test_forward(target, choice):
    check(with_scratch(list(forward_cases()), target, choice), target)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("choice", [0, 9], ids=["least", "most"])
@pytest.mark.parametrize("target", FULL)
def test_gradients(target, choice):
    check(with_scratch(list(gradient_cases()), target, choice), target)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("target", SMOKE)
def test_smoke_subset(target):
    made = [*forward_cases(), *gradient_cases()]
    check(with_scratch(made[1::3], target, 1), target)


@pytest.mark.parametrize("target", FULL)
def test_result_may_overwrite_rows_that_were_read(target):
    """In rows order every row may land where an earlier row of the operand was."""
    made = []
    for seed, (size, inputs, outputs) in enumerate(
        [((4, 4), 8, 8), ((5, 3), 12, 5), ((7, 1), 6, 9)]
    ):
        case = cases.conv2d(seed, pointwise(size, inputs, outputs))
        case.op.attributes["tiny.traversal"] = string("rows")
        row_in, row_out = size[1] * inputs, size[1] * outputs
        gap = max((row + 1) * row_out - row * row_in for row in range(size[0]))
        case.overlap = (0, -(-gap // 4) * 4)
        made.append(case)
    check(with_scratch(made, target, 0), target)


def test_without_scratch_memory_the_general_kernel_runs():
    check([cases.conv2d(0, pointwise((3, 3), 8, 8))], "cortex-m7")


def usual_case(inputs, outputs):
    """A convolution that clamps to int8, as networks do; other limits cost a little more."""
    made = (cases.conv2d(seed, pointwise((8, 8), inputs, outputs)) for seed in range(50))
    return next(case for case in made if to_list(case.op.attributes["clamp"]) == [-128, 127])


def instructions_per_mac(case, target):
    (count,) = check(with_scratch([case], target, 9), target)
    *_, inputs = case.operands[1].shape
    return count / (inputs * np.prod(case.op.results[0].type.shape))


@pytest.mark.parametrize(
    ("target", "inputs", "limit"),
    [
        ("cortex-m7", 48, 0.95), ("cortex-m7", 16, 1.25), ("cortex-m4", 48, 0.95),
        ("rv32imafc", 48, 2.0), ("rv32imc", 48, 3.2),
    ],
)  # fmt: skip
def test_instructions(target, inputs, limit):
    assert instructions_per_mac(usual_case(inputs, 48), target) <= limit


def test_layers_that_walk_alike_share_their_kernel():
    """Sizes, zero points and limits of biases are arguments: one code for other layers."""
    target, names = find_target("cortex-m7"), set()
    others = [((8, 8), 24, 1000), ((4, 6), 36, 1000), ((7, 2), 30, 1000), ((4, 4), 36, 2**31)]
    for seed, (size, outputs, biases) in enumerate(others):
        case = cases.conv2d(seed, pointwise(size, 96, outputs), bias_range=biases)
        case.op.attributes["clamp"] = integers((-128, 127))
        declare_scratch(case, target.name, seed)
        names.add(build_call(case.op, target).kernel.name)
    assert len(names) == 1


@pytest.mark.parametrize("target", [*FULL, *SMOKE])
def test_strided_and_grouped_convolutions_are_left_alone(target):
    core = find_target(target)
    strided = cases.conv2d(0, Geometry((4, 4), 8, 8, (1, 1), (2, 2)))
    padded = cases.conv2d(1, Geometry((4, 4), 8, 8, (1, 1), (1, 1), (1, 0, 0, 0)))
    assert plan_of(strided.op, core) is None and plan_of(padded.op, core) is None
    gradient = cases.conv2d_input_grad(2, Geometry((4, 4), 8, 8, (1, 1), (2, 2)))
    assert scratch_wish_of(gradient.op, core) is None
