"""What each aten operator that computes becomes; those that only change the view: `torch_views`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.activations import RELU, RELU6
from tiny_pipelines.frontends.calibration import quantize_channels
from tiny_pipelines.frontends.layers import Quantization
from tiny_pipelines.frontends.torch_graph import TorchNode
from tiny_pipelines.frontends.torch_importer import Clamp, Ended, Pending, Real, Tensor
from tiny_pipelines.frontends.torch_views import RULES, VIEWS, reads
from tiny_pipelines.frontends.values import NCHW, NO_PADS, Pads, Pair, Value

if TYPE_CHECKING:
    from tiny_pipelines.frontends.torch_importer import Reader

__all__ = ["RULES", "VIEWS"]

Floats = NDArray[np.float64]


def _channels_first(y: Value, rank: int) -> Value:
    """An NHWC image as PyTorch sees it: `[1, C, H, W]` or `[1, C, L]`."""
    _, height, width, channels = y.shape
    return replace(y, logical=(1, channels, *(height, width)[4 - rank :]), order=NCHW)


def _image(read: Reader, node: TorchNode, argument: str, rank: int) -> Value:
    """An activation of `rank` axes, channels first, as NHWC image."""
    x = read.real(node, argument)
    if len(x.logical) != rank:
        read.fail(f"reads a tensor of shape {list(x.logical)}; expected {rank} axes, the batch too")
    return read.build.image(x, channels_first=True)


def _pair(read: Reader, node: TorchNode, argument: str, rank: int, empty: Pair = (1, 1)) -> Pair:
    """A value a spatial axis, or one for all; height `empty[0]` in one dimension."""
    found = read.integers(node, argument)
    if not found:
        return empty
    found = found * (rank - 2) if len(found) == 1 else found
    if len(found) != rank - 2 or min(found) < 0 or max(found) > 2**20:
        read.fail(f"has {argument} {found}")
    return (empty[0], found[0]) if rank == 3 else (found[0], found[1])


def _no_dilation(read: Reader, node: TorchNode) -> None:
    found = read.integers(node, "dilation")
    if any(number != 1 for number in found):
        read.fail(f"has dilation {found}, which is not supported")


def _bias(read: Reader, node: TorchNode, channels: int) -> Floats:
    found = read.constant(node, "bias")
    return np.zeros(channels) if found is None else found


def _conv_pads(read: Reader, node: TorchNode, kernel: Pair, rank: int) -> Pads:
    padding = node.arguments["padding"]
    if padding == "valid":
        return NO_PADS
    if padding == "same":
        # Of an odd total the larger part lies behind.
        before = [(size - 1) // 2 for size in kernel]
        return before[0], before[1], kernel[0] - 1 - before[0], kernel[1] - 1 - before[1]
    if isinstance(padding, str):
        read.fail(f"has padding {padding!r}, which is not supported")
    height, width = _pair(read, node, "padding", rank, (0, 0))
    return height, width, height, width


def _conv(read: Reader, node: TorchNode, rank: int) -> Tensor:
    x = _image(read, node, "input", rank)
    weight = read.constant(node, "weight")
    if weight is None or weight.ndim != rank:
        read.fail(f"expects weights of {rank} axes")
    weight = weight if rank == 4 else weight[:, :, None, :]
    weight = weight.transpose(0, 2, 3, 1)
    _no_dilation(read, node)
    strides = _pair(read, node, "stride", rank)
    pads = _conv_pads(read, node, (weight.shape[1], weight.shape[2]), rank)
    (groups,) = read.integers(node, "groups")
    return _convolution(
        read, node, x, weight, _bias(read, node, weight.shape[0]), rank,
        strides=strides, pads=pads, groups=groups,
    )  # fmt: skip


def _convolution(
    read: Reader,
    node: TorchNode,
    x: Value,
    weight: Floats,
    bias: Floats,
    rank: int,
    **geometry: Any,
) -> Pending:
    """A convolution with weights O·KH·KW·(I/groups); channels may still be scaled."""

    def finish(output: Quantization, clamp: Clamp) -> Value:
        found = quantize_channels(weight, bias, x.quantization, output)
        y = read.build.conv(
            x, found.weight, found.scales, found.bias, output, clamp=clamp, **geometry
        )
        return _channels_first(y, rank)

    def scaled(factor: Floats, offset: Floats) -> Pending:
        column = factor[:, None, None, None]
        bias_too = bias * factor + offset
        return _convolution(read, node, x, weight * column, bias_too, rank, **geometry)

    return Pending(finish, node, scaled=scaled)


@reads("conv2d")
def _conv2d(read: Reader, node: TorchNode) -> Tensor:
    return _conv(read, node, 4)


@reads("conv1d")
def _conv1d(read: Reader, node: TorchNode) -> Tensor:
    return _conv(read, node, 3)


def _fully_connected(
    read: Reader, node: TorchNode, x: Value, weight: Floats, bias: Floats
) -> Pending:
    def finish(output: Quantization, clamp: Clamp) -> Value:
        found = quantize_channels(weight, bias, x.quantization, output)
        y = read.build.fully_connected(x, found.weight, found.scales, found.bias, output, clamp)
        return replace(y, logical=(*x.logical[:-1], weight.shape[0]))

    def scaled(factor: Floats, offset: Floats) -> Pending:
        return _fully_connected(read, node, x, weight * factor[:, None], bias * factor + offset)

    # A batch norm scales axis 1, which holds the outputs only of a tensor of two axes.
    return Pending(finish, node, scaled=scaled if len(x.logical) == 2 else None)


@reads("linear")
def _linear(read: Reader, node: TorchNode) -> Tensor:
    x, weight = read.real(node, "input"), read.constant(node, "weight")
    if weight is None or weight.ndim != 2 or x.logical[-1] != weight.shape[1]:
        read.fail(f"has weights that do not fit {list(x.logical)}")
    return _fully_connected(read, node, x, weight, _bias(read, node, weight.shape[0]))


@reads("batch_norm")
def _batch_norm(read: Reader, node: TorchNode) -> Tensor:
    mean, variance = (read.constant(node, f"running_{name}") for name in ("mean", "var"))
    if node.arguments["training"] or mean is None or variance is None:
        read.fail("normalizes by the batch: call module.eval() before the export")
    weight, bias = read.constant(node, "weight"), read.constant(node, "bias")
    deviation = np.sqrt(variance + node.arguments["eps"])
    factor = (1.0 if weight is None else weight) / deviation
    offset = (0.0 if bias is None else bias) - mean * factor
    pending = read.fusable(node, "input")
    if pending is not None and pending.scaled is not None:
        return pending.scaled(factor, offset)
    # Nothing to fold it into: a convolution of one pixel, a channel a group.
    x = read.real(node, "input")
    rank, channels = len(x.logical), len(factor)
    if rank == 2:
        read.fail("does not follow a linear layer of its own, which is not supported")
    image = _image(read, node, "input", rank)
    kernel = factor.reshape(channels, 1, 1, 1)
    return _convolution(read, node, image, kernel, offset, rank, groups=channels)


@reads("relu")
def _relu(read: Reader, node: TorchNode) -> Tensor:
    return read.clamped(node, "self", RELU)


@reads("relu6")
def _relu6(read: Reader, node: TorchNode) -> Tensor:
    return read.clamped(node, "self", RELU6)


def _bound(read: Reader, node: TorchNode, argument: str, absent: float) -> float:
    found = node.arguments.get(argument)
    if found is None:
        return absent
    if not isinstance(found, int | float):
        read.fail(f"expects a number as {argument}")
    return float(found)


def _clamped(read: Reader, node: TorchNode, low: str, high: str) -> Tensor:
    bounds = _bound(read, node, low, -math.inf), _bound(read, node, high, math.inf)
    if not (bounds[0] < bounds[1] and bounds[0] <= 0 <= bounds[1]):
        read.fail(f"clamps to {list(bounds)}; expected a range that holds zero")
    return read.clamped(node, "self", bounds)


@reads("hardtanh")
def _hardtanh(read: Reader, node: TorchNode) -> Tensor:
    return _clamped(read, node, "min_val", "max_val")


@reads("clamp", "clamp_min", "clamp_max", "clip")
def _clamp(read: Reader, node: TorchNode) -> Tensor:
    return _clamped(read, node, "min", "max")


@reads("add")
def _add(read: Reader, node: TorchNode) -> Tensor:
    if node.arguments.get("alpha", 1) != 1:
        read.fail("adds a multiple (alpha), which is not supported")
    a, b = read.real(node, "self"), read.real(node, "other")
    return Pending(lambda output, clamp: read.build.add(a, b, output, clamp), node)


def _window(read: Reader, node: TorchNode, rank: int) -> tuple[Value, Pair, Pair, Pads]:
    """(image, kernel, strides, pads) of a pool; without strides they are the kernel's sizes."""
    x = _image(read, node, "self", rank)
    if node.arguments["ceil_mode"]:
        read.fail("has ceil_mode, which is not supported")
    kernel = _pair(read, node, "kernel_size", rank)
    strides = _pair(read, node, "stride", rank, kernel if rank == 4 else (1, kernel[1]))
    height, width = _pair(read, node, "padding", rank, (0, 0))
    return x, kernel, strides, (height, width, height, width)


def _pooled(
    read: Reader, x: Value, kind: Literal["max", "average"], rank: int, *window: Any
) -> Tensor:
    return Real(_channels_first(read.build.pool(x, kind, *window), rank))


@reads("max_pool1d", "max_pool2d")
def _max_pool(read: Reader, node: TorchNode) -> Tensor:
    rank = 4 if node.kind.endswith("2d") else 3
    _no_dilation(read, node)
    x, kernel, strides, pads = _window(read, node, rank)
    return _pooled(read, x, "max", rank, kernel, strides, pads)


@reads("avg_pool1d", "avg_pool2d")
def _average_pool(read: Reader, node: TorchNode) -> Tensor:
    rank = 4 if node.kind.endswith("2d") else 3
    if node.arguments.get("divisor_override") is not None:
        read.fail("has divisor_override, which is not supported")
    x, kernel, strides, pads = _window(read, node, rank)
    if kernel == x.shape[1:3] and not any(pads):
        return _mean(read, node, range(2, rank), True)
    if node.arguments["count_include_pad"] and any(pads):
        x, pads = read.build.plain(read.build.pad(x, pads)), NO_PADS
    return _pooled(read, x, "average", rank, kernel, strides, pads)


def _mean(read: Reader, node: TorchNode, axes: Any, keep: bool) -> Pending:
    x = read.real(node, "self")
    return Pending(lambda output, clamp: read.build.mean(x, axes, keep, output, clamp), node)


@reads("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def _adaptive_average_pool(read: Reader, node: TorchNode) -> Tensor:
    rank = 4 if node.kind.endswith("2d") else 3
    sizes = _pair(read, node, "output_size", rank)
    if sizes == (1, 1):
        return _mean(read, node, range(2, rank), True)
    x = _image(read, node, "self", rank)
    if min(sizes) < 1 or any(n % size for n, size in zip(x.shape[1:3], sizes, strict=True)):
        read.fail(f"pools {list(x.shape[1:3])} to {list(sizes)}, windows of different sizes")
    kernel = (x.shape[1] // sizes[0], x.shape[2] // sizes[1])
    return _pooled(read, x, "average", rank, kernel, kernel, NO_PADS)


@reads("mean")
def _mean_of_axes(read: Reader, node: TorchNode) -> Tensor:
    if not node.arguments.get("dim") or node.arguments.get("dtype") is not None:
        read.fail("is a mean over all axes, or of another type, which is not supported")
    return _mean(read, node, read.integers(node, "dim"), bool(node.arguments["keepdim"]))


@reads("pad", "constant_pad_nd")
def _pad(read: Reader, node: TorchNode) -> Tensor:
    value = node.arguments["value"]
    if node.arguments.get("mode", "constant") != "constant" or value not in (None, 0):
        read.fail("pads by something other than zeros, which is not supported")
    amounts = read.integers(node, "pad")
    rank = len(read.real(node, "self").logical)
    if rank not in (3, 4) or len(amounts) > 2 * (rank - 2) or min(amounts, default=0) < 0:
        read.fail(f"pads by {amounts}; only height and width can be padded")
    left, right, top, bottom = amounts + [0] * (4 - len(amounts))
    x = _image(read, node, "self", rank)
    padded = read.build.plain(read.build.pad(x, (top, left, bottom, right)))
    return Real(_channels_first(padded, rank))


@reads("softmax", "log_softmax")
def _softmax(read: Reader, node: TorchNode) -> Tensor:
    return Ended(read.real(node, "self"))
