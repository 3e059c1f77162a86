"""Results over the operands they consume: real kernels at exactly the distance the planner uses."""

from dataclasses import replace

import kernel_cases as cases
import numpy as np
import pytest
from chain_case import chain_case, random_links
from kernel_case import check
from kernel_cases import Geometry

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.types import storage_bytes
from tiny_passes.check_overlap import is_safe_overlap, most_common_bytes
from tiny_passes.liveness import round_up
from tiny_passes.overwriting import grant, possible

TARGETS = ("cortex-m7", "rv32imafc")


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


def overlapping(case):
    """The case once for each operand that its result may overwrite, at the smallest distance."""
    best = possible(case.op)
    assert best.distances, case.label
    grant(case.op, best)
    for operand, distance in best.distances.items():
        yield replace(case, overlap=(operand, distance))


def convolutions(seeds):
    for seed in seeds:
        geo = cases.random_geometry(np.random.default_rng(seed))
        yield cases.conv2d(seed, geo, mask=seed % 2 == 0, overlay=seed % 3 == 0)
        yield cases.conv2d_input_grad(seed, geo)
    same = Geometry((7, 6), 13, 13, (5, 3), (1, 1), (2, 1, 2, 1), 13)
    shifted = Geometry((6, 4), 3, 3, (3, 3), (1, 1), (2, 0, 0, 2), 3)
    yield cases.conv2d_input_grad(900, same)
    yield cases.conv2d_input_grad(901, same, storage="i16", overlay=True)
    yield cases.conv2d_input_grad(902, shifted, storage="f32")
    yield cases.conv2d(903, same)


def chains(seeds):
    for seed in seeds:
        rng = np.random.default_rng(seed)
        residual = ["", "input", "other"][seed % 3]
        links = random_links(rng, int(rng.integers(1, 5)), residual == "input")
        yield chain_case(seed, links, residual)


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_lose_nothing_at_the_smallest_distance(target):
    drawn = [*convolutions(range(300, 312)), *chains(range(400, 410))]
    check([overlap for case in drawn for overlap in overlapping(case)], target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_lose_nothing_often(target):
    drawn = [*convolutions(range(2000, 2050)), *chains(range(3000, 3060))]
    check([overlap for case in drawn for overlap in overlapping(case)], target)


def test_the_smallest_distance_is_what_a_replay_finds():
    """The closed form against the checker, which replays rows and shares no code with it."""
    planes = 0
    for case in [*convolutions(range(500, 560)), *chains(range(600, 660))]:
        op, best = case.op, possible(case.op)
        assert not any(is_safe_overlap(op, operand, d) for operand, d in best.distances.items())
        grant(op, best)
        planes += best.traversal == "planes"
        x_sizes = {n: storage_bytes(op.operands[n]) for n in best.distances}
        y = round_up(storage_bytes(op.results[0]), 4)
        for operand, distance in best.distances.items():
            assert is_safe_overlap(op, operand, distance), case.label
            common = max(0, min(y - distance, round_up(x_sizes[operand], 4)))
            assert most_common_bytes(op, operand) == common, case.label
            if 0 < distance < y:
                assert not is_safe_overlap(op, operand, distance - 4), case.label
    assert planes
