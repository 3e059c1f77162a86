"""From a model to its planned training step: the named pipeline `tiny-training`.

    model --differentiate--> train --select, prune--> sparse --rescale--> scaled
          --fuse updates, extract @infer, fuse blocks, reorder--> scheduled --plan, check--> planned

Host and device consume the same module, so what one computes the other does.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import place_of
from tiny_dialect.errors import InvalidModel, InvalidOption
from tiny_dialect.types import shape_of
from tiny_passes.graph import INFER, functions
from tiny_passes.plan_memory import Search
from tiny_passes.registry import Observer, register_pipeline, run_pipeline
from tiny_pipelines.inference import planning
from tiny_pipelines.scheme import find_scheme_file

Update = Literal["int16", "float32", "int8-stochastic", "int8", "int8-truncate"]
Gradients = Literal["float32", "int16", "int8"]
Rescaling = Literal["qas", "powers-of-two", "constant", "none"]

STAGES = ("model", "train", "sparse", "scaled", "scheduled", "planned")

_PASSES = {
    "train": "tiny-differentiate",
    "sparse": "tiny-select-updates{{scheme={scheme} update={update} seed={seed}}},"
    "tiny-prune-backward",
    "scaled": "tiny-rescale-gradients{{{rescale}}}",
    "scheduled": "{accumulate}{prefix}{fuse},{quantize}tiny-extract-inference,{memory}tiny-reorder",
    "planned": "{planning}",
}

_QUANTIZE = {
    "float32": "",
    "int16": "tiny-quantize-gradients{bits=16},",
    "int8": "tiny-quantize-gradients{bits=8},",
}

_RESCALE = {
    "qas": "qas=true",
    "powers-of-two": "qas=true powers-of-two=true",
    "constant": "qas=true uniform=true",
    "none": "qas=false",
}

_INTEGER_UPDATES = ("int16", "int8-stochastic", "int8")
"""The update rules that take integer gradients."""


def integer_objection(update: str) -> str | None:
    """Why a step with these options cannot have integer gradients; None where it can."""
    if update not in _INTEGER_UPDATES:
        return f"integer gradients need --update {' or '.join(_INTEGER_UPDATES)}, got {update}"
    return None


def default_gradients(update: str) -> str:
    """`int16` wherever the other options allow integer gradients, else `float32`."""
    return "float32" if integer_objection(update) else "int16"


@dataclass(frozen=True)
class TrainingOptions:
    """What is trained and how: a scheme name or file, storage of trained weights, QAS on or off.

    `update` `int8-stochastic` halves the memory of the trained weights, with random numbers from
    `seed`; `int8` (to nearest) and `int8-truncate` are for comparison, both learn badly.
    `gradients` are `float32`, `int16` or `int8`; without a choice those of `default_gradients`.
    `fuse_blocks` computes chains of convolutions row by row, `row_overlap` lets results overwrite
    rows that have been read; both only where that lowers the peak, and without changing a result.
    `stream_input` lets the input arrive row by row: it never exists whole.
    `accumulate` sums gradients in state of their own until `@apply_updates` is called;
    `split_prefix` makes what training never changes a function of its own, for the host.
    `rescaling` other than `qas` is for comparison: its factors rounded to `powers-of-two`, one
    `constant` for all weights and one for all biases, `none` (as `qas=False`).
    `search` `cp-sat` plans order and addresses together in `search_seconds` a function.
    """

    scheme: str
    update: str = "int16"
    gradients: str | None = None
    qas: bool = True
    fuse_blocks: bool = True
    row_overlap: bool = True
    seed: int = 0
    accumulate: bool = False
    split_prefix: bool = False
    rescaling: str = "qas"
    stream_input: bool = False
    search: str = "greedy"
    search_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("update", self.update, get_args(Update)),
            ("gradients", self.gradient_type, get_args(Gradients)),
            ("rescale", self.rescaling, get_args(Rescaling)),
            ("search", self.search, get_args(Search)),
        ):
            if value not in choices:
                raise InvalidOption(f"--{name} {value}: choose one of {', '.join(choices)}")
        if not self.search_seconds > 0:
            got = f"got {self.search_seconds:g}"
            raise InvalidOption(f"--search-seconds: expected a positive number, {got}")
        if self.stream_input and self.split_prefix:
            raise InvalidOption("a prefix of its own reads the input whole; it cannot be streamed")
        objection = integer_objection(self.update)
        if self.gradient_type != "float32" and objection:
            raise InvalidOption(f"--gradients {self.gradient_type}: {objection}")

    @property
    def gradient_type(self) -> str:
        """The arithmetic of the backward pass: what was chosen, or the default."""
        return self.gradients or default_gradients(self.update)


def pipeline_text(
    options: TrainingOptions, until: str = "planned", target: str | None = None
) -> str:
    """The passes from the model stage up to and including stage `until`; empty for `model`.

    With a `target` the plan has room for the scratch memory of its kernels.
    """
    if until not in STAGES:
        raise InvalidOption(f"unknown stage {until}; stages: {', '.join(STAGES)}")
    wanted = STAGES[1 : STAGES.index(until) + 1]
    values = {
        "scheme": find_scheme_file(options.scheme),
        "update": options.update,
        "seed": options.seed,
        "accumulate": "tiny-accumulate-gradients," if options.accumulate else "",
        "prefix": "tiny-split-prefix," if options.split_prefix else "",
        "rescale": _RESCALE[options.rescaling if options.qas else "none"],
        "fuse": fusing(options.gradient_type),
        "quantize": _QUANTIZE[options.gradient_type],
        "memory": memory_passes(options),
        "planning": planning(target, search_options(options)),
    }
    return ",".join(_PASSES[stage].format(**values) for stage in wanted)


def fusing(gradients: str) -> str:
    """The pass that fuses updates: all of them where gradients are integer, else by cost."""
    return "tiny-fuse-updates{by_cost=true}" if gradients == "float32" else "tiny-fuse-updates"


def search_options(options: TrainingOptions) -> str:
    """The options of `tiny-plan-memory`; empty for the default search."""
    if options.search == "greedy":
        return ""
    return f"search={options.search} seconds={options.search_seconds:g}"


def memory_passes(options: TrainingOptions) -> str:
    """The passes that lower the peak, each followed by a comma."""
    overlap = str(options.row_overlap).lower()
    stream = "tiny-stream-input," if options.stream_input else ""
    fuse = f"tiny-fuse-blocks{{row_overlap={overlap}}}," if options.fuse_blocks else ""
    return stream + fuse + ("tiny-overlap-rows," if options.row_overlap else "")


def build_training_step(
    module: Any,
    options: TrainingOptions,
    *,
    until: str = "planned",
    target: str | None = None,
    observer: Observer | None = None,
) -> Any:
    """Turn a model-stage module into stage `until`, in place, and return it.

    With a `target` it can be compiled for that one to fast kernels; without, the plan is the
    smallest. Raises `PassError` at the op that fails, `InvalidOption` for an unknown scheme or
    stage, `InvalidModel` for a model of a single class.
    """
    text = pipeline_text(options, until, target)
    if text:
        _require_classes(module)
        run_pipeline(module, text, observer=observer)
        with module.context:
            module.operation.attributes["tiny.scheme"] = ir.StringAttr.get(options.scheme)
    return module


def _require_classes(module: Any) -> None:
    """The softmax of one logit is 1 whatever it is: its loss and gradients are always 0."""
    function = functions(module).get(INFER)
    if function is None:
        return
    results = list(function.type.results)
    if len(results) == 1 and math.prod(shape_of(results[0])) < 2:
        raise InvalidModel(
            "the model returns one value, from which a classifier cannot learn; --classes N gives "
            "it a head for N classes",
            place_of(function.location),
        )


def _named(
    *,
    scheme: str,
    update: str = "int16",
    gradients: str | None = None,
    qas: bool = True,
    fuse_blocks: bool = True,
    row_overlap: bool = True,
    seed: int = 0,
) -> str:
    return pipeline_text(
        TrainingOptions(scheme, update, gradients, qas, fuse_blocks, row_overlap, seed)
    )


register_pipeline("tiny-training", _named, "a model to its planned training step")
