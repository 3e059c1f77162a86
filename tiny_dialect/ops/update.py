"""Update ops: `parameter <- parameter - rate * factors * gradient`, in place.

An update has no result: it writes the storage of its first operand, which must come from a
`tiny.parameter` marked `trained`, and every other use of that parameter must come before it.
Rounding by storage: i16 master in units of 1/256, half to even, saturating; i32 bias half to even,
saturating at +-2^30; f32 unrounded. A step is limited to +-2^22 storage units; NaN counts as +2^22.
A weight stored as i8 has two rules besides: `stochastic_update`, and `rounding = "truncate"`.
"""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from typing import Any

from tiny_dialect.attributes import DenseArray, DenseElements, integer, integers
from tiny_dialect.bindings import ext, ir
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops.backward import require_weight_gradient
from tiny_dialect.ops.forward import Parameter
from tiny_dialect.types import shape_of
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
TRAINABLE_ELEMENTS = ("i8", "i16", "i32", "f32")


NEAREST, TRUNCATE = ROUNDINGS = ("nearest", "truncate")


def require_trained(parameter: Any) -> None:
    """`parameter` is the result of a trained `tiny.parameter`."""
    owner = parameter.owner
    is_parameter = isinstance(owner, ir.Operation | ir.OpView) and isinstance(
        owner.opview, Parameter
    )
    require(is_parameter, "expects its first operand to be a tiny.parameter")
    require("trained" in owner.attributes, "updates a parameter that is not marked trained")


def require_target(op: Any, parameter: Any, rate: Any) -> None:
    """`parameter` is a trained parameter, `rate` a scalar, `factors` one float32 a channel."""
    require_trained(parameter)
    require_element(parameter, TRAINABLE_ELEMENTS, "parameter")
    require_element(rate, ("f32",), "rate")
    require_shape(rate, (), "rate")
    require_vector(op.attributes["factors"], shape_of(parameter)[0], "f32", "factors")


def require_counter(counter: Any) -> None:
    """`counter` is one i32."""
    require_element(counter, ("i32",), "counter")
    require_shape(counter, (1,), "counter")


def require_stochastic(op: Any, self: Any) -> None:
    """An i8 target, a counter, and a stream of 32 bits."""
    require_target(op, self.parameter, self.rate)
    require_element(self.parameter, ("i8",), "parameter")
    require_counter(self.counter)
    stream = self.stream.value
    require(0 <= stream < 2**32, f"expects a stream within [0, 2^32), got {stream}")


class ApplyUpdate(Tiny.Operation, name="apply_update"):
    """Subtract `rate * factors[c] * gradient` (c along axis 0) from a trained parameter.

    `rounding = "truncate"` makes it the rule of a C program that subtracts a float from an int8:
    the difference is truncated towards zero and wraps. It is there to be compared with.
    """

    parameter: Operand[Any]
    gradient: Operand[Any]
    rate: Operand[Any]
    factors: DenseElements

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, ApplyUpdate)
        require_target(op, self.parameter, self.rate)
        require_element(self.gradient, ("f32",), "gradient")
        require_shape(self.gradient, shape_of(self.parameter), "gradient")
        if "rounding" in op.attributes:
            rule = op.attributes["rounding"].value
            require(rule in ROUNDINGS, f"expects rounding of {' or '.join(ROUNDINGS)}, got {rule}")
            if rule == TRUNCATE:
                require_element(self.parameter, ("i8",), "parameter to truncate")


class StochasticUpdate(Tiny.Operation, name="stochastic_update"):
    """`apply_update` of an i8 weight whose step is rounded up with a probability of its fraction.

    The random word of an element is a function of `stream`, the counter and the element's index
    (`tiny_dialect.rounding`).
    """

    parameter: Operand[Any]
    gradient: Operand[Any]
    rate: Operand[Any]
    counter: Operand[Any]
    factors: DenseElements
    stream: ir.IntegerAttr

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, StochasticUpdate)
        require_stochastic(op, self)
        require_element(self.gradient, ("f32",), "gradient")
        require_shape(self.gradient, shape_of(self.parameter), "gradient")


class AdvanceCounter(Tiny.Operation, name="advance_counter"):
    """Add one to a trained `tensor<1xi32>`, modulo 2^32: the number of the step."""

    counter: Operand[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, AdvanceCounter)
        require_trained(self.counter)
        require_counter(self.counter)


class Conv2DWeightUpdate(Tiny.Operation, name="conv2d_weight_update"):
    """`apply_update` of a `conv2d_weight_grad`, element by element: the gradient is never stored.

    `factors` holds the product of the gradient's `scales` and the update's `factors`.
    """

    parameter: Operand[Any]
    x: Operand[Any]
    g: Operand[Any]
    rate: Operand[Any]
    factors: DenseElements
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Conv2DWeightUpdate)
        require_target(op, self.parameter, self.rate)
        require_rank(self.parameter, 4, "parameter")
        require_weight_gradient(op, self.x, self.g, shape_of(self.parameter))


class Clear(Tiny.Operation, name="clear"):
    """Set a trained parameter to zero."""

    parameter: Operand[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Clear)
        require_trained(self.parameter)
        require_element(self.parameter, TRAINABLE_ELEMENTS, "parameter")


class StochasticConv2DWeightUpdate(Tiny.Operation, name="stochastic_conv2d_weight_update"):
    """`stochastic_update` of a `conv2d_weight_grad`, element by element."""

    parameter: Operand[Any]
    x: Operand[Any]
    g: Operand[Any]
    rate: Operand[Any]
    counter: Operand[Any]
    factors: DenseElements
    stream: ir.IntegerAttr
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, StochasticConv2DWeightUpdate)
        require_stochastic(op, self)
        require_rank(self.parameter, 4, "parameter")
        require_weight_gradient(op, self.x, self.g, shape_of(self.parameter))


class BiasUpdate(Tiny.Operation, name="bias_update"):
    """`apply_update` of a `bias_grad`."""

    parameter: Operand[Any]
    g: Operand[Any]
    rate: Operand[Any]
    factors: DenseElements

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, BiasUpdate)
        require_target(op, self.parameter, self.rate)
        require_element(self.g, ("f32",), "g")
        require_shape(self.parameter, shape_of(self.g)[-1:], "parameter")


class LinearWeightUpdate(Tiny.Operation, name="linear_weight_update"):
    """`apply_update` of a `linear_weight_grad`."""

    parameter: Operand[Any]
    x: Operand[Any]
    g: Operand[Any]
    rate: Operand[Any]
    factors: DenseElements

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, LinearWeightUpdate)
        require_target(op, self.parameter, self.rate)
        require_element(self.x, ("f32",), "x")
        require_element(self.g, ("f32",), "g")
        features = 1
        for size in shape_of(self.x):
            features *= size
        require_shape(self.parameter, (shape_of(self.g)[-1], features), "parameter")
