"""aten operators that scale and shift: by constants, of a number a channel; and sums.

They fold into the layer in front where that is alone, in float64. Elsewhere they are a convolution
of one pixel, a channel a group.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.calibration import quantize_channels
from tiny_pipelines.frontends.layers import Quantization
from tiny_pipelines.frontends.torch_graph import Ref, TorchNode
from tiny_pipelines.frontends.torch_reader import Clamp, Pending, Reader, Tensor
from tiny_pipelines.frontends.torch_rules import RULES, VIEWS, reads
from tiny_pipelines.frontends.values import Value, as_float64, by_channel, has_channels_on

__all__ = ["RULES", "VIEWS"]

Floats = NDArray[np.float64]


def _constant(read: Reader, node: TorchNode, argument: str) -> Floats | None:
    """The constant that an argument is; None for an activation."""
    found: Any = node.arguments[argument]
    if isinstance(found, Ref):
        found = read.values[found.name]
    if isinstance(found, bool) or not isinstance(found, int | float | np.ndarray):
        return None
    return as_float64(np.asarray(found))


def _affine(
    read: Reader, node: TorchNode, argument: str, factor: float | Floats, offset: float | Floats
) -> Tensor:
    """An activation times `factor` plus `offset`, which are broadcast as PyTorch does."""
    factor, offset = np.asarray(factor, np.float64), np.asarray(offset, np.float64)
    if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        read.fail("scales or shifts by what is not finite")
    one = factor.size == offset.size == 1 and max(factor.ndim, offset.ndim) < 2
    if one and factor.item() == 1 and offset.item() == 0:
        return read.view(node, argument, lambda x: x)
    pending = read.fusable(node, argument)
    if one and pending is not None and pending.scaled is not None:
        return pending.scaled(factor.reshape(()), offset.reshape(()))
    x = read.build.with_axes(read.build.plain(read.real(node, argument)))
    channelwise = by_channel(x, factor), by_channel(x, offset)
    if channelwise[0] is None or channelwise[1] is None:
        shape = list((factor if channelwise[0] is None else offset).shape)
        read.fail(
            f"has a constant of shape {shape} for {list(x.logical)}; expected one number, or one "
            "a channel"
        )
    return _elementwise(read, node, x, channelwise[0], channelwise[1])


def _elementwise(
    read: Reader, node: TorchNode, x: Value, factor: Floats, offset: Floats
) -> Pending:
    """`x` times a number plus a number a channel."""

    def finish(output: Quantization, clamp: Clamp) -> Value:
        kernel = factor.reshape(-1, 1, 1, 1)
        found = quantize_channels(kernel, offset, x.quantization, output)
        y = read.build.conv(
            x, found.weight, found.scales, found.bias, output, groups=len(factor), clamp=clamp
        )
        return replace(y, logical=x.logical, order=x.order)

    def scaled(more: Floats, offset_too: Floats) -> Pending:
        return _elementwise(read, node, x, factor * more, offset * more + offset_too)

    # What scales a layer in front does so along axis 1.
    return Pending(finish, node, scaled=scaled if has_channels_on(x, 1) else None)


def _one_constant(read: Reader, node: TorchNode, verb: str) -> tuple[str, Floats, bool]:
    """(the argument that is an activation, the constant, True where the constant is `self`)."""
    constants = {name: _constant(read, node, name) for name in ("self", "other")}
    given = [name for name, found in constants.items() if found is not None]
    if len(given) != 1:
        read.fail(f"{verb} two activations or constants; expected one of each")
    constant = constants[given[0]]
    assert constant is not None
    return ("other", constant, True) if given == ["self"] else ("self", constant, False)


def _plain(read: Reader, node: TorchNode) -> None:
    if node.arguments.get("alpha", 1) != 1:
        read.fail("adds a multiple (alpha), which is not supported")
    if node.arguments.get("rounding_mode") is not None:
        read.fail("divides to integers, which is not supported")


@reads("add")
def _add(read: Reader, node: TorchNode) -> Tensor:
    _plain(read, node)
    if any(_constant(read, node, name) is not None for name in ("self", "other")):
        argument, constant, _ = _one_constant(read, node, "adds")
        return _affine(read, node, argument, 1.0, constant)
    a, b = read.real(node, "self"), read.real(node, "other")
    return Pending(lambda output, clamp: read.build.add(a, b, output, clamp), node)


@reads("mul")
def _multiply(read: Reader, node: TorchNode) -> Tensor:
    argument, constant, _ = _one_constant(read, node, "multiplies")
    return _affine(read, node, argument, constant, 0.0)


@reads("div")
def _divide(read: Reader, node: TorchNode) -> Tensor:
    _plain(read, node)
    argument, constant, reversed_ = _one_constant(read, node, "divides")
    if reversed_ or not constant.all():
        read.fail("divides by an activation or by zero, which is not supported")
    with np.errstate(over="ignore"):
        factor = 1.0 / constant
    return _affine(read, node, argument, factor, 0.0)


def _difference(reversed_names: bool) -> Callable[[Reader, TorchNode], Tensor]:
    def rule(read: Reader, node: TorchNode) -> Tensor:
        _plain(read, node)
        argument, constant, from_constant = _one_constant(read, node, "subtracts")
        if from_constant != reversed_names:
            return _affine(read, node, argument, -1.0, constant)
        return _affine(read, node, argument, 1.0, -constant)

    return rule


reads("sub")(_difference(reversed_names=False))
reads("rsub")(_difference(reversed_names=True))


@reads("batch_norm")
def _batch_norm(read: Reader, node: TorchNode) -> Tensor:
    mean, variance = (read.constant(node, f"running_{name}") for name in ("mean", "var"))
    if node.arguments["training"] or mean is None or variance is None:
        read.fail("normalizes by the batch: call module.eval() before the export")
    weight, bias = read.constant(node, "weight"), read.constant(node, "bias")
    deviation = np.sqrt(variance + node.arguments["eps"])
    factor = np.asarray((1.0 if weight is None else weight) / deviation)
    offset = np.asarray((0.0 if bias is None else bias) - mean * factor)
    pending = read.fusable(node, "input")
    if pending is not None and pending.scaled is not None:
        return pending.scaled(factor, offset)
    x = read.build.with_axes(read.build.plain(read.real(node, "input")))
    if not has_channels_on(x, 1):
        read.fail(f"normalizes an axis of {list(x.logical)} that does not hold channels")
    return _elementwise(read, node, x, factor, offset)
