"""Forward ops: parameters, convolution, residual add, pooling, the float head and the loss.

Rounding and clamping follow docs/design/arithmetic.md; the exact meaning is in
`tiny_dialect.semantics`.
"""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from typing import Any

import numpy as np

from tiny_dialect.attributes import DenseArray, DenseElements, integer, integers, to_array, to_list
from tiny_dialect.bindings import ext, ir
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops.convolution import geometry, require_channels, require_conv_shapes
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_dialect.verify import (
    require,
    require_activation,
    require_element,
    require_rank,
    require_shape,
    require_vector,
    typed,
    verifier,
)

Operand = ext.Operand
Result = ext.Result

FULL_RANGE = (-128, 127)
WEIGHT_ELEMENTS = ("i8", "i16", "f32")


def require_clamp(op: Any) -> None:
    """The attribute `clamp` is a range within int8."""
    low_high = to_list(op.attributes["clamp"])
    require(
        len(low_high) == 2 and -128 <= low_high[0] < low_high[1] <= 127,
        f"expects clamp within [-128, 127], got {low_high}",
    )


def require_mask(mask: Any | None, y: Any) -> None:
    """A mask, where there is one, is `i1` of the shape of `y`."""
    if mask is not None:
        require_element(mask, ("i1",), "mask")
        require_shape(mask, shape_of(y), "mask")


def require_factors(factors: Any) -> None:
    """Each factor is one that Q31 arithmetic can hold."""
    require(bool(np.all(factors < 2.0**30)), "has a requantization factor of 2^30 or more")
    require(bool(np.all(factors > 0)), "has a requantization factor of zero")


class Parameter(Tiny.Operation, name="parameter", traits=[ext.Pure]):
    """A named constant or, with the unit attribute `trained`, a named piece of mutable state.

    Types: i8 weight, i16 master (`int8 << 8 | fraction`), i32 bias, f32 master or head.
    `value` is what the state holds when the device is initialised.
    """

    result: Result[Any]
    symbol: ir.StringAttr
    value: DenseElements

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Parameter)
        require(bool(self.symbol.value), "expects a non-empty symbol")
        require(
            self.value.type == self.result.type,
            f"expects a value of its result type {self.result.type}, got {self.value.type}",
        )
        require_element(self.result, (*WEIGHT_ELEMENTS, "i32"), "result")
        if element_name(self.result) == "f32":
            require(bool(np.isfinite(to_array(self.value)).all()), "expects finite values")


class Conv2D(Tiny.Operation, name="conv2d", traits=[ext.Pure]):
    """Quantized 2-D convolution, bias, requantization and clamp, NHWC by O·KH·KW·(I/groups).

    `acc = sum((x - z_x) * w) + bias`; `y = clamp(round(acc * s_x * weight_scales[c] / s_y) + z_y)`
    with a Q31 multiplier and one rounding. Padding is real zero. `mask`, where present, is true
    where the clamp changed nothing. A weight stored as i16 or f32 is a trained master; with
    `trained` and `trained_channels` only those channels are trained and replace those of `w`.
    Gradient: `conv2d_input_grad`, `conv2d_weight_grad`, `bias_grad`, after `scale_gradient`.
    """

    x: Operand[Any]
    w: Operand[Any]
    bias: Operand[Any]
    y: Result[Any]
    weight_scales: DenseElements
    trained: Operand[Any] | None = None
    mask: Result[Any] | None = None
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))
    clamp: DenseArray = ext.attribute(default_factory=lambda: integers(FULL_RANGE))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Conv2D)
        require_activation(self.x, "x")
        require_activation(self.y, "y")
        require_rank(self.w, 4, "weights")
        require_element(self.w, WEIGHT_ELEMENTS, "weights")
        geo = geometry(op)
        require_conv_shapes(geo, self.x, self.w, shape_of(self.y))
        channels = shape_of(self.y)[3]
        require_element(self.bias, ("i32",), "bias")
        require_shape(self.bias, (channels,), "bias")
        require_vector(self.weight_scales, channels, "f64", "weight_scales")
        scales = to_array(self.weight_scales)
        require(
            bool((np.isfinite(scales) & (scales > 0)).all()),
            "expects positive finite weight_scales",
        )
        factors = quantization(self.x)[0] * scales / quantization(self.y)[0]
        require_factors(factors)
        require_clamp(op)
        require_mask(self.mask, self.y)
        require_channels(op, geo.groups, self.w, self.trained)


class Add(Tiny.Operation, name="add", traits=[ext.Pure]):
    """Residual addition: `clamp(round(((a - z_a) s_a + (b - z_b) s_b) / s_y) + z_y)`, rounded once.

    Gradient: `scale_gradient` by `s_a / s_y` and by `s_b / s_y`, each behind the mask.
    """

    a: Operand[Any]
    b: Operand[Any]
    y: Result[Any]
    mask: Result[Any] | None = None
    clamp: DenseArray = ext.attribute(default_factory=lambda: integers(FULL_RANGE))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Add)
        for value, what in ((self.a, "a"), (self.b, "b"), (self.y, "y")):
            require_activation(value, what)
            require_shape(value, shape_of(self.y), what)
        scales = np.array([quantization(value)[0] for value in (self.a, self.b)])
        require_factors(scales / quantization(self.y)[0])
        require_clamp(op)
        require_mask(self.mask, self.y)


class GlobalAveragePool(Tiny.Operation, name="global_average_pool", traits=[ext.Pure]):
    """Mean over H and W of the raw int8 values, half to even; scale and zero point unchanged.

    Gradient: `global_average_pool_grad` (straight through the rounding).
    """

    x: Operand[Any]
    y: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, GlobalAveragePool)
        require_activation(self.x, "x")
        require_activation(self.y, "y")
        require_shape(self.y, (1, 1, 1, shape_of(self.x)[3]), "y")
        require(
            quantization(self.x) == quantization(self.y), "expects equal quantization of x and y"
        )


class GatherChannels(Tiny.Operation, name="gather_channels", traits=[ext.Pure]):
    """A contiguous copy of the chosen channels of an activation, kept for a weight gradient."""

    x: Operand[Any]
    y: Result[Any]
    channels: DenseArray

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, GatherChannels)
        require_activation(self.x, "x")
        channels = to_list(self.channels)
        limit = shape_of(self.x)[3]
        require(
            bool(channels) and all(0 <= c < limit for c in channels),
            f"expects channels below {limit}",
        )
        require_shape(self.y, (*shape_of(self.x)[:3], len(channels)), "y")
        require(
            self.x.type.element_type == self.y.type.element_type,
            "expects equal element types of x and y",
        )


class Dequantize(Tiny.Operation, name="dequantize", traits=[ext.Pure]):
    """`y = (x - z_x) * s_x` in float32. Gradient: `scale_gradient` by `s_x`."""

    x: Operand[Any]
    y: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Dequantize)
        require_activation(self.x, "x")
        require_element(self.y, ("f32",), "y")
        require_shape(self.y, shape_of(self.x), "y")


class Linear(Tiny.Operation, name="linear", traits=[ext.Pure]):
    """The float32 head: `y[1, k] = sum_c w[k, c] x[c] + bias[k]` over the flattened input.

    Gradient: `linear_input_grad`, `linear_weight_grad`, `bias_grad`.
    """

    x: Operand[Any]
    w: Operand[Any]
    bias: Operand[Any]
    y: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Linear)
        for value, what in ((self.x, "x"), (self.w, "weights"), (self.bias, "bias"), (self.y, "y")):
            require_element(value, ("f32",), what)
        require_rank(self.w, 2, "weights")
        classes, features = shape_of(self.w)
        require(
            int(np.prod(shape_of(self.x))) == features,
            f"expects {features} input features, got {self.x.type}",
        )
        require_shape(self.bias, (classes,), "bias")
        require_shape(self.y, (1, classes), "y")


class SoftmaxCrossEntropy(Tiny.Operation, name="softmax_cross_entropy", traits=[ext.Pure]):
    """`loss = log(sum_k exp(logits[k])) - logits[label]`, float32, shifted by the maximum."""

    logits: Operand[Any]
    label: Operand[Any]
    loss: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, SoftmaxCrossEntropy)
        require_element(self.logits, ("f32",), "logits")
        require_element(self.label, ("i32",), "label")
        require_shape(self.label, (), "label")
        require_element(self.loss, ("f32",), "loss")
        require_shape(self.loss, (), "loss")
