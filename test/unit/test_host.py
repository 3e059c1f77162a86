"""The compiled step on the host: equal to the semantics over whole steps, state, errors, zoo."""

import io

import numpy as np
import pytest
import small_network

from tiny_dialect.bindings import ir, load
from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidOption
from tiny_dialect.semantics import initial_state, run
from tiny_passes.graph import functions
from tiny_pipelines.frontends import import_model
from tiny_pipelines.host import HostModel
from tiny_pipelines.iree import HostCompilationError, compile_bytecode, compile_host
from tiny_pipelines.training import TrainingOptions, build_training_step

RATE = np.array(0.01, np.float32)


@pytest.fixture(scope="module")
def compiled():
    """(scheduled module, its compiled bytes), compiled once for the whole file."""
    with new_context(), ir.Location.unknown():
        module = build_training_step(
            small_network.build(), TrainingOptions("full"), until="scheduled"
        )
        yield module, compile_host(module)


def test_three_steps_equal_the_semantics(compiled):
    module, vmfb = compiled
    known = functions(module)
    state = initial_state(known["train_step"])
    start = {name: value.copy() for name, value in state.items()}
    model = HostModel(vmfb)
    for step in range(3):
        x, label = small_network.sample(step), np.array(step, np.int32)
        loss, logits = model.train_step(x, step, float(RATE))
        expected = run(known["train_step"], [x, label, RATE], state)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
        np.testing.assert_allclose(logits, expected[1], rtol=1e-5, atol=1e-5)
    moved = {name for name in state if (state[name] != start[name]).any()}
    assert any(state[name].dtype == np.int16 for name in moved)
    for name, value in model.state().items():
        difference = np.abs(value.astype(np.float64) - state[name])
        assert difference.max() <= (1e-5 if value.dtype == np.float32 else 1), name
        if value.dtype != np.float32:
            assert (difference != 0).mean() <= 0.01, name


def test_infer_reads_the_trained_state(compiled):
    module, vmfb = compiled
    model, x = HostModel(vmfb), small_network.sample(7)
    before = model.infer(x)
    _, logits = model.train_step(x, 1, 0.05)
    np.testing.assert_array_equal(before, logits)
    after = model.infer(x)
    assert after[0, 1] > before[0, 1]
    (expected,) = run(functions(module)["infer"], [x], model.state())
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)


def test_state_saves_restores_and_resets(compiled):
    _, vmfb = compiled
    model, other = HostModel(vmfb), HostModel(vmfb)
    fresh = model.state()
    x = small_network.sample(3)
    model.train_step(x, 2, 0.05)
    trained = model.state()
    assert any((trained[name] != fresh[name]).any() for name in fresh)
    np.testing.assert_equal(other.state(), fresh)  # two models share nothing

    file = io.BytesIO()
    np.savez(file, **trained)
    file.seek(0)
    other.load_state(np.load(file))
    np.testing.assert_equal(other.state(), trained)
    assert model.train_step(x, 2, 0.05)[0] == other.train_step(x, 2, 0.05)[0]
    np.testing.assert_equal(other.state(), model.state())

    model.reset()
    np.testing.assert_equal(model.state(), fresh)


def test_a_state_that_does_not_fit_changes_nothing(compiled):
    model = HostModel(compiled[1])
    fresh = model.state()
    names = sorted(fresh)
    with pytest.raises(InvalidOption, match=names[0]):
        model.load_state({name: fresh[name] for name in names[1:]})
    wrong = {name: value + 1 for name, value in fresh.items()}
    wrong[names[-1]] = wrong[names[-1]].astype(np.float64)
    with pytest.raises(InvalidOption, match=rf"{names[-1]}: expected .* got float64"):
        model.load_state(wrong)
    np.testing.assert_equal(model.state(), fresh)


def test_threads_do_not_change_the_result(compiled):
    one, two = HostModel(compiled[1]), HostModel(compiled[1], threads=2)
    for step in range(3):
        x = small_network.sample(step)
        assert one.train_step(x, step, 0.01)[0] == two.train_step(x, step, 0.01)[0]
    np.testing.assert_equal(one.state(), two.state())


def test_an_unknown_function_and_a_broken_module_are_errors(compiled):
    with pytest.raises(InvalidOption, match="no function @forward"):
        HostModel(compiled[1]).call("forward")
    with pytest.raises(HostCompilationError, match="expected"):
        compile_bytecode(b"func.func @f( {\n\0", ())


@pytest.mark.parametrize("update", ["int16", "float32"])
def test_masters_of_both_kinds_train(context, update):
    module = build_training_step(
        small_network.build(1), TrainingOptions("full", update), until="scheduled"
    )
    function = functions(module)["train_step"]
    state, model = initial_state(function), HostModel(compile_host(module))
    x, label = small_network.sample(5), np.array(3, np.int32)
    for _ in range(2):
        run(function, [x, label, RATE], state)
        model.train_step(x, 3, float(RATE))
    for name, value in model.state().items():
        tolerance = 1e-4 if value.dtype == np.float32 else 1
        np.testing.assert_allclose(value, state[name], rtol=0, atol=tolerance, err_msg=name)


def also_return(module, layer):
    """Make `@infer` return the value of `layer` after its own result."""
    function = functions(module)["infer"]
    block = function.regions[0].blocks[0]
    operations = list(block.operations)
    value = next(
        op.results[0]
        for op in operations
        if "layer" in op.attributes
        and op.attributes["layer"].value == layer
        and op.operation.name != "tiny.parameter"
    )
    results = [operations[-1].operands[0], value]
    with ir.InsertionPoint(operations[-1]):
        load("dialects.func").ReturnOp(results)
    operations[-1].operation.erase()
    kind = ir.FunctionType.get(function.type.inputs, [one.type for one in results])
    function.attributes["function_type"] = ir.TypeAttr.get(kind)


@pytest.mark.data
@pytest.mark.parametrize("name", ["mcunet-5fps", "mbv2-w0.35"])
def test_published_models_are_bit_identical(name, zoo, context):
    module = import_model(zoo / "models" / "original" / f"{name}.pkl")
    also_return(module, "avgpool")
    golden = np.load(zoo / "models" / "golden" / f"golden_{name}.npz")
    model = HostModel(compile_host(module))
    assert len(golden["input_int8_nchw"]) == 12
    for index, image in enumerate(golden["input_int8_nchw"]):
        x = np.ascontiguousarray(image.transpose(1, 2, 0)[None])
        logits, pooled = model.call("infer", x)
        np.testing.assert_array_equal(pooled.ravel(), golden["avgpool"][index])
        np.testing.assert_array_equal(logits.ravel(), golden["logits"][index])
