"""Pools, means, borders, rescalings and reshapes: kernels and host against the semantics."""

from dataclasses import replace

import numpy as np
import pooling_cases as cases
import pytest
from kernel_case import check

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.semantics import evaluate_op
from tiny_targets.kernels.primitives import Primitives

FAMILIES = {"forward": cases.forward_cases, "backward": cases.backward_cases}


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["cortex-m7", "rv32imafc"])
def test_kernels_equal_the_semantics(family, target):
    check(list(FAMILIES[family]()), target)


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imc"])
def test_smoke_subset(target):
    everything = [case for family in FAMILIES.values() for case in family()]
    check(everything[::4], target)


def test_portable_form_of_a_bytewise_maximum(monkeypatch):
    """Cores without the instructions take the element loop; the word loop is right there too."""
    monkeypatch.setattr(Primitives, "has_bytewise_select", True)
    monkeypatch.setattr(Primitives, "unaligned_words", True)
    windows = [(cases.WHOLE[0], (4, 3, 8)), (cases.OVERLAP[0], (7, 6, 12))]
    check([cases.max_pool2d(i, *windows[i // 2], argmax=i % 2 == 0) for i in range(4)], "rv32imafc")


@pytest.mark.parametrize("target", ["cortex-m7", "rv32imafc"])
def test_results_over_their_operand(target):
    drawn = [cases.requantize(seed, (3, 5, 13), (0.1, 0.07), mask=seed == 1) for seed in (1, 2)]
    check([replace(case, in_place=True) for case in drawn], target)


def test_first_of_equal_values_is_the_largest():
    case = cases.max_pool2d(0, *cases.SQUARE, argmax=True)
    x = np.full_like(case.operands[0], -128)
    y, tap = evaluate_op(case.op, [x])
    assert (y == -128).all() and (tap == 0).all()


def test_average_rounds_half_away_from_zero_and_counts_valid_elements():
    window = cases.Window((1, 2), (1, 1), (0, 1, 0, 1))
    case = cases.average_pool2d(0, window, (1, 3, 1))
    x = np.array([3, 4, -7], np.int8).reshape(1, 1, 3, 1)
    assert evaluate_op(case.op, [x])[0].reshape(-1).tolist() == [3, 4, -2, -7]
