"""How far two correct float32 evaluations of one op may lie apart: an error bound an element.

Sums are free to associate in any order and to fuse multiply and add, so a sum of n products lies
within `(n + c) * 2^-24 * sum |a| |b|` of the exact one (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1). The sum of magnitudes comes from the op's own meaning on absolute values,
so cancellation is accounted for and nothing is tuned. What operands are already off by passes
through the same sums: bounds can be carried through a whole step. Elementwise ops get one or two
roundings. Integer results have no bound: they are equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.op_functions import OP_NAMES
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.ops.pooling import window_of
from tiny_dialect.rounding import random_words, round_stochastic, truncated_difference
from tiny_dialect.semantics import evaluate_op
from tiny_dialect.semantics.backward import channel_sums, weight_gradient
from tiny_dialect.semantics.convolution import convolve_weight_gradient
from tiny_dialect.semantics.update import STEP_LIMIT, TRUNCATE, subtract_step
from tiny_dialect.types import quantization, shape_of

Array = NDArray[Any]
Error = Array | None

ROUNDING = 2.0**-24
SMALLEST = 2.0**-126
"""What a core that flushes denormals loses at most, a product."""
LARGEST = 2.0**126
"""Beyond it partial sums may overflow on one side only; such values are not compared."""
_FUNCTION_ROUNDINGS = 32
"""Roundings that exp and log may take."""


def result_bound(
    op: Any, operands: Sequence[Array], errors: Sequence[Error], result: Array
) -> Array:
    """The bound on each element of the float32 `result` of `op`.

    Infinite where it may overflow, and for an op of the user's own, of which nothing is known.
    """
    name = op.operation.name
    if name not in OP_NAMES:
        return np.full(result.shape, np.inf)
    rule = _RULES.get(name, _elementwise)
    with np.errstate(over="ignore", invalid="ignore"):
        bound = np.asarray(rule(op, operands, errors, result), np.float64)
        loose = ~np.isfinite(result) | ~(bound + np.abs(result.astype(np.float64)) < LARGEST)
        return np.where(loose, np.inf, bound)


def _off(error: Error, operand: Array) -> Array:
    return np.zeros(operand.shape) if error is None else error


def _elementwise(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    """Four roundings, and exact operands."""
    if any(error is not None and error.any() for error in errors):
        return np.full(result.shape, np.inf)
    return 4 * ROUNDING * np.abs(result.astype(np.float64)) + SMALLEST


def _scale_gradient(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    factor = abs(op.attributes["factor"].value)
    return _off(errors[0], operands[0]) * factor + 2 * ROUNDING * np.abs(result) + SMALLEST


def _add_gradients(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    off = _off(errors[0], operands[0]) + _off(errors[1], operands[1])
    return off + ROUNDING * np.abs(result) + SMALLEST


def _pool_grad(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    off = _off(errors[0], operands[0]) / prod(result.shape[1:3])
    return off + 2 * ROUNDING * np.abs(result) + SMALLEST


def _sum_bound(terms: int, magnitude: Array, off: Array, factor: Any = 1.0) -> Array:
    """The bound on a sum of `terms` products whose magnitudes sum to `magnitude`."""
    return (terms + 6) * (ROUNDING * magnitude + SMALLEST * factor) + 1.001 * off


def _window_grad(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    """A sum over the windows that hold a pixel, each share rounded on its own."""
    g, *taps = operands
    magnitude = _evaluated(op, np.abs(g.astype(np.float64)), taps)
    return _sum_bound(window_of(op).cover, magnitude, _evaluated(op, _off(errors[0], g), taps))


def _reshape(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    return _off(errors[0], operands[0]).reshape(result.shape)


def _linear(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    x, w, bias = (np.abs(operand.astype(np.float64)) for operand in operands)
    magnitude = (w @ x.reshape(-1) + bias).reshape(result.shape)
    off = (w @ _off(errors[0], operands[0]).reshape(-1)).reshape(result.shape)
    if errors[1] is not None:
        off = off + (errors[1] @ x.reshape(-1)).reshape(result.shape)
    if errors[2] is not None:
        off = off + errors[2].reshape(result.shape)
    return _sum_bound(x.size, magnitude, off)


def _linear_input_grad(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    g, w = (np.abs(operand.astype(np.float64)) for operand in operands)
    magnitude = (g.reshape(-1) @ w).reshape(result.shape)
    off = (_off(errors[0], g).reshape(-1) @ w).reshape(result.shape)
    return _sum_bound(g.size, magnitude, off)


def _outer(op: Any, operands: Any, errors: Any, shape: Any) -> tuple[Array, Array, int]:
    x, g = (operand.reshape(-1).astype(np.float64) for operand in operands)
    off_x, off_g = _off(errors[0], x).reshape(-1), _off(errors[1], g).reshape(-1)
    off = np.outer(off_g, np.abs(x) + off_x) + np.outer(np.abs(g), off_x)
    return np.outer(np.abs(g), np.abs(x)), off, 1


def _positive_weight(stored: Array) -> Array:
    """Stored weights whose effective values are at least the magnitudes, up to a factor of 2."""
    if stored.dtype == np.float32:
        return np.abs(stored)
    wide = np.abs(stored.astype(np.int64)) + (255 if stored.dtype == np.int16 else 0)
    return np.minimum(wide, np.iinfo(stored.dtype).max).astype(stored.dtype)


def _conv_input_grad(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    g, *weights = operands
    weights = [_positive_weight(weight) for weight in weights if weight is not None]
    shape = shape_of(op.operands[1])
    terms = prod(shape[:3]) // geometry(op).groups
    # In float64, scaled down: `evaluate_op` rounds to float32.
    magnitude = _evaluated(op, np.abs(g.astype(np.float64)), weights)
    return _sum_bound(
        terms, 2 * magnitude, _evaluated(op, _off(errors[0], g), weights), 128 * _scale_size(op)
    )


def _scale_size(op: Any) -> float:
    scales = to_array(op.attributes["scales"]).astype(np.float64)
    return float(np.abs(scales).max(initial=1.0))


def _evaluated(op: Any, g: Array, weights: Sequence[Array]) -> Array:
    """The op on non-negative gradients of any size: normalised, so that float32 holds them."""
    size = float(g.max(initial=0.0))
    if not np.isfinite(size):
        return np.full(shape_of(op.results[0]), np.inf)
    if size == 0.0:
        return np.zeros(shape_of(op.results[0]))
    scaled = evaluate_op(op, [g / size, *weights])[0].astype(np.float64)
    return scaled * size * 1.001


def _conv_terms(op: Any, operands: Any, errors: Any, shape: Any) -> tuple[Array, Array, int]:
    """(magnitudes, what the operands are off by, terms) of the unscaled weight gradient."""
    x, g = operands
    off = _off(errors[1], g)
    if "output_channels" in op.attributes:
        chosen = to_list(op.attributes["output_channels"])
        g, off = g[..., chosen], off[..., chosen]
    _, zero = quantization(op.x)
    distance = np.abs(x.astype(np.int64) - zero)
    made = [
        convolve_weight_gradient(distance, values, geometry(op), shape)
        for values in (np.abs(g.astype(np.float64)), off)
    ]
    return made[0], made[1], g.shape[1] * g.shape[2]


def _bias_terms(op: Any, operands: Any, errors: Any, shape: Any) -> tuple[Array, Array, int]:
    g = operands[0].reshape(-1, operands[0].shape[-1]).astype(np.float64)
    off = _off(errors[0], operands[0]).reshape(g.shape)
    return np.abs(g).sum(axis=0), off.sum(axis=0), len(g)


def _scaled_gradient(terms: Callable[..., tuple[Array, Array, int]]) -> Callable[..., Array]:
    """The rule of a stored gradient whose channels are scaled."""

    def rule(op: Any, operands: Any, errors: Any, result: Array) -> Array:
        magnitude, off, count = terms(op, operands, errors, result.shape)
        if "scales" not in op.attributes:
            return _sum_bound(count, magnitude, off)
        scales = np.abs(to_array(op.attributes["scales"]).astype(np.float64))
        shaped = scales.reshape(-1, *([1] * (result.ndim - 1)))
        factor = np.maximum(shaped, 1.0)
        return _sum_bound(count, magnitude * shaped, off * shaped, factor * 256)

    return rule


def _softmax(logits: Array, error: Error) -> tuple[Array, Array, float]:
    """(probabilities, distances from the largest logit, what the logits are off by)."""
    shifted = logits.reshape(-1).astype(np.float64)
    distance = shifted.max() - shifted
    powers = np.exp(-distance)
    off = float(_off(error, logits).max(initial=0.0))
    return powers / powers.sum(), distance, off


def _loss(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    probabilities, distance, off = _softmax(operands[0], errors[0])
    of_sum = len(distance) + _FUNCTION_ROUNDINGS + 2 * float((probabilities * distance).max())
    of_label = 4 * (float(np.abs(result)) + float(distance[int(operands[1])]))
    return np.asarray(2 * off + ROUNDING * (of_sum + of_label))


def _loss_grad(op: Any, operands: Any, errors: Any, result: Array) -> Array:
    probabilities, distance, off = _softmax(operands[0], errors[0])
    relative = np.expm1(min(2 * off, 80.0))
    relative += ROUNDING * (len(distance) + _FUNCTION_ROUNDINGS + 4 * distance)
    relative += ROUNDING * 2 * float((probabilities * distance).sum())
    bound = probabilities * relative + 2 * SMALLEST
    bound[int(operands[1])] += 2 * ROUNDING
    return bound.reshape(result.shape)


_RULES: dict[str, Callable[..., Any]] = {
    "tiny.scale_gradient": _scale_gradient,
    "tiny.add_gradients": _add_gradients,
    "tiny.global_average_pool_grad": _pool_grad,
    "tiny.max_pool2d_grad": _window_grad,
    "tiny.average_pool2d_grad": _window_grad,
    "tiny.reshape": _reshape,
    "tiny.linear": _linear,
    "tiny.linear_input_grad": _linear_input_grad,
    "tiny.linear_weight_grad": _scaled_gradient(_outer),
    "tiny.conv2d_input_grad": _conv_input_grad,
    "tiny.conv2d_weight_grad": _scaled_gradient(_conv_terms),
    "tiny.bias_grad": _scaled_gradient(_bias_terms),
    "tiny.softmax_cross_entropy": _loss,
    "tiny.softmax_cross_entropy_grad": _loss_grad,
}


def _stored_terms(op: Any, operands: Any, errors: Any, shape: Any) -> tuple[Array, Array, int]:
    g = operands[0].astype(np.float64)
    return np.abs(g), _off(errors[0], g), 1


def _outer_gradient(op: Any, operands: Any, shape: Any) -> Array:
    x, g = (operand.reshape(-1).astype(np.float64) for operand in operands[:2])
    return np.outer(g, x)


@dataclass(frozen=True)
class _Update:
    """Of an update op: its exact gradient, and what bounds the rounding of that."""

    gradient: Callable[..., Array]
    terms: Callable[..., tuple[Array, Array, int]]


_STORED = _Update(lambda op, operands, shape: operands[0].astype(np.float64), _stored_terms)
_CONV = _Update(lambda op, v, shape: weight_gradient(op, v[0], v[1], shape), _conv_terms)
_UPDATES: dict[str, _Update] = {
    "tiny.apply_update": _STORED,
    "tiny.conv2d_weight_update": _CONV,
    "tiny.stochastic_update": _STORED,
    "tiny.stochastic_conv2d_weight_update": _CONV,
    "tiny.bias_update": _Update(lambda op, operands, shape: channel_sums(operands[0]), _bias_terms),
    "tiny.linear_weight_update": _Update(_outer_gradient, _outer),
}


def updated_range(
    op: Any, operands: Sequence[Array], errors: Sequence[Error]
) -> tuple[Array, Array]:
    """(lowest, highest) stored values after a correct float32 update of `operands[0]`.

    The step is known up to a bound and what is stored falls with the step, so it lies between what
    the largest and the smallest step leave. An update not known here is exact.
    """
    stored = operands[0]
    middle = stored.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        evaluate_op(op, [middle, *operands[1:]])
        update = _UPDATES.get(op.operation.name)
        if update is None:
            return middle, middle
        inputs = operands[1:]
        magnitude, off, count = update.terms(op, _before_rate(op, inputs), errors[1:], stored.shape)
        factors = to_array(op.attributes["factors"]) * np.float32(_rate(op, operands))
        shaped = factors.reshape(-1, *([1] * (stored.ndim - 1))) * np.ones(stored.shape)
        scale = np.abs(shaped).astype(np.float64)
        bound = _sum_bound(count, magnitude * scale, off * scale, np.maximum(scale, 1.0) * 256)
        if stored.dtype == np.float32:
            bound = bound + ROUNDING * np.maximum(np.abs(stored), np.abs(middle)) * 2
        bound = np.where(~(bound + magnitude * scale < LARGEST), np.inf, bound)
        step = update.gradient(op, inputs, stored.shape) * shaped
        return _extremes(op, operands, middle, step, bound)


def _before_rate(op: Any, inputs: Sequence[Array]) -> Sequence[Array]:
    """The operands of an update that its gradient is made of."""
    names = list(op.operands)
    return inputs[: names.index(op.rate) - 1]


def _rate(op: Any, operands: Sequence[Array]) -> Array:
    """The learning rate among the operands of an update."""
    return operands[list(op.operands).index(op.rate)]


def _extremes(
    op: Any, operands: Any, middle: Array, step: Array, bound: Array
) -> tuple[Array, Array]:
    """The stored values for steps up to `bound` larger and smaller; all values where infinite."""
    stored = operands[0]
    if stored.dtype == np.float32:
        return middle - bound, middle + bound
    made = [middle, *(_moved(op, operands, step + change) for change in (-bound, bound))]
    info = np.iinfo(stored.dtype)
    low, high = np.minimum.reduce(made), np.maximum.reduce(made)
    free = np.isinf(bound)
    return np.where(free, info.min, low), np.where(free, info.max, high)


def _moved(op: Any, operands: Any, step: Array) -> Array:
    """What the rounding rule of `op` stores after a given step."""
    stored = operands[0].copy()
    limit = float(STEP_LIMIT)
    limited = np.clip(np.where(np.isnan(step), limit, step), -limit, limit)
    if "stream" in op.attributes:
        counter = operands[list(op.operands).index(op.counter)]
        words = random_words(op.stream.value, int(counter[0]), stored.size)
        moved = stored.astype(np.int64) - round_stochastic(limited, words.reshape(stored.shape))
        return np.clip(moved, -128, 127).astype(np.int8)
    if "rounding" in op.attributes and op.attributes["rounding"].value == TRUNCATE:
        return truncated_difference(stored, limited)
    subtract_step(stored, step)
    return stored
