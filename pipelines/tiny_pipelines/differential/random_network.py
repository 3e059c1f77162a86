"""Random small networks, schemes and options, each from one seed.

Drawn on purpose more often than real networks have it: odd channels, one-dimensional and non-square
inputs, kernels of 1 to 7, asymmetric padding, strides beyond the kernel, groups of every kind,
dead channels, extreme scales and zero points, values read several times, heads of every kind.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from tiny_dialect.ops.integer_head import LARGEST_SCALE
from tiny_pipelines.differential.between_layers import (
    BetweenRecord,
    MeanRecord,
    PadRecord,
    RequantizeRecord,
    ReshapeRecord,
    WindowRecord,
    output_shape,
)
from tiny_pipelines.differential.calibration import MAX_SCALE
from tiny_pipelines.differential.case import Case
from tiny_pipelines.differential.random_options import (
    FLOAT_GRADIENTS,
    random_options,
    random_scheme,
    without_weights,
)
from tiny_pipelines.differential.records import (
    DENSE,
    DEPTHWISE,
    AddRecord,
    ConvRecord,
    LayerRecord,
    LinearRecord,
    NetworkRecord,
    Pair,
    PoolRecord,
    output_channels,
    sources_of,
    without_unused,
)
from tiny_pipelines.frontends.layers import FULL_RANGE, INPUT
from tiny_pipelines.training import Gradients

_MAX_ELEMENTS = 2500
_MAX_MACS = 400_000
_HEAD_SPREAD = 20.0
_HEADS = (
    *("pooled", "pooled", "mean", "flat", "reshaped"),
    *("conv", "full conv", "conv, pool", "conv, mean"),
)
_STREAMED_SHARE = 0.4
CLASSIFIER = "classifier"


def random_case(seed: int, gradients: Sequence[str] = get_args(Gradients)) -> Case:
    """The case of a seed: always the same one for the same choice of gradient arithmetics."""
    choose = random.Random(seed)
    options = random_options(choose, gradients)
    maker = _Maker(choose, integer=options.gradients != FLOAT_GRADIENTS)
    record = without_unused(maker.network(seed))
    names = [layer.name for layer in record.layers if isinstance(layer, ConvRecord)]
    names = [name for name in names if name != CLASSIFIER]
    scheme = random_scheme(choose, names)
    first = streamable(record)
    if first in names and choose.random() < _STREAMED_SHARE:
        options = replace(options, stream_input=True)
        scheme = without_weights(scheme, names, first)
    exponent = choose.uniform(-3.5, -0.5) if options.scales_rates else choose.uniform(0, 4)
    return Case(record, scheme, options, rate=float(f"{10**exponent:.3g}"), steps=2)


def streamable(record: NetworkRecord) -> str | None:
    """The one layer that reads the input, if it is a convolution: it can take row by row."""
    readers = [layer for layer in record.layers if INPUT in sources_of(layer)]
    return readers[0].name if len(readers) == 1 and isinstance(readers[0], ConvRecord) else None


class _Maker:
    """Adds layers one by one, knowing the shape of every value so far."""

    def __init__(self, choose: random.Random, *, integer: bool) -> None:
        """With `integer` the network can have integer gradients."""
        self.choose = choose
        self.integer = integer
        self.layers: list[LayerRecord] = []
        self.shapes: dict[str, tuple[int, int, int]] = {}
        self.last = INPUT
        self.macs = 0

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.choose.random() < probability

    def network(self, seed: int) -> NetworkRecord:
        """A network of one to seven blocks and a head."""
        shape = self.input_shape()
        self.shapes[INPUT] = shape
        for _ in range(self.choose.choice((1, 2, 2, 3, 3, 4, 4, 5, 6, 7))):
            convs = (self.any_conv, self.any_conv, self.bottleneck)
            makers = (*convs, self.residual, self.between)
            self.choose.choice(makers)()
        self.head()
        exponents = (-6, 3) if self.chance(0.1) else (-3, -1)
        scale = float(f"{10 ** self.choose.uniform(*exponents):.4g}")
        limit = LARGEST_SCALE / 2 if self.integer else MAX_SCALE
        layers, zero_point = tuple(self.layers), self.zero_point()
        return NetworkRecord(seed, shape, min(scale, limit), zero_point, layers, limit)

    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels; a fifth one-dimensional."""
        height, width = self.choose.randint(1, 13), self.choose.randint(1, 13)
        if self.chance(0.3):
            width = height
        elif self.chance(0.3):
            height, width = self.choose.choice(((1, 3 * width), (3 * height, 1)))
        return height, width, self.choose.choice((1, 2, 3, 3, 4, 5, 7, 8))

    def zero_point(self) -> int:
        """Often at an end of the range."""
        return self.choose.choice((-128, -128, 127, 0, self.choose.randint(-128, 127)))

    def spread(self) -> float:
        """Mostly a good use of the range; at times almost constant or almost all clamped."""
        return self.choose.choice((0.4, 12.0, 30.0, 30.0, 50.0, 70.0, 400.0))

    def clamp(self, zero_point: int) -> Pair:
        """The full range, ReLU, ReLU6 or any."""
        low = self.choose.randint(-128, 126)
        high = self.choose.randint(low + 1, 127)
        ends = ((zero_point, 127) if zero_point < 127 else FULL_RANGE, (low, high))
        return self.choose.choice((FULL_RANGE, FULL_RANGE, FULL_RANGE, *ends))

    def add_layer(self, layer: LayerRecord, shape: tuple[int, int, int]) -> None:
        """Append a layer that computes `shape`."""
        self.layers.append(layer)
        self.shapes[layer.name] = shape
        self.last = layer.name

    def conv(self, name: str, source: str, channels: int, **geometry: Any) -> bool:
        """Append a convolution with random numbers, unless it does not fit or is too large."""
        zero_point, extreme = self.zero_point(), self.chance(0.1)
        layer = ConvRecord(
            name if name == CLASSIFIER else f"{name}{len(self.layers)}",
            source,
            channels,
            weight_scale=10 ** self.choose.uniform(*((-7, 1) if extreme else (-4, -1.5))),
            scale_range=10 ** self.choose.uniform(0, 2) if extreme else 2.0,
            weights=self.choose.choice(("normal",) * 8 + ("extreme", "zero")),
            dead=self.choose.randint(1, 3) if self.chance(0.25) else 0,
            spread=self.spread(),
            zero_point=zero_point,
            clamp=self.clamp(zero_point),
            **geometry,
        )
        height, width, inputs = self.shapes[source]
        top, left, bottom, right = layer.pads
        out_height = (height + top + bottom - layer.kernel[0]) // layer.strides[0] + 1
        out_width = (width + left + right - layer.kernel[1]) // layer.strides[1] + 1
        outputs = output_channels(layer, inputs)
        taps = layer.kernel[0] * layer.kernel[1] * inputs
        macs = out_height * out_width * taps * (1 if layer.groups == DEPTHWISE else outputs)
        if min(out_height, out_width) < 1 or self.macs + macs > _MAX_MACS:
            return False
        if out_height * out_width * outputs > _MAX_ELEMENTS:
            return False
        self.macs += macs
        self.add_layer(layer, (out_height, out_width, outputs))
        return True

    def geometry(self, source: str) -> dict[str, Any]:
        """Kernel, strides and padding; mostly square and padded to the same size."""
        height, width, _ = self.shapes[source]
        kernel = [self.choose.choice((1, 1, 3, 3, 5, 2, 4, 7))] * 2
        if self.chance(0.25):
            kernel[1] = self.choose.randint(1, 7)
        kernel = [
            1 if size == 1 and self.chance(0.8) else k
            for k, size in zip(kernel, (height, width), strict=True)
        ]
        strides = [self.choose.choice((1, 1, 1, 2))] * 2
        if self.chance(0.15):
            strides = [self.choose.randint(1, 3), self.choose.randint(1, 3)]
        pads = [kernel[0] // 2, kernel[1] // 2] * 2
        if self.chance(0.35):
            ends = (*kernel, *kernel)
            pads = [self.choose.randint(0, end if self.chance(0.1) else end - 1) for end in ends]
        return {"kernel": tuple(kernel), "strides": tuple(strides), "pads": tuple(pads)}

    def source(self) -> str:
        """Mostly the last value, at times an earlier one."""
        return self.choose.choice(list(self.shapes)) if self.chance(0.15) else self.last

    def any_conv(self) -> None:
        """Dense, depthwise with a multiplier, or grouped."""
        source = self.source()
        groups = self.choose.choice((DENSE, DENSE, DEPTHWISE, self.choose.randint(2, 4)))
        if groups == DEPTHWISE:
            channels = self.choose.choice((1, 1, 1, 2, 3))
        else:
            channels = self.choose.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17))
        self.conv("conv", source, channels, groups=groups, **self.geometry(source))

    def bottleneck(self) -> None:
        """Pointwise, depthwise, pointwise, and an addition where the shapes allow it."""
        source = self.last
        channels = self.shapes[source][2]
        if not self.conv("expand", source, channels * self.choose.randint(1, 4)):
            return
        if not self.conv("depthwise", self.last, 1, groups=DEPTHWISE, **self.geometry(self.last)):
            return
        if self.conv("project", self.last, channels) and self.chance(0.7):
            self.residual(source)

    def residual(self, other: str | None = None) -> None:
        """Add to the last value another one of its shape, rarely itself."""
        shape = self.shapes[self.last]
        fitting = [name for name in self.shapes if self.shapes[name] == shape and name != self.last]
        if other in fitting:
            fitting = [str(other)]
        if not fitting and self.chance(0.8):
            return
        pair = [self.last, self.choose.choice(fitting or [self.last])]
        if self.chance(0.3):
            pair.reverse()
        zero_point = self.zero_point()
        clamp = self.clamp(zero_point)
        name = f"add{len(self.layers)}"
        layer = AddRecord(name, (pair[0], pair[1]), self.spread(), zero_point, clamp)
        self.add_layer(layer, shape)

    def between(self) -> None:
        """What importers put between convolutions: a pool, a mean, a border and the like."""
        source = self.source()
        kind = self.choose.choice(
            ("max", "max", "average", "average", "mean", "requantize", "pad", "reshape")
        )
        name, zero_point = f"{kind}{len(self.layers)}", self.zero_point()
        output: dict[str, Any] = {"zero_point": zero_point, "clamp": self.clamp(zero_point)}
        spread = 0.0 if self.chance(0.25) else self.spread()
        match kind:
            case "max" | "average":
                layer = WindowRecord(name, source, kind, **self.window(source, kind))
            case "mean":
                layer = MeanRecord(name, source, self.choose.choice(((1,), (2,))), spread, **output)
            case "requantize":
                layer = RequantizeRecord(name, source, spread, **output)
            case "pad":
                top, left, bottom, right = (self.choose.randint(0, 2) for _ in range(4))
                layer = PadRecord(name, source, (top, left, bottom, right))
            case _:
                layer = ReshapeRecord(name, source, self.choose.choice(("row", "column", "wide")))
        self.fitted(layer)

    def fitted(self, layer: BetweenRecord) -> None:
        """Append the layer unless it does not fit or is too large."""
        shape = output_shape(layer, self.shapes[layer.source])
        if min(shape) >= 1 and shape[0] * shape[1] * shape[2] <= _MAX_ELEMENTS:
            self.add_layer(layer, shape)

    def window(self, source: str, kind: str) -> dict[str, Any]:
        """The geometry of a pool: strides mostly the kernel's, pads smaller than the kernel."""
        geometry = self.geometry(source)
        kernel, pads = geometry["kernel"], geometry["pads"]
        if self.chance(0.5):
            geometry["strides"] = kernel
        pads = [min(pad, size - 1) for pad, size in zip(pads, (*kernel, *kernel), strict=True)]
        # An average over unequal counts has no integer gradient.
        even = (kind == "average" and self.integer) or self.chance(0.4)
        geometry["pads"] = (0, 0, 0, 0) if even else tuple(pads)
        return geometry

    def head(self) -> None:
        """A float head, pooled or flat, or a convolution that gives the logits."""
        classes = self.choose.choice((2, 2, 3, 4, 5, 7, 10, 13))
        height, width, channels = self.shapes[self.last]
        kind = self.choose.choice(_HEADS)
        if kind == "flat" and height * width * channels <= 400:
            self.add_layer(LinearRecord("head", self.last, classes), (1, 1, classes))
            return
        if kind in ("full conv", "conv, pool", "conv, mean"):
            kernel = (height, width) if kind == "full conv" else (1, 1)
            if self.conv_head(classes, kernel):
                if kind != "full conv":
                    self.global_pool(kind == "conv, mean", classes)
                return
        if kind == "reshaped" and height * width * channels <= 400:
            self.add_layer(ReshapeRecord("reshape", self.last), (1, 1, height * width * channels))
        else:
            self.global_pool(kind == "mean", channels)
        if kind not in ("conv", "reshaped") or not self.conv_head(classes, (1, 1)):
            self.add_layer(LinearRecord("head", self.last, classes), (1, 1, classes))

    def global_pool(self, rescaled: bool, channels: int) -> None:
        """One value a channel, `rescaled` or in the scale of its input."""
        if rescaled:
            spread = 0.0 if self.chance(0.25) else _HEAD_SPREAD
            layer = MeanRecord("pool", self.last, (1, 2), spread, self.zero_point())
        else:
            layer = PoolRecord("pool", self.last)
        self.add_layer(layer, (1, 1, channels))

    def conv_head(self, classes: int, kernel: Pair) -> bool:
        """A convolution that computes the logits, with a scale at which they differ."""
        if not self.conv(CLASSIFIER, self.last, classes, kernel=kernel):
            return False
        layer = self.layers[-1]
        assert isinstance(layer, ConvRecord)
        self.layers[-1] = replace(layer, spread=_HEAD_SPREAD, clamp=FULL_RANGE)
        return True
