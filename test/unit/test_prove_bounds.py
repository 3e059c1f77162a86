"""The proven accumulator bounds hold for every input and are reached by one."""

import numpy as np
import pytest

from tiny_dialect import ops
from tiny_dialect.attributes import dense, string
from tiny_dialect.bindings import ir, load
from tiny_dialect.types import quantized, tensor
from tiny_passes.prove_bounds import _accumulators


@pytest.mark.parametrize("zero", [-128, -7, 127])
def test_bounds_are_those_of_the_worst_input(context, zero):
    rng = np.random.default_rng(zero + 200)
    weight = rng.integers(-128, 128, (4, 3, 2, 3)).astype(np.int8)
    bias = rng.integers(-(2**31), 2**31, 4).astype(np.int32)
    func = load("dialects.func")
    x_type, y_type = quantized((1, 3, 2, 3), 0.5, zero), quantized((1, 1, 1, 4), 0.5, 0)
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        function = func.FuncOp("infer", ir.FunctionType.get([x_type], [y_type]))
    with ir.InsertionPoint(function.add_entry_block()):
        w = ops.Parameter(tensor(weight.shape, "i8"), string("w"), dense(weight)).result
        b = ops.Parameter(tensor((4,), "i32"), string("b"), dense(bias)).result
        conv = ops.Conv2D(function.arguments[0], w, b, y_type, dense(np.full(4, 0.1)))
        func.ReturnOp([conv.y])
    low, high = _accumulators(conv)
    for channel in range(4):
        taps = weight[channel].astype(np.int64)
        worst = np.where(taps > 0, 127, -128) - zero
        best = np.where(taps > 0, -128, 127) - zero
        assert high[channel] == (worst * taps).sum() + bias[channel]
        assert low[channel] == (best * taps).sum() + bias[channel]
