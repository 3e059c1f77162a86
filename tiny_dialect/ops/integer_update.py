"""Integer updates: `parameter <- parameter - step` in place, from a sum of mantissas.

`step = ((sum << align) * K[c] + 2^31) >> 32` with `K[c] = round(factors[c] * rate *
2^(exponent + 32 - align))` from the bits of the two float32s (`block_float.step_multipliers`): no
floating point. With `align` a sum that uses all 32 bits leaves `K` room for large steps.
`factors[c]` and the step count in units of the storage:

    i16   1/256 of a weight, saturating
    i8    2^-16 of a weight; these bits are rounded away, to nearest or randomly; saturating
    i32   one, limited to +-2^30; a step of zero leaves any value alone
    f32   one; `parameter - float(sum) * k[c]`, three float32 operations in a fixed order, where
          `k[c] = factors[c] * rate * 2^exponent` (`block_float.real_multipliers`); a sum of zero
          leaves any value alone. The bits are the same everywhere all the same: the sum is exact.
"""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from typing import Any

from tiny_dialect.attributes import DenseArray, DenseElements, integer, integers
from tiny_dialect.bindings import ext, ir
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops.backward import require_weight_gradient
from tiny_dialect.ops.integer_backward import MANTISSAS, require_mantissas, require_within
from tiny_dialect.ops.update import require_stochastic, require_target
from tiny_dialect.types import element_name, shape_of
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

WEIGHTS = ("i8", "i16", "f32")
BIASES = ("i32", "f32")


def _require_align(op: Any, parameter: Any) -> None:
    """`align` is within a word, and 0 for a parameter that takes the sum itself."""
    require_within(op, "align", 0, 31)
    shifted = op.attributes["align"].value != 0
    require(
        not (shifted and element_name(parameter) == "f32"),
        "expects align of 0 for an f32 parameter",
    )


class IntegerConv2DWeightUpdate(Tiny.Operation, name="integer_conv2d_weight_update"):
    """The update of a weight by `corr(x - z_x, g)`, summed in 32 bits; an i8 one to nearest.

    `x` may hold only gathered channels, as for `conv2d_weight_update`.
    """

    parameter: Operand[Any]
    x: Operand[Any]
    g: Operand[Any]
    g_header: Operand[Any]
    rate: Operand[Any]
    factors: DenseElements
    align: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(0))
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerConv2DWeightUpdate)
        require_target(op, self.parameter, self.rate)
        require_rank(self.parameter, 4, "parameter")
        require_element(self.parameter, WEIGHTS, "parameter")
        _require_align(op, self.parameter)
        require_mantissas(self.g, self.g_header, "g")
        require_weight_gradient(op, self.x, self.g, shape_of(self.parameter), MANTISSAS)


class IntegerStochasticConv2DWeightUpdate(
    Tiny.Operation, name="integer_stochastic_conv2d_weight_update"
):
    """The update of an i8 weight whose step is rounded up with a probability of its fraction.

    `w - ((step + (word >> 16)) >> 16)` with the step in units of 2^-16 and the random word of the
    element, as for `stochastic_conv2d_weight_update` (`tiny_dialect.rounding`).
    """

    parameter: Operand[Any]
    x: Operand[Any]
    g: Operand[Any]
    g_header: Operand[Any]
    rate: Operand[Any]
    counter: Operand[Any]
    factors: DenseElements
    align: ir.IntegerAttr
    stream: ir.IntegerAttr
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerStochasticConv2DWeightUpdate)
        require_stochastic(op, self)
        require_rank(self.parameter, 4, "parameter")
        _require_align(op, self.parameter)
        require_mantissas(self.g, self.g_header, "g")
        require_weight_gradient(op, self.x, self.g, shape_of(self.parameter), MANTISSAS)


class IntegerBiasUpdate(Tiny.Operation, name="integer_bias_update"):
    """The update of a bias by the channel sums of `g`, summed in 32 bits."""

    parameter: Operand[Any]
    g: Operand[Any]
    g_header: Operand[Any]
    rate: Operand[Any]
    factors: DenseElements
    align: ir.IntegerAttr

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerBiasUpdate)
        require_target(op, self.parameter, self.rate)
        require_element(self.parameter, BIASES, "parameter")
        require_mantissas(self.g, self.g_header, "g")
        require_shape(self.parameter, shape_of(self.g)[-1:], "parameter")
        _require_align(op, self.parameter)


class IntegerLinearWeightUpdate(Tiny.Operation, name="integer_linear_weight_update"):
    """The update of a head by `g[k] (x[c] - z_x)`; into i32 with an align of 8 bits."""

    parameter: Operand[Any]
    x: Operand[Any]
    g: Operand[Any]
    g_header: Operand[Any]
    rate: Operand[Any]
    factors: DenseElements

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerLinearWeightUpdate)
        require_target(op, self.parameter, self.rate)
        require_element(self.parameter, BIASES, "parameter")
        require_activation(self.x, "x")
        require_mantissas(self.g, self.g_header, "g")
        features = 1
        for size in shape_of(self.x):
            features *= size
        require_shape(self.parameter, (shape_of(self.g)[-1], features), "parameter")
