"""Prove, channel by channel, that no integer of the forward pass can leave the bits it has.

Before:  a module of any stage from `model` to `planned`
After:   the same module; or an error at the first op and channel whose bound cannot be proven

The bounds hold for every input and for whatever training makes of the parameters: a trained weight
is any int8, a trained bias anything within 2^30 or its initial value. Checked are

- convolution: every accumulator that a channel can reach, bias included, is below 1.5 * 2^31, and
  its multiplier has at most 31 bits and a shift of 1 to 62. The requantization
  `(acc * multiplier + 2^(shift-1)) >> shift` then stays within 64 bits (`fixed_point.requantize`).
  Kernels add in 32 bits where the accumulator fits and in 64 where not;
- addition: the sum of both rescaled operands within 64 bits, with a shift of 1 to 62;
- pool and mean: the sum of a channel within 32 bits; its multiplier, and that of a requantization,
  as for a convolution.

Shares no code with the kernels, which choose their widths by themselves. Cost: one walk, linear in
the weights.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.fixed_point import MAX_SHIFT, paired_multipliers, quantize_multiplier
from tiny_dialect.ops.convolution import geometry, is_depthwise
from tiny_dialect.ops.pooling import mean_count, mean_factor, window_of
from tiny_dialect.types import quantization, shape_of
from tiny_passes.graph import FUSED_BLOCK, body, outer_value, producer
from tiny_passes.registry import PassError, register_pass

_WEIGHTS = (-128, 127)
_BIAS_LIMIT = 2**30
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_EXACT = 3 * 2**30

Int64s = NDArray[np.int64]


@register_pass("tiny-prove-bounds", anchor="func.func")
def prove_bounds(function: Any) -> None:
    """Raise `PassError` at the first op of `function` whose integers may overflow."""
    for op in _forward_ops(function):
        rule = _RULES.get(op.operation.name)
        if rule is not None:
            rule(op)


def _forward_ops(function: Any) -> Iterator[Any]:
    """The ops of the function, and those inside its fused blocks in place of them."""
    for op in body(function):
        if op.operation.name == FUSED_BLOCK:
            yield from op.regions[0].blocks[0]
        else:
            yield op


def _conv2d(op: Any) -> None:
    low, high = _accumulators(op)
    (scale_x, _), (scale_y, _) = quantization(op.x), quantization(op.y)
    factors = scale_x * to_array(op.weight_scales) / scale_y
    for channel, factor in enumerate(factors):
        place = f"channel {channel}"
        _require_multiplier(op, place, float(factor))
        largest = max(abs(int(low[channel])), abs(int(high[channel])))
        if largest >= _EXACT:
            raise PassError(
                op,
                f"{place}: the accumulator can reach {largest}; its requantization is exact "
                f"below {_EXACT}",
            )


def _require_multiplier(op: Any, place: str, factor: float) -> None:
    """Raise `PassError` for a factor in (0, 2^30) whose Q31 form is out of range."""
    multiplier, shift = quantize_multiplier(factor)
    if not (0 <= multiplier <= _INT32 and 1 <= shift <= MAX_SHIFT):
        raise PassError(op, f"{place}: multiplier {multiplier} and shift {shift} are out of range")


def _accumulators(op: Any) -> tuple[Int64s, Int64s]:
    """The smallest and the largest accumulator of each channel, bias included."""
    _, zero = quantization(op.x)
    lowest_x, highest_x = -128 - zero, 127 - zero
    w_low, w_high = _weight_range(op)
    corners = [w * x for w in (w_low, w_high) for x in (lowest_x, highest_x)]
    # Padding is a real zero, which lies within the range of x - z: so the corners cover it.
    bias_low, bias_high = _bias_range(op)
    low = np.minimum.reduce(corners).sum(axis=(1, 2, 3)) + bias_low
    high = np.maximum.reduce(corners).sum(axis=(1, 2, 3)) + bias_high
    return low, high


def _constant(value: Any) -> NDArray[Any] | None:
    """The value of a frozen parameter; None for what training, or a caller, may change."""
    op = producer(outer_value(value))
    if op is None or op.operation.name != "tiny.parameter" or "trained" in op.attributes:
        return None
    return to_array(op.attributes["value"])


def _weight_range(op: Any) -> tuple[Int64s, Int64s]:
    """The smallest and the largest weight that each place can hold."""
    shape = shape_of(op.w)
    frozen = _constant(op.w)
    if frozen is None or frozen.dtype != np.int8:
        return np.full(shape, _WEIGHTS[0], np.int64), np.full(shape, _WEIGHTS[1], np.int64)
    low, high = frozen.astype(np.int64), frozen.astype(np.int64)
    if op.trained is not None:
        channels = to_list(op.attributes["trained_channels"])
        index: Any = (channels,) if is_depthwise(geometry(op).groups, shape) else (..., channels)
        low[index], high[index] = _WEIGHTS
    return low, high


def _bias_range(op: Any) -> tuple[Int64s, Int64s]:
    """The smallest and the largest bias of each channel."""
    frozen = _constant(op.bias)
    if frozen is not None:
        return frozen.astype(np.int64), frozen.astype(np.int64)
    owner = producer(outer_value(op.bias))
    if owner is None or owner.operation.name != "tiny.parameter":
        worst = np.full(shape_of(op.bias), 2**31, np.int64)
        return -worst, worst - 1
    # An update of zero leaves an initial value beyond the limit alone; any other clamps it.
    initial = to_array(owner.attributes["value"]).astype(np.int64)
    return np.minimum(initial, -_BIAS_LIMIT), np.maximum(initial, _BIAS_LIMIT)


def _add(op: Any) -> None:
    scale_y, _ = quantization(op.y)
    first, second, shift = paired_multipliers(
        *(quantization(value)[0] / scale_y for value in (op.a, op.b))
    )
    reach = [_reach(value) for value in (op.a, op.b)]
    total = reach[0] * first + reach[1] * second + (1 << (shift - 1))
    if total > _INT64 or not 1 <= shift <= MAX_SHIFT:
        raise PassError(op, f"the rescaled sum can reach {total}, with a shift of {shift}")


def _reach(value: Any) -> int:
    """The largest magnitude of `q - zero`."""
    _, zero = quantization(value)
    return max(128 + zero, 127 - zero)


def _global_average_pool(op: Any) -> None:
    pixels = prod(shape_of(op.x)[1:3])
    if 128 * pixels > _INT32:
        raise PassError(op, f"the sum of {pixels} values can reach {128 * pixels}, beyond 32 bits")


def _average_pool2d(op: Any) -> None:
    taps = window_of(op).taps
    # Twice the sum and the count meet in one word.
    if 257 * taps > _INT32:
        raise PassError(op, f"the sum of {taps} values can reach {257 * taps}, beyond 32 bits")


def _mean(op: Any) -> None:
    reach = _reach(op.x) * mean_count(op)
    _require_multiplier(op, "all channels", mean_factor(op))
    if reach > _INT32:
        raise PassError(op, f"the sum of a mean can reach {reach}, beyond 32 bits")


def _requantize(op: Any) -> None:
    factor = quantization(op.x)[0] / quantization(op.y)[0]
    _require_multiplier(op, "all channels", factor)


_RULES = {
    "tiny.conv2d": _conv2d,
    "tiny.add": _add,
    "tiny.global_average_pool": _global_average_pool,
    "tiny.average_pool2d": _average_pool2d,
    "tiny.mean": _mean,
    "tiny.requantize": _requantize,
}
