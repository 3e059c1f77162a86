"""Integer updates: `parameter <- parameter - step` in place, without floating point.

`step = (sum * K[c] + 2^31) >> 32` with `K[c] = round(factors[c] * rate * 2^(exponent + 32))` from
the bits of the two float32s (`block_float.step_multipliers`). `factors[c]` counts in units of the
storage: 256 a weight of an i16 master. Storage saturates: a master to i16, i32 to +-2^30; a step of
zero leaves any value alone.
"""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from typing import Any

from tiny_dialect.attributes import DenseArray, DenseElements, integer, integers
from tiny_dialect.bindings import ext, ir
from tiny_dialect.dialect import Tiny
from tiny_dialect.ops.backward import require_weight_gradient
from tiny_dialect.ops.integer_backward import MANTISSAS, require_mantissas, require_within
from tiny_dialect.ops.update import require_target
from tiny_dialect.types import shape_of
from tiny_dialect.verify import (
    require_activation,
    require_element,
    require_rank,
    require_shape,
    typed,
    verifier,
)

Operand = ext.Operand


class IntegerConv2DWeightUpdate(Tiny.Operation, name="integer_conv2d_weight_update"):
    """The update of an i16 master by `corr(x - z_x, g)`, summed in 32 bits.

    `x` may hold only gathered channels, as for `conv2d_weight_update`.
    """

    parameter: Operand[Any]
    x: Operand[Any]
    g: Operand[Any]
    g_header: Operand[Any]
    rate: Operand[Any]
    factors: DenseElements
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))
    groups: ir.IntegerAttr = ext.attribute(default_factory=lambda: integer(1))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerConv2DWeightUpdate)
        require_target(op, self.parameter, self.rate)
        require_rank(self.parameter, 4, "parameter")
        require_element(self.parameter, ("i16",), "parameter")
        require_mantissas(self.g, self.g_header, "g")
        require_weight_gradient(op, self.x, self.g, shape_of(self.parameter), MANTISSAS)


class IntegerBiasUpdate(Tiny.Operation, name="integer_bias_update"):
    """The update of an i32 bias by the channel sums of `g`, summed in 32 bits.

    `step = ((sum << align) * K[c] + 2^31) >> 32` with `K[c]` smaller by `2^align`: a sum that uses
    all 32 bits leaves `K` room for the large steps of a bias.
    """

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
        require_element(self.parameter, ("i32",), "parameter")
        require_mantissas(self.g, self.g_header, "g")
        require_shape(self.parameter, shape_of(self.g)[-1:], "parameter")
        require_within(op, "align", 0, 31)


class IntegerLinearWeightUpdate(Tiny.Operation, name="integer_linear_weight_update"):
    """The update of an i32 head by `g[k] (x[c] - z_x)`, aligned by 8 bits (see the bias update)."""

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
        require_element(self.parameter, ("i32",), "parameter")
        require_activation(self.x, "x")
        require_mantissas(self.g, self.g_header, "g")
        features = 1
        for size in shape_of(self.x):
            features *= size
        require_shape(self.parameter, (shape_of(self.g)[-1], features), "parameter")
