"""What a random network is made of, in a form that can be shrunk, and how it becomes a `Network`.

A record says shapes and styles, never values: weights are drawn from the seed and the layer's name,
output scales follow from a calibration input. So dropping a layer or a channel leaves a record that
still means something, and equal records give equal networks.
"""

import math
import zlib
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.ops.convolution import ConvGeometry
from tiny_dialect.semantics.convolution import convolve
from tiny_pipelines.differential.between_layers import BetweenRecord, build_between
from tiny_pipelines.differential.calibration import (
    MAX_SCALE,
    Array,
    output_quantization,
    quantized,
)
from tiny_pipelines.frontends.layers import (
    FULL_RANGE,
    INPUT,
    AddLayer,
    ConvLayer,
    GlobalAveragePoolLayer,
    Layer,
    LinearLayer,
    Network,
    Quantization,
)

Pair = tuple[int, int]

DENSE, DEPTHWISE = 0, -1
_SATURATED_BIASES = (2**31 - 1, -(2**31), -160_704_352, 0)
# Integer gradients hold a head in fixed point and refuse larger weights.
_HEAD_RANGE = (-4000.0, 4000.0)


@dataclass(frozen=True)
class ConvRecord:
    """A convolution; `groups` is a wish, `DENSE`, or `DEPTHWISE`: then `channels` multiplies."""

    name: str
    source: str
    channels: int
    kernel: Pair = (1, 1)
    strides: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = DENSE
    weight_scale: float = 0.01
    scale_range: float = 2.0
    """The largest weight scale of a channel and the smallest differ at most by its square."""
    weights: str = "normal"
    """`normal`, `extreme` (-128, -127 and 127 only) or `zero`."""
    dead: int = 0
    """How many channels are dead: a scale of 1e-9 to 1e-6 and a saturated bias."""
    spread: float = 40.0
    """Standard deviation of the output, in int8 units, before the clamp."""
    zero_point: int = 0
    clamp: Pair = FULL_RANGE


@dataclass(frozen=True)
class AddRecord:
    """A residual addition."""

    name: str
    sources: tuple[str, str]
    spread: float = 40.0
    zero_point: int = 0
    clamp: Pair = FULL_RANGE


@dataclass(frozen=True)
class PoolRecord:
    """A global average pool."""

    name: str
    source: str


@dataclass(frozen=True)
class LinearRecord:
    """A float32 head."""

    name: str
    source: str
    classes: int


LayerRecord = ConvRecord | AddRecord | PoolRecord | LinearRecord | BetweenRecord


@dataclass(frozen=True)
class NetworkRecord:
    """A whole network; the last layer gives the logits."""

    seed: int
    input_shape: tuple[int, int, int]
    input_scale: float
    input_zero_point: int
    layers: tuple[LayerRecord, ...] = field(default=())
    largest_scale: float = MAX_SCALE
    """Of activations."""


def sources_of(layer: LayerRecord) -> tuple[str, ...]:
    """The names of the values a layer reads."""
    return layer.sources if isinstance(layer, AddRecord) else (layer.source,)


def without_unused(record: NetworkRecord) -> NetworkRecord:
    """The record without the layers that the last one does not depend on."""
    used = {record.layers[-1].name}
    kept: list[LayerRecord] = []
    for layer in reversed(record.layers):
        if layer.name in used:
            used.update(sources_of(layer))
            kept.append(layer)
    return replace(record, layers=tuple(reversed(kept)))


def group_count(groups: int, inputs: int) -> int:
    """The groups of a convolution of `inputs` channels: the wish, made a divisor."""
    if groups == DEPTHWISE:
        return inputs
    return math.gcd(groups, inputs) if groups else 1


def output_channels(layer: ConvRecord, inputs: int) -> int:
    """The channels a convolution has: a multiple of its groups."""
    groups = group_count(layer.groups, inputs)
    return (
        inputs * layer.channels
        if layer.groups == DEPTHWISE
        else groups * max(1, layer.channels // groups)
    )


def build_network(record: NetworkRecord) -> Network:
    """The network of a record; the same record gives the same network."""
    return Builder(record).network()


class Builder:
    """Values of a calibration input, from layer to layer, and the layers made of them."""

    def __init__(self, record: NetworkRecord) -> None:
        self.record = record
        height, width, channels = record.input_shape
        self.shape = (1, height, width, channels)
        self.input = Quantization(record.input_scale, record.input_zero_point)
        sample = self.numbers(INPUT).integers(-128, 128, self.shape)
        self.values: dict[str, tuple[Array, Quantization]] = {INPUT: (sample, self.input)}

    def numbers(self, name: str) -> np.random.Generator:
        """The generator of one layer, whatever comes before it."""
        return np.random.default_rng((self.record.seed, zlib.crc32(name.encode())))

    def network(self) -> Network:
        """All layers in order."""
        made = tuple(self.layer(layer) for layer in self.record.layers)
        name = f"random{self.record.seed}"
        output = self.record.layers[-1].name
        return Network(name, f"{name}.mlir", self.shape, self.input, made, output)

    def layer(self, layer: LayerRecord) -> Layer:
        """One layer, and its calibration values."""
        match layer:
            case ConvRecord():
                return self.conv(layer)
            case AddRecord():
                return self.add(layer)
            case PoolRecord():
                x, quantization = self.values[layer.source]
                mean = np.rint(x.mean(axis=(1, 2), keepdims=True)).astype(np.int64)
                self.values[layer.name] = mean, quantization
                return GlobalAveragePoolLayer(layer.name, (layer.source,))
            case LinearRecord():
                return self.linear(layer)
            case _:
                x, quantization = self.values[layer.source]
                limit = self.record.largest_scale
                made, x, quantization = build_between(layer, x, quantization, limit)
                self.values[layer.name] = x, quantization
                return made

    def output(
        self, layer: ConvRecord | AddRecord, real: NDArray[np.float64], largest: float
    ) -> Quantization:
        """The quantization that gives the layer its spread."""
        limit = self.record.largest_scale
        return output_quantization(real, layer.spread, layer.zero_point, largest, limit)

    def conv(self, layer: ConvRecord) -> ConvLayer:
        """Weights and biases of the layer's style, and the output scale that gives its spread."""
        rng = self.numbers(layer.name)
        x, quantization = self.values[layer.source]
        inputs = x.shape[3]
        groups = group_count(layer.groups, inputs)
        shape = (output_channels(layer, inputs), *layer.kernel, inputs // groups)
        weight = _weights(rng, layer.weights, shape)
        scales = layer.weight_scale * layer.scale_range ** rng.uniform(-1, 1, shape[0])
        geometry = ConvGeometry(layer.strides, layer.pads, groups)
        fitting = min(geometry.output_shape(x.shape, shape)) > 0
        # What does not fit gets any scale: the emitter refuses it with the reason.
        sums = (
            convolve(x - quantization.zero_point, weight, geometry)
            if fitting
            else np.zeros((1, 1, 1, shape[0]))
        )
        deviation = float(np.std(sums)) or 1.0
        bias = np.rint(rng.normal(size=shape[0]) * deviation / 2).astype(np.int64)
        factors = quantization.scale * scales
        real = (sums + bias) * factors
        largest = float(factors.max())
        output = self.output(layer, real, largest)
        _kill(rng, layer.dead, scales, bias)
        real = (sums + bias) * (quantization.scale * scales)
        self.values[layer.name] = quantized(real, output, layer.clamp), output
        return ConvLayer(
            name=layer.name,
            inputs=(layer.source,),
            input_quantization=quantization,
            weight=weight,
            weight_scales=scales,
            bias=bias.astype(np.int32),
            output_quantization=output,
            strides=layer.strides,
            pads=layer.pads,
            groups=groups,
            clamp=layer.clamp,
        )

    def add(self, layer: AddRecord) -> AddLayer:
        """The output scale that gives the layer's spread."""
        (a, of_a), (b, of_b) = (self.values[name] for name in layer.sources)
        if a.shape != b.shape:
            b = a  # the emitter refuses it with the reason
        real = (a - of_a.zero_point) * of_a.scale + (b - of_b.zero_point) * of_b.scale
        largest = max(of_a.scale, of_b.scale)
        output = self.output(layer, real, largest)
        self.values[layer.name] = quantized(real, output, layer.clamp), output
        return AddLayer(layer.name, layer.sources, (of_a, of_b), output, layer.clamp)

    def linear(self, layer: LinearRecord) -> LinearLayer:
        """A head whose logits are of the order of one."""
        rng = self.numbers(layer.name)
        x, quantization = self.values[layer.source]
        features = x.size
        real = (x - quantization.zero_point) * quantization.scale
        size = float(np.sqrt((real**2).sum())) or 1.0
        weight = np.clip(rng.normal(size=(layer.classes, features)) * 1.5 / size, *_HEAD_RANGE)
        bias = rng.normal(size=layer.classes) * 0.5
        return LinearLayer(
            layer.name, (layer.source,), weight.astype(np.float32), bias.astype(np.float32)
        )


def _weights(rng: np.random.Generator, style: str, shape: tuple[int, ...]) -> NDArray[np.int8]:
    if style == "zero":
        return np.zeros(shape, np.int8)
    if style == "extreme":
        return rng.choice(np.array([-128, -127, 127], np.int8), shape)
    return np.clip(np.rint(rng.normal(size=shape) * 45), -128, 127).astype(np.int8)


def _kill(rng: np.random.Generator, dead: int, scales: NDArray[np.float64], bias: Array) -> None:
    """Make the first `dead` channels what quantizers make of channels without information.

    Some keep their scale, so that their saturated bias reaches the far ends of requantization.
    """
    count = min(dead, len(scales))
    small = 10.0 ** rng.uniform(-9, -6, count)
    scales[:count] = np.where(rng.random(count) < 0.75, small, scales[:count])
    bias[:count] = rng.choice(_SATURATED_BIASES, count)
