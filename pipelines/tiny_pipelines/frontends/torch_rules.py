"""What aten operators that compute become; others: `torch_affine`, and views: `torch_views`."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.activations import RELU, RELU6
from tiny_pipelines.frontends.calibration import quantize_channels
from tiny_pipelines.frontends.layers import Quantization
from tiny_pipelines.frontends.pool_windows import PoolWindow, average_pool, max_pool, pool_window
from tiny_pipelines.frontends.torch_graph import TorchNode
from tiny_pipelines.frontends.torch_reader import Clamp, Ended, Pending, Reader, Real, Tensor
from tiny_pipelines.frontends.torch_views import RULES, VIEWS, reads
from tiny_pipelines.frontends.values import NCHW, NO_PADS, Pads, Pair, Value

__all__ = ["RULES", "VIEWS", "reads"]

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
        column = np.broadcast_to(factor, bias.shape)[:, None, None, None]
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
        column = np.broadcast_to(factor, bias.shape)[:, None]
        return _fully_connected(read, node, x, weight * column, bias * factor + offset)

    # A batch norm scales axis 1, which holds the outputs only of a tensor of two axes.
    return Pending(finish, node, scaled=scaled if len(x.logical) == 2 else None)


@reads("linear")
def _linear(read: Reader, node: TorchNode) -> Tensor:
    x, weight = read.real(node, "input"), read.constant(node, "weight")
    if weight is None or weight.ndim != 2 or x.logical[-1] != weight.shape[1]:
        read.fail(f"has weights that do not fit {list(x.logical)}")
    return _fully_connected(read, node, x, weight, _bias(read, node, weight.shape[0]))


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


def _window(read: Reader, node: TorchNode, rank: int) -> tuple[Value, PoolWindow]:
    """(image, window) of a pool; without strides they are the kernel's sizes."""
    x = _image(read, node, "self", rank)
    kernel = _pair(read, node, "kernel_size", rank)
    strides = _pair(read, node, "stride", rank, kernel if rank == 4 else (1, kernel[1]))
    height, width = _pair(read, node, "padding", rank, (0, 0))
    pads = (height, width, height, width)
    return x, pool_window(x, kernel, strides, pads, bool(node.arguments["ceil_mode"]))


@reads("max_pool1d", "max_pool2d")
def _max_pool(read: Reader, node: TorchNode) -> Tensor:
    rank = 4 if node.kind.endswith("2d") else 3
    _no_dilation(read, node)
    x, window = _window(read, node, rank)
    return Real(_channels_first(max_pool(read.build, x, window), rank))


@reads("avg_pool1d", "avg_pool2d")
def _average_pool(read: Reader, node: TorchNode) -> Tensor:
    rank = 4 if node.kind.endswith("2d") else 3
    if node.arguments.get("divisor_override") is not None:
        read.fail("has divisor_override, which is not supported")
    x, window = _window(read, node, rank)
    if window.kernel == x.shape[1:3] and not any(window.whole_pads):
        return _mean(read, node, range(2, rank), True)
    y = average_pool(read.build, x, window, bool(node.arguments["count_include_pad"]))
    return Real(_channels_first(y, rank))


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
    y = read.build.pool(x, "average", kernel, kernel, NO_PADS)
    return Real(_channels_first(y, rank))


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


@reads("log_softmax", "sigmoid", "softmax")
def _last_activation(read: Reader, node: TorchNode) -> Tensor:
    return Ended(read.real(node, "self"))
