"""Integer backward ops: every gradient is mantissas (i16 or i8) and a header (exponent, width).

`tensor<2xi32>` headers and all rounding are defined in `tiny_dialect.block_float`: a value is
`mantissa * 2^exponent`, and `width` bits hold every mantissa. A result's width is exact. Sums are
32-bit: the pass that builds an op proves that they do not overflow.
"""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from typing import Any

from tiny_dialect.attributes import DenseArray, DenseElements, integer, integers, to_array
from tiny_dialect.bindings import ext, ir
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops.convolution import geometry, require_channels, require_conv_shapes
from tiny_dialect.types import element_name, shape_of
from tiny_dialect.verify import (
    require,
    require_element,
    require_rank,
    require_shape,
    require_vector,
    typed,
    verifier,
)

Operand = ext.Operand
Result = ext.Result

MANTISSAS = ("i8", "i16")
INTEGER_WEIGHTS = ("i8", "i16")


def require_header(value: Any, what: str) -> None:
    """`tensor<2xi32>`: exponent and width."""
    require_element(value, ("i32",), what)
    require_shape(value, (2,), what)


def require_mantissas(value: Any, header: Any, what: str, allowed: Any = MANTISSAS) -> None:
    """A tensor of `allowed` integers and its header."""
    require_element(value, allowed, what)
    require_header(header, f"header of {what}")


def require_within(op: Any, name: str, low: int, high: int) -> None:
    """The integer attribute `name` lies in [low, high]."""
    value = op.attributes[name].value
    require(low <= value <= high, f"expects {name} within [{low}, {high}], got {value}")


class NormalizeGradient(Tiny.Operation, name="normalize_gradient", traits=[ext.Pure]):
    """A gradient behind a clamp mask, rescaled, on `bits` bits: `g * multipliers[c] * 2^scale`.

    `s = max(15 + width - bits - overshoot, 1)`;
    `gx = saturate((g * multipliers[c] + 2^(s-1)) >> s)` to `bits`, zero where `mask` is false;
    exponent `exponent + scale + s`. One multiplier a channel or one for all of them, in [0, 2^15).
    A `g` of one pixel is spread over the plane (the gradient of a pool).
    """

    g: Operand[Any]
    g_header: Operand[Any]
    gx: Result[Any]
    gx_header: Result[Any]
    multipliers: DenseElements
    scale: ir.IntegerAttr
    bits: ir.IntegerAttr
    mask: Operand[Any] | None = None
    overshoot: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(0))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, NormalizeGradient)
        require_mantissas(self.g, self.g_header, "g")
        require_mantissas(self.gx, self.gx_header, "gx")
        shape = shape_of(self.gx)
        if shape_of(self.g) != shape:
            require_rank(self.gx, 4, "gx")
            require_shape(self.g, (1, 1, 1, shape[3]), "g that is spread")
        count = shape_of(self.multipliers.type)
        channels = 1 if count == (1,) else shape[-1]
        require_vector(self.multipliers, channels, "i16", "multipliers")
        require(bool((to_array(self.multipliers) >= 0).all()), "expects multipliers of at least 0")
        require_within(op, "bits", 2, 8 if element_name(self.gx) == "i8" else 16)
        require_within(op, "overshoot", 0, 8)
        if self.mask is not None:
            require_element(self.mask, ("i1",), "mask")
            require_shape(self.mask, shape, "mask")


class IntegerAddGradients(Tiny.Operation, name="integer_add_gradients", traits=[ext.Pure]):
    """`gx = a + b`: each operand is shifted to the exponent `t` of the sum, rounded half up.

    `t = max(exponent + width) - 15` over the operands that are not all zero (that of `a` if both
    are), so that 16 bits hold the sum; it saturates.
    """

    a: Operand[Any]
    a_header: Operand[Any]
    b: Operand[Any]
    b_header: Operand[Any]
    gx: Result[Any]
    gx_header: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerAddGradients)
        require_mantissas(self.a, self.a_header, "a")
        require_mantissas(self.b, self.b_header, "b")
        require_mantissas(self.gx, self.gx_header, "gx", ("i16",))
        require_shape(self.a, shape_of(self.gx), "a")
        require_shape(self.b, shape_of(self.gx), "b")


class IntegerConv2DInputGrad(Tiny.Operation, name="integer_conv2d_input_grad", traits=[ext.Pure]):
    """`gx = saturate(round(conv_transpose(w, g) * 2^-shift))` in i16; exponent `exponent + shift`.

    `g` holds the channel scales already. Weights are those of the forward pass; with `trained` and
    `trained_channels` the trained ones replace those of `w`.
    """

    g: Operand[Any]
    g_header: Operand[Any]
    w: Operand[Any]
    gx: Result[Any]
    gx_header: Result[Any]
    shift: ir.IntegerAttr
    trained: Operand[Any] | None = None
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerConv2DInputGrad)
        require_mantissas(self.g, self.g_header, "g")
        require_mantissas(self.gx, self.gx_header, "gx", ("i16",))
        require_rank(self.g, 4, "g")
        require_rank(self.gx, 4, "gx")
        require_rank(self.w, 4, "weights")
        require_element(self.w, INTEGER_WEIGHTS, "weights")
        require_within(op, "shift", 0, 31)
        geo = geometry(op)
        require_conv_shapes(geo, self.gx, self.w, shape_of(self.g))
        require_channels(op, geo.groups, self.w, self.trained)
        if self.trained is not None:
            require_element(self.trained, INTEGER_WEIGHTS, "trained weights")
