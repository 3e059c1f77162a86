"""From a model-stage module to a folder with firmware: pipeline, schedule, machine code, image."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_dialect.dialect import to_bytecode
from tiny_passes.analytic_memory import analytic_bytes
from tiny_passes.graph import INFER, TRAIN_STEP, find_function, functions
from tiny_passes.operation_counts import count_macs
from tiny_pipelines.inference import build_inference
from tiny_pipelines.scheme import find_scheme
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.boards import Board
from tiny_targets.codegen import CompiledKernels, compile_kernels
from tiny_targets.firmware import Image, build_image
from tiny_targets.provenance import Origin
from tiny_targets.schedule import build_schedule

PLANNED_FILE = "planned.mlirbc"

Progress = Callable[[str], AbstractContextManager[None]]


def _silent(_: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Firmware:
    """A linked image with its kernels, and what `tiny-compile` says about it."""

    image: Image
    kernels: CompiledKernels
    report: dict[str, Any]


def compile_firmware(
    module: Any,
    training: TrainingOptions | None,
    board: Board,
    folder: Path,
    *,
    step: Progress = _silent,
    stream_input: bool = False,
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Write image, sources, object, manifest and the planned module to `folder`; the report.

    The module is changed in place to the planned stage; without `training` it only infers, and
    `stream_input` says whether the input arrives row by row (`training` says so itself); the
    manifest names the `origin` of it all. Raises `TinyError` for whatever the model, the scheme or
    the board does not allow; what was written by then is the caller's to drop.
    """
    return build_firmware(
        module, training, board, folder, step=step, stream_input=stream_input, origin=origin
    ).report


def build_firmware(
    module: Any,
    training: TrainingOptions | None,
    board: Board,
    folder: Path | None = None,
    *,
    step: Progress = _silent,
    stream_input: bool = False,
    origin: Origin | None = None,
) -> Firmware:
    """The same in memory; only with a `folder` is anything written, and there."""
    saved = 0
    if training is None:
        build_inference(module, target=board.target.name, stream_input=stream_input)
    else:
        saved = analytic_bytes(find_function(module, INFER), find_scheme(training.scheme))
        with step("building the training step"):
            build_training_step(module, training, target=board.target.name)
    with step(f"generating code for {board.target.name}"):
        schedule = build_schedule(module, board.target)
        compiled = compile_kernels(schedule.kernels, board.target, embedded=board.target.hard_float)
    with step("linking"):
        planned = {PLANNED_FILE: to_bytecode(module)}
        image = build_image(schedule, compiled, board, folder, origin=origin, companions=planned)
    return Firmware(image, compiled, _report(module, training, image, saved))


def _proven_bound(module: Any) -> int | None:
    """What the arena needs in every order; None where no search has looked for that."""
    name = "tiny.arena_proven_bound_bytes"
    known = [f.attributes[name].value for f in functions(module).values() if name in f.attributes]
    return max(known, default=None)


def _report(
    module: Any, training: TrainingOptions | None, image: Image, saved: int
) -> dict[str, Any]:
    sizes, schedule = image.sizes, image.schedule
    main = INFER if training is None else TRAIN_STEP
    return {
        "model": schedule.model,
        "scheme": training.scheme if training else None,
        "update": training.update if training else None,
        "gradients": training.gradient_type if training else None,
        "board": image.board.name,
        "target": image.board.target.name,
        "sram_bytes": {
            "arena": sizes.arena,
            "trainable": sizes.trainable,
            "data_bss": sizes.data_bss,
            "stack": sizes.stack,
            "total": sizes.sram,
        },
        "flash_bytes": {
            "code": sizes.code,
            "rodata": sizes.rodata,
            "weights": sizes.weights,
            "total": sizes.flash,
        },
        "stack_bound_bytes": dict(image.stack_bounds),
        "arena_lower_bound_bytes": schedule.arena_lower_bound_bytes,
        "arena_proven_bound_bytes": _proven_bound(module),
        "saved_bytes": saved,
        "ops": len(schedule.functions[main].commands),
        "kernels": len(schedule.kernels),
        "macs": count_macs(find_function(module, main)),
    }
