"""What each ONNX operator that computes becomes; those that only change the view: `onnx_views`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.activations import same_padding
from tiny_pipelines.frontends.layers import Quantization
from tiny_pipelines.frontends.onnx_file import Node
from tiny_pipelines.frontends.onnx_reader import (
    Clamp,
    Ended,
    Pending,
    Reader,
    Real,
    Tensor,
    Weights,
    narrowed,
)
from tiny_pipelines.frontends.onnx_views import RULES, integers_of, reads
from tiny_pipelines.frontends.pool_windows import PoolWindow, average_pool, max_pool, pool_window
from tiny_pipelines.frontends.values import NCHW, Pads, Pair, Value, as_float64, by_channel

__all__ = ["RULES"]

_BIAS_TOLERANCE = 1e-3
_INT32 = np.iinfo(np.int32)
_ONE = 64
"""The weight that is 1 at a scale of 1 / 64: exact, and with a fine unit for what is added."""


def _channels_first(y: Value, rank: int) -> Value:
    """An NHWC image as the file sees it: `[1, C, H, W]`, `[1, C, W]` or `[1, C]`."""
    _, height, width, channels = y.shape
    logical = (1, channels, *(height, width)[4 - rank :])
    return replace(y, logical=logical, order=NCHW)


def _image(read: Reader, node: Node) -> tuple[Value, int]:
    """(the first input as NHWC image, its rank in the file)."""
    x = read.real(node)
    rank = len(x.logical)
    if rank not in (3, 4):
        read.fail(f"reads a tensor of rank {rank}; expected 3 or 4")
    return read.build.image(x, channels_first=True), rank


def _pending(read: Reader, finish: Callable[[Quantization, Clamp], Value]) -> Pending:
    return Pending(finish, read.build.layer_name, read.build.place)


def _pair(read: Reader, node: Node, name: str, rank: int) -> Pair:
    """A value a spatial axis, one by default; height 1 in one dimension."""
    found = node.integers(name, [1] * (rank - 2))
    assert found is not None
    if len(found) != rank - 2 or min(found) < 1 or max(found) > 2**20:
        read.fail(f"has {name} {found}; expected {rank - 2} of at least 1")
    return (1, found[0]) if rank == 3 else (found[0], found[1])


def _pads(read: Reader, node: Node, x: Value, rank: int, kernel: Pair, strides: Pair) -> Pads:
    """Top, left, bottom, right; an operator's own pads, or those of its auto_pad."""
    mode = node.text("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        top, bottom = same_padding(x.shape[1], kernel[0], strides[0])
        left, right = same_padding(x.shape[2], kernel[1], strides[1])
        # Of an odd total the larger part lies behind, or in front.
        return (top, left, bottom, right) if mode == "SAME_UPPER" else (bottom, right, top, left)
    if mode not in ("NOTSET", "VALID"):
        read.fail(f"has auto_pad {mode!r}, which is not supported")
    found = node.integers("pads", [0] * (2 * (rank - 2)))
    assert found is not None
    if len(found) != 2 * (rank - 2) or min(found) < 0 or max(found) > 2**20:
        read.fail(f"has pads {found}; expected {2 * (rank - 2)} of at least 0")
    if mode == "VALID":
        return 0, 0, 0, 0
    return (0, found[0], 0, found[1]) if rank == 3 else (found[0], found[1], found[2], found[3])


def _no_dilation(read: Reader, node: Node) -> None:
    found = node.integers("dilations", [1])
    if any(number != 1 for number in found or []):
        read.fail(f"has dilations {found}, which is not supported")


def _channel_scales(read: Reader, weights: Weights, axis: int) -> NDArray[np.float64]:
    """One scale for each output channel, which lies along `axis`."""
    if weights.integers.dtype == np.int16:
        read.fail("has asymmetric weights; expected zero points in the middle of the range")
    if weights.integers.dtype != np.int8:
        read.fail("has 32-bit weights; expected 8 bits")
    if weights.scales.size > 1 and weights.axis != axis:
        read.fail(f"has weight scales along axis {weights.axis}; expected {axis}")
    return np.broadcast_to(weights.scales, weights.integers.shape[axis]).copy()


def _bias(read: Reader, given: Tensor | None, unit: NDArray[np.float64]) -> NDArray[np.int32]:
    """The biases in units of `unit`, one a channel: as they are, or rounded to it."""
    if given is None:
        return np.zeros(unit.shape, np.int32)
    if isinstance(given, Weights):
        scales = np.broadcast_to(given.scales, unit.shape)
        integers = given.integers.reshape(-1)
        if integers.shape == unit.shape and np.allclose(scales, unit, rtol=_BIAS_TOLERANCE, atol=0):
            return integers.astype(np.int32)
        real = given.real.reshape(-1)
    elif isinstance(given, np.ndarray) and given.dtype == np.float32:
        real = as_float64(given).reshape(-1)
    else:
        read.fail("expects constant biases, float32 or behind DequantizeLinear")
    if real.shape != unit.shape or not np.isfinite(real).all() or not (unit > 0).all():
        read.fail(f"has {real.size} biases for {unit.size} channels, or one that is not finite")
    with np.errstate(over="ignore"):
        rounded = np.rint(real / unit)
    if (np.abs(rounded) > _INT32.max).any():
        read.fail("has a bias beyond 32 bits of its channel's scale")
    return rounded.astype(np.int32)


@reads("Conv")
def _conv(read: Reader, node: Node) -> Tensor:
    x, rank = _image(read, node)
    weights = read.weights(node, 1)
    shape = weights.integers.shape
    if len(shape) != rank or 0 in shape:
        read.fail(f"has weights {list(shape)} for an input of rank {rank}")
    scales = _channel_scales(read, weights, 0)
    _no_dilation(read, node)
    weight = weights.integers if rank == 4 else weights.integers[:, :, None, :]
    weight = weight.transpose(0, 2, 3, 1)
    kernel = (weight.shape[1], weight.shape[2])
    if node.integers("kernel_shape", shape[2:]) != list(shape[2:]):
        read.fail(f"has kernel_shape {node.integers('kernel_shape', None)} for {list(shape)}")
    strides = _pair(read, node, "strides", rank)
    pads = _pads(read, node, x, rank, kernel, strides)
    bias = _bias(read, read.optional(node, 2), scales * x.quantization.scale)
    groups = node.integer("group", 1)

    def finish(output: Quantization, clamp: Clamp) -> Value:
        y = read.build.conv(
            x, weight, scales, bias, output, strides=strides, pads=pads, groups=groups, clamp=clamp
        )
        return _channels_first(y, rank)

    return _pending(read, finish)


def _linear(read: Reader, x: Value, weights: Weights, transposed: bool, bias: Any) -> Pending:
    """`x @ weights + bias`; weights are [inputs, outputs], or [outputs, inputs] if transposed."""
    if weights.integers.ndim != 2 or 0 in weights.integers.shape:
        read.fail(f"has weights {list(weights.integers.shape)}; expected rank 2")
    scales = _channel_scales(read, weights, 0 if transposed else 1)
    weight = weights.integers if transposed else weights.integers.T
    integers = _bias(read, bias, scales * x.quantization.scale)

    def finish(output: Quantization, clamp: Clamp) -> Value:
        return read.build.fully_connected(x, weight, scales, integers, output, clamp)

    return _pending(read, finish)


@reads("Gemm")
def _gemm(read: Reader, node: Node) -> Tensor:
    if node.real("alpha", 1.0) != 1 or node.real("beta", 1.0) != 1 or node.integer("transA", 0):
        read.fail("has alpha, beta or transA, which are not supported")
    transposed = bool(node.integer("transB", 0))
    x = read.real(node)
    if len(x.logical) != 2:
        read.fail(f"reads a tensor of rank {len(x.logical)}; expected 2")
    return _linear(read, x, read.weights(node, 1), transposed, read.optional(node, 2))


@reads("MatMul")
def _matmul(read: Reader, node: Node) -> Tensor:
    x, weights = read.real(node), read.weights(node, 1)
    if x.logical[-1:] != weights.integers.shape[:1]:
        read.fail(f"multiplies {list(x.logical)} by {list(weights.integers.shape)}")
    product = _linear(read, x, weights, False, None)
    return replace(product, with_bias=lambda bias: _linear(read, x, weights, False, bias))


@reads("Add")
def _add(read: Reader, node: Node) -> Tensor:
    for number in (0, 1):
        product, bias = read.operand(node, number), read.operand(node, 1 - number)
        if isinstance(product, Pending) and isinstance(bias, Weights | np.ndarray):
            if product.with_bias is None:
                read.fail("adds a constant to a result that takes none")
            read.once(node, number)
            read.build.layer_name = product.layer
            return product.with_bias(bias)
        if isinstance(product, Real) and isinstance(bias, Weights | np.ndarray):
            return _shifted(read, product.value, bias)
    a, b = read.real(node, 0), read.real(node, 1)
    return _pending(read, lambda output, clamp: read.build.add(a, b, output, clamp))


def _shifted(read: Reader, x: Value, constant: Weights | NDArray[Any]) -> Pending:
    """`x` plus one number a channel: a convolution of one pixel, a channel a group, times 1."""
    real = np.asarray(constant.real if isinstance(constant, Weights) else constant)
    x = read.build.with_axes(read.build.plain(x))
    offsets = by_channel(x, as_float64(real)) if real.dtype.kind == "f" else None
    if offsets is None:
        read.fail(
            f"adds a constant of shape {list(real.shape)} to {list(x.logical)}; expected one "
            "number, or one a channel"
        )
    channels = len(offsets)
    scales = np.full(channels, 1 / _ONE)
    bias = _bias(read, offsets.astype(np.float32), scales * x.quantization.scale)
    weight = np.full((channels, 1, 1, 1), _ONE, np.int8)

    def finish(output: Quantization, clamp: Clamp) -> Value:
        y = read.build.conv(x, weight, scales, bias, output, groups=channels, clamp=clamp)
        return replace(y, logical=x.logical, order=x.order)

    return _pending(read, finish)


def _behind(read: Reader, node: Node, bounds: tuple[float, float]) -> Tensor:
    """A clamp: of the op in front, or of an activation by itself."""
    found = read.operand(node, 0)
    if isinstance(found, Pending):
        read.once(node, 0)
        return narrowed(found, bounds)
    x = read.real(node)
    alone = _pending(read, lambda output, clamp: read.build.requantize(x, output, clamp))
    return narrowed(alone, bounds)


@reads("Relu")
def _relu(read: Reader, node: Node) -> Tensor:
    return _behind(read, node, (0.0, np.inf))


def _bound(read: Reader, node: Node, number: int, name: str, default: float) -> float:
    found = read.optional(node, number)
    if found is None:
        return node.real(name, default)
    if isinstance(found, Weights):
        found = found.real
    if not isinstance(found, np.ndarray) or found.size != 1:
        read.fail(f"expects one constant as {name}")
    return float(found.reshape(-1)[0])


@reads("Clip")
def _clip(read: Reader, node: Node) -> Tensor:
    low, high = _bound(read, node, 1, "min", -np.inf), _bound(read, node, 2, "max", np.inf)
    if not low < high:
        read.fail(f"has bounds {low} and {high}")
    return _behind(read, node, (low, high))


def _window(read: Reader, node: Node) -> tuple[Value, int, PoolWindow]:
    """(the image that a pool reads, its rank in the file, the window)."""
    x, rank = _image(read, node)
    if node.integers("kernel_shape", None) is None:
        read.fail("has no kernel_shape")
    if node.integer("storage_order", 0):
        read.fail("has storage_order, which is not supported")
    _no_dilation(read, node)
    kernel, strides = (_pair(read, node, name, rank) for name in ("kernel_shape", "strides"))
    pads = _pads(read, node, x, rank, kernel, strides)
    return x, rank, pool_window(x, kernel, strides, pads, bool(node.integer("ceil_mode", 0)))


@reads("MaxPool")
def _max_pool(read: Reader, node: Node) -> Tensor:
    x, rank, window = _window(read, node)
    return Real(_channels_first(max_pool(read.build, x, window), rank))


@reads("GlobalMaxPool")
def _global_max_pool(read: Reader, node: Node) -> Tensor:
    x, rank = _image(read, node)
    y = read.build.pool(x, "max", (x.shape[1], x.shape[2]), (1, 1), (0, 0, 0, 0))
    return Real(_channels_first(y, rank))


@reads("AveragePool")
def _average_pool(read: Reader, node: Node) -> Tensor:
    x, rank, window = _window(read, node)
    pads_count = bool(node.integer("count_include_pad", 0))

    def finish(output: Quantization, clamp: Clamp) -> Value:
        y = average_pool(read.build, x, window, pads_count)
        return _channels_first(read.build.requantize(y, output, clamp), rank)

    return _pending(read, finish)


def _mean(read: Reader, x: Value, axes: Sequence[int], keep: bool) -> Pending:
    return _pending(read, lambda output, clamp: read.build.mean(x, axes, keep, output, clamp))


@reads("GlobalAveragePool")
def _global_average_pool(read: Reader, node: Node) -> Tensor:
    x = read.real(node)
    return _mean(read, x, range(2, len(x.logical)), True)


@reads("ReduceMean")
def _reduce_mean(read: Reader, node: Node) -> Tensor:
    x, axes = read.real(node), node.integers("axes", None)
    if len(node.inputs) > 1:
        axes = integers_of(read, node, 1)
    if axes is None:
        read.fail("is a mean over all axes, which is not supported")
    return _mean(read, x, axes, bool(node.integer("keepdims", 1)))


@reads("Pad")
def _pad(read: Reader, node: Node) -> Tensor:
    if node.text("mode", "constant") != "constant" or len(node.inputs) > 3:
        read.fail("is not a constant pad of all axes, which is not supported")
    value = read.optional(node, 2)
    if isinstance(value, Weights):
        value = value.integers
    if value is not None and not (isinstance(value, np.ndarray) and not value.any()):
        read.fail("pads by a value that is not zero, which is not supported")
    x, rank = _image(read, node)
    amounts = node.integers("pads", None)
    amounts = integers_of(read, node, 1) if amounts is None else amounts
    before, after = amounts[:rank], amounts[rank:]
    if len(amounts) != 2 * rank or min(amounts) < 0 or any((*before[:2], *after[:2])):
        read.fail(f"pads by {amounts}; only height and width can be padded")
    (top, left), (bottom, right) = ([0] * (4 - rank) + side[2:] for side in (before, after))
    padded = read.build.plain(read.build.pad(x, (top, left, bottom, right)))
    return Real(_channels_first(padded, rank))


@reads("LogSoftmax", "Sigmoid", "Softmax")
def _last_activation(read: Reader, node: Node) -> Tensor:
    return Ended(read.real(node), node.type)
