"""`tiny-train`: the compiled training step on the host over a data set; accuracy and losses.

The state it trains is the device's own: int8 forward, the update rule of `--update`. Layers before
the first trained one run once a sample; what they compute is kept for later epochs.
"""

import argparse
import hashlib
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry

_COLLAPSED = (
    "the run has collapsed: from sample {} on the loss is above that of guessing; use a lower rate"
)
_TOO_SLOW = (
    "the loss is still above that of guessing, and falls: train longer, or use a higher rate"
)
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
    entry.load_option(options)
    add = options.add_argument
    add("input", metavar="MODEL", help="any format of tiny-import, or - for stdin")
    add("--data", required=True, metavar="SET", type=Path, help="an .npz file or image folder")
    add("--scheme", metavar="NAME|FILE", help="what is trained: a published scheme or a JSON file")
    add("--classes", type=int, metavar="N", help="train a fresh float32 head for N classes")
    add(
        "--update",
        default="int16",
        metavar="KIND",
        help="int16 (default), float32, int8-stochastic; to compare: int8, int8-truncate",
    )
    add(
        "--gradients",
        metavar="KIND",
        help="int16, int8 or float32 (default: int16 where the update rule and --batch allow it)",
    )
    rescaling = options.add_mutually_exclusive_group()
    rescaling.add_argument(
        "--no-qas", action="store_true", help="leave out quantization-aware scaling"
    )
    rescaling.add_argument(
        "--rescale",
        default="qas",
        metavar="KIND",
        help="qas (default); to compare: powers-of-two, constant, none",
    )
    length = options.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, metavar="E", help="passes over the data (default 1)")
    length.add_argument("--steps", type=int, metavar="N", help="exactly N updates")
    add("--lr", type=float, metavar="R", help="rate for one sample (default 0.1/256 = 0.00039)")
    add("--propose-rate", action="store_true", help="choose it on a fifth of the training samples")
    add("--rates", metavar="R,R", help="what --propose-rate tries (default 0.025 to 0.4, by 256)")
    add("--schedule", default="cosine", help="cosine (to 0, default) or constant")
    add("--warmup", type=float, default=0.0, metavar="E", help="epochs in which the rate rises")
    add("--batch", type=int, default=1, metavar="N", help="sum the gradients of N samples")
    add("--seed", type=int, default=0, metavar="S", help="head and sample order (default 0)")
    add("--limit-train", type=int, metavar="N", help="only the first N training samples")
    add("--limit-test", type=int, metavar="N", help="only the first N test samples")
    add("--threads", type=int, default=1, metavar="N", help="threads for one step (default 1)")
    add("--checkpoint", type=Path, metavar="FILE", help="go on from FILE, and write it as it goes")
    add("--log", type=Path, metavar="FILE", help="one JSON line an epoch, with test accuracy")
    add("--curve", type=Path, metavar="FILE.svg", help="loss and accuracy over the epochs")
    add("-o", "--output", metavar="STATE.npz", help="write the trained parameters, by symbol")
    add("--json", action="store_true", help="print one JSON object with the result")
    return options


def _train(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from tiny_dialect.dialect import new_context
    from tiny_pipelines.collapse import still_falls
    from tiny_pipelines.experiment import DEFAULT_RATE, TrainingPlan, load_experiment
    from tiny_pipelines.image_folders import open_dataset

    plan = TrainingPlan(
        epochs=1 if options.epochs is None else options.epochs,
        steps=options.steps,
        rate=DEFAULT_RATE if options.lr is None else options.lr,
        schedule=options.schedule,
        seed=options.seed,
        batch=options.batch,
        warmup=options.warmup,
    )
    for path in (options.output, options.checkpoint, options.log, options.curve):
        entry.require_file_place(path)
    if options.propose_rate and options.lr is not None:
        raise InvalidOption("--propose-rate chooses the rate itself, drop --lr")
    if options.rates is not None and not options.propose_rate:
        raise InvalidOption("--rates is for --propose-rate")
    data = open_dataset(options.data, (256, 256) if options.data.is_dir() else None)
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
        model, digest = _model_name(step), _digest(step)
        proposal = _propose(options, experiment, plan) if options.propose_rate else None
        if proposal is not None:
            plan = replace(plan, rate=proposal.rate)
        result = experiment.run(plan, _logging(options, model, digest))
    if options.output is not None:
        _write_state(options.output, experiment.model.state())
    record = {"model": model, **_settings(options, plan), **result.summary()}
    if proposal is not None:
        record["proposal"] = proposal.summary()
    if result.collapsed_at is not None:
        slow = still_falls(result.losses, data.classes)
        print(_TOO_SLOW if slow else _COLLAPSED.format(result.collapsed_at), file=sys.stderr)
    if options.json:
        entry.print_json(record)
    elif options.output != entry.STANDARD_STREAM:
        print(_sentence(record))


def _propose(options: argparse.Namespace, experiment: Any, plan: Any) -> Any:
    from tiny_pipelines.rate_proposal import RATES, propose_rate

    def tell(trial: Any) -> None:
        reached = "collapsed" if trial.accuracy is None else f"{trial.accuracy:.1%}"
        print(f"rate {trial.rate:.6f} ({trial.rate * 256:.3g}/256): {reached}", file=sys.stderr)

    if options.rates is None:
        return propose_rate(experiment, plan, RATES, beyond=True, tell=tell)
    return propose_rate(experiment, plan, _rates(options.rates), tell=tell)


def _rates(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidOption(f"--rates {text}: expected numbers with commas between") from None


def _digest(module: Any) -> str:
    """What makes two training steps the same one for a checkpoint."""
    from tiny_dialect.dialect import to_bytecode

    return hashlib.sha256(to_bytecode(module)).hexdigest()[:16]


def _logging(options: argparse.Namespace, model: str, digest: str) -> Any:
    """What the run writes while it goes on."""
    from tiny_pipelines.experiment import Logging
    from tiny_pipelines.learning_curve import learning_curve

    def on_epoch(epochs: list[dict[str, Any]]) -> None:
        if options.log is not None:
            lines = "".join(json.dumps(record) + "\n" for record in epochs)
            entry.write_output(str(options.log), lines.encode())
        if options.curve is not None:
            title = f"{model} {options.scheme or ''} {options.update}"
            entry.write_output(str(options.curve), learning_curve(epochs, title).encode())

    watched = options.log is not None or options.curve is not None
    run = {"model": digest, "data": str(options.data)}
    return Logging(options.checkpoint, run, on_epoch, test_epochs=watched)


def _training_step(options: argparse.Namespace, data: bytes, source: str) -> Any:
    """The scheduled training step: built from a model, or read as it is."""
    from tiny_dialect.dialect import parse_module
    from tiny_passes.graph import functions
    from tiny_pipelines.frontends import format_of, import_bytes

    if format_of(data, source) in ("bytecode", "text"):
        module = parse_module(data, source)
        if "train_step" in functions(module):
            for option in ("scheme", "classes"):
                if getattr(options, option) is not None:
                    raise InvalidOption(f"is a training step already, drop --{option}", source)
            if options.batch > 1 and "apply_updates" not in functions(module):
                raise InvalidOption("was made without sums of gradients, drop --batch", source)
            return module
    from tiny_pipelines.training import build_training_step

    if options.scheme is None:
        raise InvalidOption("--scheme is needed to train a model")
    chosen = _training_options(options)
    module = import_bytes(data, source, options.classes, options.seed)
    return build_training_step(module, chosen, until="scheduled")


def _training_options(options: argparse.Namespace) -> Any:
    from tiny_pipelines.training import TrainingOptions

    return TrainingOptions(
        options.scheme,
        options.update,
        options.gradients,
        qas=not options.no_qas,
        seed=options.seed,
        accumulate=options.batch > 1,
        split_prefix=True,
        # Both only save memory on a device, and change no result.
        fuse_blocks=False,
        row_overlap=False,
        rescaling=options.rescale,
    )


def _model_name(module: Any) -> str:
    from tiny_passes.graph import functions

    attributes = functions(module)["train_step"].attributes
    return attributes["tiny.model"].value if "tiny.model" in attributes else ""


def _settings(options: argparse.Namespace, plan: Any) -> dict[str, Any]:
    """What was asked for, so that the record alone says how to repeat the run."""
    return {
        "scheme": options.scheme,
        "update": options.update,
        # A step that was read as it is has its own.
        "gradients": _training_options(options).gradient_type if options.scheme else None,
        "rescale": "none" if options.no_qas else options.rescale,
        "data": str(options.data),
        "rate": plan.rate,
        "schedule": plan.schedule,
        "batch": plan.batch,
        "warmup": plan.warmup,
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
