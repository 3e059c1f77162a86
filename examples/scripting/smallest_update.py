"""The compiler as a library: which part of a network can learn on a board of one's own?

    python examples/scripting/smallest_update.py examples/digits/digits.mlirbc my_board.json

For each scheme: read the model, build the training step for the board's core, look at the IR, then
compile firmware. What does not fit is an error with the figure, not a crash later.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from tiny_dialect.dialect import new_context
from tiny_dialect.errors import TinyError
from tiny_passes.graph import body, find_function
from tiny_passes.prune_backward import updates_of
from tiny_pipelines.firmware import compile_firmware
from tiny_pipelines.frontends import import_model
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.boards import Board, find_board

SCHEMES = ("full", "bias-only", "classifier-only")


def describe(model: Path, scheme: str) -> str:
    """How many ops the step has, and how many of them are updates: a walk over the IR."""
    with new_context():
        module = import_model(model)
        build_training_step(module, TrainingOptions(scheme), until="scheduled")
        step = find_function(module, "train_step")
        return f"{len(body(step))} ops, {len(updates_of(step))} updates"


def fit(model: Path, scheme: str, board: Board) -> dict[str, Any]:
    """The report of the firmware; raises `TinyError` where it does not fit the board."""
    with new_context(), tempfile.TemporaryDirectory() as folder:
        module = import_model(model)
        return compile_firmware(module, TrainingOptions(scheme), board, Path(folder))


def main(model: str, board_file: str) -> None:
    """Print one line a scheme."""
    board = find_board(board_file)
    for scheme in SCHEMES:
        line = f"{scheme:<16} {describe(Path(model), scheme):<24}"
        try:
            report = fit(Path(model), scheme, board)
        except TinyError as error:
            print(f"{line} does not fit: {error}")
        else:
            print(f"{line} SRAM {report['sram_bytes']['total'] / 1024:.1f} KiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
