"""aten operators that change nothing but how a tensor is seen, and the table of all operators."""

import math
from collections.abc import Callable

from tiny_pipelines.frontends.torch_graph import TorchNode
from tiny_pipelines.frontends.torch_reader import Reader, Rule, Tensor
from tiny_pipelines.frontends.values import Value

RULES: dict[str, Rule] = {}

_IDENTITIES = ("alias", "clone", "contiguous", "detach", "lift_fresh_copy")
_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
VIEWS = frozenset(
    {*_IDENTITIES, *_DROPOUTS, "flatten", "permute", "reshape", "squeeze", "transpose"}
    | {"unsqueeze", "view"}
)
"""The operators whose result may share memory with their operand."""


def reads(*names: str) -> Callable[[Rule], Rule]:
    """Make the decorated function the rule of these operators, in all their overloads."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _axis(read: Reader, axis: int, rank: int) -> int:
    if not -rank <= axis < max(rank, 1):
        read.fail(f"has axis {axis} of {rank}")
    return axis % max(rank, 1)


@reads(*_IDENTITIES)
def _identity(read: Reader, node: TorchNode) -> Tensor:
    return read.view(node, "self", lambda x: x)


@reads(*_DROPOUTS)
def _dropout(read: Reader, node: TorchNode) -> Tensor:
    if node.arguments["train"]:
        read.fail("drops values: call module.eval() before the export")
    return read.view(node, "input", lambda x: x)


@reads("flatten")
def _flatten(read: Reader, node: TorchNode) -> Tensor:
    if "start_dim" not in node.arguments or "out_dim" in node.arguments:
        read.fail("names its axes, which is not supported")
    (start,), (end,) = (read.integers(node, f"{name}_dim") for name in ("start", "end"))

    def view(x: Value) -> Value:
        rank = len(x.logical)
        first, last = _axis(read, start, rank), _axis(read, end, rank) + 1
        flat = math.prod(x.logical[first:last])
        return read.build.reshape(x, [*x.logical[:first], flat, *x.logical[last:]])

    return read.view(node, "self", view)


@reads("view", "reshape")
def _reshape(read: Reader, node: TorchNode) -> Tensor:
    argument = "size" if "size" in node.arguments else "shape"
    if argument not in node.arguments:
        read.fail("changes the type, which is not supported")
    wanted = read.integers(node, argument)
    return read.view(node, "self", lambda x: read.build.reshape(x, wanted))


@reads("squeeze")
def _squeeze(read: Reader, node: TorchNode) -> Tensor:
    chosen = read.integers(node, "dim") if "dim" in node.arguments else None

    def view(x: Value) -> Value:
        rank = len(x.logical)
        axes = range(rank) if chosen is None else {_axis(read, axis, rank) for axis in chosen}
        kept = [size for i, size in enumerate(x.logical) if i not in axes or size != 1]
        return read.build.reshape(x, kept)

    return read.view(node, "self", view)


@reads("unsqueeze")
def _unsqueeze(read: Reader, node: TorchNode) -> Tensor:
    (axis,) = read.integers(node, "dim")

    def view(x: Value) -> Value:
        place = _axis(read, axis, len(x.logical) + 1)
        return read.build.reshape(x, [*x.logical[:place], 1, *x.logical[place:]])

    return read.view(node, "self", view)


@reads("permute")
def _permute(read: Reader, node: TorchNode) -> Tensor:
    order = read.integers(node, "dims")

    def view(x: Value) -> Value:
        rank = len(x.logical)
        return read.build.transpose(x, [_axis(read, axis, rank) for axis in order])

    return read.view(node, "self", view)


@reads("transpose")
def _transpose(read: Reader, node: TorchNode) -> Tensor:
    (a,), (b,) = read.integers(node, "dim0"), read.integers(node, "dim1")

    def view(x: Value) -> Value:
        order = list(range(len(x.logical)))
        i, j = _axis(read, a, len(order)), _axis(read, b, len(order))
        order[i], order[j] = order[j], order[i]
        return read.build.transpose(x, order)

    return read.view(node, "self", view)


@reads("sym_size")
def _size(read: Reader, node: TorchNode) -> Tensor:
    (axis,) = read.integers(node, "dim")
    shape = read.real(node, "self").logical
    return shape[_axis(read, axis, len(shape))]
