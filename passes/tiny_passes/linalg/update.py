"""Rules of the update ops: each returns the new value of the parameter's storage."""

from collections.abc import Sequence
from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.rounding import FRACTION_BITS, GOLDEN, MIX_FACTORS, MIX_SHIFTS, WORD
from tiny_dialect.semantics.update import BIAS_LIMIT, MASTER_UNIT, STEP_LIMIT, TRUNCATE
from tiny_dialect.types import element_name, shape_of
from tiny_passes.linalg.backward import outer_product, weight_gradient
from tiny_passes.linalg.scalars import Scalar
from tiny_passes.linalg.tensors import (
    channel_sums,
    collapse,
    constant,
    elementwise,
    loop_index,
    zeros,
)

# By storage: quanta in one unit of the value, and the range of the stored integer.
_STORAGE = {
    "i8": (1, -128, 127),
    "i16": (MASTER_UNIT, -(2**15), 2**15 - 1),
    "i32": (1, -BIAS_LIMIT, BIAS_LIMIT),
}


def _limited(step: Scalar) -> Scalar:
    return step.at_most(float(STEP_LIMIT)).at_least(-float(STEP_LIMIT))


def _moved(old: Scalar, delta: Scalar, element: str) -> Scalar:
    """`old - delta` rounded and limited as the storage `element` demands."""
    if element == "f32":
        return old - delta
    unit, low, high = _STORAGE[element]
    step = _limited(delta * float(unit)).round_half_even().to("i32")
    # The step is at most 2^22 and a stored value at most 2^31, so the difference takes 64 bits.
    wide = old.to("i64") - step.to("i64")
    inside = wide.at_most(high).at_least(low).to(element)
    # A step of zero leaves any value alone: frozen channels hold biases beyond the limit.
    return step.compare("eq", 0).select(old, inside)


def _apply(
    op: Any, parameter: Any, gradient: Any, rate: Any, rule: Any = _moved, *extra: Any
) -> Any:
    """`rule(old, delta, element, *extra)` for every element; `extra` are rank-0 tensors."""
    element = element_name(parameter)
    factors = constant(to_array(op.attributes["factors"]))
    steps = elementwise([factors, rate], ["f32"], lambda factor, r: factor * r)

    def body(old: Scalar, g: Scalar, step: Scalar, *rest: Scalar) -> Scalar:
        return rule(old, g * step, element, *rest)

    return elementwise([parameter, gradient, steps, *extra], [element], body, channel_first=True)


def apply_update(op: Any, parameter: Any, gradient: Any, rate: Any) -> Any:
    """`parameter - gradient * (factors * rate)`."""
    if "rounding" in op.attributes and op.attributes["rounding"].value == TRUNCATE:
        return _apply(op, parameter, gradient, rate, _truncated)
    return _apply(op, parameter, gradient, rate)


def _truncated(old: Scalar, delta: Scalar, element: str) -> Scalar:
    """`old - delta`, towards zero and modulo 2^8."""
    return (old.to("i32").to("f32") - _limited(delta)).to("i32").to(element)


def _mixed(word: Scalar) -> Scalar:
    """`tiny_dialect.rounding.mix` on an i32."""
    first, second, third = MIX_SHIFTS
    word = (word ^ word.shift_right_unsigned(first)) * _signed(MIX_FACTORS[0])
    word = (word ^ word.shift_right_unsigned(second)) * _signed(MIX_FACTORS[1])
    return word ^ word.shift_right_unsigned(third)


def _signed(word: int) -> int:
    """The i32 of the same bits."""
    return word - WORD if word >= WORD // 2 else word


def random_key(op: Any, counter: Any) -> Any:
    """The key of a step's random words, a rank 0 i32."""
    stream = _signed(op.attributes["stream"].value)
    keys = elementwise([counter], ["i32"], lambda step: _mixed(_mixed(step) ^ stream))
    return collapse(keys, ())


def random_word(key: Scalar, shape: Sequence[int]) -> Scalar:
    """Inside a loop nest over `shape`: the random word of its element, an i32."""
    index = loop_index(0, "i32")
    for axis, size in enumerate(shape[1:], start=1):
        index = index * size + loop_index(axis, "i32")
    return _mixed(key + index * _signed(GOLDEN))


def stochastic_update(op: Any, parameter: Any, gradient: Any, rate: Any, counter: Any) -> Any:
    """`parameter - gradient * (factors * rate)`, the step rounded by a random word."""
    shape, key = shape_of(parameter), random_key(op, counter)

    def rounded(old: Scalar, delta: Scalar, element: str, word: Scalar) -> Scalar:
        step = _limited(delta)
        whole = step.to("i32")
        floor = whole - (step.compare("lt", whole.to("f32"))).to("i32")
        fraction = step - floor.to("f32")
        threshold = (fraction * float(1 << FRACTION_BITS)).to("i32")
        up = word.shift_right_unsigned(32 - FRACTION_BITS).compare("lt", threshold).to("i32")
        return (old.to("i32") - floor - up).at_most(127).at_least(-128).to(element)

    def rule(old: Scalar, delta: Scalar, element: str, base: Scalar) -> Scalar:
        return rounded(old, delta, element, random_word(base, shape))

    return _apply(op, parameter, gradient, rate, rule, key)


def stochastic_conv2d_weight_update(
    op: Any, parameter: Any, x: Any, g: Any, rate: Any, counter: Any
) -> Any:
    """The unscaled weight gradient, applied so."""
    gradient = weight_gradient(op, x, g, shape_of(parameter))
    return stochastic_update(op, parameter, gradient, rate, counter)


def clear(_: Any, parameter: Any) -> Any:
    """Zero everywhere."""
    return zeros(shape_of(parameter), element_name(parameter))


def advance_counter(_: Any, counter: Any) -> Any:
    """`counter + 1` modulo 2^32."""
    return elementwise([counter], ["i32"], lambda step: step + 1)


def conv2d_weight_update(op: Any, parameter: Any, x: Any, g: Any, rate: Any) -> Any:
    """The unscaled weight gradient, applied."""
    return _apply(op, parameter, weight_gradient(op, x, g, shape_of(parameter)), rate)


def bias_update(op: Any, parameter: Any, g: Any, rate: Any) -> Any:
    """The channel sums, applied."""
    return _apply(op, parameter, channel_sums(g, "f32"), rate)


def linear_weight_update(op: Any, parameter: Any, x: Any, g: Any, rate: Any) -> Any:
    """The outer product, applied."""
    return _apply(op, parameter, outer_product(g, x), rate)
