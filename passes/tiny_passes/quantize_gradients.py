"""Replace the float32 backward pass, and the float head, by integer arithmetic.

Before:  %logits = "tiny.linear"(%x, %w, %b)                              float32 head
         %g = "tiny.softmax_cross_entropy_grad"(%logits, %label)
         ...
         %m = "tiny.scale_gradient"(%g, %mask) {factor = 1.0}             tensor<1x8x8x4xf32>
         "tiny.conv2d_weight_update"(%w, %x, %m, %rate) {factors = s * f}
         %gx = "tiny.conv2d_input_grad"(%m, %w) {scales = s}
After:   %fixed = "tiny.integer_linear"(%q, %w, %b)                       i32 weights and logits
         %logits = "tiny.fixed_to_float"(%fixed)
         %g, %gh = "tiny.integer_softmax_cross_entropy_grad"(%fixed, %label)
         ...
         %m, %mh = "tiny.normalize_gradient"(%g, %gh, %mask) {multipliers ~ s, bits = 16}
         "tiny.integer_conv2d_weight_update"(%w, %x, %m, %mh, %rate) {factors = 256 f}
         %gx, %h = "tiny.integer_conv2d_input_grad"(%m, %mh, %w) {shift}

A gradient becomes mantissas and a header (docs/design/integer-gradients.md). Factors that are known
here (rescalings, `1/(H W)` of a pool, the scale of the features) are folded into the multipliers of
the next `normalize_gradient` and into the factors of the updates. The bits of a masked gradient are
chosen so that no sum overflows (mantissa_bounds.py). Trained weights are i16 masters or i8;
sums of gradients (tiny-accumulate-gradients) stay f32 and take the integer sums of each sample.

Runs behind tiny-fuse-updates. Cost: one walk. The int8 forward results are unchanged.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer, to_array, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.block_float import BYTE_FRACTION, MANTISSA_BITS, ceil_log2
from tiny_dialect.errors import InvalidOption
from tiny_dialect.ops.integer_head import LARGEST_SCALE
from tiny_dialect.semantics.update import MASTER_UNIT
from tiny_dialect.types import element_name, quantization, shape_of, tensor
from tiny_passes.fixed_heads import quantize_heads
from tiny_passes.graph import body, copy_layer, producer, users
from tiny_passes.mantissa_bounds import (
    bias_update_bits,
    gradient_pixels,
    input_gradient_bits,
    largest_column,
    result_shift,
    weight_update_align,
    weight_update_bits,
)
from tiny_passes.mantissas import (
    Doubles,
    Gradient,
    ScaledGradient,
    integer_multipliers,
    mantissa_types,
    normalize,
)
from tiny_passes.pool_mantissas import (
    WINDOW_GRADIENTS,
    reshaped_gradient,
    stays_spread,
    window_gradient,
)
from tiny_passes.prune_backward import remove_unused
from tiny_passes.registry import PassError, register_pass

FEWEST_BITS = 4
"""Fewer mantissa bits than these are an error: such a gradient would be noise."""
_GEOMETRY = ("strides", "pads", "groups")
STEP_UNITS = {"i16": MASTER_UNIT, "i8": 2**BYTE_FRACTION, "f32": 1}
"""Of the step of a trained weight, by its storage: what one quantum is."""


@register_pass("tiny-quantize-gradients", anchor="func.func", only="train_step")
def quantize_gradients(step: Any, *, bits: int = 16) -> None:
    """Turn the backward pass of @train_step into integer arithmetic on mantissas of `bits` bits.

    A head that `@apply_updates` moves becomes fixed point there too. Raises `InvalidOption` unless
    `bits` is 8 or 16, `PassError` at an op that has no integer form and at a layer whose sums
    cannot fit 32 bits.
    """
    if bits not in (8, 16):
        raise InvalidOption(f"tiny-quantize-gradients: bits {bits}: choose 8 or 16")
    walk = _Quantizer(quantize_heads(step), bits)
    replaced = [op for op in body(step) if walk.visit(op)]
    for op in reversed(replaced):
        op.operation.erase()
    remove_unused(step)


class _Quantizer:
    """Builds the integer form of each op in program order and remembers what stands for what."""

    def __init__(self, fractions: dict[str, int], bits: int) -> None:
        self.fractions = fractions
        self.bits = bits
        self.gradients: dict[Any, Gradient] = {}
        self.scaled: dict[Any, ScaledGradient] = {}
        self.fixed: dict[Any, Any] = {}
        self.of_head: set[Any] = set()
        self.visitors: dict[str, Callable[[Any], None]] = {
            "tiny.linear": self._linear,
            "tiny.softmax_cross_entropy": self._loss,
            "tiny.softmax_cross_entropy_grad": self._loss_gradient,
            "tiny.linear_input_grad": self._linear_input_grad,
            "tiny.scale_gradient": self._scale_gradient,
            "tiny.add_gradients": self._add_gradients,
            "tiny.global_average_pool_grad": self._pool_gradient,
            **dict.fromkeys(WINDOW_GRADIENTS, self._window_gradient),
            "tiny.reshape": self._reshape_gradient,
            "tiny.conv2d_input_grad": self._input_gradient,
            "tiny.conv2d_weight_update": self._weight_update,
            "tiny.stochastic_conv2d_weight_update": self._weight_update,
            "tiny.bias_update": self._bias_update,
            "tiny.linear_weight_update": self._linear_weight_update,
        }

    def visit(self, op: Any) -> bool:
        """Build the integer form of `op`; False where it stays as it is."""
        visitor = self.visitors.get(op.operation.name)
        if op.operation.name == "tiny.reshape" and op.x not in self.gradients:
            return False
        if visitor is None:
            if any(operand in self.gradients for operand in op.operands):
                raise PassError(
                    op, f"'{op.operation.name}' has no integer form; use --gradients float32"
                )
            return False
        with ir.InsertionPoint(op), op.location:
            visitor(op)
        return True

    def _linear(self, op: Any) -> None:
        x = _quantized_input(op, op.x)
        fraction = integer(self._fraction(op.w))
        head = ops.IntegerLinear(x, op.w, op.bias, tensor(shape_of(op.y), "i32"), fraction)
        logits = ops.FixedToFloat(head.y, op.y.type)
        copy_layer(op, head)
        copy_layer(op, logits)
        self.fixed[op.y] = head.y
        # The integer loss reads the fixed logits; every other use, the result, the float ones.
        readers = ("tiny.softmax_cross_entropy", "tiny.softmax_cross_entropy_grad")
        for use in list(op.y.uses):
            if use.owner.operation.name not in readers:
                use.owner.operation.operands[use.operand_number] = logits.y

    def _logits(self, op: Any) -> Any:
        """The fixed-point form of the logits that `op` reads."""
        logits = op.logits
        if logits not in self.fixed:
            source = producer(logits)
            if source is None or source.operation.name != "tiny.dequantize":
                raise PassError(op, "expects logits of a tiny.linear or a tiny.dequantize")
            _require_scale(op, source.x)
            fixed = ops.DequantizeFixed(source.x, tensor(shape_of(logits), "i32"))
            copy_layer(source, fixed)
            self.fixed[logits] = fixed.y
        return self.fixed[logits]

    def _loss(self, op: Any) -> None:
        loss = ops.IntegerSoftmaxCrossEntropy(self._logits(op), op.label, tensor((), "i32"))
        result = ops.FixedToFloat(loss.loss, op.loss.type)
        copy_layer(op, loss)
        copy_layer(op, result)
        op.loss.replace_all_uses_with(result.y)

    def _loss_gradient(self, op: Any) -> None:
        kinds = mantissa_types(shape_of(op.gx))
        built = ops.IntegerSoftmaxCrossEntropyGrad(self._logits(op), op.label, *kinds)
        self._define(op, built)
        source = producer(op.logits)
        if source is not None and source.operation.name == "tiny.linear":
            self.of_head.add(op.gx)

    def _linear_input_grad(self, op: Any) -> None:
        g, kinds = self._gradient(op, op.g), mantissa_types(shape_of(op.gx))
        self._refuse_hidden(op, g)
        fraction = integer(self._fraction(op.w))
        built = ops.IntegerLinearInputGrad(g.mantissas, g.header, op.w, *kinds, fraction)
        self._define(op, built, g.factor)

    def _scale_gradient(self, op: Any) -> None:
        if not 0.0 < op.factor.value < math.inf:
            raise PassError(
                op,
                f"multiplies a gradient by {op.factor.value:g}; integer gradients take positive "
                "factors; use --gradients float32",
            )
        g = self._gradient(op, op.g)
        if op.mask is not None and g.mask is not None:
            g = self._plain(op, g)
        mask = g.mask if op.mask is None else op.mask
        self.gradients[op.gx] = replace(g, factor=g.factor * op.factor.value, mask=mask, origin=op)

    def _pool_gradient(self, op: Any) -> None:
        g = self._gradient(op, op.g)
        if g.mask is not None or g.spread is not None:
            g = self._plain(op, g)
        _, height, width, _ = shape_of(op.gx)
        factor = g.factor / (height * width)
        self.gradients[op.gx] = replace(g, factor=factor, spread=op.gx.type, origin=op)

    def _window_gradient(self, op: Any) -> None:
        g = self._gradient(op, op.g)
        if (g.mask is not None or g.spread is not None) and not stays_spread(op, g):
            g = self._plain(op, g)
        self.gradients[op.gx] = window_gradient(op, g)

    def _reshape_gradient(self, op: Any) -> None:
        g = self._gradient(op, op.x)
        if g.mask is not None or g.spread is not None:
            g = self._plain(op, g)
        self.gradients[op.y] = reshaped_gradient(op, g)

    def _add_gradients(self, op: Any) -> None:
        a, b = (self._plain(op, self._gradient(op, value)) for value in (op.a, op.b))
        kinds = mantissa_types(shape_of(op.gx))
        built = ops.IntegerAddGradients(a.mantissas, a.header, b.mantissas, b.header, *kinds)
        self._define(op, built)

    def _input_gradient(self, op: Any) -> None:
        for weight in (op.w, op.trained):
            if weight is not None and element_name(weight) == "f32":
                raise PassError(
                    op, "reads float32 masters; integer gradients need int16 or int8 weights"
                )
        g = self._scaled(op, op.g)
        column = largest_column(op)
        built = ops.IntegerConv2DInputGrad(
            g.mantissas,
            g.header,
            op.w,
            *mantissa_types(shape_of(op.gx)),
            integer(result_shift(column, g.bits)),
            trained=op.trained,
            **_attributes(op, _GEOMETRY),
        )
        if op.trained is not None:
            built.attributes["trained_channels"] = op.attributes["trained_channels"]
        scales = to_array(op.scales).astype(np.float64)
        if not np.allclose(scales, g.scales, rtol=1e-3, atol=float(scales.max()) * 2.0**-14):
            raise PassError(op, "shares its gradient with an op of other scales")
        self._define(op, built)

    def _weight_update(self, op: Any) -> None:
        element = element_name(op.parameter)
        if element not in STEP_UNITS:
            raise PassError(op, f"updates {element} weights, for which there is no integer form")
        g = self._scaled(op, op.g)
        scales, kept = g.scales, {}
        if "output_channels" in op.attributes:
            kept = _attributes(op, ["output_channels"])
            scales = scales[to_list(kept["output_channels"])]
        operands = [op.parameter, op.x, g.mantissas, g.header, op.rate]
        factors, shape = _factors(op, scales, STEP_UNITS[element]), _attributes(op, _GEOMETRY)
        align = integer(weight_update_align(op, g.bits))
        if "stream" in op.attributes:
            operands.append(op.counter)
            built = ops.IntegerStochasticConv2DWeightUpdate(
                *operands, factors, align, op.stream, **shape
            )
        else:
            align = align if element == "i8" else integer(0)
            built = ops.IntegerConv2DWeightUpdate(*operands, factors, align=align, **shape)
        for name, attribute in kept.items():
            built.attributes[name] = attribute
        copy_layer(op, built)

    def _bias_update(self, op: Any) -> None:
        fraction = self.fractions.get(_symbol(op.parameter), 0)
        g = self._head_gradient(op) if op.g in self.of_head else self._scaled(op, op.g)
        align = max(31 - (g.bits - 1) - ceil_log2(gradient_pixels(op.g)), 0)
        align = 0 if element_name(op.parameter) == "f32" else align
        factors = _factors(op, g.scales, 2.0**fraction)
        copy_layer(
            op,
            ops.IntegerBiasUpdate(
                op.parameter, g.mantissas, g.header, op.rate, factors, integer(align)
            ),
        )

    def _linear_weight_update(self, op: Any) -> None:
        x, g = _quantized_input(op, op.x), self._gradient(op, op.g)
        self._refuse_hidden(op, g)
        fraction = self.fractions.get(_symbol(op.parameter), 0)
        unit = 2.0**fraction * g.factor * quantization(x)[0]
        factors = _factors(op, np.ones(shape_of(op.parameter)[0]), unit)
        copy_layer(
            op,
            ops.IntegerLinearWeightUpdate(op.parameter, x, g.mantissas, g.header, op.rate, factors),
        )

    def _fraction(self, w: Any) -> int:
        return self.fractions[_symbol(w)]

    def _gradient(self, op: Any, value: Any) -> Gradient:
        if value not in self.gradients:
            raise PassError(op, "reads a gradient that no integer op produces")
        return self.gradients[value]

    def _head_gradient(self, op: Any) -> ScaledGradient:
        """The gradient of the logits as it is, whatever the bits of the others."""
        g = self._gradient(op, op.g)
        self._refuse_hidden(op, g)
        scales = np.full(g.shape[-1], 1.0 / g.factor)
        return ScaledGradient(g.mantissas, g.header, scales, MANTISSA_BITS)

    def _refuse_hidden(self, op: Any, g: Gradient) -> None:
        if g.mask is not None or g.spread is not None:
            raise PassError(op, "expects the gradient of the logits, without a mask")

    def _define(self, op: Any, built: Any, factor: float = 1.0) -> None:
        """Let the two results of `built` stand for the result of `op`."""
        copy_layer(op, built)
        self.gradients[op.results[0]] = Gradient(built.gx, built.gx_header, factor)

    def _plain(self, op: Any, g: Gradient) -> Gradient:
        """`g` as 16-bit mantissas and header alone, in the layer of `op`."""
        if g.is_plain:
            return g
        multipliers, scale = integer_multipliers(np.array([g.factor]))
        built = normalize(op, g, multipliers, scale, MANTISSA_BITS, "i16")
        return Gradient(built.gx, built.gx_header)

    def _scaled(self, op: Any, value: Any) -> ScaledGradient:
        """The normalized form of a gradient that every convolution op reading it shares."""
        if value not in self.scaled:
            g = self._gradient(op, value)
            self.scaled[value] = self._normalized(op, value, g)
        return self.scaled[value]

    def _normalized(self, op: Any, value: Any, g: Gradient) -> ScaledGradient:
        readers = users(value)
        bits = min(self.bits, *(_bits_of(reader) for reader in readers))
        if bits < FEWEST_BITS:
            raise PassError(
                op,
                f"32-bit sums leave {bits} bits for the gradient, at least {FEWEST_BITS} are "
                "needed; use --gradients float32",
            )
        channels = g.shape[-1]
        wanted = [to_array(r.scales) for r in readers if r.operation.name.endswith("input_grad")]
        scales = wanted[0].astype(np.float64) if wanted else np.ones(1)
        multipliers, scale = integer_multipliers(scales * g.factor)
        built = normalize(op, g, multipliers, scale, bits, f"i{self.bits}")
        reached = np.ldexp(multipliers.astype(np.float64), scale) / g.factor
        return ScaledGradient(built.gx, built.gx_header, np.broadcast_to(reached, channels), bits)


def _bits_of(reader: Any) -> int:
    """The mantissa bits that one reader of a gradient can take."""
    limits: dict[str, Callable[[Any], int]] = {
        "tiny.conv2d_input_grad": input_gradient_bits,
        "tiny.conv2d_weight_update": weight_update_bits,
        "tiny.stochastic_conv2d_weight_update": weight_update_bits,
        "tiny.bias_update": bias_update_bits,
    }
    limit = limits.get(reader.operation.name)
    return MANTISSA_BITS if limit is None else limit(reader)


def _symbol(value: Any) -> str:
    return value.owner.attributes["symbol"].value


def _attributes(op: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: op.attributes[name] for name in names}


def _factors(op: Any, scales: Doubles, unit: float) -> Any:
    """The factors of an update for a gradient that holds `scales`, in storage units, float32."""
    factors = to_array(op.factors).astype(np.float64) * unit
    live = scales > 0
    exact = np.where(live, factors / np.where(live, scales, 1.0), 0.0)
    return dense(np.minimum(exact, np.finfo(np.float32).max).astype(np.float32))


def _quantized_input(op: Any, x: Any) -> Any:
    """The int8 features behind the `dequantize` in front of a head."""
    source = producer(x)
    if source is None or source.operation.name != "tiny.dequantize":
        raise PassError(op, "expects its input to be a tiny.dequantize result")
    _require_scale(op, source.x)
    return source.x


def _require_scale(op: Any, x: Any) -> None:
    scale = quantization(x)[0]
    if scale >= LARGEST_SCALE:
        raise PassError(
            op, f"reads values of scale {scale:g}; the integer head ends at {LARGEST_SCALE:g}"
        )
