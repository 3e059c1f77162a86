"""Requantization constants: the short forms give the exact result for every accumulator tried."""

import kernel_cases as cases
import numpy as np
import pytest
from kernel_cases import Geometry

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.fixed_point import quantize_multipliers, requantize
from tiny_dialect.types import quantization
from tiny_targets.kernels.rescale import rescaling_of
from tiny_targets.kernels.weights import bias_range, sum_bounds


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


def short_form(found, totals):
    """What the kernels compute, in Python: [channel, accumulator], before the clamp."""
    high = (totals * found.multipliers[:, None].astype(np.int64)) >> 32
    shifts = found.shifts[:, None].astype(np.int64)
    if found.uniform:
        value = high + found.offset
        assert np.abs(value).max() < 2**31
        return value >> shifts
    value = high + (1 << (shifts - 1))
    assert np.abs(value).max() < 2**31
    return (value >> shifts) + found.zero


def accumulators(rng, low, high):
    """The ends, the middle, and everything in between by chance: [channel, accumulator]."""
    spread = rng.integers(low[:, None], high[:, None] + 1, (len(low), 3000))
    near = np.clip(rng.integers(-(2**18), 2**18, (len(low), 3000)), low[:, None], high[:, None])
    return np.concatenate([spread, near, low[:, None], high[:, None]], axis=1)


@pytest.mark.parametrize("seed", range(40))
def test_short_forms_are_exact(seed):
    rng = np.random.default_rng(seed)
    case = cases.conv2d(
        seed, Geometry((2, 2), int(rng.integers(1, 40)), 12, (1, 1)),
        bias_range=int(rng.choice([100, 2**20, 2**31])), bias_trained=bool(seed % 2),
        gain=float(10.0 ** rng.uniform(-6, 1)),
    )  # fmt: skip
    op = case.op
    found = rescaling_of(op)
    (scale_x, _), (scale_y, zero) = quantization(op.x), quantization(op.y)
    multipliers, shifts = quantize_multipliers(scale_x * to_array(op.weight_scales) / scale_y)
    if found is None:
        # Only a factor of 1/4, or steps beyond 32 bits, are refused.
        assert shifts.min() < 33 or seed % 2 or bias_range(op)[1].max() > 2**30
        return
    sums = sum_bounds(op)
    lowest, highest = bias_range(op)
    totals = accumulators(rng, lowest - sums, highest + sums)
    low, high = to_list(op.attributes["clamp"])
    exact = requantize(totals, multipliers[:, None], shifts[:, None]) + zero
    reached = totals
    if found.bias_limit is not None:
        # A limited bias moves the sum by as much.
        reached = np.clip(
            totals, -found.bias_limit - sums[:, None], found.bias_limit + sums[:, None]
        )
    got = short_form(found, reached)
    np.testing.assert_array_equal(np.clip(got, low, high), np.clip(exact, low, high))
    np.testing.assert_array_equal((got >= low) & (got <= high), (exact >= low) & (exact <= high))


def test_usual_layers_take_the_layer_form():
    case = cases.conv2d(1, Geometry((2, 2), 32, 64, (1, 1)))
    found = rescaling_of(case.op)
    assert found is not None and found.uniform


def test_large_factors_are_refused():
    case = cases.conv2d(0, Geometry((2, 2), 4, 6, (1, 1)), gain=3000.0)
    assert rescaling_of(case.op) is None
