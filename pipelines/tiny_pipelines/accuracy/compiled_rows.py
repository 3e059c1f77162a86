"""The rows of a study that run the compiled step."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_passes.graph import TRAIN_STEP, find_function, functions
from tiny_pipelines.accuracy.experiments import RowExperiments
from tiny_pipelines.accuracy.study import Row, Study
from tiny_pipelines.experiment import Experiment, load_experiment
from tiny_pipelines.frontends import import_bytes
from tiny_pipelines.scheme import scheme_names
from tiny_pipelines.training import TrainingOptions, build_training_step


def row_module(study: Study, row: Row, files: Path, options: TrainingOptions, until: str) -> Any:
    """The model of a row with a head of `options.seed`, in the current context."""
    path = files / row.model
    module = import_bytes(path.read_bytes(), str(path), study.classes, options.seed)
    return build_training_step(module, options, until=until)


def row_scheme(study: Study, row: Row, files: Path) -> str:
    """The scheme of a row: a name, or a file beside the study or in `files`."""
    if row.scheme in scheme_names():
        return row.scheme
    beside = study.beside(row.scheme)
    return str(beside if beside.is_file() else files / row.scheme)


class CompiledExperiments(RowExperiments):
    """Experiments with the arithmetic of the device."""

    def __init__(self, study: Study, row: Row, files: Path) -> None:
        super().__init__(study, row, files)
        self._inputs: Any = None
        self._memory: dict[str, int] | None = None

    def _context(self) -> AbstractContextManager[Any]:
        entered = ExitStack()
        entered.enter_context(new_context())
        entered.enter_context(ir.Location.unknown())
        return entered

    def _options(self, seed: int, on_host: bool) -> TrainingOptions:
        return TrainingOptions(
            row_scheme(self.study, self.row, self.files),
            self.row.update,
            self.row.gradients,
            rescaling=self.row.rescaling,
            seed=seed,
            accumulate=self.row.batch > 1,
            split_prefix=on_host,
            fuse_blocks=not on_host,
            row_overlap=not on_host,
        )

    def _step(self, seed: int, on_host: bool) -> Any:
        until = "scheduled" if on_host else "planned"
        options = self._options(seed, on_host)
        return row_module(self.study, self.row, self.files, options, until)

    def _experiment(self, seed: int, validation: bool) -> Experiment:
        experiment = load_experiment(self._step(seed, True), self._split(seed, validation))
        # The frozen layers are the same for all seeds; what they compute is kept.
        self._inputs = self._inputs or experiment.inputs
        experiment.inputs = self._inputs
        return experiment

    def memory(self) -> dict[str, int]:
        """`arena_bytes` and `state_bytes` of the planned step."""
        if self._memory is None:
            module = self._step(0, False)
            arenas = [
                function.attributes["tiny.arena_bytes"].value
                for function in functions(module).values()
            ]
            state = find_function(module, TRAIN_STEP).attributes["tiny.state_bytes"].value
            self._memory = {"arena_bytes": max(arenas), "state_bytes": state}
        return self._memory
