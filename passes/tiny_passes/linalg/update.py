"""Rules of the update ops: each returns the new value of the parameter's storage."""

from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.semantics.update import BIAS_LIMIT, MASTER_UNIT, STEP_LIMIT
from tiny_dialect.types import element_name, shape_of
from tiny_passes.linalg.backward import outer_product, weight_gradient
from tiny_passes.linalg.scalars import Scalar
from tiny_passes.linalg.tensors import channel_sums, constant, elementwise

# By storage: quanta in one unit of the value, and the range of the stored integer.
_STORAGE = {
    "i8": (1, -128, 127),
    "i16": (MASTER_UNIT, -(2**15), 2**15 - 1),
    "i32": (1, -BIAS_LIMIT, BIAS_LIMIT),
}


def _moved(old: Scalar, delta: Scalar, element: str) -> Scalar:
    """`old - delta` rounded and limited as the storage `element` demands."""
    if element == "f32":
        return old - delta
    unit, low, high = _STORAGE[element]
    limited = (delta * float(unit)).at_most(float(STEP_LIMIT)).at_least(-float(STEP_LIMIT))
    step = limited.round_half_even().to("i32")
    # The step is at most 2^22 and a stored value at most 2^31, so the difference takes 64 bits.
    wide = old.to("i64") - step.to("i64")
    inside = wide.at_most(high).at_least(low).to(element)
    # A step of zero leaves any value alone: frozen channels hold biases beyond the limit.
    return step.compare("eq", 0).select(old, inside)


def _apply(op: Any, parameter: Any, gradient: Any, rate: Any) -> Any:
    element = element_name(parameter)
    factors = constant(to_array(op.attributes["factors"]))
    steps = elementwise([factors, rate], ["f32"], lambda factor, r: factor * r)

    def body(old: Scalar, g: Scalar, step: Scalar) -> Scalar:
        return _moved(old, g * step, element)

    return elementwise([parameter, gradient, steps], [element], body, channel_first=True)


def apply_update(op: Any, parameter: Any, gradient: Any, rate: Any) -> Any:
    """`parameter - gradient * (factors * rate)`."""
    return _apply(op, parameter, gradient, rate)


def conv2d_weight_update(op: Any, parameter: Any, x: Any, g: Any, rate: Any) -> Any:
    """The unscaled weight gradient, applied."""
    return _apply(op, parameter, weight_gradient(op, x, g, shape_of(parameter)), rate)


def bias_update(op: Any, parameter: Any, g: Any, rate: Any) -> Any:
    """The channel sums, applied."""
    return _apply(op, parameter, channel_sums(g, "f32"), rate)


def linear_weight_update(op: Any, parameter: Any, x: Any, g: Any, rate: Any) -> Any:
    """The outer product, applied."""
    return _apply(op, parameter, outer_product(g, x), rate)
