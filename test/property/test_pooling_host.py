"""The host form of pools, means, borders, rescalings and reshapes against the semantics."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

import pooling_cases as cases

from tiny_dialect.bindings import ir, load
from tiny_dialect.dialect import new_context
from tiny_dialect.semantics import evaluate_op
from tiny_pipelines.host import HostModel
from tiny_pipelines.iree import compile_host

func = load("dialects.func")
FLOAT_TOLERANCE = 1e-6


def bench_of(drawn: list[Any]) -> Any:
    """One function that takes the operands of all cases and returns all their results."""
    types = [operand.type for case in drawn for operand in case.op.operands]
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):

        @func.FuncOp.from_py_func(*types, name="bench")
        def bench(*arguments: Any) -> Any:
            left, results = list(arguments), []
            for case in drawn:
                copy = case.op.operation.clone()
                for number in range(len(case.op.operands)):
                    copy.operands[number] = left.pop(0)
                results.extend(copy.results)
            return results

    return module


@pytest.mark.parametrize("family", [cases.forward_cases, cases.backward_cases])
def test_host_equals_the_semantics(family: Any) -> None:
    with new_context(), ir.Location.unknown():
        drawn = list(family())
        model = HostModel(compile_host(bench_of(drawn)))
        found = model.call("bench", *[array for case in drawn for array in case.operands])
        for case in drawn:
            for want in evaluate_op(case.op, case.operands):
                got = found.pop(0)
                if want.dtype == np.float32:
                    bound = FLOAT_TOLERANCE * max(1.0, float(np.abs(want).max()))
                    np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=case.label)
                else:
                    np.testing.assert_array_equal(got, want.astype(got.dtype), err_msg=case.label)
        assert not found
