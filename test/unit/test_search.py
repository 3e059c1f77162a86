"""Scheme search: masks, the table of contributions, exact against brute force, lost workers."""

import itertools
import json
import os
import signal
import time

import numpy as np
import pytest

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, to_bytecode
from tiny_dialect.errors import InvalidOption
from tiny_pipelines.cli import tiny_search
from tiny_pipelines.datasets import DataSet, Split
from tiny_pipelines.search.contributions import Contributions, TrialLog, contributions, trials_csv
from tiny_pipelines.search.costs import CostBounds, PartSizes, fits
from tiny_pipelines.search.evolution import Evolution, solve_by_evolution
from tiny_pipelines.search.executors import DaskExecutor, LocalExecutor, run_trials
from tiny_pipelines.search.plots import contribution_plot, front_plot
from tiny_pipelines.search.problem import Model, build_problem, build_step
from tiny_pipelines.search.selection import (
    Selection,
    Space,
    selection_from_key,
    selection_of,
    space_of,
)
from tiny_pipelines.search.trial import TrialRunner, read_trial
from tiny_pipelines.training import TrainingOptions
from tiny_pipelines.training_plan import TrainingPlan

SPACE = Space(("a", "b", "c", "d", "e"), 4, (0.25, 1.0), (0, 2, 4))


def test_selections_are_ordered_and_named():
    small, large = Selection(2, ((3, 0.25),)), Selection(4, ((3, 1.0), (4, 0.25)))
    assert small.within(large) and not large.within(small)
    assert selection_from_key(large.key) == large
    assert selection_from_key(Selection(0).key) == Selection(0)
    assert large.without(4) == Selection(4, ((3, 1.0),))
    assert large.scheme("x")["weights"] == {"3": 1.0, "4": 0.25}
    assert len(SPACE.selections()) == 3 + 4 * 2
    assert all(one.within(SPACE.everything) for one in SPACE.selections())
    with pytest.raises(InvalidOption, match="5 convolutions"):
        Space(SPACE.names, 6)


def random_problem(seed):
    """A table, sizes, and an arena: at each place what is saved there, and the largest scratch."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.product(SPACE.candidates, SPACE.ratios))
    biases = dict(zip(SPACE.counts, [0.0, *np.sort(rng.uniform(0, 1, 2))], strict=True))
    table = Contributions(SPACE, biases, {pair: float(rng.uniform(-0.1, 1)) for pair in pairs})
    unit = {index: int(rng.integers(4, 40)) * 4 for index in SPACE.candidates}
    whole = {index: int(rng.integers(4, 60)) * 4 for index in SPACE.candidates}
    sizes = PartSizes(
        5,
        {index: 8 for index in SPACE.candidates},
        {(i, r): int(whole[i] * r) for i, r in pairs},
        {(i, r): int(100 * unit[i] * r) for i, r in pairs},
    )
    floors = rng.integers(50, 200, 6)
    # What a kernel of one weight needs beside all tensors: no sum of tensors tells it.
    scratch = {index: int(rng.integers(0, 300)) for index in SPACE.candidates}

    class Costs:
        def __init__(self):
            self.measured, self.known = 0, {}

        def of(self, selection):
            self.measured += 1
            saved = dict(selection.weights)
            arena = max(
                int(floor) + 3 * selection.biases
                + sum(int(unit[i] * r) for i, r in saved.items() if i < place)
                + max((scratch[i] for i in saved if i >= place), default=0)
                for place, floor in enumerate(floors)
            )  # fmt: skip
            costs = {"arena": arena, "sram": arena + 30 + sizes.state(selection)}
            costs["macs"] = 1000 + sum(sizes.macs[pair] for pair in selection.weights)
            costs["instructions"] = 5 * costs["macs"] + 7 * selection.biases
            self.known[selection.key] = costs
            return costs

        def measurements(self):
            return {selection_from_key(key): costs for key, costs in self.known.items()}

    return table, Costs(), sizes


def every_selection():
    choices = [0.0, *SPACE.ratios]
    for count in SPACE.counts:
        for chosen in itertools.product(choices, repeat=4):
            weights = {i: r for i, r in zip(SPACE.candidates, chosen, strict=True) if r}
            if all(index >= SPACE.first_trainable(count) for index in weights):
                yield selection_of(weights, count)


@pytest.mark.parametrize("seed", range(6))
def test_the_exact_search_finds_what_trying_everything_finds(seed):
    pytest.importorskip("ortools")
    from tiny_pipelines.search.exact import solve_exactly

    table, costs, sizes = random_problem(seed)
    everything = {one: costs.of(one) for one in every_selection()}
    costs.known.clear()
    for share, name in itertools.product((0.2, 0.5, 0.8), ("sram", "macs", "instructions")):
        low, high = (pick(c[name] for c in everything.values()) for pick in (min, max))
        budgets = {"sram": 10**6, name: int(low + share * (high - low))}
        best = max(table.worth(one) for one, c in everything.items() if fits(c, budgets))
        found = solve_exactly(table, costs, sizes, budgets)
        assert found.optimal and fits(found.costs, budgets)
        assert found.worth == pytest.approx(best, abs=1e-5)
        evolved = solve_by_evolution(table, costs, sizes, budgets, Evolution(8, 10, 40))
        assert evolved.selection is not None and fits(evolved.costs, budgets)
        assert evolved.worth <= found.worth + 1e-9 and not evolved.optimal


def test_the_exact_search_says_when_nothing_fits():
    pytest.importorskip("ortools")
    from tiny_pipelines.search.exact import solve_exactly

    table, costs, sizes = random_problem(0)
    assert solve_exactly(table, costs, sizes, {"sram": 1}).selection is None
    assert solve_by_evolution(table, costs, sizes, {"sram": 1}).selection is None


def test_bounds_decide_only_what_is_certain():
    _, costs, sizes = random_problem(1)
    everything = {one: costs.of(one) for one in every_selection()}
    known = dict(itertools.islice(everything.items(), 0, None, 7))
    bounds, decided = CostBounds(sizes, known), 0
    for budget in (200, 300, 400):
        for one, measured in everything.items():
            verdict = bounds.verdict(one, {"sram": budget})
            decided += verdict is not None
            assert verdict in (None, fits(measured, {"sram": budget}))
    assert decided > len(everything) / 2


DIGITS = "examples/digits/digits.mlirbc"


@pytest.fixture(scope="module")
def model(repository):
    return Model((repository / DIGITS).read_bytes(), DIGITS)


@pytest.fixture(scope="module")
def space(model):
    with new_context(), ir.Location.unknown():
        return space_of(model.module(), 2, (0.5, 1.0), bias_step=2)


@pytest.fixture(scope="module")
def problem(repository, model, space):
    with np.load(repository / "examples/digits/shifted.npz") as file:
        images, labels = file["train_images"], file["train_labels"].astype(np.int64)
    data = DataSet(Split(images[:64], labels[:64]), Split(images[64:96], labels[64:96]), 10, "x")
    return build_problem(model, space, data, TrainingPlan(rate=0.01, batch=8), 1)


def test_a_masked_trial_trains_what_a_step_of_its_own_trains(model, space, problem):
    index = space.candidates[-1]
    selection = Selection(2, ((index, 0.5),))
    runner = TrialRunner(problem)
    start = runner.start
    trial = runner.run(selection)
    masked = runner.state()
    options = TrainingOptions(
        "", gradients="float32", accumulate=True, split_prefix=True, fuse_blocks=False,
        row_overlap=False,
    )  # fmt: skip
    with new_context(), ir.Location.unknown():
        from tiny_pipelines.experiment import load_experiment

        module = build_step(model, selection, options, "scheduled")
        own = load_experiment(module, problem.data)
        state = {name: start.get(name, value) for name, value in own.model.state().items()}
        own.model.load_state(state)
        own.train(problem.plan)
    part = problem.convolutions[index]
    chosen = sorted(part.order[: len(part.order) // 2])
    trained, moved = own.model.state(), masked[part.weight].take(chosen, part.axis)
    pairs = [(trained[f"{part.weight}.trained"], moved), (trained[part.bias], masked[part.bias])]
    for expected, got in pairs:
        # Float sums are of other lengths: a last bit may round a step to its neighbour.
        assert np.abs(expected.astype(int) - got).max() <= 1
        assert (expected != got).mean() < 0.02
    rest = [c for c in range(len(part.order)) if c not in chosen]
    untouched = masked[part.weight].take(rest, part.axis)
    assert (untouched == start[part.weight].take(rest, part.axis)).all()
    assert (moved != start[part.weight].take(chosen, part.axis)).any()
    assert trial == read_trial(trial.record() | {"seconds": trial.seconds})
    again = TrialRunner(problem).run(selection)
    assert (again.accuracy, again.loss) == (trial.accuracy, trial.loss)


@pytest.fixture(scope="module")
def expected(problem, space):
    runner = TrialRunner(problem)
    return {one: runner.run(one) for one in space.selections()}


def figures(trials):
    return {one: (trial.accuracy, trial.loss) for one, trial in trials.items()}


def killer(pids):
    """Kills one process at the second trial that ends."""
    seen = []

    def tell(trial):
        seen.append(trial)
        if len(seen) == 2:
            os.kill(pids()[0], signal.SIGKILL)

    return tell


def test_local_trials_survive_a_killed_process_and_resume(problem, space, expected, tmp_path):
    log = TrialLog(tmp_path / "trials.json", problem.key)
    with LocalExecutor(problem, 2) as executor:
        log.run(executor, space.selections(), killer(lambda: list(executor._pool._processes)))
    assert figures(log.trials) == figures(expected)
    again = TrialLog(tmp_path / "trials.json", problem.key)
    assert figures(again.trials) == figures(expected)
    again.run(None, space.selections())  # nothing is missing, so nothing runs
    with pytest.raises(InvalidOption, match="another model"):
        TrialLog(tmp_path / "trials.json", "other")
    table = contributions(space, again.trials, "loss")
    assert table.worth(Selection(0)) == 0
    assert len(trials_csv(space, again.trials).splitlines()) == 1 + len(expected)
    assert contribution_plot(table, "a < b").count("<rect") == 1 + 2 + 4
    assert "<polyline" in front_plot([(1000, 0.1), (2000, 0.2)], [("given", 1500, 0.1)], "t")
    with pytest.raises(InvalidOption, match="trials are missing"):
        contributions(space, {}, "loss")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_worker_gives_the_same_trials(problem, space, expected):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        found = {}
        stop = killer(lambda: [worker.pid for worker in cluster.workers.values()])

        def tell(trial):
            found[trial.selection] = trial
            stop(trial)

        with DaskExecutor(problem, cluster.scheduler_address) as executor:
            run_trials(executor, space.selections(), tell)
    assert figures(found) == figures(expected)


@pytest.mark.slow
def test_the_command_finds_schemes_and_goes_on_where_it_was(repository, tmp_path, capsys):
    pytest.importorskip("ortools")
    arguments = [
        str(repository / DIGITS), "--data", str(repository / "examples/digits/shifted.npz"),
        "-o", str(tmp_path / "found"), "--last", "2", "--ratios", "0.5,1", "--bias-step", "2",
        "--samples", "64", "--held-out", "40", "--head-epochs", "0", "--front", "2",
        "--like", str(repository / "examples/digits/sparse.json"), "--sram", "6000",
        "--share", "1", "--share", "0.8", "--plans", "40",
        "--method", "exact", "--method", "evolution", "--json",
    ]  # fmt: skip
    assert tiny_search.main(arguments) == 0, capsys.readouterr().err
    first = json.loads(capsys.readouterr().out)
    given, less = (goal["budgets"]["sram"] for goal in first["goals"][1:])
    assert first["goals"][2]["name"].endswith("-0.8") and less == int(0.8 * given)
    kept = json.loads((tmp_path / "found" / "search.json").read_text())
    assert kept["goals"][0]["scheme"] == "sram-6000.json" and kept["trials"]["count"] > 3
    for goal in first["goals"]:
        assert goal["exact"]["optimal"]
        assert goal["exact"]["costs"]["sram"] <= goal["budgets"]["sram"]
        assert goal["exact"]["worth"] >= goal["evolution"]["worth"]
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert {"trials.json", "trials.csv", "costs.json", "contributions.svg", "front.svg"} <= names
    scheme = json.loads((tmp_path / "found" / "sram-6000.json").read_text())
    assert set(scheme) == {"name", "model", "biases", "weights"}
    begin = time.perf_counter()
    assert tiny_search.main(arguments) == 0
    captured = capsys.readouterr()
    assert "1/" not in captured.err and time.perf_counter() - begin < 60
    second = json.loads(captured.out)
    for before, after in zip(first["goals"], second["goals"], strict=True):
        assert before["exact"]["selection"] == after["exact"]["selection"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "a budget is needed"),
        (["--sram", "9000", "--ratios", "half"], "expected numbers"),
        (["--sram", "9000", "--instructions", "5"], "needs --board"),
        (["--sram", "9000", "--last", "99"], "the model has"),
        (["--sram", "9000", "--method", "guess"], "choose of exact"),
        (["--like", "full", "--share", "0"], "--share above 0"),
        (["--sram", "9000", "--plans", "0"], "at least one plan"),
    ],
)
def test_wrong_options_are_one_line(repository, tmp_path, capsys, options, message):
    arguments = [str(repository / DIGITS), "--data", "none.npz", "-o", str(tmp_path / "x")]
    assert tiny_search.main([*arguments, *options]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_problem_is_named_by_all_that_decides_its_trials(model, space, problem):
    with new_context(), ir.Location.unknown():
        assert to_bytecode(model.module()) == to_bytecode(model.module())
    other = build_problem(model, space, problem.data, TrainingPlan(rate=0.02, batch=8), 1)
    assert other.key != problem.key and other.code == problem.code
