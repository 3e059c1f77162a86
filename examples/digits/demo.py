"""Adapt the digits network to a new domain on two emulated microcontrollers, and compare with the host.

The int8 network in `digits.mlirbc` knows bright ink on black; the device sees dark ink on light paper
(`domain.py`). For each board: compile the sparse training step (`sparse.json`) into firmware, run it
in the emulator on exactly the board's memory, measure the accuracy on 400 held-out images before and
after, and run the same steps on the host.

    python examples/digits/demo.py [--steps N] [--json]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tiny_dialect.dialect import new_context, read_module
from tiny_pipelines.cli.entry import progress
from tiny_pipelines.datasets import load_dataset
from tiny_pipelines.experiment import Experiment, TrainingPlan, load_experiment
from tiny_pipelines.firmware import compile_firmware
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import find_board
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import load_image

FOLDER = Path(__file__).resolve().parent
IMAGES = FOLDER.parents[1] / "build" / "digits"
BOARDS = ("stm32f746", "esp32-p4")
STEPS = 1200
RATE = 0.012
# What the demo promises: accuracy gained on the device, and losses equal to the host's.
LEAST_GAIN = 0.5
LOSS_TOLERANCE = 1e-5


def adapt(board_name: str, plan: TrainingPlan) -> dict[str, Any]:
    """Compile for one board, adapt there and on the host; every figure of the run."""
    data = load_dataset(FOLDER / "shifted.npz")
    folder = IMAGES / board_name
    folder.mkdir(parents=True, exist_ok=True)
    with new_context():
        module = read_module(FOLDER / "digits.mlirbc")
        options = TrainingOptions(str(FOLDER / "sparse.json"))
        compiled = compile_firmware(module, options, find_board(board_name), folder, step=progress)
        host = load_experiment(module, data)
    emulator = Emulator(load_image(folder))
    # The emulated device offers the calls of the host's model, so one loop trains both.
    device: Any = Experiment(emulator, host.preprocessing, data)  # pyright: ignore
    with progress(f"{board_name}: {plan.steps} steps in the emulator"):
        on_device = device.run(plan)
    step_instructions = instructions_of_step(device)
    with progress("the same steps on the host"):
        on_host = host.run(plan)
    return {
        "board": board_name,
        "target": compiled["target"],
        "sram_bytes": compiled["sram_bytes"],
        "stack_bytes_used": emulator.stack_bytes_used,
        "flash_bytes": compiled["flash_bytes"],
        "instructions": step_instructions,
        "accuracy": {"before": on_device.accuracy_before, "after": on_device.accuracy_after},
        "host_accuracy": {"before": on_host.accuracy_before, "after": on_host.accuracy_after},
        "loss": {"first": on_device.losses[0], "last_100": float(np.mean(on_device.losses[-100:]))},
        **compared(on_device.losses, on_host.losses, emulator, host),
    }
