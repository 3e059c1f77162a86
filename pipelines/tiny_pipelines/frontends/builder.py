"""Layer records from a graph of tensors of any rank and axis order: what importers share.

Transposes and reshapes change only the view. They cost nothing where a reader does not
care (a mean, a fully connected layer, whose weights are permuted instead); one that does gets a
`ReshapeLayer` where the order in memory allows it, else an error. Zeros around an image wait until
their reader is known: a convolution takes them as its own pads.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidModel
from tiny_dialect.ops.convolution import ConvGeometry
from tiny_dialect.ops.pooling import Window
from tiny_pipelines.frontends.layers import (
    FULL_RANGE,
    INPUT,
    AddLayer,
    ConvLayer,
    Layer,
    MeanLayer,
    Network,
    PadLayer,
    PoolLayer,
    Quantization,
    RequantizeLayer,
    ReshapeLayer,
)
from tiny_pipelines.frontends.values import (
    MAX_ELEMENTS,
    NHWC,
    NO_PADS,
    Pads,
    Pair,
    Shape4,
    Value,
    image_shape,
)


class NetworkBuilder:
    """Collects layers; `place` is where errors are, `layer_name` what the next layer is called."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.place = ""
        self.layer_name = ""
        self.layers: list[Layer] = []
        self._names: set[str] = {INPUT}
        self._input: Value | None = None
        self.preprocess = ""

    def fail(self, message: str, place: str | None = None) -> NoReturn:
        """Raise `InvalidModel` at `place`, or at the current one."""
        if place is not None:
            self.place = place
        raise InvalidModel(message, self.where)

    @property
    def where(self) -> str:
        """The place in the file, for errors."""
        return f"{self.source}:{self.place}" if self.place else self.source

    def require(self, condition: bool, message: str) -> None:
        """Fail unless `condition` holds."""
        if not condition:
            self.fail(message)

    def input(
        self, shape: Shape4, quantization: Quantization, logical: Sequence[int], order: Any = NHWC
    ) -> Value:
        """The input of the network."""
        self.require(
            min(shape) >= 1 and math.prod(shape) <= MAX_ELEMENTS,
            f"has an input of shape {list(shape)}",
        )
        self._input = Value(INPUT, shape, quantization, tuple(logical), tuple(order))
        return self._input

    def quantize_input(self, x: Value, quantization: Quantization, kind: str) -> Value:
        """The input with the quantization that its reader gives it, once.

        `kind` is the element type that the file takes: `float`, `uint8` or `int8`.
        """
        if self.layers or self.preprocess:
            self.fail("quantizes the input a second time")
        self._input = replace(x, quantization=quantization)
        scale, zero = quantization.scale, quantization.zero_point
        from_zero = zero == -128 and any(abs(scale * top - 1) < 0.01 for top in (255.0, 1.0))
        if kind == "uint8" or (kind == "float" and from_zero):
            # Pixels from 0 to 255, or the same from 0 to 1: the lowest one is the zero point.
            rule = "uint8 pixel - 128"
        elif kind == "float":
            rule = f"round(x / {scale:.9g}) + {zero}, saturated"
        else:
            rule = f"what the file takes, scale {scale:.9g} and zero point {zero}"
        self.preprocess = f"int8 value = {rule}, NHWC"
        return self._input

    def network(self, name: str, output: Value) -> Network:
        """The finished network with result `output`."""
        if self._input is None:
            self.fail("has no input", "")
        last = self.plain(output)
        self.require(last.name != INPUT, "computes nothing between its input and its output")
        return Network(
            name,
            self.source,
            self._input.shape,
            self._input.quantization,
            tuple(self.layers),
            last.name,
            preprocess=self.preprocess,
        )

    def unique(self, wanted: str) -> str:
        """`wanted`, or with a number behind where it is taken."""
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}.{number}"
        self._names.add(name)
        return name

    def append(self, layer: Layer, shape: Shape4, quantization: Quantization) -> Value:
        """Add a layer whose result has this shape; the value."""
        self.require(
            min(shape) >= 1,
            f"computes shape {list(shape)}, which is empty: its window does not fit its input",
        )
        self.require(math.prod(shape) <= MAX_ELEMENTS, f"computes shape {list(shape)}")
        self.layers.append(layer)
        return Value(layer.name, shape, quantization, shape)

    # Views: nothing is computed.

    def reshape(self, x: Value, logical: Sequence[int]) -> Value:
        """The same elements, seen as `logical`; one size may be -1."""
        x = self.plain(x)
        sizes, total = list(logical), math.prod(x.logical)
        if sizes.count(-1) == 1:
            known = math.prod(size for size in sizes if size != -1)
            self.require(known > 0 and total % known == 0, f"reshapes {x.logical} to {sizes}")
            sizes[sizes.index(-1)] = total // known
        self.require(
            math.prod(sizes) == total and min(sizes, default=1) >= 1,
            f"reshapes {list(x.logical)} to {list(logical)}, another number of elements",
        )
        return replace(x, logical=tuple(sizes))

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        """Axis i of the result is axis `permutation[i]` of `x`."""
        x = self.with_axes(self.plain(x))
        axes = x.axes()
        self.require(
            axes is not None and sorted(permutation) == list(range(len(x.logical))),
            f"transposes {list(x.logical)} by {list(permutation)}",
        )
        assert axes is not None
        moved = [axes[axis] for axis in permutation]
        order = [axis for axis in moved if axis is not None]
        order += [axis for axis in NHWC if axis not in order]
        return replace(
            x, logical=tuple(x.logical[axis] for axis in permutation), order=tuple(order)
        )

    def with_axes(self, x: Value) -> Value:
        """`x` such that each axis of the file is an NHWC axis; a reshape where needed."""
        if x.axes() is not None:
            return x
        shape = image_shape(x.logical)
        if shape is None or not x.in_memory_order:
            self.fail(f"needs the axes of a tensor that was reshaped to {list(x.logical)}")
        return self._reshaped(x, shape)

    def _reshaped(self, x: Value, shape: Shape4) -> Value:
        layer = ReshapeLayer(self.unique(f"{self.layer_name}.reshape"), (x.name,), shape)
        return replace(self.append(layer, shape, x.quantization), logical=x.logical)

    def plain(self, x: Value) -> Value:
        """`x` with its pads added by a layer of their own."""
        if x.pads == NO_PADS:
            return x
        top, left, bottom, right = x.pads
        _, height, width, channels = x.shape
        shape = (1, height + top + bottom, width + left + right, channels)
        layer = PadLayer(self.unique(f"{self.layer_name}.pad"), (x.name,), x.pads)
        return replace(self.append(layer, shape, x.quantization), logical=x.logical)

    def image(self, x: Value, channels_first: bool = False) -> Value:
        """`x` as its reader wants it: stored as the NHWC image that the file means."""
        if channels_first:
            last = (0, *range(2, len(x.logical)), 1)
            x = self.transpose(x, last) if len(x.logical) > 2 else x
        shape = image_shape(x.logical)
        if shape is None:
            self.fail(f"reads a tensor of shape {list(x.logical)}; expected batch 1, rank up to 4")
        if x.pads != NO_PADS:
            return x
        if not x.in_memory_order:
            self.fail(
                f"reads axes in the order {list(x.order)} of NHWC: the data would have to be "
                "transposed in memory, which is not supported"
            )
        return replace(x, order=NHWC) if shape == x.shape else self._reshaped(x, shape)

    # Layers.

    def pad(self, x: Value, pads: Pads) -> Value:
        """Zeros around an image; the logical shape keeps its rank, channels last."""
        x = x if x.pads != NO_PADS else self.image(x)
        total = tuple(a + b for a, b in zip(x.pads, pads, strict=True))
        _, height, width, channels = x.shape
        rows, columns = height + total[0] + total[2], width + total[1] + total[3]
        inner = [rows, columns, channels][4 - len(x.logical) :]
        logical = (1, *inner)
        return replace(x, pads=(total[0], total[1], total[2], total[3]), logical=logical)

    def conv(
        self,
        x: Value,
        weight: NDArray[np.int8],
        weight_scales: NDArray[np.float64],
        bias: NDArray[np.int32],
        output: Quantization,
        *,
        strides: Pair = (1, 1),
        pads: Pads = NO_PADS,
        groups: int = 1,
        clamp: Pair = FULL_RANGE,
    ) -> Value:
        """A convolution of an image, weights O·KH·KW·(I/groups); pads of `x` become its own."""
        whole = tuple(a + b for a, b in zip(x.pads, pads, strict=True))
        geometry = ConvGeometry(strides, (whole[0], whole[1], whole[2], whole[3]), groups)
        self.require(min(strides) >= 1, f"has strides {list(strides)}")
        self.require(
            weight.ndim == 4 and weight.size > 0 and groups >= 1, f"has weights {weight.shape}"
        )
        self.require(
            weight.shape[3] * groups == x.shape[3] and weight.shape[0] % groups == 0,
            f"has weights {list(weight.shape)} in {groups} groups for {x.shape[3]} channels",
        )
        layer = ConvLayer(
            name=self.unique(self.layer_name),
            inputs=(x.name,),
            input_quantization=x.quantization,
            weight=np.ascontiguousarray(weight),
            weight_scales=weight_scales,
            bias=bias,
            output_quantization=output,
            strides=strides,
            pads=geometry.pads,
            groups=groups,
            clamp=clamp,
        )
        _, height, width, channels = geometry.output_shape(x.shape, weight.shape)
        return self.append(layer, (1, height, width, channels), output)

    def fully_connected(
        self,
        x: Value,
        weight: NDArray[np.int8],
        weight_scales: NDArray[np.float64],
        bias: NDArray[np.int32],
        output: Quantization,
        clamp: Pair = FULL_RANGE,
    ) -> Value:
        """`weight` [outputs, features] on the flattened `x`, or on each pixel of it.

        A convolution of one pixel; its weights take the order in which the pixels are stored.
        """
        x = self.plain(x)
        outputs, features = weight.shape
        if features == math.prod(x.shape):
            order = [axis for axis in x.order if axis != 0]
            whole = weight.reshape(outputs, *[x.shape[axis] for axis in order])
            weight = whole.transpose(0, *[1 + order.index(axis) for axis in (1, 2, 3)])
            flat = (1, 1, 1, features)
            x, logical = x if x.shape == flat else self._reshaped(x, flat), (1, outputs)
        else:
            x = self.image(x)
            self.require(
                features == x.shape[3],
                f"has weights for {features} features, but reads {list(x.logical)}",
            )
            logical = (*x.logical[:-1], outputs)
        kernel = weight.reshape(outputs, 1, 1, features)
        y = self.conv(x, kernel, weight_scales, bias, output, clamp=clamp)
        return replace(y, logical=logical)

    def add(self, a: Value, b: Value, output: Quantization, clamp: Pair = FULL_RANGE) -> Value:
        """The sum of two tensors of one shape."""
        self.require(a.logical == b.logical, f"adds shapes {list(a.logical)} and {list(b.logical)}")
        a, b = self.plain(a), self.plain(b)
        if (a.shape, a.order) != (b.shape, b.order):
            a, b = self.image(a), self.image(b)
        layer = AddLayer(
            self.unique(self.layer_name),
            (a.name, b.name),
            (a.quantization, b.quantization),
            output,
            clamp,
        )
        return self._like(a, layer, output)

    def _like(self, x: Value, layer: Layer, quantization: Quantization) -> Value:
        """The result of an elementwise layer, seen as `x` is."""
        y = self.append(layer, x.shape, quantization)
        return replace(y, logical=x.logical, order=x.order)

    def requantize(self, x: Value, output: Quantization, clamp: Pair = FULL_RANGE) -> Value:
        """`x` under another quantization and clamp; nothing where both change nothing."""
        if x.quantization == output and clamp == FULL_RANGE:
            return x
        x = self.plain(x)
        layer = RequantizeLayer(self.unique(self.layer_name), (x.name,), output, clamp)
        return self._like(x, layer, output)

    def pool(
        self, x: Value, kind: Literal["max", "average"], kernel: Pair, strides: Pair, pads: Pads
    ) -> Value:
        """Maximum or average over the windows of an image."""
        if x.pads != NO_PADS:
            # Zeros count in an average, and among values unless they are the lowest there is.
            lowest = kind == "max" and x.quantization.zero_point == -128 and pads == NO_PADS
            small = all(pad < kernel[i % 2] for i, pad in enumerate(x.pads))
            if lowest and small:
                x, pads = replace(x, pads=NO_PADS), x.pads
            else:
                x = self.plain(x)
        self.require(
            min(*kernel, *strides) >= 1, f"has kernel {list(kernel)} and strides {list(strides)}"
        )
        window = Window(kernel, strides, pads)
        name = self.unique(self.layer_name)
        layer = PoolLayer(name, (x.name,), kind, kernel, strides, pads)
        _, height, width, channels = window.output_shape(x.shape)
        return self.append(layer, (1, height, width, channels), x.quantization)

    def mean(
        self,
        x: Value,
        axes: Sequence[int],
        keep: bool,
        output: Quantization,
        clamp: Pair = FULL_RANGE,
    ) -> Value:
        """The mean over axes of the file; an axis goes where it is not kept."""
        x = self.with_axes(self.plain(x))
        rank, behind = len(x.logical), x.axes()
        assert behind is not None
        chosen = {axis + rank if axis < 0 else axis for axis in axes}
        self.require(all(0 <= axis < rank for axis in chosen), f"is a mean over axes {list(axes)}")
        real = sorted(axis for axis in (behind[i] for i in chosen) if axis is not None)
        self.require(3 not in real, "is a mean over channels, which is not supported")
        sizes = [1 if i in chosen else size for i, size in enumerate(x.logical)]
        logical = sizes if keep else [s for i, s in enumerate(sizes) if i not in chosen]
        if not real:
            return replace(self.requantize(x, output, clamp), logical=tuple(logical))
        shape = [1 if axis in real else size for axis, size in enumerate(x.shape)]
        layer = MeanLayer(self.unique(self.layer_name), (x.name,), tuple(real), output, clamp)
        y = self.append(layer, (1, shape[1], shape[2], shape[3]), output)
        return replace(y, logical=tuple(logical), order=x.order)
