"""The rows of a study in full precision: the same network, dequantized, in PyTorch on one thread.

A network is made of its model and scheme, or read from a folder that `export_networks` wrote. With
the latter nothing but NumPy and PyTorch is needed.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiny_pipelines.accuracy.experiments import VALIDATION_SEED, Places, RowExperiments
from tiny_pipelines.accuracy.study import Row, Study
from tiny_pipelines.datasets import DataSet
from tiny_pipelines.experiment import Experiment
from tiny_pipelines.float_experiment import FloatExperiment, FrozenFeatures
from tiny_pipelines.float_network import FloatNetwork, read_float_network
from tiny_pipelines.float_step import FloatStep, torch_module
from tiny_targets.cache import digest


class FloatExperiments(RowExperiments):
    """Experiments without any rounding."""

    def __init__(self, study: Study, row: Row, places: Places) -> None:
        super().__init__(study, row, places.files)
        self._places = places
        self._features = FrozenFeatures()

    def _experiment(self, seed: int, validation: bool) -> Experiment:
        torch_module().set_num_threads(1)
        step = FloatStep(self._network(seed), self._places.device)
        # The frozen layers are the same for all seeds; what they compute is kept.
        return FloatExperiment(step, self._split(seed, validation), self._features)

    def _network(self, seed: int) -> FloatNetwork:
        folder = self._places.networks
        if folder is None:
            return _dequantized(self.study, self.row, self.files, seed, self._data)
        return read_float_network(_file(folder, self.study, self.row, seed))

    def make(self, rate: float, seed: int, validation: bool) -> dict[str, Any]:
        """The record of one run, and on which device it was."""
        return {**super().make(rate, seed, validation), "device": self._places.device}

    def memory(self) -> dict[str, int]:
        """Nothing: no such step is planned."""
        return {}


def export_networks(study: Study, rows: Iterable[Row], files: Path, folder: Path) -> list[Path]:
    """Write the networks of the float rows among `rows`, every seed; the files."""
    from tiny_pipelines.image_folders import open_dataset

    folder.mkdir(parents=True, exist_ok=True)
    data = open_dataset(files / study.data)
    wanted = {
        _file(folder, study, row, seed): (row, seed)
        for row in rows
        if row.arithmetic == "float"
        for seed in sorted({VALIDATION_SEED, *study.seeds})
    }
    for path, (row, seed) in wanted.items():
        _dequantized(study, row, files, seed, data).write(path)
    return list(wanted)


def _file(folder: Path, study: Study, row: Row, seed: int) -> Path:
    origin = [row.model, row.scheme, study.classes, seed]
    return folder / f"{digest(json.dumps(origin))[:16]}.npz"


def _dequantized(study: Study, row: Row, files: Path, seed: int, data: DataSet) -> FloatNetwork:
    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context
    from tiny_pipelines.accuracy.compiled_rows import row_module, row_scheme
    from tiny_pipelines.dequantize import dequantized
    from tiny_pipelines.training import TrainingOptions

    # Float storage: the weights are then those of the model, without a master's half bucket.
    options = TrainingOptions(row_scheme(study, row, files), "float32", "float32", seed=seed)
    with new_context(), ir.Location.unknown():
        return dequantized(row_module(study, row, files, options, "sparse"), data)
