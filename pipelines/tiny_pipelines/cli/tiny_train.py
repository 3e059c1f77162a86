"""`tiny-train`: the compiled training step on the host over a data set; accuracy and losses."""

import argparse
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry

_LINE_SECONDS = 5.0
_TERMINAL_SECONDS = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _train, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-train",
        description="Run the training step of a model on the host over a data set, sample by "
        "sample as the device does. MODEL is a model (then --scheme is needed) or a scheduled "
        "training step.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("input", metavar="MODEL", help="any format of tiny-import, or - for stdin")
    add("--data", required=True, metavar="SET.npz", type=Path, help="samples and labels")
    add("--scheme", metavar="NAME|FILE", help="what is trained: a published scheme or a JSON file")
    add("--classes", type=int, metavar="N", help="train a fresh float32 head for N classes")
    add("--update", default="int16", metavar="KIND", help="int16 (default) or float32 masters")
    add("--no-qas", action="store_true", help="leave out quantization-aware scaling")
    length = options.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, metavar="E", help="passes over the data (default 1)")
    length.add_argument("--steps", type=int, metavar="N", help="exactly N steps")
    add("--lr", type=float, metavar="R", help="rate for one sample (default 0.1/256 = 0.00039)")
    add("--schedule", default="cosine", help="cosine (to 0, default) or constant")
    add("--seed", type=int, default=0, metavar="S", help="head and sample order (default 0)")
    add("--limit-train", type=int, metavar="N", help="only the first N training samples")
    add("--limit-test", type=int, metavar="N", help="only the first N test samples")
    add("--threads", type=int, default=1, metavar="N", help="threads for one step (default 1)")
    add("-o", "--output", metavar="STATE.npz", help="write the trained parameters, by symbol")
    add("--json", action="store_true", help="print one JSON object with the result")
    return options


def _train(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from tiny_dialect.dialect import new_context
    from tiny_pipelines.datasets import load_dataset
    from tiny_pipelines.experiment import DEFAULT_RATE, TrainingPlan, load_experiment

    plan = TrainingPlan(
        epochs=1 if options.epochs is None else options.epochs,
        steps=options.steps,
        rate=DEFAULT_RATE if options.lr is None else options.lr,
        schedule=options.schedule,
        seed=options.seed,
    )
    data = load_dataset(options.data)
    data = replace(
        data,
        train=data.train.limited(options.limit_train),
        test=data.test.limited(options.limit_test),
    )
    source, name = entry.read_input(options.input)
    with new_context():
        with entry.progress("compiling"):
            step = _training_step(options, source, name)
            experiment = load_experiment(
                step, data, report=_ProgressLine(), threads=options.threads
            )
        result = experiment.run(plan)
        model = _model_name(step)
    if options.output is not None:
        _write_state(options.output, experiment.model.state())
    record = {"model": model, **_settings(options, plan), **result.summary()}
    if options.json:
        entry.print_json(record)
    elif options.output != entry.STANDARD_STREAM:
        print(_sentence(record))


def _training_step(options: argparse.Namespace, data: bytes, source: str) -> Any:
    """The scheduled training step: built from a model, or read as it is."""
    from tiny_dialect.dialect import parse_module
    from tiny_pipelines.experiment import functions_of
    from tiny_pipelines.frontends import format_of, import_bytes

    if format_of(data, source) in ("bytecode", "text"):
        module = parse_module(data, source)
        if "train_step" in functions_of(module):
            for option in ("scheme", "classes"):
                if getattr(options, option) is not None:
                    raise InvalidOption(f"is a training step already, drop --{option}", source)
            return module
    from tiny_pipelines.training import TrainingOptions, build_training_step

    if options.scheme is None:
        raise InvalidOption("--scheme is needed to train a model")
    chosen = TrainingOptions(options.scheme, options.update, qas=not options.no_qas)
    module = import_bytes(data, source, options.classes, options.seed)
    return build_training_step(module, chosen, until="scheduled")


def _model_name(module: Any) -> str:
    from tiny_pipelines.experiment import functions_of

    attributes = functions_of(module)["train_step"].attributes
    return attributes["tiny.model"].value if "tiny.model" in attributes else ""


def _settings(options: argparse.Namespace, plan: Any) -> dict[str, Any]:
    """What was asked for, so that the record alone says how to repeat the run."""
    return {
        "scheme": options.scheme,
        "update": options.update,
        "qas": not options.no_qas,
        "data": str(options.data),
        "rate": plan.rate,
        "schedule": plan.schedule,
        "seed": plan.seed,
    }


def _sentence(record: dict[str, Any]) -> str:
    return (
        f"accuracy {record['accuracy_before']:.1%} before, {record['accuracy_after']:.1%} after "
        f"{record['steps']} steps ({record['steps_per_second']:.0f} a second)"
    )


def _write_state(path: str, state: dict[str, Any]) -> None:
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **state)
    entry.write_output(path, buffer.getvalue())


class _ProgressLine:
    """Progress on stderr: one line that is rewritten on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = time.monotonic() + 1.0

    def __call__(self, progress: Any) -> None:
        """Show `progress` if the last time is long enough ago."""
        now = time.monotonic()
        last = progress.step == progress.total
        if now < self._next and not (last and self._terminal):
            return
        self._next = now + (_TERMINAL_SECONDS if self._terminal else _LINE_SECONDS)
        rate = progress.step / max(progress.seconds, 1e-9)
        loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
        text = f"{progress.phase} {progress.step}/{progress.total}{loss}, {rate:.0f}/s"
        if self._terminal:
            print(f"\r{text:<60}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
