"""A new op: `tiny.negate`, from its verifier to its machine code.

    tiny-compile examples/scripting/negate.mlir --load examples/scripting/negate.py --scheme full \
        --board stm32f746 -o build/negate

`y = -x`: the scale stays, the zero point changes its sign. Each layer of the compiler is told once:
the dialect what the op is, the interpreter what it means, `tiny-differentiate` its derivative, the
host path its linalg form, code generation its loop nest.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import real
from tiny_dialect.bindings import ext
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops import ScaleGradient
from tiny_dialect.semantics import register_meaning
from tiny_dialect.types import quantization, shape_of, tensor
from tiny_dialect.verify import require, require_activation, require_shape, typed, verifier
from tiny_passes.gradient_rules import Gradients, Wanted, register_gradient_rule
from tiny_passes.linalg.scalars import Scalar as HostScalar
from tiny_passes.linalg.tensors import elementwise
from tiny_passes.lower_to_linalg import register_lowering
from tiny_targets.kernels import register_kernel
from tiny_targets.kernels.elementwise import flat
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.scalar import clamp

LOW, HIGH = -127, 127
"""-128 has no negative in int8."""


class Negate(Tiny.Operation, name="negate", traits=[ext.Pure]):
    """`y = -x`, with the scale of x and its zero point negated; -128 becomes 127."""

    x: ext.Operand[Any]
    y: ext.Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        """The types agree."""
        self = typed(op, Negate)
        require_activation(self.x, "x")
        require_activation(self.y, "y")
        require_shape(self.y, shape_of(self.x), "y")
        (scale, zero), (scale_y, zero_y) = quantization(self.x), quantization(self.y)
        require(
            scale_y == scale and zero_y == -zero, f"expects y of scale {scale} and zero {-zero}"
        )


def meaning(op: Any, x: np.ndarray) -> list[np.ndarray]:
    """On NumPy: the reference that host and device are held against."""
    return [np.clip(-x.astype(np.int16), LOW, HIGH).astype(np.int8)]


@register_gradient_rule(Negate)
def gradient(op: Any, g: Any, wanted: Wanted) -> Gradients:
    """`dL/dx = -dL/dy`; the one value that saturates is passed straight through."""
    if not wanted[0]:
        return [None]
    return [ScaleGradient(g, tensor(shape_of(op.x), "f32"), real(-1.0)).gx]


def lowering(op: Any, x: Any) -> list[Any]:
    """On the host: one linalg.generic."""

    def body(value: HostScalar) -> HostScalar:
        return (value.to("i32") * -1).at_least(LOW).at_most(HIGH).to("i8")

    return [elementwise([x], ["i8"], body)]


@register_kernel(Negate)
def kernel(nest: Nest, op: Any, target: Any) -> None:
    """On the device: one loop."""
    x, y = nest.read(op.x, flat(op.x)), nest.write(op.y, flat(op.y))
    for i in nest.loop(flat(op.x)[0]):
        y[i] = clamp(x[i] * -1, LOW, HIGH)


register_meaning("tiny.negate", meaning)
register_lowering("tiny.negate", lowering)
