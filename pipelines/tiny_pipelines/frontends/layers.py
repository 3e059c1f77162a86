"""Plain records that every importer produces and the emitter turns into IR: one record a layer.

A value is named by the layer that computes it; the network's input is named `INPUT`.
Records hold what a file says, unchecked; `emitter.emit` checks all of it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

INPUT = "input"
FULL_RANGE = (-128, 127)


@dataclass(frozen=True)
class Quantization:
    """Scale and zero point of an int8 activation tensor: `real = (q - zero_point) * scale`."""

    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """Convolution with bias, requantization and clamp.

    `weight` is int8 O·KH·KW·(I/groups), `weight_scales` float64 [O], `bias` int32 [O] in units of
    `input_quantization.scale * weight_scales`; `pads` are top, left, bottom, right.
    """

    name: str
    inputs: tuple[str]
    input_quantization: Quantization
    weight: NDArray[np.int8]
    weight_scales: NDArray[np.float64]
    bias: NDArray[np.int32]
    output_quantization: Quantization
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True)
class AddLayer:
    """Residual addition of two activations of one shape."""

    name: str
    inputs: tuple[str, str]
    input_quantizations: tuple[Quantization, Quantization]
    output_quantization: Quantization
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True)
class GlobalAveragePoolLayer:
    """Mean over height and width; the quantization stays that of the input."""

    name: str
    inputs: tuple[str]


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """Float32 head on dequantized features: `weight` float32 [K, features], `bias` float32 [K]."""

    name: str
    inputs: tuple[str]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class PoolLayer:
    """Maximum or average over windows; the quantization stays that of the input.

    `kind` is `max` or `average`; padding never counts. The average rounds half away from zero.
    """

    name: str
    inputs: tuple[str]
    kind: Literal["max", "average"]
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class MeanLayer:
    """Mean over whole axes, `(1, 2)`, `(1,)` or `(2,)` of NHWC, rescaled and rounded once."""

    name: str
    inputs: tuple[str]
    axes: tuple[int, ...]
    output_quantization: Quantization
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True)
class RequantizeLayer:
    """The same real values under another quantization, or behind a clamp of their own."""

    name: str
    inputs: tuple[str]
    output_quantization: Quantization
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True)
class PadLayer:
    """Real zeros around an image; `pads` are top, left, bottom, right."""

    name: str
    inputs: tuple[str]
    pads: tuple[int, int, int, int]


@dataclass(frozen=True)
class ReshapeLayer:
    """The same elements in the same order as `shape`, NHWC with N = 1."""

    name: str
    inputs: tuple[str]
    shape: tuple[int, int, int, int]


Layer = (
    ConvLayer
    | AddLayer
    | GlobalAveragePoolLayer
    | LinearLayer
    | PoolLayer
    | MeanLayer
    | RequantizeLayer
    | PadLayer
    | ReshapeLayer
)


@dataclass(frozen=True)
class Network:
    """A forward network: layers in execution order, each reading only earlier values.

    `input_shape` is NHWC with N = 1. `source` names the file in locations and errors;
    `preprocess` says in words how a raw sample becomes the int8 input.
    """

    name: str
    source: str
    input_shape: tuple[int, int, int, int]
    input_quantization: Quantization
    layers: tuple[Layer, ...]
    output: str
    preprocess: str = ""
