"""`tiny-run`: run the image of `tiny-compile` in the emulator over a data set; count, and check."""

import argparse
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.cli import entry


class CheckFailed(TinyError):
    """The device computed something else than the semantics say."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _run, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-run",
        description="Run the image that tiny-compile wrote to DIR in the emulator: loss, accuracy, "
        "instructions, SRAM and stack. Exactly the board's flash and SRAM are mapped.",
        allow_abbrev=False,
    )
    options.add_argument("folder", metavar="DIR", help="the folder that tiny-compile wrote")
    options.add_argument("--data", required=True, metavar="SET.npz", help="data set")
    options.add_argument("--steps", type=int, default=1, metavar="N", help="training steps (1)")
    options.add_argument("--rate", type=float, default=0.1 / 256, help="learning rate (0.1/256)")
    options.add_argument("--seed", type=int, default=0, help="order of the samples (0)")
    options.add_argument(
        "--test", type=int, default=0, metavar="N", help="accuracy on N test samples, before, after"
    )
    options.add_argument(
        "--check",
        action="store_true",
        help="hold every op, and the same steps on the host, against the NumPy semantics; exit "
        "status 1 where an integer differs, or a float by more than rounding",
    )
    options.add_argument(
        "--poison",
        action="store_true",
        help="overwrite every dead byte of arena and state with garbage before each op; exit "
        "status 1 where any result changes",
    )
    options.add_argument(
        "--access",
        action="store_true",
        help="let each op touch its declared buffers alone; exit status 1 at a stray access",
    )
    options.add_argument("--json", action="store_true", help="print one JSON object")
    entry.load_option(options)
    return options


def _run(options: argparse.Namespace) -> None:
    if options.steps < 0 or options.test < 0:
        raise InvalidOption("--steps and --test take a count of at least 0")
    from tiny_pipelines.device_run import run_device

    with _planned(Path(options.folder)) as module:
        report = run_device(
            Path(options.folder),
            module,
            Path(options.data),
            steps=options.steps,
            rate=options.rate,
            seed=options.seed,
            test=options.test,
            check=options.check,
            poison=options.poison,
            access=options.access,
            step=entry.progress,
        )
    if options.json:
        entry.print_json(report)
    else:
        print(_text(report))
    check = report.get("check")
    if check and not check["passed"]:
        raise CheckFailed("; ".join(check["mismatches"][:3]))


@contextmanager
def _planned(folder: Path) -> Generator[Any]:
    """The planned module beside the image, in a context of its own."""
    from tiny_dialect.dialect import new_context
    from tiny_pipelines.firmware import PLANNED_FILE
    from tiny_targets.image_module import read_image_module

    if not folder.is_dir():
        raise InvalidOption("no such folder; tiny-compile -o writes one", str(folder))
    with new_context():
        yield read_image_module(folder / PLANNED_FILE)


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['model']} on {report['board']} ({report['target']})"]
    for number, loss in enumerate(report["loss"]):
        lines.append(f"step {number:4d}  loss {loss:.6f}")
    instructions = report["instructions"]
    lines.append(
        f"instructions  forward {instructions['forward'] / 1e6:.2f} M, "
        f"step {instructions['step'] / 1e6:.2f} M"
    )
    lines.append(
        f"SRAM          {report['sram_bytes_used'] / 1024:.1f} KiB used, "
        f"of it {report['stack_bytes_used']} B of stack"
    )
    if "accuracy" in report:
        before, after = report["accuracy"]["before"], report["accuracy"]["after"]
        lines.append(f"accuracy      {before:.1%} before, {after:.1%} after")
    if "memory" in report:
        lines.append(_memory_text(report["memory"]))
    if "check" in report:
        lines.append(_check_text(report["check"]))
    return "\n".join(lines)


def _check_text(check: dict[str, Any]) -> str:
    if not check["passed"]:
        return f"check         FAILED: {len(check['mismatches'])} ops or updates"
    device = check["device"]
    return (
        f"check         passed: {device['integers']} integers equal to the semantics, "
        f"{device['updated']} learned values and {device['floats']} floats within rounding, "
        "on the host too"
    )


def _memory_text(memory: dict[str, Any]) -> str:
    found = []
    if "poison" in memory["modes"]:
        found.append(f"{memory['poisoned_bytes']} dead bytes overwritten, no result changed")
    if "access" in memory["modes"]:
        found.append(f"{memory['watched_accesses']} accesses, none stray")
    return f"memory        {memory['op_runs']} ops: {'; '.join(found)}"
