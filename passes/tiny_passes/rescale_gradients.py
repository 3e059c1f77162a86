"""Quantization-aware scaling (QAS), folded into the constants of the updates.

Before:  "tiny.apply_update"(%w, %gw, %rate) {factors = dense<1.0>}
After:   "tiny.apply_update"(%w, %gw, %rate) {factors = dense<[1 / s_w[0]^2, 1 / s_w[1]^2, ...]>}

A weight of scale `s_w[c]` gets `1 / s_w[c]^2`, a bias `1 / (s_w[c] s_x)^2`, the float head 1, as if
the weights were real numbers: `docs/design/arithmetic.md`. Channels with `s_w < 1e-7` hold no
information; their factor is 0. Other factors are limited to `cap`, by default 2^40: the largest
factor of a live channel in published models is 3e11, and float32 products keep 26 bits of exponent.

Cost: one walk; no op is added. Input and output are valid IR.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import dense, string, to_array, to_list
from tiny_dialect.errors import InvalidOption
from tiny_dialect.ops.convolution import geometry, is_depthwise
from tiny_dialect.types import quantization, shape_of
from tiny_passes.graph import body, users
from tiny_passes.registry import PassError, register_pass

DEAD_SCALE = 1e-7
DEFAULT_CAP = 2.0**40

Doubles = NDArray[np.float64]


def _forward_user(update: Any) -> Any:
    """The forward op that reads the updated parameter."""
    found = users(update.operands[0])
    readers = [op for op in found if op.operation.name in ("tiny.conv2d", "tiny.linear")]
    if not readers:
        raise PassError(update, "updates a parameter that no conv2d or linear reads")
    return min(readers, key=list(update.operation.block).index)


def _unit_scales(update: Any, reader: Any) -> tuple[Doubles, Doubles]:
    """(real size of one unit of the parameter, s_w), for each factor."""
    if reader.operation.name == "tiny.linear":
        ones = np.ones(shape_of(update.operands[0])[0])
        return ones, ones
    scales = to_array(reader.weight_scales)
    if reader.bias == update.operands[0]:
        return scales * quantization(reader.x)[0], scales
    partial = reader.trained is not None and reader.trained == update.operands[0]
    if partial and is_depthwise(geometry(reader).groups, shape_of(reader.w)):
        scales = scales[to_list(reader.attributes["trained_channels"])]
    return scales, scales


def _factors(update: Any, qas: bool, cap: float) -> Doubles:
    units, weight_scales = _unit_scales(update, _forward_user(update))
    live = weight_scales >= DEAD_SCALE
    factors = np.zeros_like(units)
    factors[live] = units[live] ** -2.0 if qas else 1.0
    return np.minimum(factors, cap)


def _rounded(factors: Doubles, cap: float) -> Doubles:
    """The nearest powers of two up to `cap`; 0 stays."""
    live = factors > 0
    exponents = np.minimum(np.rint(np.log2(factors[live])), math.floor(math.log2(cap)))
    rounded = np.zeros_like(factors)
    rounded[live] = np.exp2(exponents)
    return rounded


def _make_uniform(updates: list[Any], factors: list[Doubles]) -> None:
    """Give the live channels of all weights one factor, those of all biases another, in place.

    Each is the geometric mean of what it replaces. Updates of linear layers stay.
    """
    kinds: dict[str, list[Doubles]] = {"weight": [], "bias": []}
    for update, own in zip(updates, factors, strict=True):
        reader = _forward_user(update)
        if reader.operation.name != "tiny.linear":
            kinds["bias" if reader.bias == update.operands[0] else "weight"].append(own)
    for members in kinds.values():
        live = [own[own > 0] for own in members]
        if sum(map(len, live)):
            mean = np.exp(np.log(np.concatenate(live)).mean())
            for own in members:
                own[own > 0] = mean


@register_pass("tiny-rescale-gradients", anchor="func.func", only="train_step")
def rescale_gradients(
    step: Any,
    *,
    qas: bool = True,
    powers_of_two: bool = False,
    uniform: bool = False,
    cap: float = DEFAULT_CAP,
) -> None:
    """Fill `factors` of every update; without `qas` 1, and 0 for dead channels.

    `powers_of_two` rounds each factor to the nearest power of two (in the exponent), so that a
    device can shift. `uniform` gives all weights one factor and all biases another, the geometric
    means. Raises `InvalidOption` for a cap outside [2^-100, 2^100].
    """
    if not 2.0**-100 <= cap <= 2.0**100:
        raise InvalidOption(f"tiny-rescale-gradients: cap {cap!r} is outside [2^-100, 2^100]")
    names = ("tiny.apply_update", "tiny.stochastic_update")
    updates = [op for op in body(step) if op.operation.name in names]
    factors = [_factors(op, qas, cap) for op in updates]
    if uniform:
        _make_uniform(updates, factors)
    for op, own in zip(updates, factors, strict=True):
        op.attributes["factors"] = dense(
            (_rounded(own, cap) if powers_of_two else own).astype(np.float32)
        )
    step.attributes["tiny.stage"] = string("scaled")
