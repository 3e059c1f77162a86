"""The float network behind an int8 one: what it stood for before it was quantized, unrounded.

Before:  %y, %mask = "tiny.conv2d"(%x, %w, %bias) {weight_scales, clamp, ...} : (i8, i8, i32) -> i8
After:   FloatOp("conv2d", ..., {"clamp": (0.0, 6.0), ...}) with weights `w * scale` in float32

Every quantized value stands for `(q - zero point) * scale`, weights and biases likewise; nothing is
rounded. Values are clamped where those of the int8 network are, in real units: that is where an
activation function such as ReLU6 is kept, and where int8 saturates. What is trained is what the
training step trains.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.errors import InvalidOption
from tiny_dialect.ops.convolution import geometry, trained_axis
from tiny_dialect.ops.pooling import window_of
from tiny_dialect.semantics.forward import trained_channels
from tiny_dialect.types import is_quantized, quantization, shape_of
from tiny_passes.graph import TRAIN_STEP, body, find_function
from tiny_pipelines.datasets import DataSet
from tiny_pipelines.float_network import FloatNetwork, FloatOp, FloatParameter

Array = NDArray[Any]

_LOSS = "tiny.softmax_cross_entropy"


def dequantized(module: Any, data: DataSet) -> FloatNetwork:
    """The float network of a module at the stage `sparse` whose trained weights are float32.

    Its preprocessing is that of the samples in `data`. Raises `PassError` where the module has no
    training step, `InvalidOption` for an op without a float form, `InvalidData`.
    """
    step = find_function(module, TRAIN_STEP)
    network = FloatNetwork(data.preprocessing_for(step))
    return _Reader(step.regions[0].blocks[0].arguments[0], network).read(step)


class _Reader:
    def __init__(self, x: Any, network: FloatNetwork) -> None:
        self._numbers: dict[Any, int] = {x: 0}
        self._network = network

    def read(self, step: Any) -> FloatNetwork:
        for op in body(step):
            name = op.operation.name
            if name == _LOSS:
                self._network.logits = self._numbers[op.operands[0]]
                return self._network
            if name not in ("tiny.parameter", "tiny.gather_channels"):
                self._add(op, name)
        raise InvalidOption(f"the training step has no {_LOSS}")

    def _add(self, op: Any, name: str) -> None:
        reader = _SETTINGS.get(name)
        if reader is None:
            raise InvalidOption(f"{name} has no float form")
        operands = [self._operand(op, number) for number in range(len(op.operands))]
        settings = reader(op)
        if "clamp" in op.attributes:
            scale, zero = quantization(op.results[0])
            low, high = to_list(op.attributes["clamp"])
            settings["clamp"] = ((low - zero) * scale, (high - zero) * scale)
        made = FloatOp(name.removeprefix("tiny."), tuple(operands), self._number(op), settings)
        self._network.ops.append(made)

    def _number(self, op: Any) -> int:
        return self._numbers.setdefault(op.results[0], len(self._numbers))

    def _operand(self, op: Any, number: int) -> int:
        """The number of an operand; a parameter is read in the units of the op that reads it."""
        value = op.operands[number]
        if value in self._numbers and self._numbers[value] not in self._network.parameters:
            return self._numbers[value]
        source = value.owner.opview
        raw = to_array(source.value).astype(np.float64)
        real = (raw * _unit(op, number, raw.ndim)).astype(np.float32)
        known = self._numbers.setdefault(value, len(self._numbers))
        found = self._network.parameters.get(known)
        if found is not None and not np.array_equal(found.value, real):
            raise InvalidOption(
                "is read by two layers in different units: it has no float form",
                source.symbol.value,
            )
        trained = "trained" in source.attributes
        self._network.parameters[known] = FloatParameter(source.symbol.value, real, trained)
        return known


def _unit(op: Any, number: int, rank: int) -> Array:
    """The real size of one unit of a parameter, along its first axis: operand `number` of `op`."""
    if op.operation.name != "tiny.conv2d":
        return np.ones(())
    scales = to_array(op.weight_scales).astype(np.float64)
    if op.operands[number] == op.bias:
        return scales * quantization(op.x)[0]
    if number == 3 and trained_axis(geometry(op).groups, shape_of(op.w)) == 0:
        scales = scales[trained_channels(op)]
    return scales.reshape(-1, *[1] * (rank - 1))


def _convolution(op: Any) -> dict[str, Any]:
    geo = geometry(op)
    return {
        "strides": geo.strides,
        "pads": geo.pads,
        "groups": geo.groups,
        "axis": trained_axis(geo.groups, shape_of(op.w)),
        "channels": trained_channels(op),
    }


def _window(op: Any) -> dict[str, Any]:
    window = window_of(op)
    return {"kernel": window.kernel, "strides": window.strides, "pads": window.pads}


def _reshaped(op: Any) -> dict[str, Any]:
    if not is_quantized(op.operands[0]):
        raise InvalidOption("tiny.reshape of gradients has no float form")
    return {"shape": list(shape_of(op.results[0]))}


def _nothing(op: Any) -> dict[str, Any]:
    return {}


_SETTINGS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "tiny.conv2d": _convolution,
    "tiny.max_pool2d": _window,
    "tiny.average_pool2d": _window,
    "tiny.reshape": _reshaped,
    "tiny.mean": lambda op: {"axes": to_list(op.attributes["axes"])},
    "tiny.pad": lambda op: {"pads": to_list(op.attributes["pads"])},
    "tiny.add": _nothing,
    "tiny.requantize": _nothing,
    "tiny.global_average_pool": _nothing,
    "tiny.dequantize": _nothing,
    "tiny.linear": _nothing,
}
