"""The integer gradients against loops over Python integers, written from the design page.

docs/design/integer-gradients.md
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from host_bench import Bench, random_layer
from hypothesis import given
from hypothesis import strategies as st
from test_integer_host import (
    add_byte_updates,
    add_gathered_depthwise_update,
    add_head,
    add_input_gradient,
    add_normalize,
    add_sum,
    add_sums,
    add_updates,
)

from tiny_dialect import types
from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.block_float import (
    LOGIT_LIMIT,
    exponential_fraction,
    exponentials,
    log2,
    round_shift,
    step_multipliers,
    step_of,
    width_of,
)
from tiny_dialect.dialect import new_context
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.semantics import run
from tiny_dialect.semantics.convolution import effective_weight
from tiny_dialect.semantics.forward import trained_channels
from tiny_dialect.types import quantization

HALF = Fraction(1, 2)


def rounded(value: Fraction) -> int:
    """Half up."""
    return math.floor(value + HALF)


def shifted(value: int, shift: int) -> int:
    return rounded(Fraction(value) / Fraction(2) ** shift)


def saturated(value: int, bits: int) -> int:
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, value))


def narrowest(values: Any) -> int:
    """The bits of the narrowest two's complement field, 0 for zeros."""
    numbers = [int(v) for v in np.ravel(values)]
    if not any(numbers):
        return 0
    return next(
        n for n in range(1, 64) if all(-(2 ** (n - 1)) <= v < 2 ** (n - 1) for v in numbers)
    )


def multiplier(factor: Any, rate: Any, exponent: int, align: int) -> int:
    exact = Fraction(float(factor)) * Fraction(float(rate)) * Fraction(2) ** (exponent + 32 - align)
    return max(-(2**31 - 1), min(2**31 - 1, rounded(exact)))


def normalize(op: Any, g: Any, head: Any, mask: Any = None) -> tuple[Any, int]:
    bits, (exponent, width) = op.bits.value, map(int, head)
    shift = max(15 + width - bits - op.overshoot.value, 1)
    m = to_array(op.multipliers)
    shape = types.shape_of(op.gx)
    result = np.zeros(shape, np.int64)
    for at in np.ndindex(shape):
        source = g[at] if g.shape == shape else g[0, 0, 0, at[-1]]
        product = int(source) * int(m[at[-1] if m.size > 1 else 0])
        assert abs(product) + 2 ** (shift - 1) < 2**31
        if mask is None or mask[at]:
            result[at] = saturated(shifted(product, shift), bits)
    return result, exponent + op.scale.value + shift


def add(op: Any, a: Any, a_head: Any, b: Any, b_head: Any) -> tuple[Any, int]:
    tops = [int(e) + int(w) for e, w in (a_head, b_head) if w]
    target = max(tops) - 15 if tops else int(a_head[0])
    result = np.zeros(a.shape, np.int64)
    for at in np.ndindex(a.shape):
        parts = [
            shifted(int(values[at]), target - int(head[0])) if values[at] else 0
            for values, head in ((a, a_head), (b, b_head))
        ]
        result[at] = saturated(sum(parts), 16)
    return result, target


def taps(op: Any, x: Any, w: Any, g: Any) -> Any:
    """(output position, input position, weight position) of every product of a convolution."""
    geo = geometry(op)
    outputs, inputs = w[0] // geo.groups, w[3]
    for oh, ow, o in np.ndindex(*g[1:]):
        for kh, kw, i in np.ndindex(*w[1:]):
            h = oh * geo.strides[0] + kh - geo.pads[0]
            v = ow * geo.strides[1] + kw - geo.pads[1]
            if 0 <= h < x[1] and 0 <= v < x[2]:
                yield (0, oh, ow, o), (0, h, v, o // outputs * inputs + i), (o, kh, kw, i)


def input_gradient(op: Any, g: Any, head: Any, w: Any, trained: Any = None) -> tuple[Any, int]:
    weight = effective_weight(w, trained, trained_channels(op), geometry(op).groups)
    shape = types.shape_of(op.gx)
    sums = np.zeros(shape, np.int64)
    for out, into, at in taps(op, shape, weight.shape, g.shape):
        sums[into] += int(g[out]) * int(weight[at])
    shift = op.shift.value
    moved = [saturated(shifted(int(v), shift), 16) for v in sums.reshape(-1)]
    return np.reshape(moved, shape), int(head[0]) + shift


RANGES = {"int8": (-128, 127), "int16": (-(2**15), 2**15 - 1), "int32": (-(2**30), 2**30)}


def stepped(
    old: Any, sums: Any, op: Any, head: Any, rate: Any, align: int, words: Any = None
) -> Any:
    if old.dtype == np.float32:
        return moved_in_float(old, sums, op, head, rate)
    factors, new = to_array(op.factors), old.copy()
    low, high = RANGES[str(old.dtype)]
    for at in np.ndindex(old.shape):
        k = multiplier(factors[at[0]], rate, int(head[0]), align)
        step = rounded(Fraction(int(sums[at]) * 2**align * k, 2**32))
        if words is not None:
            step = math.floor(Fraction(step + (words[at] >> 16), 2**16))
        elif old.dtype == np.int8:
            step = rounded(Fraction(step, 2**16))
        if step:
            new[at] = max(low, min(high, int(old[at]) - step))
    return new


def moved_in_float(old: Any, sums: Any, op: Any, head: Any, rate: Any) -> Any:
    """Each operation rounded to float32 by itself."""
    new, largest = old.copy(), np.finfo(np.float32).max
    halves = int(head[0]) // 2, int(head[0]) - int(head[0]) // 2
    powers = [np.float32(2.0 ** max(-126, min(127, half))) for half in halves]
    with np.errstate(over="ignore", under="ignore"):
        for at in np.ndindex(old.shape):
            k = np.float32(to_array(op.factors)[at[0]]) * np.float32(rate)
            k = min(max(k * powers[0] * powers[1], -largest), largest)
            if sums[at]:
                new[at] = old[at] - np.float32(int(sums[at])) * np.float32(k)
    return new


def weight_sums(op: Any, old: Any, x: Any, g: Any) -> Any:
    if "output_channels" in op.attributes:
        g = g[..., to_list(op.attributes["output_channels"])]
    zero, sums = quantization(op.x)[1], np.zeros(old.shape, np.int64)
    for out, into, at in taps(op, x.shape, old.shape, g.shape):
        sums[at] += int(g[out]) * (int(x[into]) - zero)
    return sums


def weight_update(op: Any, old: Any, x: Any, g: Any, head: Any, rate: Any) -> Any:
    sums = weight_sums(op, old, x, g)
    return stepped(old, sums, op, head, rate, op.align.value)


def stochastic_update(op: Any, old: Any, x: Any, g: Any, head: Any, rate: Any, counter: Any) -> Any:
    key = mixed(op.stream.value ^ mixed(int(counter[0]) % 2**32))
    words = [mixed(key + 0x9E3779B9 * i) for i in range(old.size)]
    sums, drawn = weight_sums(op, old, x, g), np.reshape(np.array(words, object), old.shape)
    return stepped(old, sums, op, head, rate, op.align.value, drawn)


def mixed(word: int) -> int:
    """The mixing function of docs/design/stochastic-rounding.md."""
    word %= 2**32
    word = (word ^ (word >> 16)) * 0x7FEB352D % 2**32
    word = (word ^ (word >> 15)) * 0x846CA68B % 2**32
    return word ^ (word >> 16)


def bias_update(op: Any, old: Any, g: Any, head: Any, rate: Any) -> Any:
    sums = g.astype(np.int64).reshape(-1, g.shape[-1]).sum(axis=0)
    return stepped(old, sums, op, head, rate, op.align.value)


def linear_weight_update(op: Any, old: Any, x: Any, g: Any, head: Any, rate: Any) -> Any:
    centred = x.reshape(-1).astype(np.int64) - quantization(op.x)[1]
    return stepped(old, np.outer(g.astype(np.int64), centred), op, head, rate, 8)


GRADIENTS = {
    "tiny.normalize_gradient": normalize,
    "tiny.integer_add_gradients": add,
    "tiny.integer_conv2d_input_grad": input_gradient,
}
UPDATES = {
    "tiny.integer_conv2d_weight_update": weight_update,
    "tiny.integer_stochastic_conv2d_weight_update": stochastic_update,
    "tiny.integer_bias_update": bias_update,
    "tiny.integer_linear_weight_update": linear_weight_update,
}


class Recomputed:
    """Recomputes every op of a function as it runs; `seen` counts them by name."""

    def __init__(self, function: Any, arguments: list[Any]) -> None:
        self.values = dict(zip(function.regions[0].blocks[0].arguments, arguments, strict=True))
        self.parameters: dict[Any, Any] = {}
        self.seen: dict[str, int] = {}
        run(function, arguments, observe=self)

    def __call__(self, op: Any, results: list[Any]) -> None:
        name = op.operation.name
        self.values.update(zip(op.results, results, strict=True))
        operands = [self.values[operand] for operand in op.operands]
        self.seen[name] = self.seen.get(name, 0) + 1
        if name == "tiny.parameter":
            self.parameters[op.result] = results[0].copy()
        elif name in GRADIENTS:
            mantissas, exponent = GRADIENTS[name](op, *operands)
            np.testing.assert_array_equal(results[0], mantissas)
            assert list(results[1]) == [exponent, narrowest(mantissas)]
        elif name in UPDATES:
            expected = UPDATES[name](op, self.parameters[op.operands[0]], *operands[1:])
            np.testing.assert_array_equal(operands[0], expected)


@pytest.mark.parametrize("seed", range(2))
def test_every_op_is_what_the_page_says(seed: int) -> None:
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(seed))
        rate = bench.argument(types.tensor((), "f32"), np.array(0.0137, np.float32))
        for _ in range(25):
            add_normalize(bench)
            add_sum(bench)
        for _ in range(2):
            add_input_gradient(bench, random_layer(bench.rng))
            add_updates(bench, random_layer(bench.rng), rate)
            add_byte_updates(bench, random_layer(bench.rng), rate)
            add_sums(bench, random_layer(bench.rng), rate)
            add_head(bench, rate)
        add_gathered_depthwise_update(bench, rate)
        _, function = bench.build()
        seen = Recomputed(function, bench.values).seen
        assert set(GRADIENTS) | set(UPDATES) <= set(seen)


@given(st.integers(-(2**40), 2**40), st.integers(-15, 62))
def test_a_shift_rounds_half_up(value: int, shift: int) -> None:
    assert int(round_shift(value, shift)) == shifted(value, shift)


@given(st.lists(st.integers(-(2**15), 2**15 - 1) | st.integers(-3, 3), min_size=1))
def test_the_width_is_the_narrowest_field(values: list[int]) -> None:
    assert width_of(np.array(values, np.int16)) == narrowest(values)


FLOATS = st.floats(2.0**-126, 2.0**100, width=32) | st.just(0.0)


@given(FLOATS, FLOATS, st.integers(-200, 60), st.integers(0, 31), st.booleans())
def test_update_multipliers_are_rounded_once(
    factor: float, rate: float, exponent: int, align: int, negative: bool
) -> None:
    rate = -rate if negative else rate
    got = step_multipliers(np.array([factor], np.float32), np.float32(rate), exponent, align)
    assert int(got[0]) == multiplier(factor, rate, exponent, align)


@given(st.integers(-(2**28), 2**28), st.integers(0, 2**31))
def test_a_random_step_arrives_on_average(total: int, multiplier: int) -> None:
    """Over all 2^16 chances the mean of the whole steps is the step itself, exactly."""
    step = int(step_of(np.array(total), np.array(multiplier)))
    whole = (step + np.arange(2**16)) >> 16
    assert int(whole.sum()) == step


def test_an_infinite_rate_takes_the_largest_step() -> None:
    factors = np.array([1.0, 0.0], np.float32)
    assert list(step_multipliers(factors, np.float32(np.inf), 0)) == [2**31 - 1, 0]
    assert list(step_multipliers(factors, np.float32(-np.inf), 0)) == [-(2**31 - 1), 0]


@given(st.lists(st.integers(-(20 << 16), 20 << 16), min_size=1, max_size=40))
def test_exponentials_are_accurate_and_their_sum_fits(logits: list[int]) -> None:
    wide = np.array(logits, np.int64)
    got = exponentials(wide)
    scale = 2.0 ** exponential_fraction(len(logits))
    exact = np.exp((wide - wide.max()) / 65536.0)
    assert int(got.sum()) <= 2**30
    assert np.abs(got / scale - exact).max() <= 1 / scale + 2e-5
    assert got.max() == scale


@given(st.integers(1, 2**31 - 1))
def test_the_logarithm_is_right_to_16_bits(value: int) -> None:
    assert -1.5 <= log2(value) - math.log2(value) * 65536 <= 0


def head_results(logits: Any, label: int) -> tuple[float, Any]:
    """(loss, gradient) as real numbers of the integer head on given logits."""
    with new_context(), ir.Location.unknown():
        from tiny_dialect import ops

        bench = Bench(np.random.default_rng(0))
        fixed = np.rint(np.asarray(logits) * 65536).astype(np.int32)
        value = bench.argument(types.tensor(fixed.shape, "i32"), fixed)
        where = bench.argument(types.tensor((), "i32"), np.array(label, np.int32))

        def build(v: list[Any]) -> list[Any]:
            kinds = types.tensor(fixed.shape, "i16"), types.tensor((2,), "i32")
            loss = ops.IntegerSoftmaxCrossEntropy(v[value], v[where], types.tensor((), "i32"))
            g = ops.IntegerSoftmaxCrossEntropyGrad(v[value], v[where], *kinds)
            return [loss.loss, g.gx, g.gx_header]

        bench.builders.append(build)
        _, function = bench.build()
        loss, g, head = run(function, bench.values)
        return int(loss) / 65536, g.reshape(-1) * 2.0 ** int(head[0])


@pytest.mark.parametrize("gap", [0.0, 0.3, 5.0, 12.0])
def test_the_loss_and_its_gradient_follow_the_float_ones(gap: float) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(1, 10))
    logits[0, 4] += gap  # a well-known sample has a small gradient, as precise as any
    loss, gradient = head_results(logits, 4)
    exact = np.exp(logits[0] - logits.max())
    exact /= exact.sum()
    assert abs(loss + math.log(exact[4])) < 1e-4
    exact[4] = -exact[np.arange(10) != 4].sum()
    assert np.abs(gradient - exact).max() < 1e-3 * np.abs(exact).max()


def test_the_loss_fits_where_the_logits_are_at_both_limits() -> None:
    limit = LOGIT_LIMIT / 65536
    loss, gradient = head_results(np.array([[limit, -limit]]), 1)
    assert loss == 2 * limit
    assert gradient[1] == pytest.approx(-1.0, rel=1e-3)
