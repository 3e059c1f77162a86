"""Every integer backward kernel against the semantics on emulated cores, bit for bit."""

from dataclasses import replace

import integer_cases as cases
import numpy as np
import pytest
from kernel_case import check, declare_scratch
from kernel_cases import Geometry, random_geometry

from tiny_dialect.attributes import integer
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_targets.kernels import build_call
from tiny_targets.kernels.scratch import scratch_wish_of
from tiny_targets.target import find_target

POINTWISE = Geometry((3, 5), 9, 11, (1, 1))
EVEN = Geometry((4, 4), 8, 12, (1, 1))
LONG = Geometry((2, 3), 6, 106, (1, 1))
WIDE = Geometry((3, 3), 11, 22, (1, 1))
ONE_PIXEL = Geometry((1, 1), 1, 1, (1, 1))
STRIDED = Geometry((5, 4), 3, 4, (1, 1), (2, 2))
BARE_PADS = Geometry((2, 3), 5, 3, (1, 1), (2, 1), (1, 1, 1, 1))
DENSE = Geometry((6, 5), 3, 10, (3, 3), (2, 1), (1, 0, 2, 1))
GROUPED = Geometry((4, 7), 6, 9, (1, 3), (1, 2), (0, 2, 0, 1), 3)
MULTIPLIED = Geometry((5, 4), 3, 6, (3, 3), (1, 3), (1, 1, 1, 1), 3)
ONE_AXIS = Geometry((1, 20), 2, 8, (1, 7), (1, 3), (0, 6, 0, 0))
GENERAL = (STRIDED, BARE_PADS, DENSE, GROUPED, MULTIPLIED, ONE_AXIS)
MATRICES = (POINTWISE, EVEN, LONG, WIDE, ONE_PIXEL)
PLANES = (
    Geometry((7, 6), 5, 5, (3, 3), (1, 1), (1, 1, 1, 1), 5),
    Geometry((4, 4), 6, 6, (5, 5), (1, 1), (2, 2, 2, 2), 6),
    Geometry((7, 8), 3, 3, (5, 5), (2, 2), (2, 2, 2, 2), 3),
    Geometry((8, 8), 2, 2, (7, 7), (2, 2), (3, 3, 3, 3), 2),
    Geometry((1, 9), 4, 4, (1, 4), (1, 3), (0, 2, 0, 1), 4),
    Geometry((5, 4), 3, 3, (1, 2), (3, 2), (0, 0, 0, 1), 3),
    Geometry((3, 3), 2, 2, (1, 1), (1, 1), (1, 0, 0, 2), 2),
    Geometry((6, 6), 2, 2, (3, 3), (1, 1), (0, 0, 0, 0), 2),
    Geometry((2, 35), 2, 2, (3, 3), (1, 1), (1, 1, 1, 1), 2),
)

# Groups of four outputs and more: a panel for each tap.
WINDOWS = (
    Geometry((6, 7), 5, 10, (3, 3), (1, 1), (1, 1, 1, 1)),
    Geometry((7, 8), 6, 8, (3, 3), (2, 2), (1, 1, 1, 1)),
    Geometry((5, 9), 9, 15, (3, 5), (1, 2), (1, 0, 1, 3), 3),
    Geometry((1, 21), 3, 16, (1, 9), (1, 1), (0, 4, 0, 4)),
    Geometry((9, 11), 2, 7, (2, 3), (4, 4), (0, 1, 0, 0)),
    Geometry((8, 3), 4, 12, (1, 1), (2, 2)),
    Geometry((6, 5), 4, 16, (3, 3), (1, 1), (1, 1, 1, 1), 2),
    Geometry((5, 6), 2, 8, (3, 3), (1, 1), (1, 1, 1, 1), 2),
)

SHAPES = ((3, 5, 13), (2, 2, 8), (1, 1, 1), (4, 3, 24), (1, 7, 6), (5, 20))

TARGETS = ("cortex-m4", "cortex-m7", "rv32imc", "rv32imafc")


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


def elementwise_cases():
    for seed, shape in enumerate(SHAPES):
        yield cases.normalize(seed, shape, bits=16 - seed % 3, mask=True)
        yield cases.normalize(seed + 10, shape, bits=(8, 5, 16)[seed % 3], mask=seed % 2 == 0)
        yield cases.normalize(seed + 20, shape, uniform=True, mask=seed % 2 == 1)
        if len(shape) == 3:
            yield cases.normalize(seed + 30, shape, spread=True, bits=16 - 8 * (seed % 2))
        yield cases.add(seed, shape, (-3, -3 + 2 * seed))
        yield cases.add(seed + 10, shape, (40, -3), (16, 3 * (seed % 2)))
    yield cases.normalize(50, (3, 3, 16), source="i8", bits=8)
    yield cases.add(51, (2, 3, 5), (0, 9), (0, 0))
    yield cases.add(52, (2, 3, 5), (9, 0), (1, 16))
    yield cases.add(53, (2, 3, 5), (-30, 5), (0, 1))


def in_place_cases():
    for seed, shape in enumerate(SHAPES):
        yield replace(cases.normalize(seed, shape, bits=15), in_place=True)
        yield replace(cases.normalize(seed, shape, bits=15, mask=False), in_place=True)
        yield replace(cases.normalize(seed, shape, bits=8), overlap=(0, 0))
        yield replace(cases.add(seed, shape, (-3, seed)), in_place=True)
        yield replace(cases.add(seed, shape, (-3, seed)), overlap=(2, 0))


def planes_cases():
    """A depthwise gradient over its operand, where its kernel has memory for a plane."""
    for seed in (0, 1):
        yield replace(cases.input_grad(seed, PLANES[seed]), in_place=True)
        yield replace(cases.input_grad(seed, PLANES[seed], "i16", overlay=True), in_place=True)


def input_grad_cases():
    for seed, geo in enumerate(GENERAL + MATRICES + PLANES):
        yield cases.input_grad(seed, geo, ("i8", "i16")[seed % 2])
        yield cases.input_grad(seed + 50, geo, ("i16", "i8")[seed % 2], overlay=True)
        yield cases.input_grad(seed + 100, geo, element="i8")


def window_gradient_cases():
    for seed, geo in enumerate(WINDOWS):
        yield cases.input_grad(seed, geo, ("i8", "i16")[seed % 2])
        yield cases.input_grad(seed + 50, geo, ("i16", "i8")[seed % 2], overlay=True)
        yield cases.input_grad(seed + 100, geo, element="i8")


def weight_update_cases():
    for seed, geo in enumerate(GENERAL + MATRICES + PLANES):
        yield cases.weight_update(seed, geo)
        yield cases.weight_update(seed + 50, geo, partial=True)
        yield cases.weight_update(seed + 100, geo, element="i8")


def other_storage_cases():
    """Weights that are no i16 masters: i8 to nearest and at random, f32."""
    for seed, geo in enumerate(GENERAL + MATRICES + PLANES):
        for storage in cases.STORAGES[1:]:
            yield cases.weight_update(seed, geo, storage=storage)
            yield cases.weight_update(seed + 50, geo, partial=True, storage=storage)
            yield cases.weight_update(seed + 100, geo, element="i8", storage=storage)
    for seed, shape in enumerate(SHAPES):
        yield cases.summed_bias(seed, shape)
        yield cases.linear_weight_update(seed, 3, (1, *shape[-2:]), summed=True)


def bias_cases():
    for seed, shape in enumerate(SHAPES):
        yield cases.bias_update(seed, shape)
        yield cases.bias_update(seed + 10, shape, element="i8", initial=2**31)


def head_cases():
    for seed, shape in enumerate(shape for shape in SHAPES if len(shape) == 3):
        classes = 3 * seed + 1
        yield cases.linear(seed, classes, shape, (2**25, 2**30)[seed % 2])
        yield cases.linear_input_grad(seed, classes, shape, (16, 5, 0)[seed % 3])
        yield cases.linear_weight_update(seed, classes, shape)
        yield cases.dequantize_fixed(seed, shape, (0.013, 100.0, 1e-7)[seed % 3])
        for spread in (0.1, 5.0, 80.0):
            yield cases.softmax(seed, classes + 1, spread, gradient=False)
            yield cases.softmax(seed, classes, spread, gradient=True)
    yield cases.softmax(7, 1000, 2.0, gradient=True)
    yield cases.softmax(7, 1000, 2000.0, gradient=False)
    yield cases.fixed_to_float(1, 100)
    yield cases.fixed_to_float(2, 1)


FAMILIES = {
    "elementwise": elementwise_cases,
    "in_place": in_place_cases,
    "input_grad": input_grad_cases,
    "weight_update": weight_update_cases,
    "other_storage": other_storage_cases,
    "bias": bias_cases,
    "head": head_cases,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_equal_the_semantics(family, target):
    drawn = list(FAMILIES[family]())
    for index, case in enumerate(drawn):
        # Every other convolution has scratch memory for its fast form, the rest take the general.
        if index % 4 != 3:
            declare_scratch(case, target)
    check(drawn, target)


@pytest.mark.parametrize("target", TARGETS)
def test_depthwise_gradient_over_its_operand(target):
    drawn = list(planes_cases())
    for case in drawn:
        declare_scratch(case, target)
    check(drawn, target)


@pytest.mark.parametrize("target", TARGETS)
def test_window_gradients_take_panels(target):
    drawn = list(window_gradient_cases())
    for case in drawn:
        declare_scratch(case, target, choice=1)
    # Trained outputs of groups of one input channel are chosen row by row, in the general form.
    assert sum("tiny.scratch_bytes" in case.op.attributes for case in drawn) >= len(drawn) - 1
    check(drawn, target)


def test_large_window_panels_are_used_only_where_there_is_room():
    geo = Geometry((6, 6), 8, 256, (3, 3), (1, 1), (1, 1, 1, 1))
    case = cases.input_grad(0, geo)
    wish = scratch_wish_of(case.op, find_target("cortex-m7"))
    assert wish.sizes[0] == 0
    assert wish.sizes[1] >= 9 * 256 * 4, "two columns of all taps, widened"
    fast = cases.input_grad(0, geo)
    declare_scratch(fast, "cortex-m7", choice=1)
    slow, quick = check([case, fast], "cortex-m7")
    assert quick < 0.5 * slow


def test_layers_that_walk_alike_share_their_kernel():
    """Shifts, pixels and channels are arguments of a pointwise gradient."""
    target, names = find_target("cortex-m7"), set()
    for shift, size, inputs in ((11, (4, 4), 8), (13, (6, 6), 24), (15, (2, 8), 16)):
        case = cases.input_grad(shift, Geometry(size, inputs, 48, (1, 1)))
        case.op.attributes["shift"] = integer(shift)
        declare_scratch(case, target.name)
        names.add(build_call(case.op, target).kernel.name)
    assert len(names) == 1


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", range(4))
def test_random_geometries(target, block):
    rng = np.random.default_rng(block)
    drawn = []
    for seed in range(block * 100, block * 100 + 15):
        geo = random_geometry(rng)
        element = str(rng.choice(["i8", "i16", "i16"]))
        storage, overlay = str(rng.choice(["i8", "i16"])), bool(rng.random() < 0.4)
        drawn += [
            cases.input_grad(seed, geo, storage, overlay, element),
            cases.weight_update(seed, geo, overlay, element),
        ]
        if rng.random() < 0.8:
            declare_scratch(drawn[-1], target)
            declare_scratch(drawn[-2], target)
    check(drawn, target)
