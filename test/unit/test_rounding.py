"""Stochastic rounding and truncation: the generator, the rules, equal bits on host and cores."""

import json

import numpy as np
import pytest
from kernel_case import Maker, check
from kernel_cases import Geometry, _partial, _whole, factors, random_weight, rate
from small_network import build, sample

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer, string
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.rounding import (
    first_count,
    mix,
    random_stream,
    random_words,
    round_stochastic,
    truncated_difference,
)
from tiny_dialect.semantics import initial_state, run
from tiny_dialect.types import tensor
from tiny_passes.graph import functions
from tiny_pipelines.cli import tiny_compile, tiny_run
from tiny_pipelines.host import HostModel
from tiny_pipelines.iree import compile_host
from tiny_pipelines.training import TrainingOptions, build_training_step

TARGETS = ("cortex-m7", "rv32imafc", "rv32imc")
STREAM = 0x9D2C5681
GEOMETRIES = (
    Geometry((3, 5), 9, 11, (1, 1)),
    Geometry((6, 5), 3, 10, (3, 3), (2, 1), (1, 0, 2, 1)),
    Geometry((7, 6), 13, 13, (5, 5), (2, 2), (2, 2, 2, 2), 13),
    Geometry((1, 1), 1, 1, (1, 1)),
)


@pytest.fixture(scope="module", autouse=True)
def module_context():
    with new_context() as context, ir.Location.unknown():
        yield context


def mixed(word):
    """`mix` with Python's integers."""
    word = (word ^ (word >> 16)) * 0x7FEB352D % 2**32
    word = (word ^ (word >> 15)) * 0x846CA68B % 2**32
    return word ^ (word >> 16)


def test_words_are_what_the_design_note_says():
    stream = random_stream(7)
    assert stream == mixed(7)
    for counter in (0, 1, -1):
        key = mixed(stream ^ mixed(counter % 2**32))
        expected = [mixed((key + i * 0x9E3779B9) % 2**32) for i in range(5)]
        assert random_words(stream, counter, 5).tolist() == expected
    assert random_stream(0) != random_stream(1)
    assert len({first_count(seed) for seed in range(1000)}) == 1000 and first_count(0) == 0
    assert int(mix(12345)) == mixed(12345)


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.97])
def test_rounding_up_has_the_probability_of_the_fraction(fraction):
    count = 40_000
    words = np.concatenate([random_words(STREAM, step, count // 40) for step in range(40)])
    deviation = 5 * np.sqrt(fraction * (1 - fraction) / count)
    for whole in (-3, 0, 5):
        step = np.full(count, whole + fraction, np.float32)
        rounded = round_stochastic(step, words)
        assert set(np.unique(rounded)) == {whole, whole + 1}
        assert abs(rounded.mean() - whole - fraction) < deviation


def test_whole_steps_and_zero_are_never_changed_by_chance():
    words = random_words(STREAM, 1, 9)
    steps = np.arange(-4, 5, dtype=np.float32)
    np.testing.assert_array_equal(round_stochastic(steps, words), np.arange(-4, 5))


def test_truncation_moves_to_zero_and_wraps():
    old = np.array([5, -5, 5, -128, 127], np.int8)
    step = np.array([0.02, 0.02, -0.02, 1.5, -1.0], np.float32)
    assert truncated_difference(old, step).tolist() == [4, -5, 5, 127, -128]


def counter_of(make, value=41):
    return make.parameter(np.array([value], np.int32), True)


def stored_case(seed, shape, stochastic):
    make = Maker(seed)
    array = make.rng.normal(size=shape).astype(np.float32) * np.float32(50)
    array.reshape(-1)[0] = np.nan
    gradient = make.argument(tensor(shape, "f32"), array)
    parameter = make.parameter(random_weight(make.rng, shape, "i8"), True)
    operands = [parameter, gradient, rate(make)]
    if not stochastic:
        operation = make.build(ops.ApplyUpdate, *operands, factors(make, shape[0]))
        operation.attributes["rounding"] = string("truncate")
    else:
        operation = make.build(
            ops.StochasticUpdate, *operands, counter_of(make), factors(make, shape[0]),
            integer(STREAM),
        )  # fmt: skip
    make.finish([])
    return make.case_of(f"stored {seed} {shape} stochastic={stochastic}", operation)


def fused_case(seed, geo, partial):
    make = Maker(seed)
    x, g, shape, attributes = (_partial if partial else _whole)(make, geo)
    parameter = make.parameter(random_weight(make.rng, shape, "i8"), True)
    return make.case(
        f"fused {seed} {geo} partial={partial}", ops.StochasticConv2DWeightUpdate, parameter, x, g,
        rate(make), counter_of(make, -7), factors(make, shape[0]), integer(STREAM), **attributes,
    )  # fmt: skip


def other_cases():
    make = Maker(1)
    yield make.case("advance", ops.AdvanceCounter, counter_of(make, 2**31 - 1))
    for seed, value in enumerate((np.ones((3, 5), np.float32), np.arange(7, dtype=np.int16))):
        make = Maker(seed)
        yield make.case(f"clear {seed}", ops.Clear, make.parameter(value, True))


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_draw_the_bits_of_the_semantics(target):
    cases = list(other_cases())
    for seed, shape in enumerate([(11, 3, 2, 5), (4, 1, 1, 1), (1, 2, 3, 4)]):
        cases += [stored_case(seed, shape, stochastic) for stochastic in (True, False)]
    for seed, geo in enumerate(GEOMETRIES):
        cases += [fused_case(seed, geo, partial) for partial in (False, True)]
    check(cases, target)


@pytest.mark.parametrize("update", ["int8-stochastic", "int8-truncate", "int8"])
def test_host_steps_equal_the_semantics(update):
    options = TrainingOptions("full", update, seed=5)
    module = build_training_step(build(), options, until="scheduled")
    step = functions(module)["train_step"]
    state = initial_state(step)
    model, start = HostModel(compile_host(module)), initial_state(step)
    rate_of_step = np.array(0.02, np.float32)
    for number in range(4):
        x = sample(number)
        model.train_step(x, number % 4, float(rate_of_step))
        run(step, [x, np.array(number % 4, np.int32), rate_of_step], state)
    for name, value in model.state().items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(value, state[name], rtol=1e-4, atol=1e-5)
        else:
            # A float sum may round to another last bit and so to the other side of a threshold.
            assert (value != state[name]).mean() <= 0.01, name
    assert any((state[n] != start[n]).any() for n in state if state[n].dtype == np.int8)
    counter = model.state().get("step_counter")
    assert (counter is not None) == (update == "int8-stochastic")
    assert counter is None or counter.tolist() == [first_count(5) + 4]


def test_the_seed_decides_where_the_counter_starts_and_no_constant():
    def drawn(seed):
        options = TrainingOptions("full", "int8-stochastic", seed=seed)
        module = build_training_step(build(), options, until="scheduled")
        step = functions(module)["train_step"]
        ops = step.regions[0].blocks[0]
        streams = [op.attributes["stream"].value for op in ops if "stream" in op.attributes]
        return streams, int(initial_state(step)["step_counter"][0])

    streams, start = drawn(0)
    assert len(set(streams)) == len(streams) > 1
    assert drawn(0) == (streams, start)
    assert drawn(1)[0] == streams and drawn(1)[1] != start


@pytest.mark.parametrize("target", ["cortex-m7", "rv32imafc"])
@pytest.mark.parametrize("update", ["int8-stochastic", "int8"])
def test_an_image_rounds_as_the_semantics_say(repository, tmp_path, capsys, target, update):
    digits, folder = repository / "examples/digits", tmp_path / "firmware"
    common = ["--update", update, "--target", target]
    arguments = [str(digits / "digits.mlirbc"), "-o", str(folder), *common, "--json"]
    assert tiny_compile.main(arguments) == 0, capsys.readouterr().err
    capsys.readouterr()
    data = str(digits / "shifted.npz")
    assert tiny_run.main([str(folder), "--data", data, "--steps", "3", "--check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["device"]["integers"] > 500
    assert report["check"]["mismatches"] == []


@pytest.mark.parametrize(
    ("element", "counter", "stream", "complaint"),
    [
        (np.int16, np.zeros(1, np.int32), 1, "i8 elements"),
        (np.int8, np.zeros(2, np.int32), 1, "counter of shape"),
        (np.int8, np.zeros(1, np.int32), -1, "stream within"),
    ],
)
def test_the_verifier_refuses(element, counter, stream, complaint):
    make = Maker(0)
    gradient = make.argument(tensor((2, 3), "f32"), np.zeros((2, 3), np.float32))
    parameter = make.parameter(np.zeros((2, 3), element), True)
    op = make.build(
        ops.StochasticUpdate, parameter, gradient, rate(make), make.parameter(counter, True),
        dense(np.ones(2, np.float32)), integer(stream),
    )  # fmt: skip
    with pytest.raises(ir.MLIRError, match=complaint):
        op.operation.verify()
