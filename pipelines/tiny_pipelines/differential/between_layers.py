"""Records of what importers put between convolutions: pools, means, rescalings, pads, reshapes.

As those of convolutions they say shapes and styles, and mean something for any input they fit.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.ops.pooling import Window
from tiny_dialect.semantics.pooling import valid_counts, windows
from tiny_pipelines.differential.calibration import Array, output_quantization, quantized
from tiny_pipelines.frontends.layers import (
    FULL_RANGE,
    Layer,
    MeanLayer,
    PadLayer,
    PoolLayer,
    Quantization,
    RequantizeLayer,
    ReshapeLayer,
)

Pair = tuple[int, int]
Shape = tuple[int, int, int]
"""Height, width, channels."""
_OUTSIDE = -(2**15)


@dataclass(frozen=True)
class WindowRecord:
    """A maximum or an average over windows."""

    name: str
    source: str
    kind: Literal["max", "average"]
    kernel: Pair = (2, 2)
    strides: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def window(self) -> Window:
        """The same as the dialect has it."""
        return Window(self.kernel, self.strides, self.pads)


@dataclass(frozen=True)
class MeanRecord:
    """A mean over height, width or both; with `spread` 0 the quantization stays the input's."""

    name: str
    source: str
    axes: tuple[int, ...] = (1, 2)
    spread: float = 40.0
    zero_point: int = 0
    clamp: Pair = FULL_RANGE


@dataclass(frozen=True)
class RequantizeRecord:
    """Another scale, or a clamp alone where `spread` is 0."""

    name: str
    source: str
    spread: float = 40.0
    zero_point: int = 0
    clamp: Pair = FULL_RANGE


@dataclass(frozen=True)
class PadRecord:
    """Real zeros around an image; `pads` are top, left, bottom, right."""

    name: str
    source: str
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)


@dataclass(frozen=True)
class ReshapeRecord:
    """All elements as channels (`flat`), pixels in a `row` or `column`, or a row as a pixel."""

    name: str
    source: str
    style: Literal["flat", "row", "column", "wide"] = "flat"


BetweenRecord = WindowRecord | MeanRecord | RequantizeRecord | PadRecord | ReshapeRecord


def output_shape(record: BetweenRecord, shape: Shape) -> Shape:
    """What the layer makes of an input of `shape`; below 1 where it does not fit."""
    height, width, channels = shape
    match record:
        case WindowRecord():
            _, height, width, channels = record.window.output_shape((1, *shape))
        case MeanRecord():
            height, width = (
                1 if axis in record.axes else n for axis, n in ((1, height), (2, width))
            )
        case PadRecord():
            top, left, bottom, right = record.pads
            height, width = height + top + bottom, width + left + right
        case ReshapeRecord():
            return {
                "flat": (1, 1, height * width * channels),
                "row": (1, height * width, channels),
                "column": (height * width, 1, channels),
                "wide": (height, 1, width * channels),
            }[record.style]
        case RequantizeRecord():
            pass
    return height, width, channels


def build_between(
    record: BetweenRecord, x: Array, of_x: Quantization, limit: float
) -> tuple[Layer, Array, Quantization]:
    """(layer, calibration values, their quantization) for an NHWC calibration input.

    No scale is above `limit`.
    """
    name, inputs = record.name, (record.source,)
    _, *image = x.shape
    shape = (1, *output_shape(record, (image[0], image[1], image[2])))
    match record:
        case WindowRecord():
            layer = PoolLayer(name, inputs, record.kind, record.kernel, record.strides, record.pads)
            return layer, _pooled(record, x, shape), of_x
        case PadRecord():
            top, left, bottom, right = record.pads
            border = ((0, 0), (top, bottom), (left, right), (0, 0))
            padded = np.pad(x, border, constant_values=of_x.zero_point)
            return PadLayer(name, inputs, record.pads), padded, of_x
        case ReshapeRecord():
            return ReshapeLayer(name, inputs, shape), x.reshape(shape), of_x
        case MeanRecord():
            real = (x - of_x.zero_point).mean(axis=record.axes, keepdims=True) * of_x.scale
            of_y = _rescaled(record, real, of_x, limit)
            layer = MeanLayer(name, inputs, record.axes, of_y, record.clamp)
            return layer, quantized(real, of_y, record.clamp), of_y
        case RequantizeRecord():
            real = (x - of_x.zero_point) * of_x.scale
            of_y = _rescaled(record, real, of_x, limit)
            layer = RequantizeLayer(name, inputs, of_y, record.clamp)
            return layer, quantized(real, of_y, record.clamp), of_y


def _rescaled(
    record: MeanRecord | RequantizeRecord, real: NDArray[Any], of_x: Quantization, limit: float
) -> Quantization:
    if record.spread == 0:
        return of_x
    return output_quantization(real, record.spread, record.zero_point, of_x.scale, limit)


def _pooled(record: WindowRecord, x: Array, shape: tuple[int, ...]) -> Array:
    if min(shape) < 1:
        # What does not fit gets any values: the emitter refuses it with the reason.
        return x
    if record.kind == "max":
        return windows(x, record.window, _OUTSIDE).max(axis=-1)[None]
    total = windows(x, record.window, 0).sum(axis=-1)
    return np.rint(total / valid_counts(record.window, x.shape)).astype(np.int64)[None]
