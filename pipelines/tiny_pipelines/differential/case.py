"""One case of differential testing: a model, a scheme, options; all of it is one `.mlir` file.

The file is the model as text, so every command reads it; its first line is a comment that holds the
rest as JSON:

    // tiny-difftest: {"scheme": {...}, "options": {...}, "rate": 0.01, "steps": 2, "seed": 7}
"""

import json
import re
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, to_bytecode
from tiny_dialect.errors import InvalidModel
from tiny_pipelines.differential.records import NetworkRecord, build_network
from tiny_pipelines.frontends import import_bytes
from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.training import TrainingOptions, pipeline_text

_HEADER = "// tiny-difftest: "
_SEARCH_SECONDS = 1
_FIELDS = ("scheme", "options", "rate", "steps", "seed")


@dataclass(frozen=True)
class Options:
    """What is varied besides model and scheme; the defaults are the simplest."""

    update: str = "int16"
    gradients: str = "float32"
    qas: bool = True
    in_place: bool = True
    alignment: int = 4
    fuse_blocks: str = "off"
    """`off`, `peak` (where it lowers the peak) or `all`."""
    row_overlap: str = "off"
    """Likewise."""
    fuse_updates: bool = True
    reorder: bool = True
    stream_input: bool = False
    rescaling: str = "qas"
    seed: int = 0
    """Of stochastic rounding."""
    accumulate: bool = False
    """Gradients are summed; the host applies the sums."""
    search: str = "greedy"
    """`cp-sat` plans like `greedy` where OR-Tools is not installed."""
    for_target: bool = False
    """Blocked kernels and scratch memory as `tiny-compile` gives them to each core."""

    @property
    def scales_rates(self) -> bool:
        """True where each channel has a rate of its own that fits its scale."""
        return self.qas and self.rescaling != "none"

    def pipeline(self, scheme: Path, target: str | None = None) -> str:
        """The passes from model to planned stage: the named pipeline's, with these options.

        `target` is what kernels are chosen for, where the options ask for that.
        """
        training = TrainingOptions(
            str(scheme),
            self.update,
            self.gradients,
            self.qas,
            seed=self.seed,
            accumulate=self.accumulate,
            rescaling=self.rescaling,
        )
        in_place = f"in_place={str(self.in_place).lower()}"
        replaced = {
            "tiny-fuse-updates": None if self.fuse_updates else "",
            "tiny-fuse-blocks": "",
            "tiny-overlap-rows": "",
            "tiny-reorder": self._memory_passes() + self._order(in_place),
            "tiny-plan-memory": f"tiny-plan-memory{{{in_place} {self._planner()}}}",
        }
        passes = []
        named = pipeline_text(training, target=target if self.for_target else None)
        for text in re.split(r",(?![^{]*})", named):
            name = text.split("{")[0]
            new = replaced.get(name)
            passes.append(text if new is None else new)
            if name == "tiny-reorder":
                # With a target the order is sought again once scratch memory is known.
                replaced[name] = self._order(in_place)
        chosen = [text.rstrip(",") for text in passes if text]
        return ",".join([*chosen, "tiny-prove-bounds"])

    def _planner(self) -> str:
        exact = self.search == "cp-sat" and find_spec("ortools") is not None
        search = f" search=cp-sat seconds={_SEARCH_SECONDS}" if exact else ""
        return f"alignment={self.alignment}{search}"

    def _order(self, in_place: str) -> str:
        return f"tiny-reorder{{{in_place}}}" if self.reorder else ""

    def _memory_passes(self) -> str:
        """The passes that change kernels for memory, each with a comma behind it."""
        overlap = "off" if not self.in_place else self.row_overlap
        text = "tiny-stream-input," if self.stream_input else ""
        if self.fuse_blocks != "off":
            options = {"all": self.fuse_blocks == "all", "row_overlap": overlap != "off"}
            chosen = " ".join(f"{name}={str(on).lower()}" for name, on in options.items())
            text += f"tiny-fuse-blocks{{{chosen}}},"
        if overlap != "off":
            text += f"tiny-overlap-rows{{all={str(overlap == 'all').lower()}}},"
        return text


@dataclass(frozen=True)
class Case:
    """A network record with what is done to it."""

    record: NetworkRecord
    scheme: dict[str, Any]
    options: Options = field(default_factory=Options)
    rate: float = 0.01
    steps: int = 2

    def model(self) -> "Model":
        """The case with its network built; raises `InvalidModel` where the layers do not fit."""
        with new_context(), ir.Location.unknown():
            module = emit(build_network(self.record))
            return Model(
                to_bytecode(module),
                self.scheme,
                self.options,
                self.rate,
                self.steps,
                self.record.seed,
            )


@dataclass(frozen=True)
class Model:
    """A case as the compiler gets it: a `model` stage module as bytecode, and the rest."""

    bytecode: bytes
    scheme: dict[str, Any]
    options: Options
    rate: float
    steps: int
    seed: int
    """Of inputs and labels."""

    def text(self) -> str:
        """The `.mlir` file of the case."""
        rest = {name: getattr(self, name) for name in _FIELDS}
        rest["options"] = asdict(self.options)
        with new_context():
            module = import_bytes(self.bytecode, "model")
            return f"{_HEADER}{json.dumps(rest)}\n{module}"


def read_model(path: Path) -> Model:
    """The case that `Model.text` wrote to `path`; raises `InvalidModel` with the place."""
    data = path.read_bytes()
    first = data.split(b"\n", 1)[0].decode("utf-8", "replace")
    if not first.startswith(_HEADER):
        raise InvalidModel(f"the first line does not start with '{_HEADER.strip()}'", f"{path}:1")
    try:
        rest = json.loads(first.removeprefix(_HEADER))
        fields = {name: rest[name] for name in _FIELDS}
        fields["options"] = Options(**rest["options"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"malformed case: {error}", f"{path}:1") from error
    with new_context():
        return Model(to_bytecode(import_bytes(data, str(path))), **fields)
