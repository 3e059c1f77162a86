"""Ops between layers: a change of quantization, a border, another shape of the same elements."""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from math import prod
from typing import Any

from tiny_dialect.attributes import DenseArray, integers, to_list
from tiny_dialect.bindings import ext
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops.forward import (
    FULL_RANGE,
    require_clamp,
    require_factors,
    require_mask,
)
from tiny_dialect.types import quantization, shape_of
from tiny_dialect.verify import (
    require,
    require_activation,
    require_element,
    require_rank,
    require_shape,
    typed,
    verifier,
)

Operand = ext.Operand
Result = ext.Result


class Requantize(Tiny.Operation, name="requantize", traits=[ext.Pure]):
    """`y = clamp(round((x - z_x) s_x / s_y) + z_y)`: another scale, or a clamp of its own.

    A Q31 multiplier and one rounding. Gradient: `scale_gradient` by `s_x / s_y` behind the mask.
    """

    x: Operand[Any]
    y: Result[Any]
    mask: Result[Any] | None = None
    clamp: DenseArray = ext.attribute(default_factory=lambda: integers(FULL_RANGE))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Requantize)
        require_activation(self.x, "x")
        require_activation(self.y, "y")
        require_shape(self.y, shape_of(self.x), "y")
        require_factors(quantization(self.x)[0] / quantization(self.y)[0])
        require_clamp(op)
        require_mask(self.mask, self.y)


class Pad(Tiny.Operation, name="pad", traits=[ext.Pure]):
    """Real zeros (`z_x`) around an image: `pads` are top, left, bottom, right.

    Gradient: `average_pool2d_grad` of a window of one pixel with these pads: the inner part.
    """

    x: Operand[Any]
    y: Result[Any]
    pads: DenseArray

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Pad)
        require_activation(self.x, "x")
        require_activation(self.y, "y")
        pads = to_list(self.pads)
        require(len(pads) == 4 and min(pads) >= 0, f"expects four pads of at least 0, got {pads}")
        _, height, width, channels = shape_of(self.x)
        top, left, bottom, right = pads
        require_shape(self.y, (1, height + top + bottom, width + left + right, channels), "y")
        require(quantization(self.x) == quantization(self.y), "expects equal quantization")


class Reshape(Tiny.Operation, name="reshape", traits=[ext.Pure]):
    """The same elements in the same order under another shape; gradients and mantissas too.

    Gradient: `reshape` back.
    """

    x: Operand[Any]
    y: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Reshape)
        for value, what in ((self.x, "x"), (self.y, "y")):
            require_rank(value, 4, what)
            require_element(value, ("quant", "f32", "i8", "i16"), what)
        require(
            self.x.type.element_type == self.y.type.element_type,
            "expects equal element types of x and y",
        )
        require(
            prod(shape_of(self.x)) == prod(shape_of(self.y)),
            f"expects as many elements, got {self.x.type} and {self.y.type}",
        )
