"""Every kernel against the semantics on emulated cores: integers exact, floats in tolerance."""

from dataclasses import replace

import kernel_cases as cases
import numpy as np
import pytest
from kernel_case import check
from kernel_cases import Geometry

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context

# One of each shape class that a kernel treats differently.
POINTWISE = Geometry((3, 5), 9, 11, (1, 1))
DENSE = Geometry((6, 5), 3, 10, (3, 3), (2, 1), (1, 0, 2, 1))
DEPTHWISE = Geometry((7, 6), 13, 13, (5, 5), (2, 2), (2, 2, 2, 2), 13)
MULTIPLIED = Geometry((5, 4), 3, 6, (3, 3), (1, 3), (1, 1, 1, 1), 3)
GROUPED = Geometry((4, 7), 6, 9, (1, 3), (1, 2), (0, 2, 0, 1), 3)
ONE_AXIS = Geometry((1, 20), 2, 8, (1, 7), (1, 3), (0, 6, 0, 0))
WHOLE_IMAGE = Geometry((3, 3), 4, 5, (3, 3))
BARE_PADS = Geometry((2, 3), 5, 3, (1, 1), (2, 1), (1, 1, 1, 1))
ONE_PIXEL = Geometry((1, 1), 1, 1, (1, 1))
GEOMETRIES = (
    POINTWISE, DENSE, DEPTHWISE, MULTIPLIED, GROUPED, ONE_AXIS, WHOLE_IMAGE, BARE_PADS, ONE_PIXEL,
)  # fmt: skip

FULL = ("cortex-m7", "rv32imafc")
SMOKE = ("cortex-m4", "rv32imc")


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


def forward_cases():
    for seed, geo in enumerate(GEOMETRIES):
        yield cases.conv2d(seed, geo, mask=seed % 2 == 0)
        yield cases.conv2d(seed + 100, geo, overlay=True, storage=("i16", "i8", "f32")[seed % 3])
    yield cases.conv2d(30, DENSE, storage="i16", mask=True, bias_trained=True)
    yield cases.conv2d(31, POINTWISE, storage="f32")
    yield cases.conv2d(32, POINTWISE, bias_range=2**31, mask=True)
    yield cases.conv2d(33, DEPTHWISE, bias_range=2**31, bias_trained=True)
    yield cases.conv2d(34, GROUPED, gain=300.0, mask=True)
    yield cases.conv2d_beyond_32_bits(35)
    for seed, shape in enumerate([(3, 5, 13), (2, 2, 8), (1, 1, 1), (4, 3, 24)]):
        yield cases.add(seed, shape, mask=seed % 2 == 0)
        yield cases.global_average_pool(seed, shape)
        yield cases.gather_channels(seed, shape)
        yield cases.dequantize(seed, shape)
        yield cases.linear(seed, seed * 3 + 1, shape)
    yield cases.add(7, (3, 3, 5), mask=True, scales=(1e-3, 40.0, 0.5))
    yield cases.global_average_pool(8, (1, 2, 40), ties=True)
    yield cases.global_average_pool(9, (2, 2, 40), ties=True)


def backward_cases():
    for seed, geo in enumerate(GEOMETRIES):
        storage = ("i16", "i8", "f32")[seed % 3]
        yield cases.conv2d_input_grad(seed, geo)
        yield cases.conv2d_input_grad(seed + 50, geo, storage=storage, overlay=True)
        yield cases.conv2d_weight_grad(seed, geo, partial=seed % 2 == 0)
    yield cases.conv2d_input_grad(40, DENSE, storage="f32")
    for seed, shape in enumerate([(3, 5, 13), (2, 2, 8), (1, 1, 1), (4, 3, 24)]):
        classes = seed * 3 + 1
        yield cases.scale_gradient(seed, shape, mask=False)
        yield cases.scale_gradient(seed, shape, mask=True)
        yield cases.add_gradients(seed, shape)
        yield cases.global_average_pool_grad(seed, shape)
        yield cases.bias_grad(seed, shape)
        yield cases.linear_input_grad(seed, classes, shape)
        yield cases.linear_weight_grad(seed, classes, shape)
        for spread in (0.1, 5.0, 80.0):
            yield cases.softmax(seed, classes + 1, spread, gradient=False)
            yield cases.softmax(seed, classes, spread, gradient=True)


def update_cases():
    for seed, geo in enumerate(GEOMETRIES):
        storage = ("i16", "f32", "i8")[seed % 3]
        yield cases.conv2d_weight_update(seed, geo, storage)
        yield cases.conv2d_weight_update(seed + 50, geo, "i16", partial=True)
    for seed, shape in enumerate([(3, 5, 13), (2, 2, 8), (1, 1, 1)]):
        yield cases.bias_update(seed, shape)
        yield cases.linear_weight_update(seed, seed + 2, shape)
    yield cases.bias_update(5, (2, 2, 30))
    yield cases.bias_update(6, (2, 3, 7), storage="f32")
    yield cases.linear_weight_update(7, 3, (1, 1, 5), storage="i16")
    for seed, storage in enumerate(("i8", "i16", "f32", "i32")):
        shape = (40,) if storage == "i32" else (11, 3, 2, 5)
        yield cases.apply_update(seed, shape, storage)


def in_place_cases():
    for seed, shape in enumerate([(3, 5, 13), (2, 2, 8)]):
        yield replace(cases.add(seed, shape, mask=True), in_place=True)
        yield replace(cases.add(seed + 10, shape), in_place=True)
        yield replace(cases.scale_gradient(seed, shape, mask=False), in_place=True)
        yield replace(cases.scale_gradient(seed, shape, mask=True), in_place=True)
        yield replace(cases.add_gradients(seed, shape), in_place=True)


FAMILIES = {
    "forward": forward_cases,
    "backward": backward_cases,
    "update": update_cases,
    "in_place": in_place_cases,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", FULL)
def test_kernels_equal_the_semantics(family, target):
    check(list(FAMILIES[family]()), target)


@pytest.mark.parametrize("target", SMOKE)
def test_smoke_subset(target):
    """Cores that lack instructions the others have: same results, no missing library call."""
    everything = [case for family in FAMILIES.values() for case in family()]
    check(everything[::4], target)


@pytest.mark.slow
@pytest.mark.parametrize("target", FULL)
@pytest.mark.parametrize("block", range(4))
def test_random_geometries(target, block):
    rng = np.random.default_rng(block)
    drawn = []
    for seed in range(block * 100, block * 100 + 12):
        geo = cases.random_geometry(rng)
        storage = str(rng.choice(["i8", "i16", "f32"]))
        flags = {"overlay": bool(rng.random() < 0.5), "mask": bool(rng.random() < 0.5)}
        bias_range = int(rng.choice([100, 2**20, 2**31]))
        drawn += [
            cases.conv2d(seed, geo, storage, bias_range=bias_range, **flags),
            cases.conv2d_input_grad(seed, geo, storage, flags["overlay"]),
            cases.conv2d_weight_grad(seed, geo, partial=flags["overlay"]),
            cases.conv2d_weight_update(seed, geo, storage, partial=flags["overlay"]),
        ]
    check(drawn, target)
