"""The vectorised semantics against loops written straight from docs/design/arithmetic.md."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_dialect.fixed_point import (
    paired_multipliers,
    quantize_multiplier,
    requantize,
    rounding_shift,
)
from tiny_dialect.ops.convolution import ConvGeometry
from tiny_dialect.semantics.convolution import convolve, effective_weight, stored_weight
from tiny_dialect.semantics.update import BIAS_LIMIT, subtract_step


def naive_convolution(x, w, geometry):
    """One output at a time, out-of-range taps skipped."""
    shape = geometry.output_shape(x.shape, w.shape)
    y = np.zeros(shape)
    outputs, inputs = w.shape[0] // geometry.groups, w.shape[3]
    for oh, ow, o in np.ndindex(shape[1:]):
        group = o // outputs
        for kh, kw, i in np.ndindex(w.shape[1:]):
            h = oh * geometry.strides[0] + kh - geometry.pads[0]
            v = ow * geometry.strides[1] + kw - geometry.pads[1]
            if 0 <= h < x.shape[1] and 0 <= v < x.shape[2]:
                y[0, oh, ow, o] += int(x[0, h, v, group * inputs + i]) * int(w[o, kh, kw, i])
    return y


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_group, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    size = (
        draw(st.integers(max(1, kernel[0] - pads[0] - pads[2]), 7)),
        draw(st.integers(max(1, kernel[1] - pads[1] - pads[3]), 6)),
    )
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    x = rng.integers(-255, 256, (1, *size, groups * per_group)).astype(np.int16)
    w = rng.integers(-128, 128, (groups * outputs, *kernel, per_group)).astype(np.int8)
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return x, w, ConvGeometry(strides, pads, groups)


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_convolution_equals_loops(case):
    x, w, geometry = case
    np.testing.assert_array_equal(convolve(x, w, geometry), naive_convolution(x, w, geometry))


@given(
    st.floats(1e-12, 2.0**20),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=8),
)
@settings(deadline=None)
def test_requantize_is_one_rounding_of_the_q31_product(scale, accumulators):
    multiplier, shift = quantize_multiplier(scale)
    assert math.isclose(multiplier * 2.0**-shift, scale, rel_tol=2.0**-30 if shift < 62 else 1e-3)
    got = requantize(np.array(accumulators, np.int64), multiplier, shift)
    half = Fraction(1, 2)
    expected = [math.floor(Fraction(a * multiplier, 2**shift) + half) for a in accumulators]
    assert got.tolist() == expected


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 2.0**30])
def test_factors_out_of_range_are_refused(scale):
    with pytest.raises(ValueError, match="outside"):
        quantize_multiplier(scale)


@given(st.floats(1e-3, 100), st.floats(1e-3, 100), st.integers(-255, 255), st.integers(-255, 255))
def test_add_is_the_rounded_real_sum(first, second, a, b):
    m_a, m_b, shift = paired_multipliers(first, second)
    real = Fraction(first) * a + Fraction(second) * b
    distance = abs(real - math.floor(real) - Fraction(1, 2))
    got = int(rounding_shift(np.int64(a * m_a + b * m_b), shift))
    if distance > 255 * max(first, second) * 2.0**-29:
        assert got == math.floor(real + Fraction(1, 2))


def test_masters_read_as_the_weights_they_started_from():
    w = np.arange(-128, 128).astype(np.int8)
    master = (w.astype(np.int16) << 8) + 128
    np.testing.assert_array_equal(stored_weight(master), w)
    np.testing.assert_array_equal(stored_weight(w.astype(np.float32)), w)


def test_a_step_of_less_than_half_a_bucket_moves_no_weight_and_more_moves_one():
    for step, moved in ((0.49, 0), (0.51, 1), (-0.49, 0), (-0.51, -1)):
        master = np.array([(5 << 8) + 128], np.int16)
        subtract_step(master, np.array([step], np.float32))
        assert stored_weight(master)[0] == 5 - moved


def test_updates_saturate_and_survive_non_finite_steps():
    master = np.array([32000, -32000, 0, 0], np.int16)
    subtract_step(master, np.array([-1e30, 1e30, np.nan, np.inf], np.float32))
    assert master.tolist() == [32767, -32768, -32768, -32768]
    bias = np.array([BIAS_LIMIT - 1, -(2**31), 2**31 - 1], np.int32)
    subtract_step(bias, np.array([-5.0, 0.0, 0.0], np.float32))
    assert bias.tolist() == [BIAS_LIMIT, -(2**31), 2**31 - 1]


def test_trained_channels_replace_frozen_ones():
    w = np.arange(24, dtype=np.int8).reshape(2, 1, 1, 12)
    trained = np.full((2, 1, 1, 2), (7 << 8) + 128, np.int16)
    full = effective_weight(w, trained, [3, 11], 1)
    assert full[0, 0, 0, [3, 11]].tolist() == [7, 7]
    assert full[0, 0, 0, [0, 4]].tolist() == w[0, 0, 0, [0, 4]].tolist()
