"""Channels that no update moves: known from the factors, true in arithmetic, used by kernels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import small_network

from tiny_dialect.attributes import dense, to_array
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.semantics import initial_state, run
from tiny_passes.graph import functions, layer_of, parameters
from tiny_passes.stationary import stationary_channels
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.kernels.weights import bias_range

DEAD = 2


@pytest.fixture(autouse=True)
def context() -> Iterator[Any]:
    with new_context() as context, ir.Location.unknown():
        yield context


def built(gradients: str) -> Any:
    """The small network with a dead channel in its first convolution."""
    module = small_network.build()
    for op in functions(module)["infer"].regions[0].blocks[0]:
        if op.operation.name == "tiny.conv2d" and layer_of(op) == "stem":
            scales = to_array(op.weight_scales).copy()
            scales[DEAD] = 1e-8
            op.attributes["weight_scales"] = dense(scales)
    return build_training_step(
        module, TrainingOptions("full", gradients=gradients), until="scheduled"
    )


def stem_bias(function: Any) -> Any:
    return parameters(function)["stem.bias"]


def convolution(function: Any) -> Any:
    return next(op for op in function.regions[0].blocks[0] if op.operation.name == "tiny.conv2d")


@pytest.mark.parametrize("name", ["train_step", "infer"])
def test_a_dead_channel_stays_in_every_function(name: str) -> None:
    module = built("int16")
    stays = stationary_channels(stem_bias(functions(module)[name]))
    assert list(np.flatnonzero(stays)) == [DEAD]


def test_float_updates_prove_nothing() -> None:
    module = built("float32")
    assert not stationary_channels(stem_bias(functions(module)["train_step"])).any()


def test_without_an_update_nothing_is_known() -> None:
    module = built("int16")
    step = functions(module)["train_step"]
    bias = stem_bias(step)
    for op in list(step.regions[0].blocks[0]):
        if len(op.operands) and op.operands[0] == bias.result:
            op.operation.erase()
    assert not stationary_channels(bias).any()


def test_the_bias_of_a_dead_channel_never_moves_and_kernels_know() -> None:
    module = built("int16")
    step = functions(module)["train_step"]
    state = initial_state(step)
    start = state["stem.bias"].copy()
    for rate in (0.01, np.inf):
        x, label = small_network.sample(1), np.array(1, np.int32)
        run(step, [x, label, np.array(rate, np.float32)], state)
    moved = state["stem.bias"] != start
    assert not moved[DEAD] and moved.any()
    lowest, highest = bias_range(convolution(step))
    assert lowest[DEAD] == highest[DEAD] == start[DEAD]
    assert (highest - lowest > 2**30)[moved].all()
