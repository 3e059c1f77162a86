"""The deployed network: the shipped digits model whose head never met the digits 7 to 9.

Rows of unknown classes are zero, so that their logits are 0: one of them wins only where no known
class is above that. Everything in front of the head is as pre-training on all ten digits left it:
what is new to this network is the classes of its head, and the domain as a whole.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from replay import Lesson, buffer_bytes
from tasks import DIGITS, KNOWN_CLASSES
from tiny_dialect.dialect import new_context, read_module
from tiny_dialect.errors import InvalidOption
from tiny_dialect.types import storage_bytes
from tiny_passes.graph import TRAIN_STEP, find_function
from tiny_pipelines.cli.entry import progress
from tiny_pipelines.datasets import Preprocessing, preprocessing_of
from tiny_pipelines.firmware import build_firmware
from tiny_pipelines.frontends.head import head_values, set_head
from tiny_pipelines.host import HostModel
from tiny_pipelines.host_loading import load_host
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.boards import Board
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import Image

MODEL = DIGITS / "digits.mlirbc"
SCHEME = DIGITS / "sparse.json"


class Learner(Protocol):
    """What the host's model and an emulated device both are."""

    def infer(self, x: Any) -> Any:
        """The logits of an int8 input."""
        ...

    def train_step(self, x: Any, label: int, rate: float) -> tuple[float, Any]:
        """One step in place; (loss, logits) before it."""
        ...


@dataclass(frozen=True)
class Deployed:
    """The same training step in a board's image and on the host."""

    image: Image
    report: dict[str, Any]
    host: HostModel
    preprocessing: Preprocessing

    def device(self) -> Emulator:
        """The board, after reset."""
        return Emulator(self.image)

    @property
    def input_bytes(self) -> int:
        """Bytes of one int8 input."""
        return int(np.prod(self.preprocessing.shape))

    @property
    def free_bytes(self) -> int:
        """SRAM of the board that the firmware leaves."""
        return self.image.board.sram_bytes - self.report["sram_bytes"]["total"]

    def require_room(self, samples: int) -> None:
        """Raise `InvalidOption` where the board has no room for a buffer of so many samples."""
        needed = buffer_bytes(samples, self.input_bytes)
        if needed > self.free_bytes:
            raise InvalidOption(
                f"a buffer of {samples} samples needs {needed} bytes, "
                f"{self.image.board.name} has {self.free_bytes} left; use a smaller one"
            )


def deployed_model() -> Any:
    """The model-stage module, in the current MLIR context."""
    module = read_module(MODEL)
    weight, bias = head_values(module)
    weight[KNOWN_CLASSES:] = 0
    bias[KNOWN_CLASSES:] = 0
    set_head(module, weight, bias)
    return module


def deploy(board: Board, scheme: Path | str = SCHEME) -> Deployed:
    """Compile the training step for `board` and for the host."""
    with new_context():
        module = deployed_model()
        firmware = build_firmware(module, TrainingOptions(str(scheme)), board, step=progress)
        preprocessing = preprocessing_of(find_function(module, TRAIN_STEP))
        with progress("compiling for the host"):
            host = load_host(module)
    return Deployed(firmware.image, firmware.report, host, preprocessing)


def boundary_bytes(scheme: Path | str = SCHEME) -> int:
    """Bytes a sample of what crosses from the layers that no training changes to the others.

    A buffer could hold these activations in place of inputs.
    """
    with new_context():
        options = TrainingOptions(str(scheme), split_prefix=True)
        module = build_training_step(deployed_model(), options, until="scheduled")
        *crossing, _, _ = find_function(module, TRAIN_STEP).regions[0].blocks[0].arguments
        return sum(storage_bytes(value) for value in crossing)


def accuracy(model: Learner, samples: Any) -> float:
    """The fraction of (input, label) pairs whose largest logit is the label's."""
    return sum(int(np.argmax(model.infer(x))) == label for x, label in samples) / len(samples)


def train(model: Learner, lessons: list[Lesson], rate: float) -> list[float]:
    """One step a lesson, in order; the losses before them."""
    return [model.train_step(x, label, rate)[0] for x, label in lessons]
