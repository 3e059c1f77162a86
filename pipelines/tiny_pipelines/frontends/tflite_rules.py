"""What each TFLite operator becomes: the table that the importer looks names up in."""

from collections.abc import Callable
from typing import Any

from tiny_pipelines.frontends.activations import RELU, RELU6, RELU_N1_TO_1, quantized_clamp
from tiny_pipelines.frontends.layers import FULL_RANGE
from tiny_pipelines.frontends.tflite_file import Operator
from tiny_pipelines.frontends.tflite_reader import Reader, Rule
from tiny_pipelines.frontends.values import Value

RULES: dict[str, Rule] = {}


def reads(name: str) -> Callable[[Rule], Rule]:
    """Make the decorated function the rule of operator `name`."""

    def register(rule: Rule) -> Rule:
        RULES[name] = rule
        return rule

    return register


@reads("CONV_2D")
def _conv_2d(read: Reader, operator: Operator) -> Value:
    weight, scales = read.weights(operator, 4, 0)
    read.no_dilation(operator, 4)
    x, strides = read.image(operator), read.strides(operator)
    pads = read.padding(operator, x, (weight.shape[1], weight.shape[2]), strides)
    if x.shape[3] % weight.shape[3]:
        read.fail(f"has weights {list(weight.shape)} for {x.shape[3]} channels")
    return read.build.conv(
        x, weight, scales, read.bias(operator, weight.shape[0]), read.output(operator),
        strides=strides, pads=pads, groups=x.shape[3] // weight.shape[3],
        clamp=read.clamp(operator, 3),
    )  # fmt: skip


@reads("DEPTHWISE_CONV_2D")
def _depthwise_conv_2d(read: Reader, operator: Operator) -> Value:
    weight, scales = read.weights(operator, 4, 3)
    read.no_dilation(operator, 5)
    x, strides = read.image(operator), read.strides(operator)
    if weight.shape[0] != 1:
        read.fail(f"has weights {list(weight.shape)}; expected 1 as the first size")
    pads = read.padding(operator, x, (weight.shape[1], weight.shape[2]), strides)
    # Output channel c * multiplier + m reads input channel c: groups in order.
    by_channel = weight[0].transpose(2, 0, 1)[..., None]
    return read.build.conv(
        x, by_channel, scales, read.bias(operator, weight.shape[3]), read.output(operator),
        strides=strides, pads=pads, groups=x.shape[3], clamp=read.clamp(operator, 4),
    )  # fmt: skip


@reads("FULLY_CONNECTED")
def _fully_connected(read: Reader, operator: Operator) -> Value:
    weight, scales = read.weights(operator, 2, 0)
    if operator.option(1, "i8"):
        read.fail("has shuffled weights, which are not supported")
    y = read.build.fully_connected(
        read.value(operator, 0), weight, scales, read.bias(operator, weight.shape[0]),
        read.output(operator), read.clamp(operator, 0),
    )  # fmt: skip
    return read.build.reshape(y, read.shape(operator))


@reads("ADD")
def _add(read: Reader, operator: Operator) -> Value:
    a, b = read.value(operator, 0), read.value(operator, 1)
    return read.build.add(a, b, read.output(operator), read.clamp(operator, 0))


def _pool(read: Reader, operator: Operator, kind: Any) -> Value:
    x, strides = read.image(operator), read.strides(operator)
    kernel = operator.option(4, "i32"), operator.option(3, "i32")
    if min(kernel) < 1:
        read.fail(f"has kernel {list(kernel)}; expected at least 1")
    pads = read.padding(operator, x, kernel, strides)
    y = read.build.pool(x, kind, kernel, strides, pads)
    clamp = read.clamp(operator, 5)
    return y if clamp == FULL_RANGE else read.build.requantize(y, y.quantization, clamp)


@reads("MAX_POOL_2D")
def _max_pool_2d(read: Reader, operator: Operator) -> Value:
    return _pool(read, operator, "max")


@reads("AVERAGE_POOL_2D")
def _average_pool_2d(read: Reader, operator: Operator) -> Value:
    return _pool(read, operator, "average")


@reads("MEAN")
def _mean(read: Reader, operator: Operator) -> Value:
    keep, axes = bool(operator.option(0, "i8")), read.integers(operator, 1)
    return read.build.mean(read.value(operator, 0), axes, keep, read.output(operator))


@reads("PAD")
def _pad(read: Reader, operator: Operator) -> Value:
    x, amounts = read.value(operator, 0), read.integers(operator, 1)
    rank = len(x.logical)
    if len(amounts) != 2 * rank or min(amounts) < 0 or rank not in (3, 4):
        read.fail(f"pads a tensor of rank {rank} by {amounts}")
    inner = (0, 0) * (4 - rank) + tuple(amounts)
    if any(amounts[:2]) or any(amounts[-2:]):
        read.fail(f"pads batch or channels by {amounts}, which is not supported")
    if rank == 3:
        # [1, W, C]: the first pair is that of the batch.
        inner = (0, 0, 0, 0, *amounts[2:])
    return read.build.pad(x, (inner[2], inner[4], inner[3], inner[5]))


@reads("QUANTIZE")
def _quantize(read: Reader, operator: Operator) -> Value:
    return read.build.requantize(read.value(operator, 0), read.output(operator))


def _clamped(read: Reader, operator: Operator, bounds: tuple[float, float]) -> Value:
    output = read.output(operator)
    clamp = quantized_clamp(bounds, output)
    return read.build.requantize(read.value(operator, 0), output, clamp)


@reads("RELU")
def _relu(read: Reader, operator: Operator) -> Value:
    return _clamped(read, operator, RELU)


@reads("RELU6")
def _relu6(read: Reader, operator: Operator) -> Value:
    return _clamped(read, operator, RELU6)


@reads("RELU_N1_TO_1")
def _relu_n1_to_1(read: Reader, operator: Operator) -> Value:
    return _clamped(read, operator, RELU_N1_TO_1)


@reads("TRANSPOSE")
def _transpose(read: Reader, operator: Operator) -> Value:
    return read.build.transpose(read.value(operator, 0), read.integers(operator, 1))


def _reshape(read: Reader, operator: Operator) -> Value:
    # The file holds the result's shape; what else an operator says of it is the same.
    return read.build.reshape(read.value(operator, 0), read.shape(operator))


for _name in ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"):
    reads(_name)(_reshape)
