"""Differential testing: a fixed set, the minimised cases of old defects, and that it can fail."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidModel
from tiny_dialect.semantics import run
from tiny_passes.graph import find_function
from tiny_pipelines.cli import tiny_difftest
from tiny_pipelines.differential import check as checking
from tiny_pipelines.differential.between_layers import (
    MeanRecord,
    PadRecord,
    RequantizeRecord,
    ReshapeRecord,
    WindowRecord,
    output_shape,
)
from tiny_pipelines.differential.campaign import (
    Limits,
    run_campaign,
    write_minimised,
)
from tiny_pipelines.differential.case import Options, read_model
from tiny_pipelines.differential.check import DEVICES, HOST, MISMATCH, Failure, check
from tiny_pipelines.differential.compare import Comparison
from tiny_pipelines.differential.features import features_of
from tiny_pipelines.differential.minimise import minimise
from tiny_pipelines.differential.random_network import random_case, streamable
from tiny_pipelines.differential.records import AddRecord, Builder, ConvRecord, NetworkRecord
from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.training import Rescaling, Update
from tiny_targets.emulate import Emulator

FLOAT = ("float32",)
# Small ones that between them hold what `FEATURES` lists.
FIXED_SEEDS = (156, 759, 988)
FEATURES = {
    *("residual addition", "other groups", "depthwise", "one-dimensional", "dead channels"),
    *("max pool", "average pool", "padded pool", "mean", "pad", "reshape"),
    *("rescaling or clamp alone", "streamed input", "gradients summed over samples"),
    *("kernels chosen for the core", "blocks fused: all", "rows overlapped: all"),
}
SMALL = 42
MINIMISED = sorted((Path(__file__).parent / "differential_cases").glob("*.mlir"))


def lines(outcome):
    return [f"{f.target}: {f.kind}: {f.message}" for f in outcome.failures]


@pytest.mark.parametrize("seed", FIXED_SEEDS)
def test_random_networks_compute_the_same_everywhere(seed):
    case = random_case(seed, FLOAT)
    first = seed == FIXED_SEEDS[0]
    outcome = check(case.model(), DEVICES, host=first, modes=not first)
    assert lines(outcome) == []
    assert (HOST in outcome.compared) == (first or case.options.accumulate)
    for target in DEVICES:
        comparison = outcome.compared[target]
        assert comparison.integers > 0 and comparison.floats > 0 and comparison.updated > 0
        assert (comparison.watched > 0) == (not first)


def test_the_fixed_set_holds_what_networks_can_be():
    held = {name for seed in FIXED_SEEDS for name in features_of(random_case(seed, FLOAT))}
    assert held >= FEATURES


@pytest.mark.parametrize("path", MINIMISED, ids=lambda path: path.stem)
def test_what_was_once_wrong_is_right(path):
    """A file's name starts with where it was wrong: `host`, `device`, `emulator`, `compiler`."""
    place = path.stem.split("_")[0]
    assert place in (HOST, "device", "emulator", "compiler")
    targets = {"device": DEVICES, "emulator": ("cortex-m4",)}.get(place, ())
    modes = place == "emulator"
    assert lines(check(read_model(path), targets, host=place == HOST, modes=modes)) == []


@pytest.mark.slow
def test_a_minute_of_random_networks(tmp_path):
    limits = Limits(60, targets=DEVICES, gradients=FLOAT)
    said = []
    campaign = run_campaign(50_000, limits, tmp_path, said.append)
    assert said == [] and campaign.found == []
    assert campaign.networks > 3 and campaign.total.values > 1000


def test_a_seed_always_gives_the_same_case():
    for seed in range(10):
        case = random_case(seed)
        assert case == random_case(seed)
        model = case.model()
        assert model == case.model()
        for key in case.scheme["weights"]:
            assert key.isdigit() or key in [layer.name for layer in case.record.layers] + ["all"]


def test_cases_cover_what_networks_can_be():
    cases = [random_case(seed) for seed in range(200)]
    layers = [layer for case in cases for layer in case.record.layers]
    convs = [layer for layer in layers if isinstance(layer, ConvRecord)]
    assert {conv.kernel[1] for conv in convs} >= set(range(1, 8))
    assert {max(conv.strides) for conv in convs} == {1, 2, 3}
    assert {conv.groups for conv in convs} >= {-1, 0, 2, 3, 4}
    assert any(isinstance(layer, AddRecord) for layer in layers)
    assert any(conv.pads[:2] != conv.pads[2:] for conv in convs)
    assert {case.options.fuse_blocks for case in cases} == {"off", "peak", "all"}
    assert {case.options.update for case in cases} == set(get_args(Update))
    assert any(1 in case.record.input_shape[:2] for case in cases)
    kinds = {type(layer) for layer in layers}
    assert kinds >= {WindowRecord, MeanRecord, RequantizeRecord, PadRecord, ReshapeRecord}
    assert {layer.kind for layer in layers if isinstance(layer, WindowRecord)} == {"max", "average"}
    options = [case.options for case in cases]
    assert {option.search for option in options} == {"greedy", "cp-sat"}
    assert {option.rescaling for option in options} == set(get_args(Rescaling))
    for name in ("stream_input", "accumulate", "for_target", "reorder"):
        assert {getattr(option, name) for option in options} == {True, False}
    assert any(conv.weight_scale > 1 for conv in convs)
    assert any(conv.weight_scale < 1e-6 for conv in convs)


BETWEEN = (
    WindowRecord("x", "input", "max", (3, 2), (2, 1), (1, 0, 2, 1)),
    WindowRecord("x", "input", "average", (2, 3), (1, 2), (0, 1, 1, 0)),
    MeanRecord("x", "input", (1,)),
    MeanRecord("x", "input", (2,), 0.0),
    RequantizeRecord("x", "input", 12.0, -7, (-50, 60)),
    PadRecord("x", "input", (1, 0, 2, 3)),
    *(ReshapeRecord("x", "input", style) for style in ("flat", "row", "column", "wide")),
)


@pytest.mark.parametrize("layer", BETWEEN, ids=lambda layer: type(layer).__name__)
def test_calibration_knows_what_a_layer_computes(layer):
    """The values that later scales come from are those of the semantics, but for a rounding."""
    record = NetworkRecord(4, (5, 7, 3), 0.02, -5, (layer,))
    build = Builder(record)
    network = build.network()
    with new_context(), ir.Location.unknown():
        module = emit(network)
        infer = find_function(module, "infer")
        got, _ = build.values["input"]
        (want,) = run(infer, [got.astype(np.int8)], {})
    found, _ = build.values["x"]
    assert want.shape == found.shape == (1, *output_shape(layer, record.input_shape))
    assert np.abs(want - found).max() <= 1


def test_a_streamed_input_is_read_once():
    streamed = [case for case in map(random_case, range(60)) if case.options.stream_input]
    assert len(streamed) > 5
    for case in streamed:
        first = case.record.layers[0].name
        assert streamable(case.record) == first
        assert not {"all", first, "0"} & set(case.scheme["weights"])


def test_a_core_gets_kernels_of_its_own(tmp_path):
    scheme = tmp_path / "scheme.json"
    scheme.write_text("{}")
    plain = Options().pipeline(scheme, "cortex-m7")
    fast = Options(for_target=True, fuse_blocks="all").pipeline(scheme, "cortex-m7")
    assert "tiny-choose-blocking" not in plain
    assert "tiny-choose-blocking{target=cortex-m7}" in fast
    assert fast.count("tiny-reorder") == 2 and fast.count("tiny-fuse-blocks") == 1


def test_a_case_file_is_read_as_it_was_written(tmp_path):
    model = random_case(11).model()
    path = tmp_path / "case.mlir"
    path.write_text(model.text())
    again = read_model(path)
    assert again.text() == model.text()
    assert replace(again, bytecode=b"") == replace(model, bytecode=b"")


@pytest.mark.parametrize("first", ["module {}", "// tiny-difftest: {", "// tiny-difftest: []"])
def test_a_malformed_case_file_is_refused_with_its_place(tmp_path, first):
    path = tmp_path / "case.mlir"
    path.write_text(first + "\n")
    with pytest.raises(InvalidModel, match=r"case\.mlir:1"):
        read_model(path)


def corrupt(emulator):
    """Flip one bit of every 64th byte of the constants behind the device's back."""
    start = emulator.address_of("tiny_constants")
    size = len(emulator.image.schedule.constants)
    data = bytearray(emulator.machine.read(start, size))
    data[::64] = bytes(byte ^ 0x04 for byte in data[::64])
    emulator.machine.write(start, bytes(data))


def test_wrong_constants_are_noticed(monkeypatch):
    class Corrupted(Emulator):
        def __init__(self, image):
            super().__init__(image)
            corrupt(self)

    monkeypatch.setattr(checking, "Emulator", Corrupted)
    outcome = check(random_case(SMALL, FLOAT).model(), ("cortex-m7",), host=False)
    assert any(failure.kind == MISMATCH for failure in outcome.failures)


def test_an_update_that_does_not_happen_is_noticed(monkeypatch):
    class Frozen(Emulator):
        def read_state(self, symbol):
            self.first = getattr(self, "first", {})
            return self.first.setdefault(symbol, super().read_state(symbol)).copy()

    monkeypatch.setattr(checking, "Emulator", Frozen)
    outcome = check(random_case(SMALL, FLOAT).model(), ("cortex-m7",), host=False)
    assert any("update" in failure.message for failure in outcome.failures)


def test_comparison_counts_and_judges():
    comparison = Comparison()
    want = np.array([1, 2, 3], np.int8)
    comparison.result("a", want, want.copy(), None)
    assert comparison.integers == 3 and not comparison.mismatches
    comparison.result("b", want, np.array([1, 2, 4], np.int8), None)
    assert comparison.mismatches == ["b: 1 of 3 values; at [2] 4, expected 3"]
    real = np.array([1.0, np.nan], np.float32)
    comparison.result("c", real, np.array([1.5, 0], np.float32), np.array([1.0, np.inf]))
    assert (comparison.floats, comparison.uncompared, comparison.largest_error) == (1, 1, 0.5)
    comparison.result("d", real[:1], np.array([np.nan], np.float32), np.array([1.0]))
    comparison.state("e", want - 1, want + 1, want + 1)
    comparison.state("f", want, want, want + 1)
    assert [line[0] for line in comparison.mismatches] == ["b", "d", "f"]


def test_minimising_keeps_what_matters_and_nothing_else():
    case = next(
        case
        for case in map(random_case, range(100))
        if sum(isinstance(layer, AddRecord) for layer in case.record.layers) > 0
        and any(layer.kernel == (3, 3) for layer in case.record.layers if hasattr(layer, "kernel"))
        and case.scheme["weights"]
    )

    def fails(smaller):
        layers = smaller.record.layers
        convs = [layer for layer in layers if isinstance(layer, ConvRecord)]
        has_kernel = any(conv.kernel == (3, 3) for conv in convs)
        return has_kernel and any(isinstance(layer, AddRecord) for layer in layers)

    assert fails(case)
    small = minimise(case, fails, 60)
    assert fails(small)
    assert len(small.record.layers) <= 4
    assert small.options == Options()
    assert small.steps == 1
    assert (small.scheme["biases"], small.scheme["weights"]) == (0, {})
    assert max(small.record.input_shape) <= 3


def test_a_failure_is_written_minimised_and_the_command_repeats_it(tmp_path, monkeypatch, capsys):
    def unequal(self, what, want, got, bound):
        self.mismatches.append(f"{what}: always")

    monkeypatch.setattr(Comparison, "result", unequal)
    limits = Limits(60, 1, ("rv32imc",), 0, FLOAT, minimise_seconds=3)
    said = []
    campaign = run_campaign(SMALL, limits, tmp_path, said.append)
    file = campaign.found[0].file
    assert f"seed {SMALL}" in said[0] and f"tiny-difftest {file}" in said[1]
    status = tiny_difftest.main([str(file), "--target", "rv32imc", "--host-every", "0", "--json"])
    captured = capsys.readouterr()
    assert status == 1
    assert json.loads(captured.out)["failing_networks"][0]["reproduce"] == f"tiny-difftest {file}"
    assert len(captured.err.strip().split("\n")) == 1


def test_an_exception_of_the_compiler_is_a_failure_like_any_other(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("no kernel at 12")

    monkeypatch.setattr(checking, "build_schedule", broken)
    outcome = check(random_case(SMALL, FLOAT).model(), ("rv32imc",), host=False)
    assert {(f.target, f.kind) for f in outcome.failures} == {
        ("compiler", "ZeroDivisionError"),
        ("rv32imc", "ZeroDivisionError"),
    }
    first = outcome.failures[0]
    assert first.resembles(Failure("compiler", "ZeroDivisionError", "no kernel at 7"))
    assert not first.resembles(Failure(HOST, "ZeroDivisionError", "no kernel at 12"))


def test_the_command_reports_what_it_compared(tmp_path, capsys):
    arguments = ["--seed", "7", "--count", "1", "--host-every", "0", "--gradients", "float32"]
    status = tiny_difftest.main([*arguments, "--target", "rv32imc", "-o", str(tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert status == 0
    assert report["networks"] == 1 and report["mismatches"] == 0
    assert report["runs"] == {"rv32imc": 1} and report["seeds"] == [[7, 7]]
    assert report["compared"]["values"] > 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--target", "cortex-m8"], "cortex-m7"),
        (["--gradients", "bf16"], "float32"),
        (["--seed", "-1"], "--seed"),
        (["--seconds", "0"], "--seconds"),
        (["nowhere.mlir"], "nowhere.mlir"),
        (["--sum", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_options_are_one_line(capsys, arguments, word):
    assert tiny_difftest.main(arguments) == 1
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1


def test_the_minimised_file_fails_where_the_case_did(tmp_path, monkeypatch):
    case = random_case(8, FLOAT)
    seen = []

    def spied(model, target, targets):
        seen.append(target)
        return checking.Outcome(failures=[Failure("rv32imc", "Boom", "at 1")])

    monkeypatch.setattr("tiny_pipelines.differential.campaign.recheck", spied)
    limits = Limits(1, targets=("rv32imc",), minimise_seconds=20)
    path = write_minimised(case, Failure("rv32imc", "Boom", "at 2"), limits, tmp_path)
    assert set(seen) == {"rv32imc"}
    assert len(path.read_text()) < len(case.model().text())
