"""The published network on the road's whole length: 256 KiB, 1 MiB, and the host's numbers."""

import json

import pytest

from tiny_pipelines.cli import tiny_compile, tiny_run

KIB = 1024


@pytest.mark.data
@pytest.mark.parametrize("target", ["cortex-m7", pytest.param("rv32imafc", marks=pytest.mark.slow)])
def test_mcunet_trains_in_256_kib_as_the_semantics_and_the_host_do(zoo, tmp_path, capsys, target):
    model = zoo / "models" / "original" / "mcunet-5fps.pkl"
    folder = tmp_path / "firmware"
    options = ["--classes", "10", "--scheme", "mcunet-5fps-49kb", "--target", target]
    status = tiny_compile.main([str(model), "-o", str(folder), "--json", *options])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    report = json.loads(captured.out)
    assert report["sram_bytes"]["total"] <= 256 * KIB
    assert report["flash_bytes"]["total"] <= 1024 * KIB
    assert abs(report["saved_bytes"] / KIB - 49.8) <= 0.1

    data = zoo / "images" / "cifar10_32.npz"
    status = tiny_run.main([str(folder), "--data", str(data), "--steps", "3", "--check", "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    check = json.loads(captured.out)["check"]
    assert check["mismatches"] == []
    assert check["device"]["integers"] > 1_000_000
    values = report["sram_bytes"]["trainable"] // 4  # of 4 bytes at most, each updated three times
    assert check["device"]["updated"] == check["host"]["updated"] >= 3 * values
    assert check["device"]["uncompared"] == 0
