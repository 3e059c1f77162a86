"""Choose, by an update scheme, what the training step changes, and how that is stored.

Scheme:  {"c": 0.5}
Before:  %w = "tiny.parameter"() {symbol = "c.w", trained} : tensor<8x1x1x4xi8>
         %y = "tiny.conv2d"(%x, %w, %b)
         %gw = "tiny.conv2d_weight_grad"(%x, %g) : tensor<8x1x1x4xf32>
         "tiny.apply_update"(%w, %gw, %rate)
After:   %w = "tiny.parameter"() {symbol = "c.w"} : tensor<8x1x1x4xi8>                  frozen
         %t = "tiny.parameter"() {symbol = "c.w.trained", trained} : tensor<8x1x1x2xi16>
         %s = "tiny.gather_channels"(%x) {channels = [1, 3]}
         %y = "tiny.conv2d"(%x, %w, %b, %t) {trained_channels = [1, 3]}
         %gw = "tiny.conv2d_weight_grad"(%s, %g) : tensor<8x1x1x2xf32>
         "tiny.apply_update"(%t, %gw, %rate)

Every other parameter becomes a constant without update; `tiny-prune-backward` then removes what
only those updates needed. A whole weight becomes one master of the storage type. The chosen
channels are those of the largest L2 norm of the dequantized weights, the lower index first.
Storage types are in docs/design/ir.md. The forward results are unchanged. `int8-stochastic` makes
the update of a weight a `stochastic_update`, counts the steps in a trained parameter of its own,
and numbers the random streams in program order.

Cost: one walk, linear in the weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import dense, integer, integers, string, to_array
from tiny_dialect.bindings import ir
from tiny_dialect.ops import AdvanceCounter, GatherChannels, Parameter
from tiny_dialect.ops.convolution import geometry, input_channels, is_depthwise, trained_axis
from tiny_dialect.ops.update import TRUNCATE
from tiny_dialect.rounding import first_count, random_stream
from tiny_dialect.types import element_name, shape_of, tensor
from tiny_passes.graph import body, copy_layer, parameters, producer, terminator, users
from tiny_passes.layers import Layers, layers_of
from tiny_passes.prune_backward import updates_of
from tiny_passes.rebuild import rebuilt, replace, with_trained
from tiny_passes.registry import PassError, register_pass
from tiny_passes.update_scheme import UpdateScheme, chosen_count, read_scheme

Storage = Literal["int16", "float32", "int8", "int8-stochastic", "int8-truncate"]
COUNTER = "step_counter"
TRAINED_SUFFIX = ".trained"
# The middle of the bucket that an int8 weight is, in an int16 master of 8 fraction bits.
_HALF = 128


@dataclass(frozen=True)
class _Wanted:
    """Parameter symbols to train: wholly, or in part (convolution and ratio)."""

    whole: frozenset[str]
    partial: dict[str, tuple[Any, float]]


def master(weight: NDArray[np.int8], update: Storage) -> NDArray[Any]:
    """The initial stored values of a trained int8 weight, of the same shape."""
    if update == "int16":
        return (weight.astype(np.int16) << 8) + np.int16(_HALF)
    return weight.astype(np.float32) if update == "float32" else weight


def ranked_channels(conv: Any) -> list[int]:
    """The channels of a convolution's weight by dequantized L2 norm, the largest first.

    Input channels of each group, for a depthwise weight output channels.
    """
    weight = to_array(_parameter(conv.w).value).astype(np.float64)
    real = weight * to_array(conv.weight_scales).reshape(-1, 1, 1, 1)
    axis = trained_axis(geometry(conv).groups, weight.shape)
    energy = (real**2).sum(axis=tuple(i for i in range(4) if i != axis))
    return [int(i) for i in np.argsort(-energy, kind="stable")]


def chosen_channels(conv: Any, ratio: float) -> list[int]:
    """The first of `ranked_channels`, in increasing order."""
    ranked = ranked_channels(conv)
    return sorted(ranked[: chosen_count(len(ranked), ratio)])


def _parameter(value: Any) -> Any:
    """The `tiny.parameter` that produces a value; raises `PassError` for anything else."""
    op = producer(value)
    if op is None or op.operation.name != "tiny.parameter":
        place = op if op is not None else next(iter(value.uses)).owner
        raise PassError(place, "expects weights and biases to be tiny.parameter results")
    return op


def _symbol(value: Any) -> str:
    return _parameter(value).symbol.value


def _share(conv: Any, ratio: float) -> bool:
    """True where the ratio leaves a part of the weight out."""
    shape = shape_of(conv.w)
    count = shape[trained_axis(geometry(conv).groups, shape)]
    return chosen_count(count, ratio) < count


def _wanted(step: Any, layers: Layers, scheme: UpdateScheme) -> _Wanted:
    selection = scheme.resolve(layers.names)
    whole = {_symbol(layers.convolutions[i].bias) for i in selection.biases}
    heads = [op for op in body(step) if op.operation.name == "tiny.linear"]
    if layers.classifier is not None:
        heads.append(layers.classifier)
    for head in heads:
        whole |= {_symbol(head.w), _symbol(head.bias)}
    partial: dict[str, tuple[Any, float]] = {}
    for index, ratio in selection.weights.items():
        conv = layers.convolutions[index]
        if _share(conv, ratio):
            partial[_symbol(conv.w)] = (conv, ratio)
        else:
            whole.add(_symbol(conv.w))
    return _Wanted(frozenset(whole), {s: p for s, p in partial.items() if s not in whole})


def _users(value: Any, *names: str) -> list[Any]:
    """The ops of the given names that use a value."""
    return [op for op in users(value) if op.operation.name in names]


def _freeze(parameter: Any, update: Any) -> None:
    del parameter.attributes["trained"]
    update.operation.erase()


def _retype(parameter: Any, update: Storage) -> None:
    """Store a wholly trained int8 weight as its master; biases and the float head stay."""
    if element_name(parameter.result) != "i8" or update.startswith("int8"):
        return
    value = dense(master(to_array(parameter.value), update))
    stored = rebuilt(parameter, results=[value.type], attributes={"value": value})
    replace(parameter, stored)


def _trained_part(step: Any, conv: Any, channels: list[int], update: Storage) -> Any:
    """A new trained parameter behind the frozen weight, with the chosen channels' masters."""
    frozen = _parameter(conv.w)
    symbol = _symbol(conv.w) + TRAINED_SUFFIX
    if symbol in parameters(step):
        raise PassError(frozen, f"a parameter {symbol} exists already")
    weight = to_array(frozen.value)
    axis = trained_axis(geometry(conv).groups, weight.shape)
    value = dense(master(weight.take(channels, axis), update))
    attributes = {"symbol": string(symbol), "value": value}
    part = rebuilt(frozen, results=[value.type], attributes=attributes)
    part.operation.move_after(frozen.operation)
    return part


def _gathered(conv: Any, channels: list[int]) -> Any:
    """A copy of the chosen channels of the convolution's input, right behind its producer."""
    x = conv.x
    shape = list(shape_of(x))
    shape[3] = len(channels)
    source = producer(x)
    if source is None:
        point = ir.InsertionPoint.at_block_begin(conv.operation.block)
    else:
        point = ir.InsertionPoint.after(source.operation)
    kept = ir.RankedTensorType.get(shape, x.type.element_type)
    gather = GatherChannels(x, kept, integers(channels), loc=conv.location, ip=point)
    copy_layer(conv, gather)
    return gather.y


def _small_gradient(conv: Any, gradient: Any, channels: list[int]) -> Any:
    """The gradient of the chosen channels alone, in front of the gradient it stands for."""
    geo, shape = geometry(conv), shape_of(conv.w)
    gathered = _gathered(conv, input_channels(geo.groups, shape, channels))
    axis = trained_axis(geo.groups, shape)
    small = [len(channels) if i == axis else size for i, size in enumerate(shape)]
    attributes: dict[str, Any] = {}
    if is_depthwise(geo.groups, shape):
        scales = to_array(gradient.attributes["scales"])[channels]
        attributes = {
            "scales": dense(scales),
            "groups": integer(len(channels)),
            "output_channels": integers(channels),
        }
    operands, results = [gathered, gradient.operands[1]], [tensor(small, "f32")]
    return rebuilt(gradient, operands=operands, results=results, attributes=attributes)


def _split(step: Any, conv: Any, update_op: Any, ratio: float, update: Storage) -> None:
    """Train only the chosen channels of one convolution's weight."""
    if len(_users(conv.w, "tiny.conv2d")) != 1:
        message = f"{_symbol(conv.w)} is shared by several convolutions; train it whole or not"
        raise PassError(conv, message)
    gradient = producer(update_op.operands[1])
    if gradient is None or gradient.operation.name != "tiny.conv2d_weight_grad":
        raise PassError(update_op, "expects the gradient to come from a conv2d_weight_grad")
    channels = chosen_channels(conv, ratio)
    part = _trained_part(step, conv, channels, update)
    small = _small_gradient(conv, gradient, channels)
    rate = update_op.operands[2]
    ones = dense(np.ones(shape_of(part.result)[0], np.float32))
    operands = [part.result, small.results[0], rate]
    rebuilt(update_op, operands=operands, attributes={"factors": ones})
    _freeze(_parameter(conv.w), update_op)
    for reader in _users(conv.w, "tiny.conv2d", "tiny.conv2d_input_grad"):
        with_trained(reader, part.result, integers(channels))


def _round_randomly(step: Any, seed: int) -> None:
    """Make every update of an i8 weight a stochastic one, and count the steps."""
    updates = [op for op in updates_of(step) if element_name(op.operands[0]) == "i8"]
    if not updates:
        return
    if COUNTER in parameters(step):
        raise PassError(step, f"a parameter {COUNTER} exists already")
    start = dense(np.array([first_count(seed)], np.int32))
    with step.location, ir.InsertionPoint.at_block_begin(step.regions[0].blocks[0]):
        counter = Parameter(start.type, string(COUNTER), start)
        counter.operation.attributes["trained"] = ir.UnitAttr.get()
    for number, update in enumerate(updates):
        stream = integer(random_stream(number))
        rebuilt(
            update,
            name="tiny.stochastic_update",
            operands=[*update.operands, counter.result],
            attributes={"stream": stream},
        )
        update.operation.erase()
    with step.location, ir.InsertionPoint(terminator(step)):
        AdvanceCounter(counter.result)


def _truncate(step: Any) -> None:
    """Make every update of an i8 weight a truncating one."""
    for update in updates_of(step):
        if element_name(update.operands[0]) == "i8":
            update.operation.attributes["rounding"] = string(TRUNCATE)


def apply_scheme(step: Any, scheme: UpdateScheme, update: Storage = "int16", seed: int = 0) -> None:
    """Restrict `@train_step`, fresh from `tiny-differentiate`, to what `scheme` trains.

    Raises `InvalidOption` where the scheme does not fit the network, `PassError` where the step
    has no update for a parameter that is to be trained.
    """
    updates = {
        _symbol(op.operands[0]): op for op in body(step) if op.operation.name == "tiny.apply_update"
    }
    wanted = _wanted(step, layers_of(step), scheme)
    missing = sorted((wanted.whole | wanted.partial.keys()) - updates.keys())
    if missing:
        reason = "no gradient reaches it, or tiny-differentiate must run first"
        raise PassError(step, f"has no update of {missing[0]}: {reason}")
    for symbol, update_op in updates.items():
        parameter = _parameter(update_op.operands[0])
        if symbol in wanted.partial:
            conv, ratio = wanted.partial[symbol]
            _split(step, conv, update_op, ratio, update)
        elif symbol in wanted.whole:
            _retype(parameter, update)
        else:
            _freeze(parameter, update_op)
    if update == "int8-stochastic":
        _round_randomly(step, seed)
    elif update == "int8-truncate":
        _truncate(step)


@register_pass("tiny-select-updates", anchor="func.func", only="train_step")
def select_updates(step: Any, *, scheme: Path, update: Storage = "int16", seed: int = 0) -> None:
    """Train what the scheme file names; trained int8 weights are stored as `update`.

    `seed` chooses the random numbers of stochastic rounding.
    """
    apply_scheme(step, read_scheme(scheme), update, seed)
