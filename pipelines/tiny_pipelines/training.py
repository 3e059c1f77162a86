"""From a model to its planned training step: the named pipeline `tiny-training`.

    model --differentiate--> train --select, prune--> sparse --rescale--> scaled
          --fuse updates, extract @infer, fuse blocks, reorder--> scheduled --plan, check--> planned

Host and device consume the same module, so what one computes the other does.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from tiny_dialect.bindings import ir
from tiny_dialect.errors import InvalidOption
from tiny_passes.registry import Observer, register_pipeline, run_pipeline
from tiny_pipelines.inference import planning
from tiny_pipelines.scheme import find_scheme_file

Update = Literal["int16", "float32", "int8-stochastic", "int8", "int8-truncate"]
Gradients = Literal["float32", "int16", "int8"]

STAGES = ("model", "train", "sparse", "scaled", "scheduled", "planned")

_PASSES = {
    "train": "tiny-differentiate",
    "sparse": "tiny-select-updates{{scheme={scheme} update={update} seed={seed}}},"
    "tiny-prune-backward",
    "scaled": "tiny-rescale-gradients{{qas={qas}}}",
    "scheduled": "{accumulate}{prefix}tiny-fuse-updates,{quantize}tiny-extract-inference,"
    "{memory}tiny-reorder",
    "planned": "{planning}",
}

_QUANTIZE = {
    "float32": "",
    "int16": "tiny-quantize-gradients{bits=16},",
    "int8": "tiny-quantize-gradients{bits=8},",
}


@dataclass(frozen=True)
class TrainingOptions:
    """What is trained and how: a scheme name or file, storage of trained weights, QAS on or off.

    `update` `int8-stochastic` halves the memory of the trained weights, with random numbers from
    `seed`; `int8` (to nearest) and `int8-truncate` are for comparison, both learn badly.
    Integer `gradients` need int16 masters.
    `fuse_blocks` computes chains of convolutions row by row, `row_overlap` lets results overwrite
    rows that have been read; both only where that lowers the peak, and without changing a result.
    `accumulate` sums gradients in state of their own until `@apply_updates` is called;
    `split_prefix` makes what training never changes a function of its own, for the host.
    """

    scheme: str
    update: str = "int16"
    gradients: str = "float32"
    qas: bool = True
    fuse_blocks: bool = True
    row_overlap: bool = True
    seed: int = 0
    accumulate: bool = False
    split_prefix: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("update", self.update, get_args(Update)),
            ("gradients", self.gradients, get_args(Gradients)),
        ):
            if value not in choices:
                raise InvalidOption(f"--{name} {value}: choose one of {', '.join(choices)}")
        if self.accumulate and self.gradients != "float32":
            raise InvalidOption("gradients are summed over samples in float32 only")
        if self.gradients != "float32" and self.update != "int16":
            raise InvalidOption(
                f"--gradients {self.gradients} needs --update int16, got {self.update}"
            )


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
        "qas": str(options.qas).lower(),
        "quantize": _QUANTIZE[options.gradients],
        "memory": memory_passes(options),
        "planning": planning(target),
    }
    return ",".join(_PASSES[stage].format(**values) for stage in wanted)


def memory_passes(options: TrainingOptions) -> str:
    """The passes that lower the peak, each followed by a comma."""
    overlap = str(options.row_overlap).lower()
    fuse = f"tiny-fuse-blocks{{row_overlap={overlap}}}," if options.fuse_blocks else ""
    return fuse + ("tiny-overlap-rows," if options.row_overlap else "")


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
    stage.
    """
    text = pipeline_text(options, until, target)
    if text:
        run_pipeline(module, text, observer=observer)
        with module.context:
            module.operation.attributes["tiny.scheme"] = ir.StringAttr.get(options.scheme)
    return module


def _named(
    *,
    scheme: str,
    update: str = "int16",
    gradients: str = "float32",
    qas: bool = True,
    fuse_blocks: bool = True,
    row_overlap: bool = True,
    seed: int = 0,
) -> str:
    return pipeline_text(
        TrainingOptions(scheme, update, gradients, qas, fuse_blocks, row_overlap, seed)
    )


register_pipeline("tiny-training", _named, "a model to its planned training step")
