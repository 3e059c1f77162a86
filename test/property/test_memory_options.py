"""Memory options change addresses and kernels, never a number: random networks, options at random.

Each network is built without any memory option and with a random choice; the semantics of both must
agree to the bit, in results and in trained state. On the device every op is compared with its
meaning, so a row that is overwritten too early shows. Fused updates round one product less, so they
are compared to a unit.
"""

import json
import random
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiny_dialect.dialect import new_context
from tiny_dialect.semantics import initial_state, run
from tiny_dialect.types import shape_of
from tiny_passes.graph import body, find_function
from tiny_passes.registry import PassError, run_pipeline
from tiny_pipelines.differential.check import check
from tiny_pipelines.differential.random_network import random_case
from tiny_pipelines.frontends import import_bytes

CHOICES = ("off", "peak", "all", "all")
PLAIN = {
    "in_place": False,
    "alignment": 4,
    "fuse_blocks": "off",
    "row_overlap": "off",
    "reorder": False,
    "stream_input": False,
}
QUICK, ON_DEVICE = 30, 4


def drawn(seed):
    """A random case with its memory options drawn anew."""
    case = random_case(seed, ("float32", "int16"))
    choose = random.Random(seed)
    options = replace(
        case.options,
        in_place=choose.random() < 0.8,
        alignment=choose.choice((4, 4, 8, 16)),
        fuse_blocks=choose.choice(CHOICES),
        row_overlap=choose.choice(CHOICES),
        fuse_updates=case.options.gradients != "float32" or choose.random() < 0.8,
        reorder=choose.random() < 0.8,
        stream_input=choose.random() < 0.5,
    )
    case = replace(case, options=options)
    return where_legal(case) if options.stream_input else case


def where_legal(case):
    """The case without a streamed input where an op reads the input twice or whole."""
    try:
        with new_context(), tempfile.TemporaryDirectory() as folder:
            built(case, Path(folder))
    except PassError as error:
        if "cannot stream" not in str(error):
            raise
        return replace(case, options=replace(case.options, stream_input=False))
    return case


def built(case, folder):
    """The planned module of a case."""
    scheme = folder / "scheme.json"
    scheme.write_text(json.dumps(case.scheme))
    module = import_bytes(case.model().bytecode, "model")
    run_pipeline(module, case.options.pipeline(scheme))
    return module


def outcome(case, folder):
    """(returned arrays and state of one inference and two steps, the module) of a built case."""
    module = built(case, folder)
    step, infer = find_function(module, "train_step"), find_function(module, "infer")
    rng = np.random.default_rng(case.record.seed)
    shape, classes = shape_of(step.type.inputs[0]), shape_of(step.type.results[1])[-1]
    state, found = initial_state(step), []
    for _ in range(2):
        x = rng.integers(-128, 128, shape).astype(np.int8)
        label = np.array(rng.integers(classes), np.int32)
        found += run(infer, [x], state)
        with np.errstate(over="ignore", invalid="ignore"):
            found += run(step, [x, label, np.array(case.rate, np.float32)], state)
    bits = [array.tobytes() for array in [*found, *(state[name] for name in sorted(state))]]
    return bits, module


def same_with_and_without(seed, folder):
    """Assert equal results; how often each option was used."""
    case = drawn(seed)
    options = case.options
    with new_context():
        plain, _ = outcome(replace(case, options=replace(options, **PLAIN)), folder)
        chosen, module = outcome(case, folder)
        ops = [op for name in ("train_step", "infer") for op in body(find_function(module, name))]
        assert plain == chosen, f"seed {seed}: {options}"
        return {
            "fused blocks": any(op.operation.name == "tiny.fused_block" for op in ops),
            "rows overlapped": any("tiny.traversal" in op.attributes for op in ops),
            "reordered": options.reorder,
            "streamed": options.stream_input,
            "in place": options.in_place,
            "integer gradients": options.gradients != "float32",
        }


def updates_agree(seed, folder):
    """Assert that fused updates are the stored ones, to the rounding of one float32 product."""
    case = random_case(seed, ("float32",))
    update = "int16" if case.options.update == "int8-truncate" else case.options.update
    states = []
    for fused in (True, False):
        options = replace(case.options, update=update, fuse_updates=fused)
        with new_context():
            module = built(replace(case, options=options), folder)
            step = find_function(module, "train_step")
            rng = np.random.default_rng(case.record.seed)
            x = rng.integers(-128, 128, shape_of(step.type.inputs[0])).astype(np.int8)
            state = initial_state(step)
            rate = np.array(min(case.rate, 1e-3), np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                run(step, [x, np.array(0, np.int32), rate], state)
            states.append(state)
    for name, fused in states[0].items():
        stored = states[1][name]
        if fused.dtype.kind == "f":
            np.testing.assert_allclose(fused, stored, rtol=1e-4, atol=1e-6, err_msg=name)
        else:
            assert np.abs(fused.astype(np.int64) - stored).max(initial=0) <= 1, (seed, name)


def passes_on_device(seed):
    result = check(drawn(seed).model(), ("cortex-m7",), host=False)
    assert not result.failures, f"seed {seed}: {result.failures[0]}"


def test_results_do_not_depend_on_memory_options(tmp_path):
    used = Counter()
    for seed in range(QUICK):
        used.update(same_with_and_without(seed, tmp_path))
    assert len(used) == 6 and all(count > QUICK // 6 for count in used.values()), used


@pytest.mark.parametrize("seed", range(6))
def test_fused_updates_are_the_stored_ones(seed, tmp_path):
    updates_agree(seed, tmp_path)


@pytest.mark.parametrize("seed", range(1000, 1000 + ON_DEVICE))
def test_device_computes_the_same(seed):
    passes_on_device(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_two_hundred_networks(first, tmp_path):
    used = Counter()
    for seed in range(first, first + 50):
        used.update(same_with_and_without(seed, tmp_path))
        updates_agree(seed, tmp_path)
        passes_on_device(seed)
    print(f"seeds {first} to {first + 49}: {dict(used)}")
