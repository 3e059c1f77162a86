"""A deployed network meets new classes, then another domain; what does it learn, what does it keep?

The compiled training step learns from a stream, one sample at a time, each seen once: digits that
the head never knew, then all digits in dark ink on light paper (`tasks.py`). After each stage every
task is measured: the accuracy matrix, its average and the forgetting (`forgetting.py`), with and
without a replay buffer that fits the board (`replay.py`). A sample is learned from once or, for as
many steps as replay takes, twice. All runs are on the host; the last steps of the first seed run on
the emulated board too and must leave the same bits.

    python examples/lifelong/lifelong.py [--buffer N] [--seeds N] [--json] [--svg FILE]
"""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from curve import accuracy_curve
from deployed import Deployed, accuracy, boundary_bytes, deploy, train
from forgetting import average_accuracy, forgetting
from replay import Lesson, buffer_bytes
from tasks import Strategy, World, curriculum, load_world
from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.cli import entry
from tiny_targets.boards import find_board

BUFFER = 40
RATE = 0.003
SEEDS = 3
BOARD_STEPS = 300
CURVE_STEPS = 60


class BitsDiffer(TinyError):
    """Board and host have not learned the same."""


@dataclass(frozen=True)
class Life:
    """One run: accuracy of every task after every stage, and along the way where asked for."""

    seed: int
    matrix: list[list[float]]
    curve: list[dict[str, Any]]

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "seed": self.seed,
            "accuracy": self.matrix,
            "average_accuracy": average_accuracy(self.matrix),
            "forgetting": forgetting(self.matrix),
        }


def measured(deployed: Deployed, world: World) -> list[float]:
    """The host's accuracy on every task."""
    return [accuracy(deployed.host, task.test) for task in world.tasks]


def live(
    deployed: Deployed,
    world: World,
    strategy: Strategy,
    rate: float,
    seed: int,
    watch: bool = False,
) -> Life:
    """All stages on the host, from deployment on; `watch` measures every `CURVE_STEPS` samples."""
    host = deployed.host
    host.reset()
    matrix = [measured(deployed, world)]
    curve = [{"sample": 0, "stage": 0, "accuracy": matrix[0]}]
    for stage, lessons in enumerate(curriculum(world, strategy, seed), 1):
        size = CURVE_STEPS * strategy.steps_a_sample if watch else len(lessons)
        for start in range(0, len(lessons), max(size, 1)):
            part = lessons[start : start + size]
            train(host, part, rate)
            sample = curve[-1]["sample"] + len(part) // strategy.steps_a_sample
            curve.append({"sample": sample, "stage": stage, "accuracy": measured(deployed, world)})
        matrix.append(curve[-1]["accuracy"])
    return Life(seed, matrix, curve)


def on_board(
    deployed: Deployed, world: World, strategy: Strategy, rate: float, seed: int, steps: int
) -> dict[str, Any]:
    """The last `steps` of a life on the board, from the host's state on; figures of both.

    Raises `BitsDiffer` unless losses, trained values and final logits are equal.
    """
    lessons: list[Lesson] = [one for stage in curriculum(world, strategy, seed) for one in stage]
    steps = min(steps, len(lessons))
    before, last = lessons[: len(lessons) - steps], lessons[len(lessons) - steps :]
    host, device = deployed.host, deployed.device()
    host.reset()
    train(host, before, rate)
    for symbol, value in host.state().items():
        device.write_state(symbol, value)
    pairs = [(np.array(train(device, last, rate)), np.array(train(host, last, rate)))]
    step = device.last_call.instructions if steps and device.last_call else 0
    pairs += [(device.read_state(symbol), value) for symbol, value in host.state().items()]
    pairs += [(device.infer(x), host.infer(x)) for x, _ in world.tasks[-1].test[:10]]
    forward = device.last_call.instructions if device.last_call else 0
    unequal = sum(int((a != b).sum()) for a, b in pairs)
    values = sum(a.size for a, _ in pairs)
    if unequal:
        raise BitsDiffer(f"{unequal} of {values} values differ from the host's")
    return {
        "steps": steps,
        "equal_values": values,
        "instructions": {"forward": forward, "step": step},
        "stack_bytes_used": device.stack_bytes_used,
    }


def table(name: str, lives: list[Life], world: World) -> list[str]:
    """The accuracy matrix of one strategy, mean over seeds and, at the end, its spread."""
    mean = np.mean([life.matrix for life in lives], axis=0)
    final = np.std([life.matrix[-1] for life in lives], axis=0)
    lines = ["", f"{name:<22}" + "".join(f"{task.stage:>14}" for task in world.tasks)]
    for j, task in enumerate(world.tasks):
        cells = "".join(f"{mean[i, j]:>14.1%}" for i in range(len(world.tasks)))
        lines.append(f"  {task.name:<20}{cells} ± {100 * final[j]:.1f}")
    for label, figure in (("average accuracy", average_accuracy), ("forgetting", forgetting)):
        values = [figure(life.matrix) for life in lives]
        lines.append(f"  {label:<48}{np.mean(values):>14.1%} ± {100 * np.std(values):.1f}")
    return lines


def board_lines(record: dict[str, Any]) -> list[str]:
    """The last part on the board, and what the buffer costs there."""
    board, memory = record["on_board"], record["memory"]
    count = board["instructions"]
    return [
        "",
        f"{record['board']}, the last {board['steps']} steps: losses, trained values and logits "
        f"equal to the host's ({board['equal_values']} values)",
        f"  instructions      {count['step'] / 1e6:.2f} M a step, "
        f"{count['forward'] / 1e6:.2f} M an inference",
        f"  SRAM              {memory['firmware'] / 1024:.1f} KiB firmware, "
        f"{memory['buffer'] / 1024:.1f} KiB buffer "
        f"({record['buffer_samples']} x {memory['input'] + 1} B), of {memory['board'] // 1024} KiB",
        f"  a sample          {memory['input']} B as input, {memory['boundary']} B as activations "
        "at the frozen boundary",
    ]


def run(options: argparse.Namespace) -> None:
    """The whole comparison; prints it."""
    if min(options.seeds, options.buffer) < 1 or options.board_steps < 0:
        raise InvalidOption("--seeds and --buffer take at least 1, --board-steps at least 0")
    deployed = deploy(find_board(options.board))
    deployed.require_room(options.buffer)
    world = load_world(deployed.preprocessing, options.validation)
    world = world.limited(options.limit_stream, options.limit_test)
    lives: dict[str, list[Life]] = {}
    replay = Strategy(f"replay, {options.buffer} samples", options.buffer)
    for strategy in (Strategy("once"), Strategy("twice", times=2), replay):
        with entry.progress(f"{strategy.name}: {options.seeds} lives on the host"):
            lives[strategy.name] = [
                live(deployed, world, strategy, options.rate, seed, bool(options.svg and not seed))
                for seed in range(options.seeds)
            ]
    with entry.progress(f"{options.board_steps} steps on the emulated {options.board}"):
        board = on_board(deployed, world, replay, options.rate, 0, options.board_steps)
    record = figures(options, deployed, lives, world, board)
    if options.svg:
        curves = {name: life[0].curve for name, life in lives.items()}
        svg = accuracy_curve(curves, [task.name for task in world.tasks])
        entry.write_output(options.svg, svg.encode())
    if options.json:
        entry.print_json(record)
    else:
        parts = [line for name, found in lives.items() for line in table(name, found, world)]
        print("\n".join([*parts, *board_lines(record)][1:]))


def figures(
    options: argparse.Namespace,
    deployed: Deployed,
    lives: dict[str, list[Life]],
    world: World,
    board: dict[str, Any],
) -> dict[str, Any]:
    """All figures, for `--json`."""
    return {
        "rate": options.rate,
        "buffer_samples": options.buffer,
        "tasks": [task.name for task in world.tasks],
        "samples": [len(task.stream) for task in world.tasks],
        "strategies": {name: [life.record() for life in found] for name, found in lives.items()},
        "board": options.board,
        "on_board": board,
        "memory": {
            "board": deployed.image.board.sram_bytes,
            "firmware": deployed.report["sram_bytes"]["total"],
            "buffer": buffer_bytes(options.buffer, deployed.input_bytes),
            "input": deployed.input_bytes,
            "boundary": boundary_bytes(),
        },
    }


def parser() -> entry.Parser:
    """The options of this example."""
    made = entry.Parser(prog="lifelong.py", description=__doc__.split("\n")[0], allow_abbrev=False)
    made.add_argument("--buffer", type=int, default=BUFFER, help=f"samples to replay ({BUFFER})")
    made.add_argument("--rate", type=float, default=RATE, help=f"learning rate ({RATE})")
    made.add_argument("--seeds", type=int, default=SEEDS, help=f"runs a strategy ({SEEDS})")
    made.add_argument("--board", default="stm32f746", help="the emulated board (stm32f746)")
    made.add_argument(
        "--board-steps", type=int, default=BOARD_STEPS, help=f"last steps there ({BOARD_STEPS})"
    )
    made.add_argument(
        "--validation", action="store_true", help="measure on scans held out of the streams"
    )
    made.add_argument("--limit-stream", type=int, metavar="N", help="N samples a stage only")
    made.add_argument("--limit-test", type=int, metavar="N", help="N test samples a task only")
    made.add_argument("--svg", metavar="FILE", help="write accuracy over the stream as SVG")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    return made


if __name__ == "__main__":
    raise SystemExit(entry.run(parser(), run))
