"""From a model-stage module to a package: firmware, golden vectors from it, the files."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from tiny_pipelines.firmware import Firmware, Progress, build_firmware
from tiny_pipelines.scheme import find_scheme_file
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import Board
from tiny_targets.package.folder import package_files
from tiny_targets.package.golden import make_golden
from tiny_targets.provenance import Origin


def _silent(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def compile_package(
    module: Any,
    training: TrainingOptions | None,
    board: Board,
    origin: Origin,
    *,
    step: Progress = _silent,
    stream_input: bool = False,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(path → bytes of the package, the report of the firmware it was tried in).

    The module is changed in place to the planned stage; without `training` it only infers, and
    `stream_input` says whether the input arrives row by row (`training` says so itself). Raises
    `TinyError` for what the model, the scheme or the board does not allow.
    """
    made: Firmware = build_firmware(module, training, board, step=step, stream_input=stream_input)
    with step("running the golden vectors"):
        golden = make_golden(made.image)
    return package_files(made.image, made.kernels, golden, origin), made.report


def origin_of(
    model: bytes, training: TrainingOptions | None, classes: int | None, seed: int
) -> Origin:
    """What firmware is made from: hashes of the model's file and of the scheme's, and options."""
    inputs = {"model_sha256": hashlib.sha256(model).hexdigest()}
    options: dict[str, Any] = {"classes": classes, "head_seed": seed}
    if training is not None:
        scheme = find_scheme_file(training.scheme)
        inputs["scheme_sha256"] = hashlib.sha256(scheme.read_bytes()).hexdigest()
        # The path is no part of it: the same scheme in another folder gives the same output.
        options |= {**asdict(training), "scheme": scheme.stem}
    return Origin(inputs, options)
