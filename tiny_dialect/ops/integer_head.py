"""The head in fixed point: linear layer, loss and their gradients; conversions at the border.

Weights and bias of the head are i32 with `fraction` fraction bits, logits and loss i32 with 16
(`block_float.LOGIT_FRACTION`). Sums are 64-bit.
"""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from typing import Any

import numpy as np

from tiny_dialect.bindings import ext, ir
from tiny_dialect.block_float import LOGIT_FRACTION, MAX_CLASSES
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops.integer_backward import require_mantissas, require_within
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

# A centred int8 times its scale must stay below 2^31 with LOGIT_FRACTION fraction bits.
LARGEST_SCALE = 2.0 ** (31 - 8 - LOGIT_FRACTION)


def _require_label(label: Any) -> None:
    require_element(label, ("i32",), "label")
    require_shape(label, (), "label")


def _require_logits(logits: Any) -> None:
    require_element(logits, ("i32",), "logits")
    classes = int(np.prod(shape_of(logits)))
    require(classes <= MAX_CLASSES, f"expects at most {MAX_CLASSES} classes, got {logits.type}")


def _require_input(x: Any) -> None:
    require_activation(x, "x")
    scale = quantization(x)[0]
    require(scale < LARGEST_SCALE, f"expects a scale of x below {LARGEST_SCALE:g}, got {scale}")


class DequantizeFixed(Tiny.Operation, name="dequantize_fixed", traits=[ext.Pure]):
    """`y = round((x - z_x) * s_x * 2^16)` in i32: quantized logits in fixed point."""

    x: Operand[Any]
    y: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, DequantizeFixed)
        _require_input(self.x)
        require_element(self.y, ("i32",), "y")
        require_shape(self.y, shape_of(self.x), "y")


class FixedToFloat(Tiny.Operation, name="fixed_to_float", traits=[ext.Pure]):
    """`y = x * 2^-16` in float32, rounded once (exact below 2^24)."""

    x: Operand[Any]
    y: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, FixedToFloat)
        require_element(self.x, ("i32",), "x")
        require_element(self.y, ("f32",), "y")
        require_shape(self.y, shape_of(self.x), "y")


class IntegerLinear(Tiny.Operation, name="integer_linear", traits=[ext.Pure]):
    """`y[1, k] = sum_c w[k, c] (x[c] - z_x) s_x + bias[k]` with 16 fraction bits, in i32.

    `t = (sum + 2^(p-1)) >> p` with `p = 7 + ceil(log2 C)`, after which 32 bits hold it; then
    `requantize(t, s_x * 2^(16 + p - fraction)) + round(bias * 2^(16 - fraction))`, within +-2^30.
    """

    x: Operand[Any]
    w: Operand[Any]
    bias: Operand[Any]
    y: Result[Any]
    fraction: ir.IntegerAttr

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerLinear)
        _require_input(self.x)
        for value, what in ((self.w, "weights"), (self.bias, "bias"), (self.y, "y")):
            require_element(value, ("i32",), what)
        require_rank(self.w, 2, "weights")
        classes, features = shape_of(self.w)
        require(
            int(np.prod(shape_of(self.x))) == features,
            f"expects {features} input features, got {self.x.type}",
        )
        require_shape(self.bias, (classes,), "bias")
        require_shape(self.y, (1, classes), "y")
        require_within(op, "fraction", LOGIT_FRACTION, 30)


class IntegerLinearInputGrad(Tiny.Operation, name="integer_linear_input_grad", traits=[ext.Pure]):
    """`gx[c] = sum_k w[k, c] g[k]` in 64 bits, shifted so that its largest value takes 16.

    `s = max(width of the sums - 16, 0)`; `gx = saturate(round(sum * 2^-s))`; exponent
    `exponent - fraction + s`. The scale of x is not in it.
    """

    g: Operand[Any]
    g_header: Operand[Any]
    w: Operand[Any]
    gx: Result[Any]
    gx_header: Result[Any]
    fraction: ir.IntegerAttr

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerLinearInputGrad)
        require_mantissas(self.g, self.g_header, "g")
        require_mantissas(self.gx, self.gx_header, "gx", ("i16",))
        require_element(self.w, ("i32",), "weights")
        require_rank(self.w, 2, "weights")
        classes, features = shape_of(self.w)
        require_shape(self.g, (1, classes), "g")
        require(
            int(np.prod(shape_of(self.gx))) == features,
            f"expects a gradient of {features} features, got {self.gx.type}",
        )
        require_within(op, "fraction", LOGIT_FRACTION, 30)


class IntegerSoftmaxCrossEntropy(
    Tiny.Operation, name="integer_softmax_cross_entropy", traits=[ext.Pure]
):
    """`loss = ln(sum_k exp(logits[k] - max)) - (logits[label] - max)`, i32, 16 fraction bits."""

    logits: Operand[Any]
    label: Operand[Any]
    loss: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerSoftmaxCrossEntropy)
        _require_logits(self.logits)
        _require_label(self.label)
        require_element(self.loss, ("i32",), "loss")
        require_shape(self.loss, (), "loss")


class IntegerSoftmaxCrossEntropyGrad(
    Tiny.Operation, name="integer_softmax_cross_entropy_grad", traits=[ext.Pure]
):
    """`gx[k] = softmax(logits)[k] - [k == label]` with 15 significant bits, however small.

    With `e` the exponentials and `S` their sum, `a[k] = e[k]` and `a[label] = e[label] - S`; with
    `h = bits(S) - 16`, `r = 2^31 / (S >> h)` rounded down and `s = max(width of a, 1)`:
    `gx = saturate((a r + 2^(s-1)) >> s)`; exponent `s - 31 - h`.
    """

    logits: Operand[Any]
    label: Operand[Any]
    gx: Result[Any]
    gx_header: Result[Any]

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerSoftmaxCrossEntropyGrad)
        _require_logits(self.logits)
        _require_label(self.label)
        require_mantissas(self.gx, self.gx_header, "gx", ("i16",))
        require_shape(self.gx, shape_of(self.logits), "gx")
