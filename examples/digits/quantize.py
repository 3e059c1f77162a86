"""Static post-training quantization of the digits network into the importers' layer records.

Weights int8, symmetric, per output channel; activations int8, asymmetric, per tensor, ranges from
calibration images; batch norm folded in float64; ReLU6 folded into the clamp at zero point -128.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tiny_pipelines.frontends.layers import (
    INPUT,
    AddLayer,
    ConvLayer,
    GlobalAveragePoolLayer,
    Layer,
    LinearLayer,
    Network,
    Quantization,
)

INPUT_QUANTIZATION = Quantization(1 / 127.5, 0)
Range = tuple[float, float]
Reals = NDArray[np.float64]


def quantization_of(low: float, high: float) -> Quantization:
    """The int8 quantization of reals in [low, high], widened to hold zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    return Quantization(scale, round(-128 - low / scale))


def observed_ranges(network: nn.Module, images: torch.Tensor) -> dict[str, Range]:
    """(smallest, largest) output of every named module over the calibration images."""
    ranges: dict[str, Range] = {}

    def observer(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            ranges[name] = (float(output.min()), float(output.max()))

        return hook

    hooks = [
        module.register_forward_hook(observer(name)) for name, module in network.named_modules()
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return ranges


def folded(layer: nn.Sequential) -> tuple[Reals, Reals]:
    """(weight O·KH·KW·I, bias) of a convolution and the batch norm behind it."""
    conv, norm = layer[0], layer[1]
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = conv.weight.detach().numpy().astype(np.float64).transpose(0, 2, 3, 1)
    factor = gain.detach().numpy().astype(np.float64)
    mean, shift = (t.detach().numpy().astype(np.float64) for t in (norm.running_mean, norm.bias))
    return weight * factor[:, None, None, None], shift - mean * factor


@dataclass
class Quantizer:
    """Collects one record a layer; `quantizations` remembers how each value is stored."""

    ranges: dict[str, Range]
    layers: list[Layer]
    quantizations: dict[str, Quantization]

    def conv(self, name: str, layer: Any, source: str) -> str:
        """Append the record of a `ConvNorm` that reads `source`; the name of its output."""
        weight, bias = folded(layer)
        scales = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-5) / 127
        input_quantization = self.quantizations[source]
        output_quantization = quantization_of(*self.ranges[name])
        pad = weight.shape[1] // 2
        record = ConvLayer(
            name,
            (source,),
            input_quantization,
            np.rint(weight / scales[:, None, None, None]).astype(np.int8),
            scales,
            np.rint(bias / (scales * input_quantization.scale)).astype(np.int32),
            output_quantization,
            strides=layer[0].stride,
            pads=(pad, pad, pad, pad),
            groups=layer[0].groups,
        )
        return self.append(record, output_quantization)

    def add(self, name: str, first: str, second: str) -> str:
        """Append the record of a residual addition; the name of its output."""
        inputs = (self.quantizations[first], self.quantizations[second])
        output = quantization_of(*self.ranges[name.removesuffix(".add")])
        return self.append(AddLayer(name, (first, second), inputs, output), output)

    def pool(self, name: str, source: str) -> str:
        """Append the record of a global average pool; the name of its output."""
        return self.append(GlobalAveragePoolLayer(name, (source,)), self.quantizations[source])

    def append(self, layer: Layer, output: Quantization) -> str:
        """Keep a record and how its output is stored; its name."""
        self.layers.append(layer)
        self.quantizations[layer.name] = output
        return layer.name


def quantize(network: Any, calibration: torch.Tensor) -> Network:
    """The int8 network with its float32 head, calibrated on images in real units (N·1·H·W)."""
    quantizer = Quantizer(observed_ranges(network, calibration), [], {INPUT: INPUT_QUANTIZATION})
    value = quantizer.conv("stem", network.stem, INPUT)
    for index, block in enumerate(network.blocks):
        name, block_input = f"blocks.{index}", value
        for part in ("expand", "depthwise", "project"):
            value = quantizer.conv(f"{name}.{part}", getattr(block, part), value)
        if block.residual:
            value = quantizer.add(f"{name}.add", value, block_input)
    value = quantizer.conv("features", network.features, value)
    value = quantizer.pool("pool", value)
    weight, bias = (t.detach().numpy() for t in (network.head.weight, network.head.bias))
    quantizer.layers.append(LinearLayer("classifier", (value,), weight, bias))
    _, _, height, width = calibration.shape
    return Network(
        name="digits",
        source="digits",
        input_shape=(1, height, width, 1),
        input_quantization=INPUT_QUANTIZATION,
        layers=tuple(quantizer.layers),
        output="classifier",
        preprocess="int8(pixel - 128)",
    )
