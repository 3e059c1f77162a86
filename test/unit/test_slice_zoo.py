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
    assert check["integer_mismatches"] == []
    assert check["integer_values"] > 1_000_000
    assert check["largest_loss_error"] <= 1e-5
    for entry in check["state_differences"]:
        limit = 1e-6 if entry["element"] == "float32" else 1
        assert entry["largest"] <= limit, entry
        assert entry["differing"] <= max(4, entry["size"] // 100), entry
