"""The blocking of kernels: every candidate computes the same, and the table repeats."""

import json

import pytest
from kernel_case import check, declare_scratch
from kernel_cases import Geometry, conv2d

from tiny_dialect.attributes import integers
from tiny_dialect.errors import InvalidModel
from tiny_pipelines.benchmarks.tuning import cheapest, forms_of, measure
from tiny_pipelines.cli import tiny_bench
from tiny_targets.kernels.blocked_forms import blocked_form
from tiny_targets.kernels.blocking import (
    BLOCKING,
    Blocking,
    blocking_of,
    blocking_table,
    record_blocking,
)
from tiny_targets.target import TARGETS, find_target


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_table_has_the_kernels_of_every_core(name):
    record = blocking_table()[name]
    assert set(forms_of(find_target(name))) <= set(record)
    for entry in record.values():
        assert entry["chosen"] == cheapest(entry["measured"].items())


def test_a_recorded_cell_is_measured_again():
    target, form = find_target("cortex-m4"), "dense.halves"
    entry = blocking_table()[target.name][form]
    again = measure(form, target, Blocking.parse(entry["chosen"]))
    recorded = entry["measured"][entry["chosen"]]
    for figure, count in again.items():
        assert count == pytest.approx(recorded[figure], rel=0.01), f"{figure}: run `make tune`"


@pytest.mark.parametrize("name", ["cortex-m7", "rv32imc"])
def test_blocking_changes_no_result(context, name):
    target, cases = find_target(name), []
    shapes = [Geometry((5, 7), 13, 9, (1, 1)), Geometry((6, 5), 5, 7, (3, 3), pads=(1, 1, 1, 1))]
    candidates = {
        "pointwise.halves": ("2x2x3", "2x4x4", "1x2x12"),
        "pointwise.words": ("4x4x1", "2x2x4"),
        "dense.halves": ("1x2x2", "4x2x4"),
        "dense.words": ("4x4x3", "2x2x8"),
    }
    for seed, shape in enumerate(shapes):
        for mask in (False, True):
            first = conv2d(seed, shape, mask=mask)
            form = blocked_form(first.op, target)
            for text in candidates[form]:
                case = conv2d(seed, shape, mask=mask)
                record_blocking(case.op, Blocking.parse(text))
                assert str(blocking_of(case.op, form, target)) == text
                declare_scratch(case, name)
                cases.append(case)
    check(cases, name)


def test_a_blocking_of_another_form_is_refused(context):
    case = conv2d(0, Geometry((3, 3), 4, 4, (1, 1)))
    case.op.attributes[BLOCKING] = integers([2, 0, 1])
    with pytest.raises(InvalidModel, match=r"expects tiny\.blocking of pixels, channels and steps"):
        declare_scratch(case, "cortex-m7")


def test_the_cheapest_weighs_code_bytes():
    fast = ("a", {"instructions": 1000, "code_bytes": 9000})
    small = ("b", {"instructions": 1010, "code_bytes": 1000})
    slow = ("c", {"instructions": 2000, "code_bytes": 100})
    assert cheapest([fast, small, slow]) == "b"


@pytest.mark.slow
def test_the_command_repeats_the_table_of_a_core(tmp_path, capsys):
    path = tmp_path / "table.json"
    assert tiny_bench.main(["--tune", str(path), "--target", "rv32imc"]) == 0
    assert "rv32imc" in capsys.readouterr().out
    assert json.loads(path.read_text()) == {"rv32imc": blocking_table()["rv32imc"]}
