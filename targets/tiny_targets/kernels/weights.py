"""Convolution weights as a kernel reads them: storage types, trained channels over frozen ones.

A partly trained convolution has a frozen int8 weight and a small trained one. Chosen input channels
(axis 3) are zeroed in the frozen table and added from the trained one, so that both loops stay
contiguous and unconditional; a chosen output channel (axis 0, depthwise) is read from one or the
other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.errors import InvalidModel
from tiny_dialect.ops import Parameter
from tiny_dialect.ops.convolution import is_depthwise
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_passes.graph import is_trained, layer_of, outer_value, producer
from tiny_passes.stationary import stationary_channels
from tiny_targets.kernels.kernel import Table
from tiny_targets.kernels.nest import Buffer, Nest
from tiny_targets.kernels.numerics import round_half_even
from tiny_targets.kernels.scalar import Scalar, clamp

BIAS_LIMIT = 2**30


class Weight:
    """A weight argument; reading gives the int8 value that the forward pass multiplies with."""

    def __init__(self, nest: Nest, bound: Any) -> None:
        self._buffer: Buffer = nest.read(bound)

    def __getitem__(self, indices: Any) -> Scalar:
        """The value as `i32`."""
        if self._buffer.element == "f32":
            return self.real(indices).as_integer()
        stored = self._buffer[indices]
        return stored >> 8 if self._buffer.element == "i16" else stored

    def real(self, indices: Any) -> Scalar:
        """The value as `f32`."""
        if self._buffer.element == "f32":
            return round_half_even(clamp(self._buffer[indices], -128.0, 127.0))
        return self[indices].as_float()


@dataclass(frozen=True)
class Overlay:
    """The trained channels of a partly trained weight."""

    channels: list[int]
    depthwise: bool
    trained: Weight
    table: Buffer
    """Depthwise: by output channel, its row in the trained weight or -1. Else: the channels."""


def weights_of(nest: Nest, op: Any, groups: int) -> tuple[Weight, Overlay | None]:
    """The weight arguments of a convolution or of its input gradient."""
    if op.trained is None:
        return Weight(nest, op.w), None
    channels = to_list(op.attributes["trained_channels"])
    shape = shape_of(op.w)
    trained = Weight(nest, op.trained)
    if is_depthwise(groups, shape):
        rows = np.full(shape[0], -1, np.int16)
        rows[channels] = np.arange(len(channels))
        overlay = Overlay(channels, True, trained, nest.read(rows))
        return Weight(nest, op.w), overlay
    overlay = Overlay(channels, False, trained, nest.read(np.array(channels, np.int16)))
    return Weight(nest, frozen_part(op)), overlay


def frozen_part(op: Any) -> Any:
    """The weight; of a partly trained one a table with zeros for the trained inputs."""
    if op.trained is None:
        return op.w
    frozen = constant_of(op.w)
    if frozen is None:
        raise InvalidModel(
            f"'{op.operation.name}' needs a constant weight beside its trained channels",
            layer_of(op),
        )
    frozen = frozen.copy()
    frozen[..., to_list(op.attributes["trained_channels"])] = 0
    return Table(frozen)


def trained_rows(op: Any) -> NDArray[np.int16]:
    """The row in the trained part of each depthwise output channel; -1 where it is frozen."""
    rows = np.full(shape_of(op.w)[0], -1, np.int16)
    channels = to_list(op.attributes["trained_channels"])
    rows[channels] = np.arange(len(channels))
    return rows


def _parameter(value: Any) -> Any | None:
    owner = producer(outer_value(value))
    return owner if isinstance(owner, Parameter) else None


def constant_of(value: Any) -> NDArray[Any] | None:
    """The array of a frozen parameter; None for everything that can change on the device."""
    parameter = _parameter(value)
    if parameter is None or is_trained(parameter):
        return None
    return to_array(parameter.value)


def accumulator_bounds(op: Any) -> tuple[int, int]:
    """Largest magnitudes, over channels, of the product sum and of the sum plus bias."""
    sums = sum_bounds(op)
    lowest, highest = bias_range(op)
    return int(sums.max()), int((sums + np.maximum(np.abs(lowest), np.abs(highest))).max())


def sum_bounds(op: Any) -> NDArray[np.int64]:
    """The largest magnitude of the product sum of each channel.

    Constants count with their values, trained weights with the worst they can become.
    """
    _, zero = quantization(op.x)
    reach = max(abs(-128 - zero), abs(127 - zero))
    return _magnitudes(op).sum(axis=(1, 2, 3)) * reach


def bias_range(op: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The smallest and the largest bias that each channel can have.

    Updates keep a bias within 2^30, but leave an initial value beyond it alone; a channel that no
    update moves keeps its own.
    """
    frozen = constant_of(op.bias)
    if frozen is not None:
        return frozen.astype(np.int64), frozen.astype(np.int64)
    parameter = _parameter(op.bias)
    if parameter is None:
        worst = np.full(shape_of(op.bias), 2**31, np.int64)
        return -worst, worst - 1
    initial = to_array(parameter.value).astype(np.int64)
    stays = stationary_channels(parameter)
    lowest, highest = np.minimum(initial, -BIAS_LIMIT), np.maximum(initial, BIAS_LIMIT)
    return np.where(stays, initial, lowest), np.where(stays, initial, highest)


def _magnitudes(op: Any) -> NDArray[np.int64]:
    """|weight| by element; 128 where it is trained."""
    shape = shape_of(op.w)
    frozen = constant_of(op.w)
    if frozen is None or element_name(op.w) != "i8":
        return np.full(shape, 128, np.int64)
    magnitudes = np.abs(frozen.astype(np.int64))
    if op.trained is not None:
        channels = to_list(op.attributes["trained_channels"])
        depthwise = is_depthwise(op.groups.value, shape)
        magnitudes[(channels,) if depthwise else (..., channels)] = 128
    return magnitudes
