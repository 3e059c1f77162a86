"""Depthwise, dense and residual kernels with scratch memory, against the semantics on all cores.

The same ops without scratch memory run the plain loops of `test_kernels.py`.
"""

from dataclasses import replace

import kernel_cases as cases
import numpy as np
import pytest
from kernel_case import check, declare_scratch
from kernel_cases import Geometry

from tiny_dialect.attributes import integers, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.semantics import evaluate_op
from tiny_targets.kernels import Scratch, build_call
from tiny_targets.kernels.residual_add import short_addition
from tiny_targets.kernels.scratch import scratch_wish_of
from tiny_targets.kernels.tap_pairs import row_products
from tiny_targets.target import find_target

TARGETS = ("cortex-m7", "cortex-m4", "rv32imc", "rv32imafc")


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


def depthwise(size, channels, kernel, strides=(1, 1), pads=None, multiplier=1):
    """A depthwise geometry with the pads that keep the size, unless others are given."""
    same = (kernel[0] // 2, kernel[1] // 2, kernel[0] // 2, kernel[1] // 2)
    outputs = channels * multiplier
    return Geometry(size, channels, outputs, kernel, strides, pads or same, channels)


DEPTHWISE = (
    depthwise((16, 16), 3, (3, 3)),
    depthwise((9, 13), 5, (3, 3), (2, 2)),
    depthwise((8, 8), 4, (5, 5)),
    depthwise((11, 6), 3, (7, 7), (2, 2)),
    depthwise((5, 4), 13, (3, 3)),
    depthwise((1, 21), 3, (1, 5), (1, 2)),
    depthwise((7, 8), 2, (2, 4), pads=(1, 2, 0, 1)),
    depthwise((6, 7), 3, (3, 2), (3, 3), (0, 3, 2, 0)),
    depthwise((4, 9), 2, (1, 1), (2, 1)),
    depthwise((6, 6), 2, (3, 3), multiplier=3),
    depthwise((70, 40), 2, (3, 3)),
    depthwise((80, 33), 2, (5, 3), (2, 1), (1, 1, 3, 0)),
    depthwise((40, 60), 2, (2, 2), (3, 3), (0, 0, 0, 0)),
)
DENSE = (
    Geometry((16, 20), 3, 8, (3, 3), (2, 2), (1, 1, 1, 1)),
    Geometry((7, 9), 3, 5, (3, 3), (1, 1), (1, 1, 1, 1)),
    Geometry((6, 5), 1, 3, (5, 3), (1, 1), (2, 0, 1, 2)),
    Geometry((5, 6), 17, 4, (3, 3), (1, 2), (0, 1, 0, 1)),
    Geometry((1, 30), 4, 6, (1, 9), (1, 3), (0, 4, 0, 4)),
    Geometry((9, 3), 2, 2, (7, 1), (2, 1), (3, 0, 3, 0)),
    Geometry((5, 7), 6, 3, (1, 1), (2, 2)),
    Geometry((40, 90), 3, 4, (3, 3), (2, 2), (1, 1, 1, 1)),
)

# More widened weights than are held at once; an output block of fewer channels at the end.
WIDE = (
    Geometry((6, 7), 40, 37, (3, 3), (1, 1), (1, 1, 1, 1)),
    Geometry((1, 23), 33, 26, (1, 9), (1, 2), (0, 4, 0, 4)),
    Geometry((5, 4), 129, 11, (3, 3), (2, 2), (1, 1, 1, 1)),
    Geometry((9, 40), 30, 24, (5, 5), (1, 2), (2, 2, 2, 2)),
)


def convolutions(geometries):
    """Each geometry plain and with everything at once, the storage types in turn."""
    for seed, geo in enumerate(geometries):
        storage = ("i16", "f32", "i8")[seed % 3]
        yield full_range(cases.conv2d(seed, geo, bias_trained=seed % 2 == 1))
        yield cases.conv2d(seed + 50, geo, storage, overlay=True, mask=True)
        wide = {"bias_range": 2**31} if seed % 4 == 0 else {}
        yield cases.conv2d(seed + 90, geo, storage, mask=seed % 2 == 0, **wide)


def full_range(case):
    """The case with the clamp that published networks have."""
    case.op.attributes["clamp"] = integers((-128, 127))
    return case


def gradients():
    """Input gradients of the depthwise geometries, frozen and partly trained."""
    for seed, geo in enumerate(DEPTHWISE):
        yield cases.conv2d_input_grad(seed, geo)
        storage = ("i16", "f32")[seed % 2]
        yield cases.conv2d_input_grad(seed + 40, geo, storage=storage, overlay=True)


def additions():
    for seed, shape in enumerate([(3, 5, 13), (2, 2, 8), (1, 1, 1), (4, 3, 24), (1, 3, 4)]):
        for mask in (False, True):
            yield full_range(cases.add(seed, shape, mask=mask))
            yield replace(cases.add(seed + 20, shape, mask=mask), in_place=True)
    yield cases.add(7, (3, 3, 5), mask=True, scales=(1e-3, 40.0, 0.5))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("geometries", [DEPTHWISE, DENSE], ids=["depthwise", "dense"])
def test_convolutions_equal_the_semantics(geometries, target):
    drawn = list(convolutions(geometries))
    core = find_target(target)
    fast = 0
    for case in drawn:
        declare_scratch(case, target, choice=9)
        fast += any(isinstance(a, Scratch) for a in build_call(case.op, core).arguments)
    # Biases beyond 32 bits may need the plain loops.
    assert fast >= 0.8 * len(drawn)
    check(drawn, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("choice", [0, 1])
def test_wide_convolutions_hold_some_of_their_weights(choice, target):
    drawn = list(convolutions(WIDE))
    for case in drawn:
        declare_scratch(case, target, choice)
        used = build_call(case.op, find_target(target)).arguments
        assert any(isinstance(argument, Scratch) for argument in used), case.label
    check(drawn, target)


@pytest.mark.parametrize("target", TARGETS)
def test_scratch_of_wide_convolutions_is_bounded(target):
    geo = Geometry((8, 8), 64, 64, (3, 3), (1, 1), (1, 1, 1, 1))
    case = cases.conv2d(0, geo)
    wish = scratch_wish_of(case.op, find_target(target))
    least, most = wish.sizes[0], wish.sizes[-1]
    assert wish.sizes == sorted(set(wish.sizes))
    assert most > 64 * 64 * 9, "all weights, widened"
    assert least < most / 5, "some rows of the input, a block or a few of weights"


@pytest.mark.parametrize("target", [t for t in TARGETS if find_target(t).has("fpu")])
def test_depthwise_gradients_equal_the_semantics(target):
    drawn = list(gradients())
    for case in drawn:
        declare_scratch(case, target)
    assert sum("tiny.scratch_bytes" in case.op.attributes for case in drawn) > len(drawn) // 2
    check(drawn, target)


@pytest.mark.parametrize("target", TARGETS)
def test_additions_equal_the_semantics(target):
    check(list(additions()), target)


def test_short_addition_holds_for_every_pair_of_operands():
    values = np.arange(-128, 128, dtype=np.int8)
    a, b = np.meshgrid(values, values, indexing="ij")
    for case in additions():
        form = short_addition(case.op)
        assert form is not None
        total = a.astype(np.int64) * form.factors[0] + b.astype(np.int64) * form.factors[1]
        total += form.offset
        assert np.abs(total).max() < 2**31
        value = total >> form.shift
        limited = np.clip(value, *to_list(case.op.attributes["clamp"]))
        results = evaluate_op(case.op, [a, b])
        for got, want in zip((limited, limited == value), results, strict=False):
            np.testing.assert_array_equal(got, want)


def test_an_addition_without_a_short_form_takes_the_long_one():
    case = cases.add(3, (1, 2, 3), scales=(2e5, 3e5, 0.5))
    assert short_addition(case.op) is None
    check([case], "cortex-m7")


@pytest.mark.parametrize("kernel", range(1, 9))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [0, 1])
def test_row_products_cover_every_tap_once(window, stride, kernel):
    count = 4
    row = row_products(window, stride, kernel, count)
    products = {}
    for product in row.products:
        taps = row.words[product.weight]
        elements = (2 * product.word, 2 * product.word + 1)
        if product.halves is None:
            pairs = list(zip(elements, taps, strict=True))
        else:
            sides = ["lh".index(side) for side in product.halves]
            pairs = [(elements[sides[0]], taps[sides[1]])]
        for element, tap in pairs:
            if tap is not None:
                key = product.output, tap
                assert key not in products
                products[key] = element
    expected = {
        (output, tap): window + output * stride + tap
        for output in range(count)
        for tap in range(kernel)
    }
    assert products == expected


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", range(3))
def test_random_geometries(target, block):
    rng = np.random.default_rng(block)
    drawn = []
    for seed in range(block * 100, block * 100 + 25):
        geo = cases.random_geometry(rng)
        storage = str(rng.choice(["i8", "i16", "f32"]))
        flags = {"overlay": bool(rng.random() < 0.5), "mask": bool(rng.random() < 0.5)}
        bias_range = int(rng.choice([100, 2**20, 2**31]))
        case = cases.conv2d(seed, geo, storage, bias_range=bias_range, **flags)
        declare_scratch(case, target, choice=int(rng.integers(0, 3)))
        drawn.append(case)
    check(drawn, target)
