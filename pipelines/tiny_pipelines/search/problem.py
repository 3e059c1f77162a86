"""What a worker needs to try selections: one compiled step that trains everything, and samples.

The step sums gradients. A trial sets the sums of what it does not train to zero before they are
applied, so one compiled module serves every selection, and changes the same bits of the trained
weights as a step compiled for the selection would (but for the last bits of float sums). All of
it is plain bytes and arrays: a worker on another machine needs nothing else.
"""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, to_bytecode
from tiny_dialect.ops.convolution import geometry, trained_axis
from tiny_passes.accumulate_gradients import SUM_SUFFIX
from tiny_passes.graph import INFER, TRAIN_STEP, find_function, functions
from tiny_passes.layers import layers_of
from tiny_passes.select_updates import ranked_channels
from tiny_passes.update_scheme import chosen_count
from tiny_pipelines.datasets import DataSet, Preprocessing
from tiny_pipelines.frontends import import_bytes
from tiny_pipelines.host import Array
from tiny_pipelines.host_loading import compiled_without_state, trained_state
from tiny_pipelines.search.selection import Selection, Space
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_pipelines.training_plan import TrainingPlan
from tiny_targets.cache import digest


@dataclass(frozen=True)
class Convolution:
    """The trained parameters of one convolution: its channels, the most important first."""

    weight: str
    bias: str
    axis: int
    order: tuple[int, ...]

    def mask(self, ratio: float, shape: tuple[int, ...]) -> Array:
        """1 for the channels of a weight that a ratio trains, 0 for others; broadcasts to shape."""
        mask = np.zeros(shape[self.axis], np.float32)
        if ratio > 0:
            mask[list(self.order[: chosen_count(len(self.order), ratio)])] = 1
        return mask.reshape([-1 if i == self.axis else 1 for i in range(len(shape))])


@dataclass(frozen=True)
class Problem:
    """A network, data and a plan; `key` names the problem, and with a selection a trial."""

    key: str
    code: bytes
    state: dict[str, Array]
    convolutions: dict[int, Convolution]
    count: int
    preprocessing: Preprocessing
    data: DataSet
    plan: TrainingPlan
    head_epochs: int

    def masks(self, selection: Selection) -> dict[str, Array]:
        """What counts of each sum of gradients that does not count wholly: zeros and ones."""
        chosen = dict(selection.weights)
        masks: dict[str, Array] = {}
        for index, convolution in self.convolutions.items():
            shape = self.state[convolution.weight].shape
            mask = convolution.mask(chosen.get(index, 0.0), shape)
            if not mask.all():
                masks[convolution.weight + SUM_SUFFIX] = mask
            if index < self.count - selection.biases:
                masks[convolution.bias + SUM_SUFFIX] = np.zeros(1, np.float32)
        return masks


@dataclass(frozen=True)
class Model:
    """A model file and how to read it."""

    data: bytes
    name: str
    classes: int | None = None
    seed: int = 0

    def module(self) -> Any:
        """It at the model stage, in the current context."""
        return import_bytes(self.data, self.name, self.classes, self.seed)


def build_step(
    model: Model,
    selection: Selection,
    options: TrainingOptions,
    until: str,
    target: str | None = None,
) -> Any:
    """A training step of `selection`; `options.scheme` plays no part."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scheme.json"
        path.write_text(json.dumps(selection.scheme("searched")), "utf-8")
        module = model.module()
        chosen = replace(options, scheme=str(path))
        return build_training_step(module, chosen, until=until, target=target)


def build_problem(
    model: Model, space: Space, data: DataSet, plan: TrainingPlan, head_epochs: int
) -> Problem:
    """Compile the step that trains everything in `space`.

    `data` has what trials train on and, as its test split, what they are judged by. A trial
    starts with a head that was trained alone for `head_epochs`.
    """
    options = TrainingOptions(
        "", gradients="float32", accumulate=True, split_prefix=True, fuse_blocks=False,
        row_overlap=False,
    )  # fmt: skip
    with new_context(), ir.Location.unknown():
        source = model.module()
        convolutions = _convolutions(source, space)
        module = build_step(model, space.everything, options, "scheduled")
        del module.operation.attributes["tiny.scheme"]
        known = functions(module)
        preprocessing = data.preprocessing_for(known.get("prefix", known[TRAIN_STEP]))
        parts = [
            to_bytecode(module),
            *(split.samples.tobytes() for split in (data.train, data.test)),
        ]
        key = digest(*parts, repr((plan, head_epochs)))[:16]
        code, state = compiled_without_state(module), trained_state(module)
    count = len(space.names)
    return Problem(key, code, state, convolutions, count, preprocessing, data, plan, head_epochs)


def _convolutions(module: Any, space: Space) -> dict[int, Convolution]:
    layers = layers_of(find_function(module, INFER)).convolutions
    found = {}
    for index in space.candidates:
        conv = layers[index]
        weight, bias = (value.owner.opview for value in (conv.w, conv.bias))
        shape = to_array(weight.value).shape
        axis = trained_axis(geometry(conv).groups, shape)
        order = tuple(ranked_channels(conv))
        found[index] = Convolution(weight.symbol.value, bias.symbol.value, axis, order)
    return found
