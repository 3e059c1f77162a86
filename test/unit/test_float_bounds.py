"""Float bounds: other orders of summation stay within them, a lost term does not."""

import numpy as np
import pytest

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integers, real
from tiny_dialect.bindings import ir
from tiny_dialect.semantics import evaluate_op
from tiny_dialect.types import quantized, tensor
from tiny_pipelines.differential.float_bounds import result_bound, updated_range


def f32(*shape):
    return tensor(shape, "f32")


class Values:
    """Typed placeholders for operands, with arrays beside them."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.block = ir.Block
        self.module = ir.Module.create()

    def argument(self, kind):
        with ir.InsertionPoint(self.module.body):
            return ir.Operation.create("test.value", results=[kind]).result


@pytest.fixture
def values(context):
    context.allow_unregistered_dialects = True
    return Values()


def naive(g, w):
    """`sum g * w` in float32, one term after the other."""
    total = np.zeros(np.broadcast_shapes(g.shape[1:], w.shape[1:]), np.float32)
    for a, b in zip(g, w, strict=True):
        total = (total + a * b).astype(np.float32)
    return total


def linear_input_gradient(values, classes=200, features=5):
    g, w = values.argument(f32(1, classes)), values.argument(f32(classes, features))
    with ir.InsertionPoint(values.module.body):
        op = ops.LinearInputGrad(g, w, f32(1, features))
    arrays = [
        values.rng.normal(size=(1, classes)).astype(np.float32),
        values.rng.normal(size=(classes, features)).astype(np.float32),
    ]
    return op, arrays


def test_any_order_of_a_sum_is_within_the_bound_and_a_lost_term_is_not(values):
    op, (g, w) = linear_input_gradient(values)
    want = evaluate_op(op, [g, w])[0]
    bound = result_bound(op, [g, w], [None, None], want)
    for order in (slice(None), slice(None, None, -1)):
        got = naive(g.reshape(-1, 1)[order], w[order])
        assert (np.abs(got - want) <= bound).all()
    lost = naive(g.reshape(-1, 1)[1:], w[1:])
    assert (np.abs(lost - want) > bound).all()


def test_a_bound_covers_what_the_operands_are_off_by(values):
    op, (g, w) = linear_input_gradient(values)
    want = evaluate_op(op, [g, w])[0]
    off = np.full(g.shape, 1e-3)
    bound = result_bound(op, [g, w], [off, None], want)
    moved = evaluate_op(op, [g + np.float32(1e-3) * np.sign(w[:, 0])[None], w])[0]
    assert (np.abs(moved - want) <= bound).all()
    assert np.abs(moved - want)[0, 0] > 0.9 * (bound[0, 0])


def weight_update(values, master, size=6, rate=1e-3):
    kind = {"int16": "i16", "float32": "f32"}[master.dtype.name]
    x_type = quantized((1, size, size, 2), 0.1, -7)
    operands = [
        values.argument(tensor(master.shape, kind)),
        values.argument(x_type),
        values.argument(f32(1, size - 2, size - 2, 3)),
        values.argument(f32()),
    ]
    with ir.InsertionPoint(values.module.body):
        op = ops.Conv2DWeightUpdate(*operands, dense(np.array([1, 0.5, 2], np.float32)))
    arrays = [
        master,
        values.rng.integers(-128, 128, (1, size, size, 2)).astype(np.int8),
        values.rng.normal(size=(1, size - 2, size - 2, 3)).astype(np.float32),
        np.asarray(rate, np.float32),
    ]
    return op, arrays


@pytest.mark.parametrize("element", [np.int16, np.float32])
def test_an_update_has_a_range_that_holds_it_and_not_its_absence(values, element):
    master = values.rng.integers(-9000, 9000, (3, 3, 3, 2)).astype(element)
    op, arrays = weight_update(values, master)
    low, high = updated_range(op, arrays, [None] * 4)
    after = master.copy()
    evaluate_op(op, [after, *arrays[1:]])
    assert ((low <= after) & (after <= high)).all()
    assert ((high - low) <= 1).all()
    moved = (master < low) | (master > high)
    assert moved.mean() > 0.9
    assert (master == arrays[0]).all()


def test_steps_beyond_float32_are_not_judged(values):
    master = np.zeros((3, 3, 3, 2), np.int16)
    op, arrays = weight_update(values, master, rate=3e38)
    low, high = updated_range(op, arrays, [None] * 4)
    assert (low == -(2**15)).any() and (high == 2**15 - 1).any()


def test_a_frozen_bias_beyond_the_limit_stays_in_range(values):
    bias = np.array([2**31 - 1, 5], np.int32)
    operands = [
        values.argument(tensor((2,), "i32")),
        values.argument(f32(1, 1, 1, 2)),
        values.argument(f32()),
    ]
    with ir.InsertionPoint(values.module.body):
        op = ops.BiasUpdate(*operands, dense(np.array([0, 1], np.float32)))
    arrays = [bias, np.full((1, 1, 1, 2), 3, np.float32), np.asarray(1, np.float32)]
    low, high = updated_range(op, arrays, [None] * 3)
    assert low.tolist() == high.tolist() == [2**31 - 1, 2]


def test_elementwise_results_have_a_bound_of_few_roundings(values):
    g = values.argument(f32(1, 2, 2, 3))
    with ir.InsertionPoint(values.module.body):
        op = ops.ScaleGradient(g, f32(1, 2, 2, 3), factor=real(0.37))
    array = values.rng.normal(size=(1, 2, 2, 3)).astype(np.float32)
    want = evaluate_op(op, [array])[0]
    bound = result_bound(op, [array], [None], want)
    assert (bound < 2e-7 * np.abs(want) + 1e-30).all()
    assert (np.abs(np.nextafter(want, np.float32(9)) - want) <= bound).all()


def test_conv_input_gradient_accounts_for_cancellation(values):
    g_type, w_type = f32(1, 4, 4, 3), tensor((3, 3, 3, 2), "i8")
    g, w = values.argument(g_type), values.argument(w_type)
    with ir.InsertionPoint(values.module.body):
        op = ops.Conv2DInputGrad(
            g, w, f32(1, 4, 4, 2), dense(np.full(3, 0.01, np.float32)), pads=integers([1] * 4)
        )
    weight = values.rng.integers(-128, 128, (3, 3, 3, 2)).astype(np.int8)
    gradient = values.rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
    want = evaluate_op(op, [gradient, weight])[0]
    bound = result_bound(op, [gradient, weight], [None, None], want)
    doubled = result_bound(op, [2 * gradient, weight], [None, None], want)
    assert np.allclose(doubled, 2 * bound, rtol=0.01)
    assert (bound > 0).all() and bound.max() < 1e-4 * np.abs(want).max()
