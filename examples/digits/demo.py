"""Adapt the digits network to a new domain on two emulated microcontrollers; compare with the host.

The int8 network `digits.mlirbc` knows bright ink on black; the device sees dark ink on light
paper (`domain.py`). For each board: compile the sparse training step (`sparse.json`) into firmware,
run it in the emulator on exactly the board's memory, measure the accuracy on 400 held-out images
before and after, and run the same steps on the host. Gradients are integers, so that host and
devices must learn the same bits.

    python examples/digits/demo.py [--steps N] [--json]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.dialect import new_context, read_module
from tiny_pipelines.cli.entry import print_json, progress
from tiny_pipelines.datasets import Split, load_dataset
from tiny_pipelines.experiment import Experiment, TrainingPlan, load_experiment
from tiny_pipelines.firmware import compile_firmware
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import find_board
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import load_image

Array = NDArray[Any]

FOLDER = Path(__file__).resolve().parent
IMAGES = FOLDER.parents[1] / "build" / "digits"
BOARDS = ("stm32f746", "esp32-p4")
STEPS = 1200
RATE = 0.012
# What the demo promises besides equal bits: accuracy gained on the device.
LEAST_GAIN = 0.5


def adapt(board: str, plan: TrainingPlan) -> dict[str, Any]:
    """Compile for one board, train there and on the host; every figure of both runs."""
    folder = IMAGES / board
    folder.mkdir(parents=True, exist_ok=True)
    data = load_dataset(FOLDER / "shifted.npz")
    options = TrainingOptions(str(FOLDER / "sparse.json"))
    with new_context():
        module = read_module(FOLDER / "digits.mlirbc")
        report = compile_firmware(module, options, find_board(board), folder, step=progress)
        with progress("compiling for the host"):
            host = load_experiment(module, data)
    emulator = Emulator(load_image(folder))
    # The emulated device offers the same calls as the host's model: one loop trains both.
    device = Experiment(emulator, host.preprocessing, data)  # type: ignore[arg-type]
    with progress(f"{plan.steps} steps on the emulated {board}"):
        on_device = device.run(plan)
    with progress("the same on the host"):
        on_host = host.run(plan)
    state = [(emulator.read_state(symbol), value) for symbol, value in host.model.state().items()]
    return {
        **{key: report[key] for key in ("board", "target", "sram_bytes", "flash_bytes")},
        "accuracy": {"before": on_device.accuracy_before, "after": on_device.accuracy_after},
        "host_accuracy": {"before": on_host.accuracy_before, "after": on_host.accuracy_after},
        "steps": len(on_device.losses),
        "equal_losses": equal_values([(np.array(on_device.losses), np.array(on_host.losses))]),
        "trained_values": sum(value.size for _, value in state),
        "equal_trained_values": equal_values(state),
        "stack_bytes_used": emulator.stack_bytes_used,
        "instructions": instructions(emulator, host, data.train),
    }


def equal_values(pairs: list[tuple[Array, Array]]) -> int:
    """How many elements of paired arrays have the same value."""
    return sum(int((a == b).sum()) for a, b in pairs)


def instructions(emulator: Emulator, host: Experiment, samples: Split) -> dict[str, int]:
    """Instructions of one inference and of one training step, the latter at rate 0."""
    x = host.preprocessing.apply(samples.samples[0])
    counts: dict[str, int] = {}
    emulator.infer(x)
    counts["forward"] = last_instructions(emulator)
    emulator.train_step(x, int(samples.labels[0]), 0.0)
    counts["step"] = last_instructions(emulator)
    return counts


def last_instructions(emulator: Emulator) -> int:
    """Instructions of the emulator's last call."""
    return emulator.last_call.instructions if emulator.last_call else 0


def rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of one board as (name, value)."""
    sram, flash, count = record["sram_bytes"], record["flash_bytes"], record["instructions"]
    accuracy, host = record["accuracy"], record["host_accuracy"]
    trained = f"{record['equal_trained_values']} of {record['trained_values']}"
    return [
        ("board", f"{record['board']} ({record['target']})"),
        ("accuracy before", f"{accuracy['before']:.1%}"),
        (f"after {record['steps']} steps", f"{accuracy['after']:.1%}"),
        ("same steps, host", f"{host['after']:.1%}"),
        ("losses equal", f"{record['equal_losses']} of {record['steps']}"),
        ("trained values equal", trained),
        ("SRAM", f"{sram['total'] / 1024:.1f} KiB"),
        ("  arena", f"{sram['arena'] / 1024:.1f} KiB"),
        ("  trained state", f"{sram['trainable'] / 1024:.1f} KiB"),
        ("  stack (used)", f"{sram['stack']} B ({record['stack_bytes_used']} B)"),
        ("flash", f"{flash['total'] / 1024:.1f} KiB"),
        ("instructions, step", f"{count['step'] / 1e6:.2f} M"),
        ("  inference", f"{count['forward'] / 1e6:.2f} M"),
    ]


def table(records: list[dict[str, Any]]) -> str:
    """One column a board."""
    columns = [rows(record) for record in records]
    return "\n".join(
        f"{line[0][0]:<22}" + "".join(f"{value:>24}" for _, value in line)
        for line in zip(*columns, strict=True)
    )


def broken_promises(records: list[dict[str, Any]]) -> list[str]:
    """What the demo promised and a board did not keep, one line each."""
    broken: list[str] = []
    for record in records:
        accuracy = record["accuracy"]
        gain = accuracy["after"] - accuracy["before"]
        if gain < LEAST_GAIN:
            broken.append(f"{record['board']}: gained {gain:.1%}, expected {LEAST_GAIN:.0%}")
        unequal = record["steps"] - record["equal_losses"]
        unequal += record["trained_values"] - record["equal_trained_values"]
        if unequal or accuracy != record["host_accuracy"]:
            broken.append(f"{record['board']}: {unequal} values differ from the host's")
    return broken


def main() -> int:
    """Run the demo; 1 if it does not show what it promises."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--steps", type=int, default=STEPS, help=f"training steps ({STEPS})")
    options.add_argument("--json", action="store_true", help="print one JSON object a board")
    chosen = options.parse_args()
    plan = TrainingPlan(steps=chosen.steps, rate=RATE)
    records = [adapt(board, plan) for board in BOARDS]
    if chosen.json:
        print_json({"boards": records})
    else:
        print(table(records))
    broken = broken_promises(records)
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
