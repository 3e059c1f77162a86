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
from tiny_pipelines.inference import declaration
from tiny_pipelines.scheme import find_scheme_file

Update = Literal["int16", "float32"]
Gradients = Literal["float32", "int16", "int8"]

STAGES = ("model", "train", "sparse", "scaled", "scheduled", "planned")

_PASSES = {
    "train": "tiny-differentiate",
    "sparse": "tiny-select-updates{{scheme={scheme} update={update}}},tiny-prune-backward",
    "scaled": "tiny-rescale-gradients{{qas={qas}}}",
    "scheduled": "tiny-fuse-updates,{quantize}tiny-extract-inference,{memory}tiny-reorder",
    "planned": "{declare_scratch}tiny-plan-memory,tiny-check-plan",
}

_QUANTIZE = {
    "float32": "",
    "int16": "tiny-quantize-gradients{bits=16},",
    "int8": "tiny-quantize-gradients{bits=8},",
}


@dataclass(frozen=True)
class TrainingOptions:
    """What is trained and how: a scheme name or file, storage of trained weights, QAS on or off.

    Integer `gradients` need int16 masters.
    `fuse_blocks` computes chains of convolutions row by row, `row_overlap` lets results overwrite
    rows that have been read; both only where that lowers the peak, and without changing a result.
    """

    scheme: str
    update: str = "int16"
    gradients: str = "float32"
    qas: bool = True
    fuse_blocks: bool = True
    row_overlap: bool = True

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("update", self.update, get_args(Update)),
            ("gradients", self.gradients, get_args(Gradients)),
        ):
            if value not in choices:
                raise InvalidOption(f"--{name} {value}: choose one of {', '.join(choices)}")


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
        "qas": str(options.qas).lower(),
        "quantize": _QUANTIZE[options.gradients],
        "memory": _memory_passes(options),
        "declare_scratch": declaration(target),
    }
    return ",".join(_PASSES[stage].format(**values) for stage in wanted)


def _memory_passes(options: TrainingOptions) -> str:
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
) -> str:
    return pipeline_text(
        TrainingOptions(scheme, update, gradients, qas, fuse_blocks, row_overlap)
    )


register_pipeline("tiny-training", _named, "a model to its planned training step")
