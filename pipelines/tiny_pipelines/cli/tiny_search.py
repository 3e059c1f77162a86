"""`tiny-search`: find what to train in a network for a budget of memory."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import entry


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return entry.run(_options(), _search, arguments)


def _options() -> argparse.ArgumentParser:
    options = entry.Parser(
        prog="tiny-search",
        description="Measure by short fine-tuning runs what training each bias and each share of a "
        "weight is worth, then find the best update scheme within a budget of planned SRAM. "
        "FOLDER gets schemes for tiny-compile and tiny-train, all trials, and plots; a search that "
        "was stopped goes on from there.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("input", metavar="MODEL", help="any format of tiny-import, or - for stdin")
    add("--data", required=True, metavar="SET", type=Path, help="an .npz file or image folder")
    add(
        "-o", "--output", required=True, metavar="FOLDER", type=Path, help="results, and resumption"
    )
    add("--classes", type=int, metavar="N", help="train a fresh head for N classes")
    add("--sram", type=int, action="append", default=[], metavar="BYTES", help="budget; repeatable")
    add(
        "--like",
        action="append",
        default=[],
        metavar="SCHEME",
        help="the SRAM of a scheme as budget",
    )
    add(
        "--share",
        type=float,
        action="append",
        default=[],
        metavar="R",
        help="of the SRAM of each --like (default 1); repeatable",
    )
    add("--macs", type=int, metavar="N", help="also: multiply-accumulates of a step")
    add("--instructions", type=int, metavar="N", help="also: emulated instructions, with --board")
    add("--board", metavar="NAME|FILE", help="measure on this board's image")
    add("--method", action="append", metavar="NAME", help="exact (default), evolution; repeatable")
    add("--measure", default="loss", choices=("loss", "accuracy"), help="of worth (default loss)")
    add("--update", default="int16", metavar="KIND", help="as in tiny-compile")
    add("--gradients", metavar="KIND", help="as in tiny-compile")
    space = options.add_argument_group("what may be trained")
    space.add_argument("--last", type=int, metavar="N", help="last convolutions (default: half)")
    space.add_argument("--bias-step", type=int, default=1, metavar="N", help="step of bias counts")
    space.add_argument("--ratios", default="0.125,0.25,0.5,1", metavar="R,R", help="of a weight")
    trials = options.add_argument_group("trials")
    trials.add_argument("--samples", type=int, default=1024, metavar="N", help="to train on (1024)")
    trials.add_argument("--held-out", type=int, default=500, metavar="N", help="to judge by (500)")
    trials.add_argument("--epochs", type=int, default=1, metavar="E")
    trials.add_argument(
        "--head-epochs", type=int, default=4, metavar="E", help="head alone, before"
    )
    trials.add_argument("--batch", type=int, default=8, metavar="N")
    trials.add_argument("--lr", type=float, default=0.2 / 256, metavar="R", help="for one sample")
    trials.add_argument("--seed", type=int, default=0, metavar="S")
    trials.add_argument("--jobs", type=int, default=1, metavar="N", help="local processes")
    trials.add_argument("--dask", metavar="ADDRESS", help="run on a Dask cluster instead")
    solving = options.add_argument_group("solving")
    solving.add_argument("--seconds", type=float, default=600, metavar="S", help="for one budget")
    solving.add_argument(
        "--plans", type=int, default=120, metavar="N", help="that evolution may make a budget (120)"
    )
    solving.add_argument("--front", type=int, default=8, metavar="N", help="points of the plot")
    add("--json", action="store_true", help="print one JSON object")
    return options


def _search(options: argparse.Namespace) -> None:
    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context
    from tiny_pipelines.search.costs import part_sizes
    from tiny_pipelines.search.problem import Model
    from tiny_pipelines.search.search import Search
    from tiny_pipelines.search.selection import space_of

    settings = _settings(options)
    data, name = entry.read_input(options.input)
    model = Model(data, name, options.classes, options.seed)
    with new_context(), ir.Location.unknown():
        module = model.module()
        space = space_of(module, options.last, _ratios(options.ratios), options.bias_step)
        sizes = part_sizes(module, space, options.update)
        title = _model_name(module)
    with entry.resumable_folder(options.output):
        costs = _costs(options, model)
        goals = _goals(options, costs, space)
        log = _run_trials(options, model, space)
        search = Search(title, space, log, costs, sizes, options.output, settings)
        records = [search.solve(goal, _say) for goal in goals]
        search.write(goals, records, _say)
    if options.json:
        entry.print_json({"model": title, "goals": records})
        return
    for record in records:
        _print(record)


def _settings(options: argparse.Namespace) -> Any:
    from tiny_pipelines.search.evolution import Evolution
    from tiny_pipelines.search.search import Settings
    from tiny_pipelines.training_plan import require_seed

    require_seed(options.seed)
    if not options.sram and not options.like:
        raise InvalidOption("a budget is needed: --sram BYTES or --like SCHEME")
    if not all(0 < share < math.inf for share in options.share):
        raise InvalidOption("expected a --share above 0")
    if options.instructions is not None and options.board is None:
        raise InvalidOption("--instructions needs --board")
    if options.plans < 1:
        raise InvalidOption(f"expected at least one plan, got {options.plans}")
    methods = tuple(options.method or ["exact"])
    evolution = Evolution(measurements=options.plans)
    return Settings(methods, options.measure, options.seconds, options.front, evolution)


def _ratios(text: str) -> tuple[float, ...]:
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise InvalidOption(f"--ratios {text}: expected numbers with commas between") from None


def _model_name(module: Any) -> str:
    from tiny_passes.graph import INFER, find_function

    attributes = find_function(module, INFER).attributes
    return attributes["tiny.model"].value if "tiny.model" in attributes else ""


def _costs(options: argparse.Namespace, model: Any) -> Any:
    from tiny_pipelines.search.costs import CostModel
    from tiny_pipelines.training import TrainingOptions
    from tiny_targets.boards import find_board

    training = TrainingOptions("searched", options.update, options.gradients)
    board = None if options.board is None else find_board(options.board)
    return CostModel(model, training, board=board, file=options.output / "costs.json")


def _goals(options: argparse.Namespace, costs: Any, space: Any) -> list[Any]:
    from tiny_pipelines.scheme import find_scheme
    from tiny_pipelines.search.costs import INSTRUCTIONS, MACS, SRAM
    from tiny_pipelines.search.search import Goal
    from tiny_pipelines.search.selection import selection_of_scheme

    also = {MACS: options.macs, INSTRUCTIONS: options.instructions}
    rest = {name: budget for name, budget in also.items() if budget is not None}
    goals = [Goal(f"sram-{size}", {SRAM: size, **rest}) for size in options.sram]
    for name in options.like:
        scheme = find_scheme(name)
        selection = selection_of_scheme(scheme, space.names)
        with entry.progress(f"planning {scheme.name}"):
            size = costs.of(selection)[SRAM]
        for share in options.share or [1.0]:
            goal = f"like-{scheme.name}" + ("" if share == 1 else f"-{share:g}")
            goals.append(Goal(goal, {SRAM: int(share * size), **rest}, selection))
    return goals


def _run_trials(options: argparse.Namespace, model: Any, space: Any) -> Any:
    from dataclasses import replace

    from tiny_pipelines.image_folders import open_dataset
    from tiny_pipelines.rate_proposal import validation_split
    from tiny_pipelines.search.contributions import TrialLog
    from tiny_pipelines.search.executors import DaskExecutor, LocalExecutor
    from tiny_pipelines.search.problem import build_problem
    from tiny_pipelines.training_plan import TrainingPlan

    data = open_dataset(options.data, (256, 256) if options.data.is_dir() else None)
    data = validation_split(data, options.seed)
    data = replace(
        data,
        train=data.train.limited(options.samples),
        test=data.test.limited(options.held_out),
    )
    plan = TrainingPlan(
        epochs=options.epochs, rate=options.lr, batch=options.batch, seed=options.seed
    )
    with entry.progress("compiling"):
        problem = build_problem(model, space, data, plan, options.head_epochs)
    log = TrialLog(options.output / "trials.json", problem.key)
    selections = space.selections()
    if all(selection in log.trials for selection in selections):
        return log

    def tell(trial: Any) -> None:
        done = f"{len(log.trials)}/{len(selections)} {trial.selection.key}"
        _say(f"{done}: loss {trial.loss:.4f}, {trial.accuracy:.1%}, {trial.seconds:.1f} s")

    made = (
        LocalExecutor(problem, options.jobs)
        if options.dask is None
        else DaskExecutor(problem, options.dask)
    )
    with made as executor:
        log.run(executor, selections, tell)
    return log


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(record: dict[str, Any]) -> None:
    budget = ", ".join(f"{name} {size:,}" for name, size in record["budgets"].items())
    print(f"{record['name']}: budget {budget}")
    if "like" in record:
        like = record["like"]
        worth = "not in the table" if like["worth"] is None else f"worth {like['worth']:.4f}"
        print(f"  given      {worth}, {like['costs']['sram']:,} B")
    for method in ("exact", "evolution"):
        if method not in record:
            continue
        found = record[method]
        proof = ""
        if found["bound"] is not None:
            proof = ", optimal" if found["optimal"] else f", bound {found['bound']:.4f}"
        size = f"{found['costs']['sram']:,} B" if found["costs"] else "nothing fits"
        plans = f"{found['measured']} plans, {found['seconds']:.0f} s"
        print(f"  {method:<10} worth {found['worth']:.4f}{proof}, {size} ({plans})")
        print(f"             {found['selection']}")
    print(f"  scheme     {record['scheme']}")
