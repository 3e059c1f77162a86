"""Fused chains of convolutions on emulated cores: the same bits as the ops one after the other."""

import numpy as np
import pytest
from chain_case import Link, chain_case, random_links
from kernel_case import check, declare_scratch
from kernel_cases import Geometry

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_targets.kernels.scratch import scratch_wish_of
from tiny_targets.target import find_target

FULL = ("cortex-m7", "rv32imafc")
SMOKE = ("cortex-m4", "rv32imc")


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


def inverted_bottleneck(size, inputs, hidden, outputs, kernel, stride, **flags):
    """Pointwise, depthwise, pointwise."""
    pad = kernel // 2
    expand = Geometry(size, inputs, hidden, (1, 1))
    depthwise = Geometry(
        size, hidden, hidden, (kernel, kernel), (stride, stride), (pad,) * 4, hidden
    )
    project = Geometry(depthwise.output[:2], hidden, outputs, (1, 1))
    return [Link(expand, **flags), Link(depthwise, **flags), Link(project, mask=True)]


def chosen_cases():
    """The shapes of real networks, small: odd channels, non-square, one axis, every kernel."""
    yield chain_case(0, inverted_bottleneck((9, 7), 5, 13, 5, 3, 1), residual="input")
    yield chain_case(1, inverted_bottleneck((8, 8), 3, 6, 4, 7, 2, mask=True, gather=True))
    yield chain_case(2, inverted_bottleneck((1, 20), 4, 9, 4, 1, 1), residual="other", mask=True)
    yield chain_case(3, inverted_bottleneck((6, 11), 7, 8, 7, 5, 1, overlay=True), "input", True)
    first = Geometry((12, 9), 3, 6, (3, 3), (2, 2), (1, 1, 1, 1))
    second = Geometry(first.output[:2], 6, 6, (5, 3), (1, 1), (2, 1, 2, 1), 6)
    third = Geometry(second.output[:2], 6, 4, (1, 1))
    yield chain_case(4, [Link(first), Link(second), Link(third)])
    # A consumer that skips rows: all of them are stored all the same where their mask is.
    skipped = Geometry((11, 4), 2, 5, (1, 1))
    skipping = Geometry((11, 4), 5, 3, (1, 1), (3, 1), (0, 0, 0, 0))
    yield chain_case(5, [Link(skipped), Link(skipping)])
    yield chain_case(6, [Link(skipped, mask=True), Link(skipping)])
    cropped = Geometry((11, 4), 5, 3, (3, 1), (4, 1), (1, 0, 0, 0))
    yield chain_case(7, [Link(skipped, mask=True), Link(skipped_again()), Link(cropped)])
    padded = Geometry((4, 3), 2, 3, (1, 1), (2, 2), (3, 2, 4, 2))
    yield chain_case(8, [Link(padded, mask=True), Link(Geometry(padded.output[:2], 3, 2, (3, 2)))])


def skipped_again():
    return Geometry((11, 4), 5, 5, (3, 3), (1, 1), (1, 1, 1, 1), 5)


def random_cases(seeds):
    for seed in seeds:
        rng = np.random.default_rng(seed)
        residual = ["", "", "input", "other"][seed % 4]
        links = random_links(rng, int(rng.integers(2, 5)), residual == "input")
        yield chain_case(seed, links, residual, mask=bool(rng.random() < 0.5))


@pytest.mark.parametrize("target", FULL)
def test_fused_chains_equal_their_ops(target):
    check([*chosen_cases(), *random_cases(range(16))], target)


@pytest.mark.parametrize("target", SMOKE)
def test_smoke_subset(target):
    check([*list(chosen_cases())[::3], *random_cases(range(100, 103))], target)


def wide_chains():
    """Dense windows whose widened weights are more than a block keeps: held in parts, or whole."""
    same = (1, 1, 1, 1)
    first = Geometry((7, 9), 13, 40, (3, 3), (1, 1), same)
    second = Geometry((7, 9), 40, 13, (3, 3), (1, 1), same)
    yield chain_case(20, [Link(first, mask=True), Link(second)], "input", True)
    narrow = Geometry((4, 6), 5, 131, (3, 3), (1, 1), same)
    yield chain_case(21, [Link(narrow, overlay=True), Link(Geometry((4, 6), 131, 3, (1, 1)))])
    long = Geometry((1, 40), 34, 33, (1, 5), (1, 2), (0, 2, 0, 2))
    after = Geometry((1, 20), 33, 30, (1, 5), (1, 1), (0, 2, 0, 2))
    yield chain_case(22, [Link(long, "i16", gather=True), Link(after, mask=True)])


@pytest.mark.parametrize("target", (*FULL, *SMOKE))
def test_wide_windows_in_any_scratch_memory(target):
    sizes = [scratch_wish_of(case.op, find_target(target)).sizes for case in wide_chains()]
    for choice in (0, 1, len(max(sizes, key=len))):
        drawn = list(wide_chains())
        for case in drawn:
            declare_scratch(case, target, choice)
        check(drawn, target)


@pytest.mark.parametrize("target", FULL)
def test_wide_windows_do_not_keep_all_weights(target):
    wide = Geometry((5, 6), 5, 515, (3, 3), (1, 1), (1, 1, 1, 1))
    case = chain_case(30, [Link(wide), Link(Geometry((5, 6), 515, 1, (1, 1)))])
    sizes = scratch_wish_of(case.op, find_target(target)).sizes
    assert sizes[0] < sizes[-1] / 2


@pytest.mark.slow
@pytest.mark.parametrize("target", FULL)
@pytest.mark.parametrize("block", range(4))
def test_many_random_chains(target, block):
    check(list(random_cases(range(1000 + 25 * block, 1025 + 25 * block))), target)
