"""What fits where: schemes, update rules and boards against SRAM and flash of compiled firmware.

A model is compiled once for each scheme, rule and core; every board of that core is then judged by
the sizes of the image. What has been compiled is kept as one JSON line each, so that a sweep that
was interrupted goes on where it stopped.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import to_bytecode
from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.firmware import build_firmware
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import Board, roomy_board
from tiny_targets.sram_layout import ARENA, PROGRAM, STATE, choose_layout
from tiny_targets.target import find_target


@dataclass(frozen=True)
class Rule:
    """How weights are stored and gradients computed, and whether the input is streamed."""

    update: str
    gradients: str | None = None
    stream_input: bool = False

    def options(self, scheme: str) -> TrainingOptions:
        """The training options with `scheme`; raises `InvalidOption`."""
        return TrainingOptions(scheme, self.update, self.gradients, stream_input=self.stream_input)


@dataclass(frozen=True)
class Compiled:
    """Bytes of the image of one scheme and rule for one core; `problem` where there is none."""

    model: str
    scheme: str
    update: str
    gradients: str
    stream_input: bool
    target: str
    arena: int = 0
    trained: int = 0
    program: int = 0
    flash: int = 0
    problem: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What it is the result of; the model by its contents."""
        names = self.model, self.scheme, self.update, self.gradients, self.target
        return (*names, str(self.stream_input))

    @property
    def sram(self) -> int:
        """All of SRAM; `program` holds the stack that is reserved, and static data."""
        return self.arena + self.trained + self.program


@dataclass(frozen=True)
class Verdict:
    """One row of the sweep: whether a compiled step fits a board, and what is left or missing."""

    scheme: str
    update: str
    gradients: str
    stream_input: bool
    board: str
    fits: bool
    sram: int
    sram_free: int
    flash: int
    flash_free: int
    arena: int
    trained: int
    reason: str


class SweepFile:
    """The compiled images that are known already, in a file of JSON lines or only in memory."""

    def __init__(self, path: Path | None) -> None:
        """Read `path` where it exists; raises `InvalidOption` where it is something else."""
        self.path = path
        self.known: dict[tuple[str, ...], Compiled] = {}
        if path is None or not path.exists():
            return
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                found = Compiled(**json.loads(line))
            except (TypeError, ValueError) as error:
                where = f"{path}:{number}"
                raise InvalidOption(f"not a line of a sweep: {error}", where) from error
            self.known[found.key] = found

    def add(self, found: Compiled) -> None:
        """Keep `found`, on disk at once."""
        self.known[found.key] = found
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(found)) + "\n")


def compile_one(module: Any, model: str, scheme: str, rule: Rule, target: str) -> Compiled:
    """Compile a copy of the model-stage `module`; what does not work is a result as well."""
    options = rule.options(scheme)
    made = Compiled(model, scheme, rule.update, options.gradient_type, rule.stream_input, target)
    copy = ir.Module.parse(to_bytecode(module), module.context)
    try:
        image = build_firmware(copy, options, roomy_board(find_target(target))).image
    except TinyError as error:
        return replace(made, problem=str(error))
    sizes = image.sizes
    return replace(
        made,
        arena=sizes.arena,
        trained=sizes.trainable,
        program=sizes.data_bss + sizes.stack,
        flash=sizes.flash,
    )


def judge(compiled: Compiled, board: Board) -> Verdict:
    """Whether `compiled`, which is for the core of `board`, fits it."""
    flash_room = min(board.flash.size, board.constants.size)
    sram_free, flash_free = board.sram_bytes - compiled.sram, flash_room - compiled.flash
    reason = compiled.problem
    if not reason and sram_free < 0:
        reason = "SRAM"
    elif not reason and flash_free < 0:
        reason = "flash"
    elif not reason:
        needed = {PROGRAM: compiled.program, STATE: compiled.trained, ARENA: compiled.arena}
        whole = {name: -(-size // 16) * 16 for name, size in needed.items()}
        if board.more_sram and choose_layout(board, whole) is None:
            reason = "SRAM is in pieces"
    return Verdict(
        compiled.scheme,
        compiled.update,
        compiled.gradients,
        compiled.stream_input,
        board.name,
        not reason,
        compiled.sram,
        sram_free,
        compiled.flash,
        flash_free,
        compiled.arena,
        compiled.trained,
        reason,
    )


def sweep_jobs(
    schemes: Sequence[str], rules: Sequence[Rule], boards: Sequence[Board]
) -> Iterator[tuple[str, Rule, str]]:
    """(scheme, rule, core) of everything to compile, a core at a time."""
    for target in dict.fromkeys(board.target.name for board in boards):
        for scheme in schemes:
            for rule in rules:
                yield scheme, rule, target


def as_csv(verdicts: Sequence[Verdict]) -> str:
    """The rows with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Verdict)])
    writer.writerows([list(vars(one).values()) for one in verdicts])
    return text.getvalue()


def as_table(verdicts: Sequence[Verdict]) -> str:
    """A line a scheme and rule, a column a board: KiB of SRAM left, or what is missing."""
    boards = list(dict.fromkeys(one.board for one in verdicts))
    width = max([12, *(len(name) for name in boards)]) + 2
    groups: dict[tuple[str, str, str, bool], dict[str, Verdict]] = {}
    for one in verdicts:
        key = (
            Path(one.scheme).name.removesuffix(".json"),
            one.update,
            one.gradients,
            one.stream_input,
        )
        groups.setdefault(key, {})[one.board] = one
    head = f"{'scheme':<20}{'update':<17}{'gradients':<11}{'input':<10}"
    lines = [head + "".join(f"{name:>{width}}" for name in boards)]
    for (scheme, update, gradients, streamed), row in groups.items():
        cells = "".join(f"{_cell(row.get(name)):>{width}}" for name in boards)
        arrives = "streamed" if streamed else "whole"
        lines.append(f"{scheme:<20}{update:<17}{gradients:<11}{arrives:<10}{cells}")
    return "\n".join(lines) + "\n"


def _cell(one: Verdict | None) -> str:
    if one is None:
        return ""
    if one.fits:
        return f"{one.sram / 1024:.1f} KiB"
    if one.reason == "SRAM":
        return f"+{-one.sram_free / 1024:.0f} KiB"
    return {"flash": "no: flash", "SRAM is in pieces": "no: pieces"}.get(one.reason, "no")
