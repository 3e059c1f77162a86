"""The pass on whole networks: agreement with float32, proven sums, the integer head, the host."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import small_network

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer, string, to_array
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidOption
from tiny_dialect.semantics import initial_state, run
from tiny_dialect.types import quantization, shape_of, tensor
from tiny_passes.graph import functions
from tiny_passes.mantissa_bounds import (
    bias_update_bits,
    gradient_pixels,
    input_gradient_bits,
    largest_column,
    result_shift,
    weight_update_bits,
)
from tiny_passes.mantissas import integer_multipliers
from tiny_passes.registry import PassError, run_pipeline
from tiny_pipelines.gradient_agreement import UpdateRecorder, agreement
from tiny_pipelines.training import (
    TrainingOptions,
    Update,
    build_training_step,
    default_gradients,
    integer_objection,
    pipeline_text,
)

_PARTIAL = {
    "name": "partial",
    "biases": 3,
    "weights": {"stem": 0.5, "depthwise": 0.6, "project": 0.4},
}


@pytest.fixture
def partial(tmp_path: Path) -> str:
    """A scheme that trains a part of every weight."""
    path = tmp_path / "partial.json"
    path.write_text(json.dumps(_PARTIAL))
    return str(path)


def step_of(scheme: str, gradients: str, seed: int = 0, **more: Any) -> Any:
    """(module, train step) of the small network."""
    options = TrainingOptions(scheme, gradients=gradients, **more)
    module = build_training_step(small_network.build(seed), options, until="scheduled")
    return module, functions(module)["train_step"]


def names(step: Any) -> set[str]:
    return {op.operation.name for op in step.regions[0].blocks[0]}


@pytest.mark.parametrize("update", ["int16", "int8-stochastic", "int8"])
@pytest.mark.parametrize(("gradients", "least"), [("int16", 0.999), ("int8", 0.98)])
@pytest.mark.parametrize("whole", [True, False])
def test_updates_agree_with_the_float_ones(
    gradients: str, least: float, whole: bool, update: str, partial: str, context: Any
) -> None:
    scheme = "full" if whole else partial
    for seed in range(3):
        reference = step_of(scheme, "float32", seed)
        other = step_of(scheme, gradients, seed, update=update)
        samples = [(small_network.sample(i), i % small_network.CLASSES) for i in range(4)]
        found = agreement(UpdateRecorder(reference[0]), UpdateRecorder(other[0]), samples)
        assert min(float(cosines.min()) for cosines in found.values()) > least, found


def test_no_float_is_left_but_the_rate_and_the_results(partial: str, context: Any) -> None:
    _, step = step_of(partial, "int16")
    floats = {
        op.operation.name
        for op in step.regions[0].blocks[0]
        for value in op.results
        if str(value.type.element_type) == "f32"
    }
    assert floats == {"tiny.fixed_to_float"}
    assert "tiny.dequantize" not in names(step)


def test_training_follows_the_float_path(context: Any) -> None:
    losses: dict[str, list[float]] = {}
    for gradients in ("float32", "int16", "int8"):
        _, step = step_of("full", gradients)
        state = initial_state(step)
        for i in range(40):
            label = np.array(i % 3, np.int32)
            arguments = [small_network.sample(i % 3), label, np.array(2e-3, np.float32)]
            losses.setdefault(gradients, []).append(float(run(step, arguments, state)[0]))
    start, end = losses["float32"][:3], losses["float32"][-3:]
    assert sum(end) < 0.5 * sum(start)
    for gradients in ("int16", "int8"):
        assert losses[gradients][0] == pytest.approx(start[0], abs=1e-3)
        assert sum(losses[gradients][-3:]) == pytest.approx(sum(end), rel=0.25)


@pytest.mark.parametrize(
    ("update", "gradients"),
    [("int16", "int8"), ("int8-stochastic", "int16"), ("int8", "int8")],
)
def test_the_host_computes_the_same_bits(
    update: str, gradients: str, partial: str, context: Any
) -> None:
    from tiny_pipelines.host import HostModel
    from tiny_pipelines.iree import compile_host

    module, step = step_of(partial, gradients, seed=1, update=update)
    state, model = initial_state(step), HostModel(compile_host(module))
    for i in range(2):
        x, rate = small_network.sample(i), np.array(0.01, np.float32)
        loss, logits = run(step, [x, np.array(i, np.int32), rate], state)
        got_loss, got_logits = model.train_step(x, i, 0.01)
        assert got_loss == float(loss)
        np.testing.assert_array_equal(got_logits, logits)
        for name, value in model.state().items():
            np.testing.assert_array_equal(value, state[name], err_msg=name)


@pytest.mark.parametrize("update", ["int16", "int8-stochastic"])
def test_sums_over_samples_are_the_same_bits(update: str, partial: str, context: Any) -> None:
    """Integer gradients of three samples in float32 sums, applied: NumPy and host."""
    from tiny_pipelines.host import HostModel
    from tiny_pipelines.iree import compile_host

    module, step = step_of(partial, "int16", update=update, accumulate=True)
    apply = functions(module)["apply_updates"]
    state, model = initial_state(step) | initial_state(apply), HostModel(compile_host(module))
    start = {symbol: value.copy() for symbol, value in state.items()}
    for batch in range(2):
        for i in range(3):
            x, weight = small_network.sample(i + batch), np.array(1 / 3, np.float32)
            run(step, [x, np.array(i, np.int32), weight], state)
            model.train_step(x, i, 1 / 3)
        run(apply, [np.array(0.02, np.float32)], state)
        model.apply_updates(0.02)
        for name, value in model.state().items():
            np.testing.assert_array_equal(value, state[name], err_msg=name)
    moved = {name for name, value in state.items() if (value != start[name]).any()}
    assert {"head.weight", "head.bias"} <= moved
    assert all((state[name] == 0).all() for name in state if name.endswith(".gradient"))


def test_a_batch_of_one_learns_like_no_sum(context: Any) -> None:
    """Masters, biases and head move as far as without sums, but for the rounding of both ways."""
    plain, summed = (step_of("full", "int16", accumulate=way) for way in (False, True))
    states = [initial_state(plain[1]), initial_state(summed[1])]
    apply = functions(summed[0])["apply_updates"]
    x, label, rate = small_network.sample(2), np.array(1, np.int32), np.array(0.01, np.float32)
    start = [{name: value.copy() for name, value in state.items()} for state in states]
    run(plain[1], [x, label, rate], states[0])
    run(summed[1], [x, label, np.array(1, np.float32)], states[1])
    run(apply, [rate], states[1])
    fractions = [fraction_of(step) for step in (plain[1], summed[1])]
    for name, value in states[0].items():
        unit = 2 ** (fractions[0] - fractions[1]) if name.startswith("head") else 1
        moves = [s[name].astype(np.float64) - o[name] for s, o in zip(states, start, strict=True)]
        assert np.abs(moves[0] - moves[1] * unit).max() <= 2 * unit, name
        assert moves[0].any() or value.dtype == np.int16, name


def fraction_of(step: Any) -> int:
    """Fraction bits of the integer head."""
    heads = [op for op in step.regions[0].blocks[0] if isinstance(op, ops.IntegerLinear)]
    return heads[0].fraction.value


def test_quantized_logits_enter_in_fixed_point(context: Any) -> None:
    """A classifier that is a convolution: its int8 logits are dequantized by an integer op."""
    found = {}
    for gradients in ("float32", "int16"):
        module = small_network.build()
        cut_head(functions(module)["infer"])
        options = TrainingOptions("full", gradients=gradients)
        build_training_step(module, options, until="scheduled")
        found[gradients] = UpdateRecorder(module)
    assert "tiny.dequantize_fixed" in names(found["int16"].step)
    samples = [(small_network.sample(i), i) for i in range(3)]
    cosines = agreement(found["float32"], found["int16"], samples)
    assert min(float(c.min()) for c in cosines.values()) > 0.999


def cut_head(infer: Any) -> None:
    """Let the network return its pooled features, quantized: five logits."""
    block = infer.regions[0].blocks[0]
    (pool,) = [op for op in block if op.operation.name == "tiny.global_average_pool"]
    returned = list(block)[-1]
    returned.operation.operands[0] = pool.y
    ops_behind = list(block)[list(block).index(pool) + 1 : -1]
    for op in reversed(ops_behind):
        op.operation.erase()
    kinds = ir.FunctionType.get([block.arguments[0].type], [pool.y.type])
    infer.attributes["function_type"] = ir.TypeAttr.get(kinds)


@pytest.mark.parametrize(("largest", "fraction"), [(0.1, 24), (15.9, 24), (16.1, 23), (4000.0, 16)])
def test_a_large_head_gets_fewer_fraction_bits(largest: float, fraction: int, context: Any) -> None:
    module = small_network.build()
    for op in functions(module)["infer"].regions[0].blocks[0]:
        if op.operation.name == "tiny.parameter" and op.symbol.value == "head.weight":
            value = to_array(op.value)
            op.attributes["value"] = dense((value / np.abs(value).max() * largest).astype("f4"))
    build_training_step(module, TrainingOptions("full"), until="scheduled")
    step = functions(module)["train_step"]
    (head,) = [op for op in step.regions[0].blocks[0] if isinstance(op, ops.IntegerLinear)]
    assert head.fraction.value == fraction


@pytest.mark.parametrize("update", ["float32", "int8-truncate"])
def test_other_masters_are_refused_early(update: str) -> None:
    with pytest.raises(InvalidOption, match="int16: integer gradients need --update int16 or"):
        TrainingOptions("full", update=update, gradients="int16")


def test_float_masters_are_refused_by_the_pass(context: Any) -> None:
    module = small_network.build()
    options = TrainingOptions("full", update="float32")
    build_training_step(module, options, until="scaled")
    with pytest.raises(PassError, match=r"\(?\w+.*reads float32 masters; integer gradients need"):
        run_pipeline(module, "tiny-fuse-updates,tiny-quantize-gradients")


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("update", get_args(Update))
def test_integer_gradients_are_the_default_where_they_exist(update: str, accumulate: bool) -> None:
    options = TrainingOptions("full", update, accumulate=accumulate)
    assert options.gradient_type == default_gradients(update)
    if integer_objection(update) is None:
        assert "tiny-quantize-gradients{bits=16}" in pipeline_text(options)
        return
    assert "tiny-quantize-gradients" not in pipeline_text(options)
    with pytest.raises(InvalidOption, match="--gradients int16: "):
        replace(options, gradients="int16")


def test_the_default_step_is_an_integer_one() -> None:
    assert default_gradients("int16") == "int16"
    assert default_gradients("float32") == "float32"


def test_gradients_that_are_stored_have_no_integer_form(context: Any) -> None:
    module = small_network.build()
    build_training_step(module, TrainingOptions("full"), until="scaled")
    with pytest.raises(PassError, match="has no integer form; use --gradients float32"):
        run_pipeline(module, "tiny-quantize-gradients")


def test_only_8_and_16_bits_exist(context: Any) -> None:
    module = small_network.build()
    build_training_step(module, TrainingOptions("full"), until="scaled")
    with pytest.raises(InvalidOption, match="bits 12: choose 8 or 16"):
        run_pipeline(module, "tiny-fuse-updates,tiny-quantize-gradients{bits=12}")


def test_multipliers_are_close_and_below_two_to_the_fifteen() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scales = np.exp2(rng.uniform(-12, 0, 9)) * 2.0 ** rng.integers(-40, 40)
        multipliers, scale = integer_multipliers(scales)
        assert 2**14 <= multipliers.max() < 2**15
        error = np.abs(np.ldexp(multipliers.astype(np.float64), scale) - scales)
        assert error.max() <= 2.0 ** (scale - 1)
    assert integer_multipliers(np.array([2.0 - 2.0**-20]))[0] == [2**14]
    assert list(integer_multipliers(np.zeros(3))[0]) == [0, 0, 0]


def weight_of(values: Any, trained: bool) -> Any:
    kind = tensor(values.shape, {"int8": "i8", "int16": "i16"}[str(values.dtype)])
    op = ops.Parameter(kind, string(f"w{np.random.default_rng().integers(1 << 30)}"), dense(values))
    if trained:
        op.attributes["trained"] = ir.UnitAttr.get()
    return op.result


@pytest.mark.parametrize("seed", range(8))
def test_the_bounds_hold_for_the_worst_weights_and_mantissas(seed: int) -> None:
    """The largest sum that any mantissas of so many bits can reach, by brute force."""
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 2, 4]))
    shape = (4 * int(rng.integers(1, 200)), 3, 3, int(rng.integers(1, 5)))
    trained = bool(rng.random() < 0.5)
    values = rng.integers(-127, 128, shape).astype(np.int8)
    with new_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            g = ops.Parameter(
                tensor((1, 2, 2, shape[0]), "f32"),
                string("g"),
                dense(np.zeros((1, 2, 2, shape[0]), np.float32)),
            ).result
            w = weight_of((values.astype(np.int16) << 8) if trained else values, trained)
            op = ops.Conv2DInputGrad(
                g,
                w,
                tensor((1, 4, 4, shape[3] * groups), "f32"),
                dense(np.ones(shape[0], np.float32)),
                groups=integer(groups),
            )
            bits, column = input_gradient_bits(op), largest_column(op)
    worst = np.full(shape, 128) if trained else np.abs(values.astype(np.int64))
    sums = worst.reshape(groups, -1, shape[3]).sum(axis=1).max()
    shift = result_shift(column, bits)
    assert column == sums
    assert sums * 2 ** (bits - 1) + (2**shift >> 1) < 2**31
    assert sums * 2 ** (bits - 1) <= 2 ** (15 + shift)
    assert bits == 16 or sums * 2**bits >= 2**31 - 2**shift


def test_updates_over_many_pixels_leave_fewer_bits(context: Any) -> None:
    module, step = step_of("full", "float32")
    assert module.operation.verify()
    for op in step.regions[0].blocks[0]:
        name = op.operation.name
        if name == "tiny.conv2d_weight_update":
            zero = quantization(op.x)[1]
            farthest = max(127 - zero, zero + 128)
            bits = weight_update_bits(op)
            assert gradient_pixels(op.g) * farthest * 2 ** (bits - 1) < 2**31
            assert gradient_pixels(op.g) * farthest * 2**bits >= 2**31
        if name == "tiny.bias_update" and len(shape_of(op.g)) == 4:
            bits = bias_update_bits(op)
            assert (
                gradient_pixels(op.g) * 2 ** (bits - 1) < 2**31 <= gradient_pixels(op.g) * 2**bits
            )
