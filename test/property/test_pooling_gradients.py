"""The gradient rules of pools, means, borders, rescalings and reshapes, by finite differences."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_gradients import SCALES, SEEDS, ZEROS, check_rule

from tiny_dialect import ops
from tiny_dialect.attributes import integers
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.ops.pooling import Window
from tiny_dialect.types import quantized


@st.composite
def pools(draw):
    """(window, input size) with pads smaller than the kernel and at least one output."""
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 2))
    strides = draw(st.tuples(*[st.integers(1, 3)] * 2))
    pads = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 5)))
    window = Window(kernel, strides, pads)
    assume(min(window.output_shape((1, *size))) >= 1)
    return window, size


def attributes(window):
    return {name: integers(getattr(window, name)) for name in ("kernel", "strides", "pads")}


@given(pools(), SCALES, ZEROS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_average_pool_rule(pool, scale, zero, seed):
    window, size = pool
    with new_context(), ir.Location.unknown():
        x = quantized((1, *size), scale, zero)
        y = quantized(window.output_shape((1, *size)), scale, zero)
        check_rule([x], lambda v: ops.AveragePool2D(v, y, **attributes(window)), seed)


@given(pools(), SCALES, ZEROS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_max_pool_rule(pool, scale, zero, seed):
    window, size = pool
    rng = np.random.default_rng(seed)
    with new_context(), ir.Location.unknown():
        x = quantized((1, *size), scale, zero)
        y = quantized(window.output_shape((1, *size)), scale, zero)
        # Where two values are equal there is no derivative, so all differ.
        assume(np.prod(size) <= 256)
        distinct = rng.permutation(256)[: np.prod(size)].reshape(1, *size) - 128
        check_rule(
            [x],
            lambda v: ops.MaxPool2D(v, y, **attributes(window)),
            seed,
            arrays=[distinct.astype(np.int8)],
        )


@given(
    st.tuples(*[st.integers(1, 5)] * 3), st.sampled_from([[1, 2], [1], [2]]),
    st.tuples(st.floats(0.1, 2.0), ZEROS), st.tuples(st.floats(0.1, 2.0), ZEROS), SEEDS,
    st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_mean_rule(size, axes, of_x, of_y, seed, equal):
    with new_context(), ir.Location.unknown():
        kept = [1 if axis + 1 in axes else n for axis, n in enumerate(size)]
        x, y = quantized((1, *size), *of_x), quantized((1, *kept), *(of_x if equal else of_y))
        check_rule([x], lambda v: ops.Mean(v, y, integers(axes)), seed)


@given(
    st.tuples(*[st.integers(1, 5)] * 3), st.tuples(st.floats(0.1, 2.0), ZEROS),
    st.tuples(st.floats(0.1, 2.0), ZEROS), st.sampled_from([(-128, 127), (-100, 60)]), SEEDS,
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_requantize_rule(size, of_x, of_y, clamp, seed):
    with new_context(), ir.Location.unknown():
        x, y = quantized((1, *size), *of_x), quantized((1, *size), *of_y)
        check_rule([x], lambda v: ops.Requantize(v, y, clamp=integers(clamp)), seed)


@given(
    st.tuples(*[st.integers(1, 5)] * 3), st.tuples(*[st.integers(0, 3)] * 4), SCALES, ZEROS, SEEDS
)
@settings(max_examples=30, deadline=None)
def test_pad_and_reshape_rules(size, pads, scale, zero, seed):
    with new_context(), ir.Location.unknown():
        x = quantized((1, *size), scale, zero)
        padded = (1, size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3], size[2])
        check_rule([x], lambda v: ops.Pad(v, quantized(padded, scale, zero), integers(pads)), seed)
        flat = quantized((1, 1, 1, int(np.prod(size))), scale, zero)
        check_rule([x], lambda v: ops.Reshape(v, flat), seed)
