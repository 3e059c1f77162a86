"""`tiny-report` on the shipped model."""

import json

from tiny_pipelines.cli import tiny_report


def test_memory_ladder_of_the_shipped_model_falls(repository, capsys):
    model = str(repository / "examples" / "digits" / "digits.mlirbc")
    assert tiny_report.main([model, "--memory", "--json"]) == 0
    rungs = json.loads(capsys.readouterr().out)["full"]
    sizes = [rung["arena_bytes"] for rung in rungs]
    assert sizes[0] > sizes[-1]
    assert all(rung["bound_bytes"] <= rung["arena_bytes"] for rung in rungs)
    assert tiny_report.main([model, "--memory", "--scheme", "classifier-only"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("scheme classifier-only\n") and "times smaller" in text


def test_it_says_what_it_can_report(capsys):
    assert tiny_report.main(["-"]) == 1
    assert "--memory" in capsys.readouterr().err
