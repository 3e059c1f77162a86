"""What a selection costs on a device, as the planner and the emulator measure it, not as estimated.

`sram` is arena and trained state of the planned step in bytes; `macs` the multiply-accumulates of a
step. `instructions`, where a board is given, are those of one step of the image in the emulator.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidOption
from tiny_dialect.ops.convolution import geometry, trained_axis
from tiny_dialect.types import shape_of
from tiny_passes.graph import INFER, TRAIN_STEP, find_function, functions
from tiny_passes.layers import layers_of
from tiny_passes.operation_counts import count_macs
from tiny_passes.update_scheme import chosen_count
from tiny_pipelines.search.problem import Model, build_step
from tiny_pipelines.search.selection import Selection, Space, selection_from_key
from tiny_pipelines.training import TrainingOptions
from tiny_targets.cache import digest

Costs = Mapping[str, int]

SRAM, MACS, INSTRUCTIONS = "sram", "macs", "instructions"


@dataclass
class CostModel:
    """Measures selections, and remembers; `file` keeps what was measured for the next search.

    `measured` counts the selections that really were planned.
    """

    model: Model
    options: TrainingOptions
    target: str | None = None
    board: Any = None
    file: Path | None = None
    measured: int = 0
    known: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = (self.model.classes, self.options, self.target, self.board)
        self.key = digest(self.model.data, repr(settings))[:16]
        if self.file is None or not self.file.exists():
            return
        try:
            record = json.loads(self.file.read_text("utf-8"))
            if record["key"] == self.key:
                self.known = record["costs"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidOption(f"is no table of costs: {error!r}", str(self.file)) from error

    def of(self, selection: Selection) -> Costs:
        """The costs of one selection; raises what building its step raises."""
        if selection.key not in self.known:
            self.known[selection.key] = self._measure(selection)
            self.measured += 1
            self._keep()
        return self.known[selection.key]

    def measurements(self) -> dict[Selection, Costs]:
        """All that was ever measured."""
        return {selection_from_key(key): costs for key, costs in self.known.items()}

    def _measure(self, selection: Selection) -> dict[str, int]:
        with new_context(), ir.Location.unknown():
            if self.board is not None:
                return self._on_board(selection)
            module = self._planned(selection)
            step = find_function(module, TRAIN_STEP)
            arena = max(
                function.attributes["tiny.arena_bytes"].value
                for function in functions(module).values()
            )
            state = step.attributes["tiny.state_bytes"].value
            costs = {SRAM: arena + state, "arena": arena, "state": state}
            return {**costs, MACS: sum(count_macs(step).values())}

    def _planned(self, selection: Selection) -> Any:
        return build_step(self.model, selection, self.options, "planned", self.target)

    def _on_board(self, selection: Selection) -> dict[str, int]:
        from tiny_pipelines.firmware import compile_firmware
        from tiny_targets.emulate import Emulator
        from tiny_targets.firmware import load_image

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scheme.json"
            path.write_text(json.dumps(selection.scheme("searched")), "utf-8")
            module = self.model.module()
            image = Path(folder) / "image"
            image.mkdir()
            options = replace(self.options, scheme=str(path))
            report = compile_firmware(module, options, self.board, image)
            emulator = Emulator(load_image(image))
            step = find_function(module, TRAIN_STEP)
            shape = step.type.inputs[0].shape
            emulator.train_step(np.zeros(shape, np.int8), 0, 0.0)
        assert emulator.last_call is not None
        sram = report["sram_bytes"]
        return {
            SRAM: sram["arena"] + sram["trainable"],
            "arena": sram["arena"],
            "state": sram["trainable"],
            MACS: sum(report["macs"].values()),
            INSTRUCTIONS: emulator.last_call.instructions,
        }

    def _keep(self) -> None:
        if self.file is None:
            return
        part = self.file.with_name(self.file.name + ".part")
        part.write_text(json.dumps({"key": self.key, "costs": self.known}, indent=1), "utf-8")
        os.replace(part, self.file)


def fits(costs: Costs, budgets: Costs) -> bool:
    """True where no budget is exceeded."""
    return all(costs[name] <= budget for name, budget in budgets.items())


@dataclass(frozen=True)
class PartSizes:
    """What each part adds: bytes of state, and the multiply-accumulates of a weight's gradient."""

    count: int
    biases: dict[int, int]
    weights: dict[tuple[int, float], int]
    macs: dict[tuple[int, float], int]

    def knows(self, selection: Selection) -> bool:
        """True for a selection that is made of these parts."""
        known = all(pair in self.weights for pair in selection.weights)
        return known and selection.biases <= len(self.biases)

    def state(self, selection: Selection) -> int:
        """What a selection adds to the trained state of the classifier alone."""
        last = range(self.count - selection.biases, self.count)
        total = sum(self.biases[index] for index in last)
        return total + sum(self.weights[pair] for pair in selection.weights)


def part_sizes(module: Any, space: Space, update: str) -> PartSizes:
    """The sizes for a model-stage module under an update rule."""
    unit = {"int16": 2, "float32": 4}.get(update, 1)
    sizes = PartSizes(len(space.names), {}, {}, {})
    layers = layers_of(find_function(module, INFER)).convolutions
    for index in space.candidates:
        conv = layers[index]
        weight, y = shape_of(conv.w), shape_of(conv.y)
        groups = geometry(conv).groups
        channels = weight[trained_axis(groups, weight)]
        sizes.biases[index] = 4 * weight[0]
        for ratio in space.ratios:
            chosen = chosen_count(channels, ratio)
            values = prod(weight) // channels * chosen
            sizes.weights[index, ratio] = _words(values * unit)
            sizes.macs[index, ratio] = values * y[1] * y[2]
    return sizes


class CostBounds:
    """What measured selections say of others: a plan serves whatever trains less."""

    def __init__(self, sizes: PartSizes, measured: Mapping[Selection, Costs]) -> None:
        self._sizes = sizes
        self._measured = {s: costs for s, costs in measured.items() if sizes.knows(s)}

    def note(self, selection: Selection, costs: Costs) -> None:
        """One more measurement."""
        self._measured[selection] = costs

    def verdict(self, selection: Selection, budgets: Costs) -> bool | None:
        """True or False where it is certain that `selection` fits, or does not; else None."""
        for other, costs in self._measured.items():
            if selection.within(other) and fits(self._moved(other, costs, selection), budgets):
                return True
            if other.within(selection) and not fits(self._moved(other, costs, selection), budgets):
                return False
        return None

    def _moved(self, other: Selection, costs: Costs, selection: Selection) -> dict[str, int]:
        """The costs of `other` with the trained state of `selection`."""
        state = self._sizes.state(selection) - self._sizes.state(other)
        return {**costs, SRAM: costs[SRAM] + state}


def _words(size: int) -> int:
    """Whole words of four bytes, as the planner counts state."""
    return -(-size // 4) * 4
