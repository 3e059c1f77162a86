"""Costs of the shipped model held against what was recorded; the table, the gate, the peers."""

import json
import re

import pytest

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.benchmarks.baselines import read_baseline
from tiny_pipelines.benchmarks.benchmark import OpCost
from tiny_pipelines.benchmarks.suite import TOTALS_FILE, read_suite
from tiny_pipelines.cli import tiny_bench

PEERS = """layer,kind,shape,macs,FAST_insns,SLOW_insns
0,C3,a,100,1000,9000
1,PW,b,64,200,
2,PW,c,64,300,1300
3,AD,d,0,40,50
4,BPW,e,64,500,800
5,WH,f,0,7,8
"""


@pytest.fixture
def suite(repository):
    return repository / "bench" / "suite.json"


@pytest.fixture
def baseline(tmp_path):
    path = tmp_path / "peers.csv"
    path.write_text(PEERS)
    return path


def test_the_shipped_model_costs_what_is_recorded(suite, capsys):
    status = tiny_bench.main(["--suite", str(suite), "--only", "digits", "--summary", "--check"])
    assert status == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert len(re.findall(r"^step .* M instructions$", printed, re.MULTILINE)) == 6


def copied(suite, tmp_path, change):
    """A copy of the suite with one run, and totals that `change` has been applied to."""
    record = next(case for case in json.loads(suite.read_text()) if case["name"] == "digits")
    for name in ("model", "scheme", "data"):
        record[name] = str((suite.parent / record[name]).resolve())
    record["runs"] = {"int16": ["cortex-m4"]}
    totals = json.loads((suite.parent / TOTALS_FILE).read_text())
    change(totals["digits"]["cortex-m4 int16"])
    (tmp_path / TOTALS_FILE).write_text(json.dumps(totals))
    path = tmp_path / "suite.json"
    path.write_text(json.dumps([record]))
    return path


def test_what_grows_fails_the_gate_and_recording_mends_it(suite, tmp_path, capsys):
    def shrink(totals):
        totals["step"] = totals["step"] * 98 // 100

    path = copied(suite, tmp_path, shrink)
    arguments = ["--suite", str(path), "--summary"]
    assert tiny_bench.main([*arguments, "--check"]) == 1
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert re.search(r"digits, cortex-m4 int16, step: [\d,]+ where [\d,]+ are recorded", error)
    assert tiny_bench.main([*arguments, "--record"]) == 0
    assert tiny_bench.main([*arguments, "--check"]) == 0


def test_what_shrinks_asks_to_be_recorded(suite, tmp_path, capsys):
    path = copied(suite, tmp_path, lambda totals: totals.update(code_bytes=10**6))
    assert tiny_bench.main(["--suite", str(path), "--summary", "--check"]) == 0
    assert re.search(r"code bytes: .* are recorded \(-\d.*--record", capsys.readouterr().err)


def test_a_run_without_totals_fails_the_gate(suite, tmp_path, capsys):
    path = copied(suite, tmp_path, lambda totals: None)
    (tmp_path / TOTALS_FILE).unlink()
    assert tiny_bench.main(["--suite", str(path), "--summary", "--check"]) == 1
    assert "nothing recorded" in capsys.readouterr().err


def test_a_case_without_its_files_is_skipped_with_a_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TINY_DATA", str(tmp_path / "nowhere"))
    case = {"name": "a", "model": "$TINY_DATA/a.pkl", "scheme": "full", "runs": {}}
    path = tmp_path / "suite.json"
    path.write_text(json.dumps([case]))
    assert tiny_bench.main(["--suite", str(path), "--check"]) == 0
    assert re.search(r"a: skipped, .*a\.pkl does not exist; set TINY_DATA", capsys.readouterr().err)


def test_the_table_of_one_model(repository, baseline, capsys):
    folder = repository / "examples" / "digits"
    arguments = [
        str(folder / "digits.mlirbc"), "--scheme", str(folder / "sparse.json"),
        "--target", "rv32imc", "--baseline", str(baseline), "--json",
    ]  # fmt: skip
    assert tiny_bench.main(arguments) == 0
    (record,) = json.loads(capsys.readouterr().out)["benchmarks"]
    assert record["gradients"] == "int16" and record["target"] == "rv32imc"
    assert record["peers"] == {"FAST": {"forward": 1540, "step": 2047}}
    step = [op for op in record["ops"] if op["function"] == "train_step"]
    spent = sum(op["instructions"] for op in step)
    assert 0 <= record["totals"]["step"] - spent < 200 + 40 * len(step)
    assert sum(kind["instructions"] for kind in record["kinds"].values()) == spent
    assert record["totals"]["code_bytes"] > max(op["code_bytes"] for op in step)
    convolutions = [op for op in step if op["op"] in ("conv2d", "fused_block")]
    assert convolutions and all(1 < op["per_mac"] < 40 for op in convolutions)


def cost(*parts, op="conv2d"):
    return OpCost("train_step", "layer", op, "", parts, sum(m for _, m in parts), 1, 0, 1, False)


def test_rows_of_peers_are_matched_by_kind_and_work(baseline):
    table = read_baseline(baseline)
    ops = [
        cost(("conv2d", 100), ("conv2d", 64), ("yield", 0), op="fused_block"),
        cost(("conv2d", 64)),
        cost(("conv2d", 64)),
        cost(("add", 0), op="add"),
        cost(("normalize_gradient", 0), op="normalize_gradient"),
        cost(("conv2d_input_grad", 64), op="integer_conv2d_input_grad"),
    ]
    assert table.peers == ("FAST", "SLOW")
    assert table.matched(ops, "FAST") == [1200, 300, None, 40, None, 500]
    assert table.matched(ops, "SLOW") == [None, 1300, None, 50, None, 800]
    assert table.totals("FAST") == {"forward": 1540, "step": 2047}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n", "expected columns kind, macs"),
        ("kind,macs,A_insns\nPW,many,1\n", r"peers\.csv:2: expected numbers"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, complaint):
    path = tmp_path / "peers.csv"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=complaint):
        read_baseline(path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name either a MODEL, a --suite FILE"),
        (["model.pkl", "--check"], "go with --suite"),
        (["--suite", "bench/suite.json", "--only", "x"], "no case x; has digits"),
        (["--suite", "pyproject.toml"], "is not JSON"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    repository, monkeypatch, capsys, arguments, complaint
):
    monkeypatch.chdir(repository)
    assert tiny_bench.main(arguments) == 1
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_the_suite_covers_every_core(suite):
    for case in read_suite(suite):
        assert set(case.runs["int16"]) == {"cortex-m7", "cortex-m4", "rv32imafc", "rv32imc"}
