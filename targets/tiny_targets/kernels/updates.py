"""In-place updates: `parameter -= gradient * (factors[c] * rate)`, rounded by storage type.

i8 and i16 (units of 1/256) and i32: the step is limited to +-2^22 units, rounded half to even,
subtracted and saturated; a bias beyond its limit stays while its step is zero. f32: unrounded.
i8 also: stochastic rounding by the generator of `tiny_dialect.rounding`, and truncation.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.ops import (
    AdvanceCounter,
    ApplyUpdate,
    BiasUpdate,
    Clear,
    Conv2DWeightUpdate,
    LinearWeightUpdate,
    StochasticConv2DWeightUpdate,
    StochasticUpdate,
)
from tiny_dialect.ops.update import TRUNCATE
from tiny_dialect.rounding import FRACTION_BITS, WORD_BITS
from tiny_dialect.types import shape_of
from tiny_targets.kernels.address import Elements
from tiny_targets.kernels.elementwise import by_pixel, flat
from tiny_targets.kernels.gradients import channel_sums, weight_gradients
from tiny_targets.kernels.nest import Buffer, Nest
from tiny_targets.kernels.numerics import round_half_even
from tiny_targets.kernels.primitives import shift_right_unsigned
from tiny_targets.kernels.random_words import RandomWords
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, clamp, number, select
from tiny_targets.kernels.weights import BIAS_LIMIT

STEP_LIMIT = 2.0**22

Subtraction = Callable[[Buffer, Any, Scalar], None]

_UNITS = {"i8": 1.0, "i16": 256.0, "i32": 1.0}
_LIMITS = {"i8": (-128, 127), "i16": (-(2**15), 2**15 - 1)}


def subtract_step(parameter: Buffer | Elements, indices: Any, delta: Scalar) -> None:
    """`parameter[indices] -= delta`; `delta` is in units of the int8 weight, bias or float."""
    old = parameter[indices]
    if parameter.element == "f32":
        parameter[indices] = old - delta
        return
    unit = _UNITS[parameter.element]
    units = delta if unit == 1.0 else delta * unit
    step = round_half_even(clamp(units, -STEP_LIMIT, STEP_LIMIT)).as_integer()
    if parameter.element == "i32":
        moved = clamp(old.as_wide() - step.as_wide(), -BIAS_LIMIT, BIAS_LIMIT).as_integer()
        parameter[indices] = select(step.equals(0), old, moved)
    else:
        parameter[indices] = clamp(old - step, *_LIMITS[parameter.element])


def subtract_truncating(parameter: Buffer, indices: Any, delta: Scalar) -> None:
    """`parameter[indices] = (int8)(parameter[indices] - delta)`, towards zero, modulo 2^8."""
    step = clamp(delta, -STEP_LIMIT, STEP_LIMIT)
    parameter[indices] = (parameter[indices].as_float() - step).as_integer()


class _StochasticStep:
    """`parameter[indices] -= delta` of an op with a counter, rounded by a random word."""

    def __init__(self, nest: Nest, op: Any) -> None:
        self._shape = shape_of(op.parameter)
        self._words = RandomWords(nest, op)

    def _word(self, first: Index, *rest: Index) -> Scalar:
        """The random word of an element given by its indices or by (channel, the others)."""
        sizes = self._shape[1:] if len(rest) > 1 else (prod(self._shape[1:]),)
        position = first
        for index, size in zip(rest, sizes, strict=True):
            position = position * size + index
        element = position.as_integer() if isinstance(position, Scalar) else number(position)
        return self._words.word(element)

    def __call__(self, parameter: Buffer, indices: tuple[Index, ...], delta: Scalar) -> None:
        step = clamp(delta, -STEP_LIMIT, STEP_LIMIT)
        whole = step.as_integer()
        floor = whole - (step < whole.as_float()).as_integer()
        threshold = ((step - floor.as_float()) * float(1 << FRACTION_BITS)).as_integer()
        random = shift_right_unsigned(self._word(*indices), WORD_BITS - FRACTION_BITS)
        rounded = floor + (random < threshold).as_integer()
        parameter[indices] = clamp(parameter[indices] - rounded, *_LIMITS["i8"])


def _factors(nest: Nest, op: Any) -> Callable[[Index], Scalar]:
    """The function `c -> factors[c] * rate`; declares both arguments."""
    factors, rate = nest.read(to_array(op.factors)), nest.read(op.rate)
    scalar = rate[()]
    return lambda c: factors[c] * scalar


@register_kernel(ApplyUpdate)
def apply_update(nest: Nest, op: Any, target: Any) -> None:
    """Apply a stored gradient."""
    truncates = "rounding" in op.attributes and op.attributes["rounding"].value == TRUNCATE
    _apply_stored(nest, op, lambda: subtract_truncating if truncates else subtract_step)


@register_kernel(StochasticUpdate)
def stochastic_update(nest: Nest, op: Any, target: Any) -> None:
    """Apply a stored gradient with random rounding."""
    _apply_stored(nest, op, lambda: _StochasticStep(nest, op))


def _apply_stored(nest: Nest, op: Any, subtraction: Callable[[], Subtraction]) -> None:
    shape = shape_of(op.parameter)
    view = (shape[0], prod(shape[1:]))
    parameter, gradient = nest.update(op.parameter, view), nest.read(op.gradient, view)
    factor, subtract = _factors(nest, op), subtraction()
    for c in nest.loop(view[0]):
        k = factor(c)
        for i in nest.loop(view[1]):
            subtract(parameter, (c, i), gradient[c, i] * k)


@register_kernel(Conv2DWeightUpdate)
def conv2d_weight_update(nest: Nest, op: Any, target: Any) -> None:
    """Each element of the weight gradient is applied as soon as it is summed."""
    _apply_summed(nest, op, lambda: subtract_step)


@register_kernel(StochasticConv2DWeightUpdate)
def stochastic_conv2d_weight_update(nest: Nest, op: Any, target: Any) -> None:
    """The same with random rounding."""
    _apply_summed(nest, op, lambda: _StochasticStep(nest, op))


@register_kernel(Clear)
def clear(nest: Nest, op: Any, target: Any) -> None:
    """Zero everywhere."""
    parameter = nest.write(op.parameter, flat(op.parameter))
    zero = nest.real(0.0) if parameter.element == "f32" else nest.number(0)
    for i in nest.loop(parameter.shape[0]):
        parameter[i] = zero


@register_kernel(AdvanceCounter)
def advance_counter(nest: Nest, op: Any, target: Any) -> None:
    """One more."""
    counter = nest.update(op.counter)
    counter[0] = counter[0] + 1


def _apply_summed(nest: Nest, op: Any, subtraction: Callable[[], Subtraction]) -> None:
    parameter = nest.update(op.parameter)
    factor, subtract = _factors(nest, op), subtraction()

    def apply(k: Scalar, indices: tuple[Index, ...], gradient: Scalar) -> None:
        subtract(parameter, indices, gradient * k)

    weight_gradients(nest, op, shape_of(op.parameter), factor, apply)


@register_kernel(BiasUpdate)
def bias_update(nest: Nest, op: Any, target: Any) -> None:
    """Each channel sum is applied to its bias."""
    parameter, g = nest.update(op.parameter), nest.read(op.g, by_pixel(op.g))
    factor = _factors(nest, op)
    channel_sums(nest, g, lambda c, total: subtract_step(parameter, c, total * factor(c)))


@register_kernel(LinearWeightUpdate)
def linear_weight_update(nest: Nest, op: Any, target: Any) -> None:
    """The outer product of gradient and input, applied element by element."""
    classes, features = shape_of(op.parameter)
    parameter = nest.update(op.parameter)
    x, g = nest.read(op.x, flat(op.x)), nest.read(op.g, flat(op.g))
    factor = _factors(nest, op)
    for row in nest.loop(classes):
        k, gradient = factor(row), g[row]
        for c in nest.loop(features):
            subtract_step(parameter, (row, c), (gradient * x[c]) * k)
