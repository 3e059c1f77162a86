"""The float-relaxed forward pass, float64: what the backward ops are the exact derivative of.

Rounding is straight-through, `round(v) = v + constant`: `residual` gives those constants, so that
at the base point every activation equals the integer one. A value is clamped where its rounding
would be, half a unit beyond the bounds; its derivative is then 1 exactly where the mask is true.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.ops.pooling import mean_factor, window_of
from tiny_dialect.semantics.convolution import convolve
from tiny_dialect.semantics.interpreter import body_of, evaluate_op
from tiny_dialect.semantics.pooling import valid_counts, windows
from tiny_dialect.types import is_quantized, quantization, shape_of

Array = NDArray[Any]
Parameters = dict[str, Array]


def _clamp(op: Any, value: Array) -> Array:
    low, high = to_list(op.attributes["clamp"])
    return np.clip(value, low - 0.5, high + 0.5)


def _conv2d(op: Any, x: Array, w: Array, bias: Array) -> Array:
    (scale_x, zero_x), (scale_y, zero_y) = quantization(op.x), quantization(op.y)
    factors = scale_x * to_array(op.weight_scales) / scale_y
    return _clamp(op, (convolve(x - zero_x, w, geometry(op)) + bias) * factors + zero_y)


def _add(op: Any, a: Array, b: Array) -> Array:
    (scale_a, zero_a), (scale_b, zero_b) = quantization(op.a), quantization(op.b)
    scale_y, zero_y = quantization(op.y)
    return _clamp(op, ((a - zero_a) * scale_a + (b - zero_b) * scale_b) / scale_y + zero_y)


def _global_average_pool(op: Any, x: Array) -> Array:
    return x.mean(axis=(1, 2), keepdims=True)


def _max_pool2d(op: Any, x: Array) -> Array:
    return windows(x, window_of(op), -np.inf).max(axis=-1)[None]


def _average_pool2d(op: Any, x: Array) -> Array:
    counts = valid_counts(window_of(op), x.shape)
    return (windows(x, window_of(op), 0.0).sum(axis=-1) / counts)[None]


def _mean(op: Any, x: Array) -> Array:
    axes = tuple(to_list(op.attributes["axes"]))
    total = (x - quantization(op.x)[1]).sum(axis=axes, keepdims=True)
    return _clamp(op, total * mean_factor(op) + quantization(op.y)[1])


def _requantize(op: Any, x: Array) -> Array:
    (scale_x, zero_x), (scale_y, zero_y) = quantization(op.x), quantization(op.y)
    return _clamp(op, (x - zero_x) * scale_x / scale_y + zero_y)


def _pad(op: Any, x: Array) -> Array:
    top, left, bottom, right = to_list(op.attributes["pads"])
    widths = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(x, widths, constant_values=quantization(op.x)[1])


def _reshape(op: Any, x: Array) -> Array:
    return x.reshape(shape_of(op.y))


def _dequantize(op: Any, x: Array) -> Array:
    scale, zero = quantization(op.x)
    return (x - zero) * scale


def _linear(op: Any, x: Array, w: Array, bias: Array) -> Array:
    return (w @ x.reshape(-1) + bias).reshape(1, -1)


def _softmax_cross_entropy(op: Any, logits: Array, label: Array) -> Array:
    shifted = logits.reshape(-1) - logits.max()
    return np.log(np.exp(shifted).sum()) - shifted[int(label)]


_MEANING: dict[str, Callable[..., Array]] = {
    "tiny.conv2d": _conv2d,
    "tiny.add": _add,
    "tiny.global_average_pool": _global_average_pool,
    "tiny.max_pool2d": _max_pool2d,
    "tiny.average_pool2d": _average_pool2d,
    "tiny.mean": _mean,
    "tiny.requantize": _requantize,
    "tiny.pad": _pad,
    "tiny.reshape": _reshape,
    "tiny.dequantize": _dequantize,
    "tiny.linear": _linear,
    "tiny.softmax_cross_entropy": _softmax_cross_entropy,
}


def _is_forward(op: Any) -> bool:
    """True for forward ops; a reshape of floats belongs to the gradients."""
    if op.operation.name == "tiny.reshape":
        return is_quantized(op.operands[0])
    return op.operation.name in _MEANING


def relax(op: Any, operands: Sequence[Array]) -> Array:
    """The real value of the first result of a forward op; others are `NotImplementedError`."""
    meaning = _MEANING.get(op.operation.name)
    if meaning is None:
        raise NotImplementedError(f"no relaxed meaning for '{op.operation.name}'")
    return meaning(op, *(np.asarray(operand, np.float64) for operand in operands))


def residual(op: Any, operands: Sequence[Array]) -> Array:
    """What rounding adds to the first result at `operands`; zero for ops on floats."""
    relaxed = relax(op, operands)
    if not is_quantized(op.results[0]):
        return np.zeros_like(relaxed)
    return evaluate_op(op, operands)[0] - relaxed


class Relaxation:
    """The relaxed forward pass of a training step around the integer one.

    `arguments` as for `interpreter.run`, of which the label is used; base parameters are the
    initial values. Ops that have no relaxed meaning (gradients, updates) are passed over.
    """

    def __init__(self, step: Any, arguments: Sequence[Any]) -> None:
        block = body_of(step)
        self.arguments = dict(zip(block.arguments, map(np.asarray, arguments), strict=True))
        self.forward = [op for op in block if _is_forward(op)]
        self.loss_value = list(block)[-1].operands[0]
        self.parameters: Parameters = {}
        self._symbols: dict[str, Any] = {}
        for op in block:
            if op.operation.name == "tiny.parameter":
                self._symbols[op.symbol.value] = op.result
                self.parameters[op.symbol.value] = to_array(op.value)
        self._residuals: list[Array] = []
        values = self._base_values()
        for op in self.forward:
            operands = [values[operand] for operand in op.operands]
            self._residuals.append(residual(op, operands))
            values[op.results[0]] = evaluate_op(op, operands)[0]

    def _base_values(self) -> dict[Any, Array]:
        return self.arguments | {
            value: self.parameters[symbol] for symbol, value in self._symbols.items()
        }

    def loss(self, parameters: Parameters) -> float:
        """The loss with real-valued `parameters` in place of the initial ones, by symbol."""
        values = self._base_values()
        values |= {self._symbols[symbol]: value for symbol, value in parameters.items()}
        for op, constant in zip(self.forward, self._residuals, strict=True):
            operands = [values[operand] for operand in op.operands]
            values[op.results[0]] = relax(op, operands) + constant
        return float(values[self.loss_value])
