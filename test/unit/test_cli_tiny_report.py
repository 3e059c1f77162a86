"""`tiny-report` on the shipped model."""

import json
from xml.etree import ElementTree

from tiny_pipelines.cli import tiny_report

SVG = "http://www.w3.org/2000/svg"


def test_memory_ladder_of_the_shipped_model_falls(repository, capsys):
    model = str(repository / "examples" / "digits" / "digits.mlirbc")
    assert tiny_report.main([model, "--memory", "--json"]) == 0
    rungs = json.loads(capsys.readouterr().out)["full"]
    sizes = [rung["arena_bytes"] for rung in rungs]
    assert sizes[0] > sizes[-1]
    assert all(rung["bound_bytes"] <= rung["arena_bytes"] for rung in rungs)
    assert tiny_report.main([model, "--memory", "--scheme", "classifier-only"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("digits, scheme classifier-only, ") and "times smaller" in text
    names = [line.split("  ")[0] for line in text.splitlines()]
    assert names[2:4] == ["full update, updated at the end", "sparse update, updated at the end"]
    assert names[-3:-1] == ["+ gradients in 16 bits", "+ input streamed"]


def test_it_says_what_several_schemes_go_with(capsys):
    assert tiny_report.main(["-", "--scheme", "full", "--scheme", "bias-only"]) == 1
    assert "--memory and --arena" in capsys.readouterr().err


def test_what_a_scheme_takes_and_what_holds_its_peak(repository, capsys):
    model = str(repository / "examples" / "digits" / "digits.mlirbc")
    schemes = ["--scheme", "classifier-only", "--scheme", "bias-only"]
    assert tiny_report.main([model, "--arena", "--json", *schemes]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record) == ["classifier-only", "bias-only"]
    for row in record.values():
        assert row["order_bound_bytes"] <= row["arena_bytes"] <= 1.03 * row["order_bound_bytes"]
        assert row["sram_bytes"] == row["arena_bytes"] + row["state_bytes"] + 2048
        assert all(one["first"] <= one["last"] for one in row["held_by"])
    assert tiny_report.main([model, "--arena", *schemes]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("classifier-only ")


def test_the_timeline_is_a_drawing_of_its_own(repository, tmp_path, capsys):
    model = str(repository / "examples" / "digits" / "digits.mlirbc")
    for name in ("arena.svg", "arena.html"):
        assert tiny_report.main([model, "--timeline", str(tmp_path / name)]) == 0
    capsys.readouterr()
    text = (tmp_path / "arena.svg").read_text()
    root = ElementTree.fromstring(text)
    kinds = {one.get("class", "").removeprefix("tensor ") for one in root}
    assert {"activation", "saved", "gradient", "scratch", "trained", "mark"} <= kinds
    titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any("1x8x8x30 i8" in title and "steps" in title for title in titles)
    assert "prefers-color-scheme:dark" in text and "http" not in text.replace(SVG, "")
    assert text in (tmp_path / "arena.html").read_text()
    assert tiny_report.main([model, "--timeline", str(tmp_path / "arena.png")]) == 1
    assert ".svg or .html" in capsys.readouterr().err


def test_a_streamed_step_runs_too(repository, capsys):
    digits = repository / "examples" / "digits"
    options = ["--scheme", str(digits / "sparse.json"), "--stream-input", "--arena", "--run"]
    assert tiny_report.main([str(digits / "digits.mlirbc"), *options, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out).values()
    assert 0 < row["ran"]["stack"] <= 2048
    assert row["ran"]["arena"] == row["arena_bytes"]
