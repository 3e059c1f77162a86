"""Studies: what they may say, runs that are not made twice, and pages that hold what was run."""

import json

import numpy as np
import pytest

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.accuracy.experiments import Places, moved_weights
from tiny_pipelines.accuracy.page import accuracy_text, broken_promises, page
from tiny_pipelines.accuracy.run import Results, Run, RunFailed, run_study
from tiny_pipelines.accuracy.study import read_study
from tiny_pipelines.accuracy.work import work_text
from tiny_pipelines.cli import tiny_accuracy
from tiny_pipelines.scheme import find_scheme


def study_file(folder, **changes):
    record = {
        "title": "Two rows",
        "data": "shifted.npz",
        "seeds": [0, 1],
        "limits": [60, 40],
        "defaults": {"model": "digits.mlirbc", "scheme": "sparse.json", "gradients": "float32"},
        "sections": [
            {
                "title": "One",
                "text": "Above.",
                "rows": [
                    {"name": "chosen", "rates": [1.0, 3.0]},
                    {"name": "given", "like": "chosen", "gradients": "int16", "rate_of": "chosen"},
                ],
            }
        ],
    }
    record |= changes
    path = folder / "study.json"
    path.write_text(json.dumps(record))
    return path


def rows(*records):
    return [{"title": "t", "rows": list(records)}]


def grid(lines):
    found = rows({"name": "chosen", "rates": [1.0, 3.0]}, {"name": "given", "rate": 2.0})
    found[0]["grid"] = {"columns": ["one", "other"], "lines": lines}
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "at least one seed"),
        ({"sections": rows({"name": "a", "rate": 1}, {"name": "a", "rate": 1})}, "two rows"),
        ({"sections": rows({"name": "a"})}, "one of rate and rates"),
        ({"sections": rows({"name": "a", "rate_of": "b"})}, "no row 'b'"),
        ({"sections": rows({"name": "a", "rate_of": "a"})}, "from itself"),
        ({"sections": rows({"name": "a", "rate": 1, "odd": 1})}, "unknown entry 'odd'"),
        ({"sections": rows({"name": "a", "rate": 1, "like": "b"})}, "no row above"),
        ({"sections": rows({"name": "a", "rate": 1, "within": 1})}, "within needs rate_of"),
        ({"sections": rows({"name": "a", "rate": 1, "arithmetic": "int4"})}, "int8 or float"),
        ({"sections": grid({"x": ["chosen", "none"]})}, "no row 'none'"),
        ({"sections": grid({"x": ["chosen"]})}, "line 'x' of a grid has 1 rows"),
        ({"sections": None}, "is not a study"),
        ({"odd": 1}, "is not a study"),
    ],
)
def test_a_wrong_study_is_refused_with_its_file(tmp_path, changes, message):
    path = study_file(tmp_path, **changes)
    with pytest.raises(InvalidOption, match=message) as raised:
        read_study(path)
    assert str(path) in str(raised.value)


def test_rows_take_over_what_they_are_like_and_demand_their_own(tmp_path):
    study = read_study(study_file(tmp_path))
    chosen, given = study.rows
    assert (given.scheme, given.gradients, given.rates) == ("sparse.json", "int16", ())
    assert study.rated(given) == chosen
    assert study.identity(chosen, seed=0) != study.identity(given, seed=0)


def planted(results, row, accuracies, rate=1.0, **fields):
    record = {
        "rate": rate, "collapsed": False, "seconds": 2.0, "arena_bytes": 1000, "state_bytes": 200
    }  # fmt: skip
    for seed, accuracy in enumerate(accuracies):
        run = Run(row, rate, seed, False)
        results.keep(run, {**record, "accuracy": accuracy, **fields})


def planted_rates(results, row, accuracies):
    for run, accuracy in zip(results.trials(row), accuracies, strict=True):
        record = {"accuracy": accuracy, "collapsed": accuracy == 0, "seconds": 1.0}
        results.keep(run, record)


def test_the_lowest_of_equal_rates_is_chosen_and_none_before_all_are_tried(tmp_path):
    results = Results(read_study(study_file(tmp_path)), tmp_path)
    chosen, given = results.study.rows
    assert results.rate(given) is None
    planted_rates(results, chosen, [0.700, 0.704])
    assert results.rate(given) == 1.0
    planted_rates(results, chosen, [0.700, 0.71])
    assert results.rate(given) == 3.0
    planted_rates(results, chosen, [0.0, 0.0])
    with pytest.raises(RunFailed, match="every rate collapsed"):
        results.rate(given)


def test_a_promise_that_is_not_kept_is_named(tmp_path):
    demands = rows(
        {"name": "a", "rate": 1.0, "least": 80},
        {"name": "b", "rate_of": "a", "within": 1.0},
        {"name": "c", "rate": 1.0, "most": 20},
    )
    results = Results(read_study(study_file(tmp_path, sections=demands)), tmp_path)
    a, b, c = results.study.rows
    assert broken_promises(results, [a]) == ["a: 0 of 2 runs are there"]
    planted(results, b, [0.8, 0.8])
    assert broken_promises(results, [b]) == ["b: a, which it is held to, has not run"]
    for row, accuracies in ((a, [0.8, 0.82]), (b, [0.80, 0.81]), (c, [0.1, 0.2])):
        planted(results, row, accuracies)
    assert broken_promises(results, results.study.rows) == []
    for row, accuracies in ((a, [0.7, 0.72]), (b, [0.60, 0.61]), (c, [0.3, 0.2])):
        planted(results, row, accuracies)
    broken = broken_promises(results, results.study.rows)
    assert [line[:2] for line in broken] == ["a:", "b:", "c:"]
    assert "71.0 %, expected at least 80" in broken[0]
    assert "10.5 points below a" in broken[1]


def test_the_page_shows_every_row_finished_or_not(tmp_path):
    results = Results(read_study(study_file(tmp_path)), tmp_path)
    chosen = results.study.rows[0]
    assert page(results, "command").count("not run") >= 3
    planted_rates(results, chosen, [0.7, 0.8])
    planted(results, chosen, [0.78, 0.80], rate=3.0, images_per_second=100.0)
    text = page(results, "command")
    assert "79.0 ± 1.4" in text and "Written by `command`; seeds 0, 1" in text
    assert "1: 70.0%; 3: 80.0%" in text and "| 3 |" in text
    assert accuracy_text([50.0]) == "50.0 (one seed)"
    assert accuracy_text([50.0, 52.0], 1) == "51.0 ± 1.4, 1 of 2 collapsed"


def test_a_page_shows_means_side_by_side_each_seed_and_what_moved(tmp_path):
    path = study_file(tmp_path, sections=grid({"both": ["chosen", "given"], "one": ["", "given"]}))
    results = Results(read_study(path), tmp_path)
    planted(results, results.study.rows[1], [0.50, 0.52], rate=2.0, moved_weights=0.25)
    text = page(results, "command")
    assert "| both | not run | 51.0 ± 1.4 |" in text and "| one |  | 51.0 ± 1.4 |" in text
    assert "| 50.0, 52.0 | 1,000 | 200 | 0 | 25% |" in text


def test_a_float_row_has_no_device_and_no_settings_of_integers(tmp_path):
    both = rows({"name": "a", "rate": 1.0}, {"name": "b", "arithmetic": "float", "rate": 1.0})
    results = Results(read_study(study_file(tmp_path, sections=both)), tmp_path)
    integer, real = results.study.rows
    assert "arithmetic" not in integer.settings()
    assert {"update", "gradients", "rescaling"}.isdisjoint(real.settings())
    run = Run(real, 1.0, 0, False)
    results.keep(run, {"rate": 1.0, "accuracy": 0.5, "collapsed": False, "seconds": 60.0})
    text = page(results, "command")
    assert "arithmetic float | 1 | 50.0 (one seed) | 50.0 |  |  |  |" in text


def test_a_scheme_file_that_changes_is_another_run(tmp_path):
    study = read_study(study_file(tmp_path))
    row = study.rows[0]
    keys = [study.identity(row, seed=0)]
    for text in ("{}", '{"biases": 1}'):
        (tmp_path / "sparse.json").write_text(text)
        keys.append(study.identity(row, seed=0))
    assert len(set(keys)) == 3


def test_the_work_of_a_page_is_that_of_its_runs():
    runs = [{"seconds": 600.0}, {"seconds": 1200.0}]
    assert work_text([]) == ""
    assert work_text(runs) == "The 2 runs took 30 process-minutes."
    # Two at once, then one after a pause of an hour; one more on another device.
    runs = [
        {"seconds": 600.0, "cpu_seconds": 540.0, "began": 0.0},
        {"seconds": 600.0, "cpu_seconds": 540.0, "began": 0.5},
        {"seconds": 600.0, "cpu_seconds": 540.0, "began": 4200.0},
    ]
    assert work_text(runs) == "The 3 runs took 27 core-minutes, in 20 minutes on 2 processes."
    runs.append({"seconds": 120.0, "cpu_seconds": 60.0, "began": 1.0, "device": "cuda"})
    assert work_text(runs).endswith("on 2 processes; 1 more took 2 minutes on cuda.")


def test_weights_that_moved_are_counted_where_they_are_integers():
    zeros = {name: np.zeros(4, kind) for name, kind in (("w", "i2"), ("b", "i4"), ("h", "f4"))}
    moved = {**zeros, "w": np.array([0, 1, 0, 0], "i2"), "h": np.ones(4, "f4")}
    assert moved_weights(zeros, moved) == {"moved_weights": 0.25}
    assert moved_weights({"h": zeros["h"]}, moved) == {}


FOUND = {
    "selection": "biases 2 1:0.5", "worth": 0.25, "costs": {"sram": 900}, "bound": 0.25,
    "optimal": True, "measured": 3, "seconds": 4.4,
}  # fmt: skip


def test_a_search_is_a_table_on_the_page(tmp_path):
    evolved = {**FOUND, "worth": 0.2, "bound": None, "optimal": False}
    goal = {
        "name": "like-given", "budgets": {"sram": 1000}, "exact": FOUND, "evolution": evolved,
        "like": {"costs": {"sram": 1000}, "worth": 0.1},
    }  # fmt: skip
    record = {"trials": {"count": 9, "seconds": 120.0}, "goals": [goal]}
    (tmp_path / "search.json").write_text(json.dumps(record))
    sections = [
        *rows({"name": "a", "rate": 1.0}),
        {"title": "s", "rows": [], "search": "search.json"},
    ]
    results = Results(read_study(study_file(tmp_path, sections=sections)), tmp_path)
    text = page(results, "command")
    assert "is 9 short runs, 2 minutes" in text
    assert "| given | 1,000 | given | | 0.1000 | | 1,000 | | |" in text
    assert "| given | 1,000 | exact | biases 2 1:0.5 | 0.2500 | optimal | 900 | 3 | 4 |" in text
    assert "| given | 1,000 | evolution | biases 2 1:0.5 | 0.2000 |  | 900 | 3 | 4 |" in text
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(InvalidOption, match="no record of a search"):
        page(results, "command")


def test_a_float_row_without_pytorch_is_refused_before_anything_runs(tmp_path, monkeypatch):
    sections = rows({"name": "a", "arithmetic": "float", "rate": 1.0})
    study = read_study(study_file(tmp_path, sections=sections))
    monkeypatch.setattr("tiny_pipelines.accuracy.run.find_spec", lambda name: None)
    with pytest.raises(RunFailed, match="a: needs PyTorch"):
        run_study(study, Places(tmp_path / "nothing"), tmp_path / "runs", tell=lambda text: None)


def test_a_study_runs_once_and_again_only_what_is_missing(repository, tmp_path, capsys):
    sections = rows({"name": "only", "rate": 3.0, "least": 99.5})
    path = study_file(tmp_path, sections=sections)
    folder, files = tmp_path / "runs", repository / "examples" / "digits"
    arguments = [str(path), "-o", str(folder), "--files", str(files)]
    assert tiny_accuracy.main([*arguments, "--page", str(tmp_path / "page.md")]) == 1
    captured = capsys.readouterr()
    assert "expected at least 99.5" in captured.err and "2 of 2 runs" in captured.out
    assert "only: 2 seeds to run" in captured.err
    assert "| only |" in (tmp_path / "page.md").read_text()
    made = sorted(folder.iterdir())
    assert [one.name for one in made] == ["only.seed-0.json", "only.seed-1.json"]
    records = [json.loads(one.read_text()) for one in made]
    assert records[0]["accuracy_before"] == records[1]["accuracy_before"]
    assert records[0]["loss"] != records[1]["loss"]
    made[1].unlink()
    stamp = made[0].stat().st_mtime_ns
    results = run_study(read_study(path), Places(files), folder, tell=lambda text: None)
    assert made[0].stat().st_mtime_ns == stamp and made[1].exists()
    again = json.loads(made[1].read_text())
    clocks = ("seconds", "seconds_to_compile", "training_seconds", "cpu_seconds", "began")
    assert set(clocks) <= set(again)
    for varying in (*clocks, "history"):
        records[1].pop(varying), again.pop(varying)
    assert {k: v for k, v in again.items() if "per_second" not in k} == {
        k: v for k, v in records[1].items() if "per_second" not in k
    }
    assert results.missing(results.runs(results.study.rows[0])) == []
    assert tiny_accuracy.main([*arguments, "--list"]) == 0
    assert "2 of 2 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["docs/results_study.json", "docs/search_study.json", "examples/digits/study.json"]
)
def test_the_studies_of_the_project_are_whole(repository, name):
    study = read_study(repository / name)
    assert len({Run(row, 1.0, 0, False).file for row in study.rows}) == len(study.rows)
    for row in study.rows:
        beside = study.beside(row.scheme)
        scheme = find_scheme(beside if beside.is_file() else row.scheme)
        assert scheme.model is None or scheme.model in row.model


def test_a_missing_study_is_one_line(tmp_path, capsys):
    assert tiny_accuracy.main([str(tmp_path / "no.json"), "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
