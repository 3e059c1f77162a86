"""Updates on the host path against their NumPy meaning, of stored gradients and fused."""

from typing import Any

import numpy as np
import pytest
from host_bench import EXTRA, Bench, Layer, assert_equal, random_layer, stored_values, weight_of

from tiny_dialect import ops, types
from tiny_dialect.attributes import dense
from tiny_dialect.bindings import ir, load
from tiny_dialect.dialect import new_context
from tiny_dialect.semantics import initial_state, run
from tiny_pipelines.host import HostModel
from tiny_pipelines.iree import compile_host

func = load("dialects.func")


def add_apply_update(bench: Bench, element: str, rate: int) -> None:
    """No sum is involved: integers agree bit for bit, floats up to one fused multiply-subtract."""
    rng = bench.rng
    shape = (int(rng.integers(1, 5)), 2, 3, 4)
    g = bench.floats(shape)
    gradient = bench.values[g]
    gradient *= np.float32(10.0) ** rng.integers(-6, 12, shape)
    if element != "f32":
        gradient.reshape(-1)[:6] = [0.0, np.nan, np.inf, -np.inf, 1e38, -1e38]
    initial = stored_values(rng, shape, element)
    factors = rng.uniform(0, 2, shape[0]).astype(np.float32)

    def build(v: list[Any]) -> list[Any]:
        ops.ApplyUpdate(bench.parameter(initial, True), v[g], v[rate], factors=dense(factors))
        return []

    bench.builders.append(build)


@pytest.mark.parametrize("seed", [0, *EXTRA])
def test_updates_of_stored_gradients_are_exact(seed: int) -> None:
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(seed))
        rate = bench.argument(types.tensor((), "f32"), np.array(0.0137, np.float32))
        for element in ("i8", "i16", "i32", "f32") * 2:
            add_apply_update(bench, element, rate)
        module, function = bench.build()
        state = initial_state(function)
        model = HostModel(compile_host(module))
        for _ in range(3):
            run(function, bench.values, state)
            model.call("bench", *bench.values)
            for name, value in model.state().items():
                tolerance = 3e-7 if value.dtype == np.float32 else 0
                np.testing.assert_allclose(value, state[name], rtol=tolerance, atol=tolerance)
        model.reset()
        for name, value in initial_state(function).items():
            np.testing.assert_array_equal(model.state()[name], value, err_msg=name)


def add_fused_updates(bench: Bench, layer: Layer, element: str, rate: int) -> None:
    rng = bench.rng
    x, g = bench.activation(layer.x), bench.floats(layer.y)
    features = int(np.prod(layer.x))
    flat = bench.floats((1, features))
    factors = rng.uniform(1e-3, 1e-1, layer.w[0]).astype(np.float32)
    initial = weight_of(rng, layer.w, element)
    bias = rng.integers(-(2**20), 2**20, layer.y[3]).astype(np.int32)
    head = stored_values(rng, (layer.y[3], features), "f32")
    head_g = bench.floats((1, layer.y[3]))

    def build(v: list[Any]) -> list[Any]:
        w, b, h = (bench.parameter(value, True) for value in (initial, bias, head))
        constants = dense(factors)
        ops.Conv2DWeightUpdate(w, v[x], v[g], v[rate], factors=constants, **layer.attributes())
        ops.BiasUpdate(b, v[g], v[rate], factors=dense(factors * np.float32(1e4)))
        ops.LinearWeightUpdate(h, v[flat], v[head_g], v[rate], factors=constants)
        return []

    bench.builders.append(build)


@pytest.mark.parametrize("seed", [0, *EXTRA])
def test_fused_updates_differ_by_sum_rounding_at_most(seed: int) -> None:
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(100 + seed))
        rate = bench.argument(types.tensor((), "f32"), np.array(0.1, np.float32))
        for element in ("i16", "f32") * 3:
            add_fused_updates(bench, random_layer(bench.rng), element, rate)
        module, function = bench.build()
        state = initial_state(function)
        before = initial_state(function)
        model = HostModel(compile_host(module))
        run(function, bench.values, state)
        model.call("bench", *bench.values)
        moved = 0
        for name, value in model.state().items():
            expected = state[name]
            moved += bool((expected != before[name]).any())
            if value.dtype == np.float32:
                assert_equal([value], [expected])
            else:
                difference = np.abs(value.astype(np.int64) - expected)
                assert difference.max() <= 1, name
                assert (difference != 0).sum() <= 1 + 0.01 * difference.size, name
        assert moved > len(state) / 2, "the gradients are too small to show anything"
