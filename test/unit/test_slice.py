"""The whole road: model file, commands, image, emulated steps, and the host's same numbers."""

import json
import shutil

import numpy as np
import pytest

from tiny_pipelines.cli import tiny_compile, tiny_run

EXAMPLE = "examples/digits"
TARGETS = ("cortex-m4", "cortex-m7", "rv32imc", "rv32imafc")


@pytest.fixture(scope="module")
def digits(repository):
    return repository / EXAMPLE


def compiled(model, folder, capsys, *options):
    """The JSON report of a successful tiny-compile."""
    status = tiny_compile.main([str(model), "-o", str(folder), "--json", *options])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


def ran(folder, data, capsys, *options):
    """The JSON report of a successful tiny-run."""
    status = tiny_run.main([str(folder), "--data", str(data), "--json", *options])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


def refused(main, capsys, *arguments):
    """The one error line of a command that must fail."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    # Progress of a slow step may stand before the error on a busy machine.
    lines = [line for line in captured.err.split("\n") if line.startswith("tiny-")]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return lines[0]


@pytest.mark.parametrize("target", TARGETS)
def test_shipped_model_trains_on_every_core_as_the_semantics_say(digits, tmp_path, capsys, target):
    folder = tmp_path / "firmware"
    report = compiled(digits / "digits.mlirbc", folder, capsys, "--target", target)
    sram, flash = report["sram_bytes"], report["flash_bytes"]
    assert sram["total"] == sum(size for name, size in sram.items() if name != "total")
    assert flash["total"] == sum(size for name, size in flash.items() if name != "total")
    assert report["arena_lower_bound_bytes"] <= sram["arena"]
    result = ran(folder, digits / "shifted.npz", capsys, "--steps", "2", "--check", "--test", "3")
    assert result["check"]["passed"], result["check"]["mismatches"]
    assert result["check"]["device"]["integers"] > 1000
    assert result["check"]["host"]["updated"] > 1000
    assert result["instructions"]["step"] > result["instructions"]["forward"] > 1000
    assert sum(op["instructions"] for op in result["per_op"]) <= result["instructions"]["step"]
    assert 0 < result["stack_bytes_used"] < sram["stack"]
    assert result["sram_bytes_used"] < sram["total"]


def test_two_builds_in_two_folders_are_the_same_bytes(digits, tmp_path, capsys):
    for name in ("a", "b"):
        compiled(digits / "digits.mlirbc", tmp_path / name, capsys, "--target", "cortex-m7")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize("stage", ["model", "train", "sparse", "scaled", "scheduled", "planned"])
def test_every_stage_is_printed_and_read_again(digits, capsys, context, stage):
    from tiny_dialect.dialect import parse_module

    status = tiny_compile.main([str(digits / "digits.mlirbc"), "--compile-to", stage])
    text = capsys.readouterr().out
    assert status == 0
    module = parse_module(text.encode(), "stage.mlir")
    names = {op.attributes["tiny.stage"].value for op in module.body.operations}
    assert names == {stage}


def test_a_wrong_check_fails_the_command(digits, tmp_path, capsys):
    folder = tmp_path / "firmware"
    compiled(digits / "digits.mlirbc", folder, capsys, "--target", "cortex-m7")
    elf = bytearray((folder / "firmware.elf").read_bytes())
    constants = (folder / "constants.bin").read_bytes()
    start = elf.index(constants[:64])
    middle = start + len(constants) // 2
    elf[middle : middle + 64] = bytes(byte ^ 0x40 for byte in elf[middle : middle + 64])
    (folder / "firmware.elf").write_bytes(elf)
    data = digits / "digits.npz"
    line = refused_check(folder, data, capsys)
    assert "tiny-run" in line


def refused_check(folder, data, capsys):
    status = tiny_run.main([str(folder), "--data", str(data), "--check", "--steps", "2"])
    captured = capsys.readouterr()
    assert status == 1
    return captured.err.strip().split("\n")[-1]


def test_errors_name_the_place_and_leave_nothing_behind(digits, tmp_path, capsys):
    model, folder = digits / "digits.mlirbc", tmp_path / "firmware"
    output = ("-o", folder)
    main = tiny_compile.main
    assert "stm32f746" in refused(main, capsys, model, *output, "--board", "stm32f747")
    assert "cortex-m7" in refused(main, capsys, model, *output, "--target", "cortex-m8")
    line = refused(main, capsys, model, *output, "--target", "cortex-m7", "--scheme", "mcunet")
    assert "unknown update scheme" in line
    assert "--target" in refused(main, capsys, model, *output)
    assert "-o DIR" in refused(main, capsys, model, "--target", "cortex-m7")
    assert "int16" in refused(main, capsys, model, *output, "--update", "int4")
    assert "stages" in refused(main, capsys, model, "--compile-to", "llvm")
    scheme = tmp_path / "scheme.json"
    scheme.write_text('{"name": "far", "biases": 2, "weights": {"99": 1.0}}')
    line = refused(main, capsys, model, *output, "--target", "cortex-m7", "--scheme", scheme)
    assert "99" in line
    assert not folder.exists()


def test_a_model_that_does_not_fit_says_by_how_much_and_where(digits, tmp_path, capsys):
    board = tmp_path / "board.json"
    board.write_text(
        json.dumps(
            {
                "boards": [
                    {
                        "name": "small",
                        "target": "cortex-m7",
                        "description": "a board that is too small",
                        "flash": {"base": "0x08000000", "kib": 512},
                        "sram": {"base": "0x20000000", "kib": 4},
                        "source": "invented",
                    }
                ]
            }
        )
    )
    line = refused(
        tiny_compile.main, capsys, digits / "digits.mlirbc", "-o", tmp_path / "f", "--board", board
    )
    assert "small" in line and "bytes more" in line and "peaks at" in line
    assert not (tmp_path / "f").exists()


def test_run_refuses_what_is_not_its_own_output(digits, tmp_path, capsys):
    data = digits / "digits.npz"
    assert "no such folder" in refused(tiny_run.main, capsys, tmp_path / "none", "--data", data)
    folder = tmp_path / "firmware"
    compiled(digits / "digits.mlirbc", folder, capsys, "--target", "cortex-m7")
    line = refused(tiny_run.main, capsys, folder, "--data", tmp_path / "no.npz")
    assert "no.npz" in line
    shutil.copy(data, tmp_path / "labels.npz")
    np.savez(tmp_path / "labels.npz", x=np.zeros((4, 8, 8), np.uint8), y=np.full(4, 77))
    line = refused(tiny_run.main, capsys, folder, "--data", tmp_path / "labels.npz")
    assert "77" in line
