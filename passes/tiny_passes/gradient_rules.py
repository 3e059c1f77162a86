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

from tiny_dialect.attributes import dense, integers, real, to_array, to_list
from tiny_dialect.ops import (
    Add,
    AveragePool2D,
    AveragePool2DGrad,
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
    MaxPool2D,
    MaxPool2DGrad,
    Mean,
    Pad,
    Requantize,
    Reshape,
    ScaleGradient,
)
from tiny_dialect.types import quantization, shape_of, tensor
from tiny_passes.registry import PassError

Wanted = Sequence[bool]
Gradients = Sequence[Any | None]
Rule = Callable[[Any, Any, Wanted], Gradients]

_RULES: dict[type, Rule] = {}
_MASKED: dict[type, Callable[[Any], bool]] = {}


def register_gradient_rule(
    op_class: type, *, mask: bool | Callable[[Any], bool] = False
) -> Callable[[Rule], Rule]:
    """Make the decorated function the gradient rule of an op class.

    `mask`: it reads the mask, the second result of the op; a function says of which ops.
    """

    def register(rule: Rule) -> Rule:
        _RULES[op_class] = rule
        _MASKED[op_class] = mask if callable(mask) else lambda op: bool(mask)
        return rule

    return register


def needs_mask(op: Any) -> bool:
    """True where the rule of the op reads its clamp mask."""
    return type(op) in _MASKED and _MASKED[type(op)](op)


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


_WINDOW = ("kernel", "strides", "pads")


@register_gradient_rule(MaxPool2D, mask=True)
def _max_pool2d(op: Any, g: Any, wanted: Wanted) -> Gradients:
    window = {name: op.attributes[name] for name in _WINDOW}
    return [MaxPool2DGrad(g, op.argmax, gradient_type(op.x), **window).gx if wanted[0] else None]


@register_gradient_rule(AveragePool2D)
def _average_pool2d(op: Any, g: Any, wanted: Wanted) -> Gradients:
    window = {name: op.attributes[name] for name in _WINDOW}
    return [AveragePool2DGrad(g, gradient_type(op.x), **window).gx if wanted[0] else None]


def _can_saturate(op: Any) -> bool:
    """False for a mean that stays in the range of its input, so that no clamp acts."""
    equal = quantization(op.x) == quantization(op.y)
    return not equal or to_list(op.attributes["clamp"]) != [-128, 127]


@register_gradient_rule(Mean, mask=_can_saturate)
def _mean(op: Any, g: Any, wanted: Wanted) -> Gradients:
    if not wanted[0]:
        return [None]
    if _can_saturate(op):
        g = scale(g, quantization(op.x)[0] / quantization(op.y)[0], op.mask)
    axes, shape = to_list(op.axes), shape_of(op.x)
    if axes == [1, 2]:
        return [GlobalAveragePoolGrad(g, gradient_type(op.x)).gx]
    kernel = integers([shape[axis] if axis in axes else 1 for axis in (1, 2)])
    return [AveragePool2DGrad(g, gradient_type(op.x), kernel).gx]


@register_gradient_rule(Requantize, mask=True)
def _requantize(op: Any, g: Any, wanted: Wanted) -> Gradients:
    factor = quantization(op.x)[0] / quantization(op.y)[0]
    return [scale(g, factor, op.mask) if wanted[0] else None]


@register_gradient_rule(Pad)
def _pad(op: Any, g: Any, wanted: Wanted) -> Gradients:
    # The inner part: windows of one pixel with these pads, each seen by the pixel it holds.
    one = integers([1, 1])
    built = AveragePool2DGrad(g, gradient_type(op.x), one, pads=op.attributes["pads"])
    return [built.gx if wanted[0] else None]


@register_gradient_rule(Reshape)
def _reshape(op: Any, g: Any, wanted: Wanted) -> Gradients:
    return [Reshape(g, gradient_type(op.x)).y if wanted[0] else None]


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
