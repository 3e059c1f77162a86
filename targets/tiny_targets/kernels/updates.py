"""In-place updates: `parameter -= gradient * (factors[c] * rate)`, rounded by storage type.

i8 and i16 (units of 1/256) and i32: the step is limited to +-2^22 units, rounded half to even,
subtracted and saturated; a bias beyond its limit stays while its step is zero. f32: unrounded.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.ops import ApplyUpdate, BiasUpdate, Conv2DWeightUpdate, LinearWeightUpdate
from tiny_dialect.types import shape_of
from tiny_targets.kernels.elementwise import by_pixel, flat
from tiny_targets.kernels.gradients import channel_sums, weight_gradients
from tiny_targets.kernels.nest import Buffer, Nest
from tiny_targets.kernels.numerics import round_half_even
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, clamp, select
from tiny_targets.kernels.weights import BIAS_LIMIT

STEP_LIMIT = 2.0**22

_UNITS = {"i8": 1.0, "i16": 256.0, "i32": 1.0}
_LIMITS = {"i8": (-128, 127), "i16": (-(2**15), 2**15 - 1)}


def subtract_step(parameter: Buffer, indices: Any, delta: Scalar) -> None:
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


def _factors(nest: Nest, op: Any) -> Callable[[Index], Scalar]:
    """The function `c -> factors[c] * rate`; declares both arguments."""
    factors, rate = nest.read(to_array(op.factors)), nest.read(op.rate)
    scalar = rate[()]
    return lambda c: factors[c] * scalar


@register_kernel(ApplyUpdate)
def apply_update(nest: Nest, op: Any, target: Any) -> None:
    """Apply a stored gradient."""
    shape = shape_of(op.parameter)
    view = (shape[0], prod(shape[1:]))
    parameter, gradient = nest.update(op.parameter, view), nest.read(op.gradient, view)
    factor = _factors(nest, op)
    for c in nest.loop(view[0]):
        k = factor(c)
        for i in nest.loop(view[1]):
            subtract_step(parameter, (c, i), gradient[c, i] * k)


@register_kernel(Conv2DWeightUpdate)
def conv2d_weight_update(nest: Nest, op: Any, target: Any) -> None:
    """Each element of the weight gradient is applied as soon as it is summed."""
    parameter = nest.update(op.parameter)
    factor = _factors(nest, op)

    def apply(k: Scalar, indices: tuple[Index, ...], gradient: Scalar) -> None:
        subtract_step(parameter, indices, gradient * k)

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
