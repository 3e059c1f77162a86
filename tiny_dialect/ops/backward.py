"""Backward ops: gradients in units of the quantized values (`g = dL/dy_int`), float32.

Straight-through for every round. A factor `scales[c]` is `s_x * s_w[c] / s_y` of the forward op,
so each op is the exact derivative of the float-relaxed forward op.
"""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from collections.abc import Sequence
from typing import Any

from tiny_dialect.attributes import DenseArray, DenseElements, integer, integers
from tiny_dialect.bindings import ext, ir
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops.convolution import geometry, require_channels, require_conv_shapes
from tiny_dialect.ops.forward import WEIGHT_ELEMENTS
from tiny_dialect.types import shape_of
from tiny_dialect.verify import (
    require,
    require_activation,
    require_element,
    require_gradient,
    require_rank,
    require_shape,
    require_vector,
    typed,
    verifier,
)

Operand = ext.Operand
Result = ext.Result


class SoftmaxCrossEntropyGrad(Tiny.Operation, name="softmax_cross_entropy_grad", traits=[ext.Pure]):
    """`gx[k] = softmax(logits)[k] - [k == label]`."""

    logits: Operand[Any]
    label: Operand[Any]
    gx: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, SoftmaxCrossEntropyGrad)
        require_element(self.logits, ("f32",), "logits")
        require_element(self.label, ("i32",), "label")
        require_shape(self.label, (), "label")
        require_gradient(self.gx, self.logits, "gx")


class LinearInputGrad(Tiny.Operation, name="linear_input_grad", traits=[ext.Pure]):
    """`gx[c] = sum_k w[k, c] g[k]`, shaped like the forward input."""

    g: Operand[Any]
    w: Operand[Any]
    gx: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, LinearInputGrad)
        for value, what in ((self.g, "g"), (self.w, "weights"), (self.gx, "gx")):
            require_element(value, ("f32",), what)
        require_rank(self.w, 2, "weights")
        require_shape(self.g, (1, shape_of(self.w)[0]), "g")


class LinearWeightGrad(Tiny.Operation, name="linear_weight_grad", traits=[ext.Pure]):
    """`gw[k, c] = g[k] x[c]`."""

    x: Operand[Any]
    g: Operand[Any]
    gw: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, LinearWeightGrad)
        for value, what in ((self.x, "x"), (self.g, "g"), (self.gw, "gw")):
            require_element(value, ("f32",), what)
        features = 1
        for size in shape_of(self.x):
            features *= size
        require_shape(self.gw, (shape_of(self.g)[-1], features), "gw")


class ScaleGradient(Tiny.Operation, name="scale_gradient", traits=[ext.Pure]):
    """`gx = g * factor`, zero where `mask` is false: derivative of a clamp and of a rescaling."""

    g: Operand[Any]
    gx: Result[Any]
    factor: ir.FloatAttr
    mask: Operand[Any] | None = None

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, ScaleGradient)
        require_element(self.g, ("f32",), "g")
        require_gradient(self.gx, self.g, "gx")
        if self.mask is not None:
            require_element(self.mask, ("i1",), "mask")
            require_shape(self.mask, shape_of(self.g), "mask")


class AddGradients(Tiny.Operation, name="add_gradients", traits=[ext.Pure]):
    """`gx = a + b`: the gradients of the two uses of one value."""

    a: Operand[Any]
    b: Operand[Any]
    gx: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, AddGradients)
        require_element(self.a, ("f32",), "a")
        require_gradient(self.b, self.a, "b")
        require_gradient(self.gx, self.a, "gx")


class GlobalAveragePoolGrad(Tiny.Operation, name="global_average_pool_grad", traits=[ext.Pure]):
    """`gx[h, w, c] = g[c] / (H W)`."""

    g: Operand[Any]
    gx: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, GlobalAveragePoolGrad)
        require_rank(self.gx, 4, "gx")
        require_element(self.g, ("f32",), "g")
        require_element(self.gx, ("f32",), "gx")
        require_shape(self.g, (1, 1, 1, shape_of(self.gx)[3]), "g")


class Conv2DInputGrad(Tiny.Operation, name="conv2d_input_grad", traits=[ext.Pure]):
    """`gx = conv_transpose(w, g * scales)`: every weight as the forward pass reads it."""

    g: Operand[Any]
    w: Operand[Any]
    gx: Result[Any]
    scales: DenseElements
    trained: Operand[Any] | None = None
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Conv2DInputGrad)
        for value, what in ((self.g, "g"), (self.gx, "gx")):
            require_rank(value, 4, what)
            require_element(value, ("f32",), what)
        require_rank(self.w, 4, "weights")
        require_element(self.w, WEIGHT_ELEMENTS, "weights")
        geo = geometry(op)
        require_conv_shapes(geo, self.gx, self.w, shape_of(self.g))
        require_vector(self.scales, shape_of(self.g)[3], "f32", "scales")
        require_channels(op, geo.groups, self.w, self.trained)


def require_weight_gradient(
    op: Any,
    x: Any,
    g: Any,
    weight_shape: tuple[int, ...],
    elements: Sequence[str] = ("f32",),
) -> None:
    """Shapes of a weight gradient; `output_channels` picks some of a depthwise one."""
    require_activation(x, "x")
    require_rank(g, 4, "g")
    require_element(g, elements, "g")
    geo = geometry(op)
    x_shape = shape_of(x)
    outputs = weight_shape[0]
    if "output_channels" in op.attributes:
        channels = list(op.attributes["output_channels"])
        require(len(channels) == outputs, f"expects {outputs} output_channels, got {len(channels)}")
        require(
            all(0 <= c < shape_of(g)[3] for c in channels),
            f"expects output_channels below {shape_of(g)[3]}",
        )
        require(weight_shape[3] == 1, "allows output_channels only for depthwise weights")
        require(x_shape[3] == outputs, f"expects {outputs} gathered input channels, got {x.type}")
    else:
        require(
            shape_of(g)[3] == outputs, f"expects a gradient of {outputs} channels, got {g.type}"
        )
        require(
            weight_shape[3] * geo.groups == x_shape[3],
            f"does not fit {geo.groups} groups of input {x.type}",
        )
    expected = geo.output_shape(x_shape, weight_shape)
    require(
        shape_of(g)[1:3] == expected[1:3],
        f"expects a gradient of spatial shape {expected[1:3]}, got {g.type}",
    )


class Conv2DWeightGrad(Tiny.Operation, name="conv2d_weight_grad", traits=[ext.Pure]):
    """`gw = scales * corr(x - z_x, g)`.

    `x` may hold only the gathered channels of a partly trained weight. For a depthwise one
    weight `output_channels` names the gradient channels, and `groups` is their number.
    """

    x: Operand[Any]
    g: Operand[Any]
    gw: Result[Any]
    scales: DenseElements
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Conv2DWeightGrad)
        require_rank(self.gw, 4, "gw")
        require_element(self.gw, ("f32",), "gw")
        require_weight_gradient(op, self.x, self.g, shape_of(self.gw))
        require_vector(self.scales, shape_of(self.gw)[0], "f32", "scales")


class BiasGrad(Tiny.Operation, name="bias_grad", traits=[ext.Pure]):
    """`gb[c] = scales[c] * sum g[..., c]`."""

    g: Operand[Any]
    gb: Result[Any]
    scales: DenseElements

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, BiasGrad)
        require_element(self.g, ("f32",), "g")
        require_element(self.gb, ("f32",), "gb")
        require_shape(self.gb, shape_of(self.g)[-1:], "gb")
        require_vector(self.scales, shape_of(self.g)[-1], "f32", "scales")
