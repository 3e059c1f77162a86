"""Campaigns of differential testing: processes that die, summaries, progress."""

import json
from collections import Counter
from pathlib import Path

import fragile
import pytest

from tiny_dialect.errors import InvalidModel
from tiny_pipelines.cli import tiny_difftest
from tiny_pipelines.differential import campaign as campaigns
from tiny_pipelines.differential.campaign import Campaign, Found, Limits, run_campaign
from tiny_pipelines.differential.case import Case, read_model
from tiny_pipelines.differential.check import MISMATCH, Failure
from tiny_pipelines.differential.compare import Comparison
from tiny_pipelines.differential.summary import read_summary, record_of
from tiny_pipelines.differential.workers import run_each

FLOAT = ("float32",)
SMALL = 42


def test_processes_find_what_one_process_finds(tmp_path):
    def counted(jobs):
        limits = Limits(600, 2, ("rv32imc",), 0, FLOAT, jobs)
        campaign = run_campaign(SMALL, limits, tmp_path, lambda line: None)
        return record_of(campaign) | {"seconds": 0}

    assert counted(2) == counted(0)


def test_a_process_that_dies_is_a_failure_of_its_seed_alone(tmp_path, monkeypatch):
    """Seed 1 of three ends its process, in the campaign and again while it is minimised."""
    monkeypatch.setattr(campaigns, "_checked", fragile.checked)
    monkeypatch.setattr(campaigns, "recheck", fragile.recheck)
    said = []
    campaign = run_campaign(
        0, Limits(600, 3, gradients=FLOAT, jobs=2, minimise_seconds=5), tmp_path, said.append
    )
    assert campaign.seeds == [(0, 2)]
    assert [found.seed for found in campaign.found] == [fragile.SEED]
    failure = campaign.found[0].failures[0]
    assert (failure.target, failure.message) == ("process", "the process was ended by SIGSEGV")
    assert "seed 1: process" in said[0]
    assert read_model(tmp_path / "difftest-1.mlir").seed == fragile.SEED


def test_a_process_that_hangs_or_ends_is_replaced_and_answers_stay_in_order():
    calls = [(0.0, 1), (60.0, 2), (0.2, 3), (-1.0, 4), (0.0, 5)]
    answers = list(run_each(fragile.sleep, calls, 2, 8.0))
    assert [call for call, _ in answers] == calls
    texts = [str(answer) for _, answer in answers]
    assert texts == ["1", "no answer in 8 s", "3", "the process ended with status 3", "5"]


def test_what_a_call_raises_ends_the_iteration():
    with pytest.raises(ZeroDivisionError):
        list(run_each(fragile.divide, [(0,)], 1, 60.0))


def summary(tmp_path, name, seeds, **more):
    comparison = Comparison(integers=3, floats=2, updated=1, largest_error=0.5, watched=7)
    campaign = Campaign(
        seeds, 2.0, {"rv32imc": comparison}, Counter(rv32imc=2), Counter({"mean": 1}), **more
    )
    path = tmp_path / name
    path.write_text(json.dumps(record_of(campaign)))
    return str(path)


def test_summaries_of_several_runs_add_up(tmp_path, capsys):
    failing = [Found(12, [Failure("rv32imc", MISMATCH, "conv: 1 of 2")], Path("a.mlir"))]
    paths = [
        summary(tmp_path, "b.json", [(10, 19)], found=failing),
        summary(tmp_path, "a.json", [(0, 4), (5, 9)]),
    ]
    assert tiny_difftest.main(["--json", "--sum", *paths]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["seeds"], report["networks"], report["seconds"]) == ([[0, 19]], 20, 4.0)
    assert report["compared"]["values"] == 12 and report["compared"]["watched_accesses"] == 14
    assert (report["runs"], report["features"]) == ({"rv32imc": 4}, {"mean": 2})
    assert report["mismatches"] == 1 and report["largest_float_error"] == 0.5
    assert report["failing_networks"][0]["reproduce"] == "tiny-difftest a.mlir"
    assert "seeds 12" in captured.err
    assert tiny_difftest.main(["--sum", paths[1]]) == 0
    assert "10, seeds 0 to 9" in capsys.readouterr().out


def test_a_seed_is_not_counted_twice(tmp_path, capsys):
    paths = [
        summary(tmp_path, "a.json", [(0, 10)]),
        summary(tmp_path, "b.json", [(10, 19)]),
    ]
    assert tiny_difftest.main(["--sum", *paths]) == 1
    assert "seed 10" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seeds": 3}'])
def test_what_is_no_summary_is_refused(tmp_path, capsys, text):
    (tmp_path / "a.json").write_text(text)
    assert tiny_difftest.main(["--sum", str(tmp_path / "a.json")]) == 1
    error = capsys.readouterr().err
    assert "a.json" in error and error.count("\n") == 1


def test_progress_and_the_summary_are_written_on_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tiny_difftest, "_PROGRESS_SECONDS", 0.0)
    path = tmp_path / "summary.json"
    arguments = ["--count", "2", "--target", "none", "--host-every", "0", "--jobs", "2"]
    assert tiny_difftest.main([*arguments, "--summary", str(path), "-o", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("tiny-difftest: 1 networks, 0 values, 0 failing")
    assert "tiny-difftest: 2 networks" in captured.err
    assert read_summary(path).networks == 2


def test_a_network_that_cannot_be_built_is_a_failure_of_its_seed(tmp_path, monkeypatch):
    def refuse(self):
        raise InvalidModel("has an empty output", "conv0")

    monkeypatch.setattr(Case, "model", refuse)
    campaign = run_campaign(3, Limits(60, 2, gradients=FLOAT), tmp_path, lambda line: None)
    assert [found.seed for found in campaign.found] == [3, 4]
    assert {found.failures[0].target for found in campaign.found} == {campaigns.GENERATOR}
    assert campaign.seeds == [(3, 4)] and list(tmp_path.iterdir()) == []
