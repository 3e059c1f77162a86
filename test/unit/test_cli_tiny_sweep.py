"""`tiny-sweep`: what fits where, and a second run that compiles nothing again."""

import json

from tiny_pipelines.cli import tiny_sweep
from tiny_pipelines.memory_reports import sweep as memory_sweep


def test_a_sweep_says_what_fits_and_goes_on_where_it_stopped(
    repository, tmp_path, capsys, monkeypatch
):
    small = {
        "name": "small",
        "target": "cortex-m4",
        "flash": {"base": "0x08000000", "kib": 1024},
        "sram": {"base": "0x20000000", "kib": 8},
    }
    (tmp_path / "small.json").write_text(json.dumps(small))
    kept = tmp_path / "sweep.jsonl"
    arguments = [
        str(repository / "examples" / "digits" / "digits.mlirbc"),
        *("--scheme", "classifier-only", "--update", "int16", "--resume", str(kept)),
        *("--board", "stm32l476", "--board", str(tmp_path / "small.json")),
    ]
    assert tiny_sweep.main([*arguments, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["board"], row["fits"]) for row in rows] == [("stm32l476", True), ("small", True)]
    assert len(kept.read_text().splitlines()) == 1
    assert rows[0]["sram"] + rows[0]["sram_free"] == 128 * 1024

    def compiled_again(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(memory_sweep, "compile_one", compiled_again)
    assert tiny_sweep.main([*arguments, "--format", "csv"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.startswith("scheme,update,gradients,stream_input,board,fits,sram,")
    assert len(lines) == 2
    assert tiny_sweep.main(arguments) == 0
    assert "stm32l476" in capsys.readouterr().out.splitlines()[0]


def test_what_is_missing_is_named():
    compiled = memory_sweep.Compiled(
        "m", "s", "int16", "int16", False, "cortex-m4", *[60 << 10] * 4
    )
    pieces = memory_sweep.judge(compiled, tiny_sweep_board("stm32l476"))
    assert not pieces.fits and pieces.reason == "SRAM"
    whole = memory_sweep.replace(compiled, arena=20 << 10, program=2 << 10)
    assert memory_sweep.judge(whole, tiny_sweep_board("stm32l476")).fits
    flash = memory_sweep.replace(whole, flash=2 << 20)
    assert memory_sweep.judge(flash, tiny_sweep_board("stm32f407")).reason == "flash"


def tiny_sweep_board(name):
    from tiny_targets.boards import find_board

    return find_board(name)


def test_a_wrong_rule_or_file_is_refused_at_once(repository, tmp_path, capsys):
    model = str(repository / "examples" / "digits" / "digits.mlirbc")
    assert tiny_sweep.main([model, "--update", "int4"]) == 1
    assert "--update int4" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text("{}\n")
    assert tiny_sweep.main([model, "--resume", str(tmp_path / "bad.jsonl")]) == 1
    assert "bad.jsonl:1: not a line of a sweep" in capsys.readouterr().err
