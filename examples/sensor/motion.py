"""Adapt the motion network to another mounting on an emulated microcontroller; compare the host.

The int8 network `motion.mlirbc` knows windows of a belt; the device sits on an arm (`windows.py`).
Compile the sparse training step (`sparse.json`) into firmware, run it in the emulator on exactly
the board's memory, window by window, each seen once; measure the accuracy before and after on
windows of both mountings, and hold losses and trained values against the host's.

    python examples/sensor/motion.py [--board NAME] [--steps N] [--json]
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dialect.dialect import new_context, read_module
from tiny_dialect.errors import TinyError
from tiny_pipelines.cli import entry
from tiny_pipelines.datasets import load_dataset
from tiny_pipelines.experiment import Experiment, TrainingPlan, load_experiment
from tiny_pipelines.firmware import build_firmware
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import find_board
from tiny_targets.emulate import Emulator
from windows import ARM, BELT, write_data

FOLDER = Path(__file__).resolve().parent
BOARD = "nrf52840"
RATE = 0.03


class BitsDiffer(TinyError):
    """Board and host have not learned the same."""


def adapt(board: str, steps: int | None, folder: Path) -> dict[str, Any]:
    """Compile, train on the board and on the host; every figure. Data sets go to `folder`."""
    data, belt = (load_dataset(write_data(folder, mounting)) for mounting in (ARM, BELT))
    with new_context():
        module = read_module(FOLDER / "motion.mlirbc")
        options = TrainingOptions(str(FOLDER / "sparse.json"))
        firmware = build_firmware(module, options, find_board(board), step=entry.progress)
        with entry.progress("compiling for the host"):
            host = load_experiment(module, data)
    emulator = Emulator(firmware.image)
    # The emulated device offers the same calls as the host's model: one loop trains both.
    device = Experiment(emulator, host.preprocessing, data)  # type: ignore[arg-type]
    plan = TrainingPlan(steps=steps, rate=RATE)
    belt_before = device.accuracy(belt.test)
    with entry.progress(f"learning on the emulated {board}"):
        on_device = device.run(plan)
    on_host = host.run(plan)
    pairs = [(emulator.read_state(symbol), value) for symbol, value in host.model.state().items()]
    pairs.append((np.array(on_device.losses), np.array(on_host.losses)))
    unequal = sum(int((a != b).sum()) for a, b in pairs)
    if unequal or on_device.accuracy_after != on_host.accuracy_after:
        raise BitsDiffer(f"{unequal} losses and trained values differ from the host's")
    return {
        **{key: firmware.report[key] for key in ("board", "target", "sram_bytes", "flash_bytes")},
        "steps": on_device.steps,
        "accuracy": {
            "arm": [on_device.accuracy_before, on_device.accuracy_after],
            "belt": [belt_before, device.accuracy(belt.test)],
        },
        "equal_values": sum(a.size for a, _ in pairs),
        "stack_bytes_used": emulator.stack_bytes_used,
        "instructions": instructions(emulator, data.train.samples[0]),
    }


def instructions(emulator: Emulator, x: Any) -> dict[str, int]:
    """Instructions of one inference and of one training step, the latter at rate 0."""
    counts: dict[str, int] = {}
    emulator.infer(x)
    counts["forward"] = emulator.last_call.instructions if emulator.last_call else 0
    emulator.train_step(x, 0, 0.0)
    counts["step"] = emulator.last_call.instructions if emulator.last_call else 0
    return counts


def table(record: dict[str, Any]) -> str:
    """The figures, one a line."""
    sram, flash, count = record["sram_bytes"], record["flash_bytes"], record["instructions"]
    (arm_before, arm), (belt_before, belt) = record["accuracy"]["arm"], record["accuracy"]["belt"]
    rows = [
        ("board", f"{record['board']} ({record['target']})"),
        ("arm, before", f"{arm_before:.1%}"),
        (f"  after {record['steps']} steps", f"{arm:.1%}"),
        ("belt, before", f"{belt_before:.1%}"),
        (f"  after {record['steps']} steps", f"{belt:.1%}"),
        ("equal to the host's", f"{record['equal_values']} values"),
        ("SRAM", f"{sram['total'] / 1024:.1f} KiB"),
        ("  arena", f"{sram['arena'] / 1024:.1f} KiB"),
        ("  trained state", f"{sram['trainable'] / 1024:.1f} KiB"),
        ("  stack (used)", f"{sram['stack']} B ({record['stack_bytes_used']} B)"),
        ("flash", f"{flash['total'] / 1024:.1f} KiB"),
        ("instructions, step", f"{count['step'] / 1e6:.2f} M"),
        ("  inference", f"{count['forward'] / 1e6:.2f} M"),
    ]
    return "\n".join(f"{name:<22}{value:>24}" for name, value in rows)


def run(options: argparse.Namespace) -> None:
    """Adapt and print."""
    with tempfile.TemporaryDirectory() as folder:
        record = adapt(options.board, options.steps, Path(folder))
    if options.json:
        entry.print_json(record)
    else:
        print(table(record))


def parser() -> entry.Parser:
    """The options of this example."""
    made = entry.Parser(prog="motion.py", description=__doc__.split("\n")[0], allow_abbrev=False)
    made.add_argument("--board", default=BOARD, help=f"the emulated board ({BOARD})")
    made.add_argument("--steps", type=int, help="training steps (each window once)")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    return made


if __name__ == "__main__":
    sys.exit(entry.run(parser(), run))
