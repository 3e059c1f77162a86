"""The derivative of each forward op, as one table: op class -> backward ops.

A rule is called with the forward op, the gradient of its (first) result, and for each operand
whether its gradient is wanted. It builds backward ops at the current insertion point and returns
one gradient an operand, None where none is wanted. Gradients are float32 tensors of the operand's
shape in units of its stored value; rounding is passed straight through, a clamp by its mask. An op
class registered with `mask=True` is given its mask result before its rule is called.

    @register_gradient_rule(Halve)
    def halve(op: Any, g: Any, wanted: Wanted) -> Gradients:
        return [scale(g, 0.5) if wanted[0] else None]
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tiny_dialect.attributes import dense, real, to_array
from tiny_dialect.ops import (
    Add,
    BiasGrad,
    Conv2D,
    Conv2DInputGrad,
    Conv2DWeightGrad,
    Dequantize,
    GlobalAveragePool,
    GlobalAveragePoolGrad,
    Linear,
    LinearInputGrad,
    LinearWeightGrad,
    ScaleGradient,
)
from tiny_dialect.types import quantization, shape_of, tensor
from tiny_passes.registry import PassError

Wanted = Sequence[bool]
Gradients = Sequence[Any | None]
Rule = Callable[[Any, Any, Wanted], Gradients]

_RULES: dict[type, Rule] = {}
_MASKED: set[type] = set()


def register_gradient_rule(op_class: type, *, mask: bool = False) -> Callable[[Rule], Rule]:
    """Make the decorated function the gradient rule of an op class; `mask`: it reads `op.mask`."""

    def register(rule: Rule) -> Rule:
        _RULES[op_class] = rule
        if mask:
            _MASKED.add(op_class)
        return rule

    return register


def needs_mask(op: Any) -> bool:
    """True where the rule of the op reads its clamp mask."""
    return type(op) in _MASKED


def rule_of(op: Any) -> Rule:
    """The gradient rule of an op; raises `PassError` where its class has none."""
    rule = _RULES.get(type(op))
    if rule is None:
        raise PassError(
            op, f"'{op.operation.name}' has no gradient rule; add one with register_gradient_rule"
        )
    return rule


def gradient_type(value: Any) -> Any:
    """The type of the gradient of a value: float32 of its shape."""
    return tensor(shape_of(value), "f32")


def scale(g: Any, factor: float, mask: Any | None = None) -> Any:
    """`g * factor`, zero where the mask is false."""
    return ScaleGradient(g, gradient_type(g), real(factor), mask=mask).gx


def accumulator_scales(conv: Any) -> Any:
    """`s_x * s_w[c] / s_y` of a convolution, float32: quantized output units a unit of the sum."""
    ratio = quantization(conv.x)[0] / quantization(conv.y)[0]
    return dense((to_array(conv.weight_scales) * ratio).astype(np.float32))


@register_gradient_rule(Conv2D, mask=True)
def _conv2d(op: Any, g: Any, wanted: Wanted) -> Gradients:
    if op.trained is not None:
        raise PassError(op, "is already partly trained; differentiate before selecting updates")
    g = scale(g, 1.0, op.mask)
    scales = accumulator_scales(op)
    shape = {name: op.attributes[name] for name in ("strides", "pads", "groups")}
    for_x, for_w, for_bias = wanted
    return [
        Conv2DInputGrad(g, op.w, gradient_type(op.x), scales, **shape).gx if for_x else None,
        Conv2DWeightGrad(op.x, g, gradient_type(op.w), scales, **shape).gw if for_w else None,
        BiasGrad(g, gradient_type(op.bias), scales).gb if for_bias else None,
    ]


@register_gradient_rule(Add, mask=True)
def _add(op: Any, g: Any, wanted: Wanted) -> Gradients:
    scale_y = quantization(op.y)[0]
    return [
        scale(g, quantization(x)[0] / scale_y, op.mask) if needed else None
        for x, needed in zip((op.a, op.b), wanted, strict=True)
    ]


@register_gradient_rule(GlobalAveragePool)
def _global_average_pool(op: Any, g: Any, wanted: Wanted) -> Gradients:
    return [GlobalAveragePoolGrad(g, gradient_type(op.x)).gx if wanted[0] else None]


@register_gradient_rule(Dequantize)
def _dequantize(op: Any, g: Any, wanted: Wanted) -> Gradients:
    return [scale(g, quantization(op.x)[0]) if wanted[0] else None]


@register_gradient_rule(Linear)
def _linear(op: Any, g: Any, wanted: Wanted) -> Gradients:
    ones = dense(np.ones(shape_of(op.bias), np.float32))
    for_x, for_w, for_bias = wanted
    return [
        LinearInputGrad(g, op.w, gradient_type(op.x)).gx if for_x else None,
        LinearWeightGrad(op.x, g, gradient_type(op.w)).gw if for_w else None,
        BiasGrad(g, gradient_type(op.bias), ones).gb if for_bias else None,
    ]
