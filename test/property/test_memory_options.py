"""Memory options change addresses and kernels, never a number: random networks, options at random.

Each network is built without any memory option and with a random choice; the semantics of both must
agree to the bit, in results and in trained state. On the device every op is compared with its
meaning, so a row that is overwritten too early shows.
"""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from tiny_dialect.dialect import new_context
from tiny_dialect.semantics import initial_state, run
from tiny_dialect.types import shape_of
from tiny_passes.graph import body, find_function
from tiny_passes.registry import run_pipeline
from tiny_pipelines.differential.check import check
from tiny_pipelines.differential.random_network import random_case
from tiny_pipelines.frontends import import_bytes

CHOICES = ("off", "peak", "all", "all")
QUICK, ON_DEVICE = 30, 4


def drawn(seed):
    """A random case with float32 gradients and its memory options drawn anew."""
    case = random_case(seed, ("float32",))
    choose = random.Random(seed)
    options = replace(
        case.options,
        in_place=choose.random() < 0.8,
        alignment=choose.choice((4, 4, 8, 16)),
        fuse_blocks=choose.choice(CHOICES),
        row_overlap=choose.choice(CHOICES),
    )
    return replace(case, options=options)


def outcome(case, folder):
    """(returned arrays and state of one inference and two steps, the module) of a built case."""
    scheme = folder / "scheme.json"
    scheme.write_text(json.dumps(case.scheme))
    module = import_bytes(case.model().bytecode, "model")
    run_pipeline(module, case.options.pipeline(scheme))
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
    """Assert equal results; the number of fused blocks and of ops with a fixed traversal."""
    case = drawn(seed)
    off = replace(case.options, in_place=False, alignment=4, fuse_blocks="off", row_overlap="off")
    with new_context():
        plain, _ = outcome(replace(case, options=off), folder)
        chosen, module = outcome(case, folder)
        ops = [op for name in ("train_step", "infer") for op in body(find_function(module, name))]
        assert plain == chosen, f"seed {seed}: {case.options}"
        fused = sum(op.operation.name == "tiny.fused_block" for op in ops)
        return fused, sum("tiny.traversal" in op.attributes for op in ops)


def passes_on_device(seed):
    result = check(drawn(seed).model(), ("cortex-m7",), host=False)
    assert not result.failures, f"seed {seed}: {result.failures[0]}"


def test_results_do_not_depend_on_memory_options(tmp_path):
    counts = [same_with_and_without(seed, tmp_path) for seed in range(QUICK)]
    assert sum(fused > 0 for fused, _ in counts) > QUICK // 5
    assert sum(overlapping > 0 for _, overlapping in counts) > QUICK // 5


@pytest.mark.parametrize("seed", range(1000, 1000 + ON_DEVICE))
def test_device_computes_the_same(seed):
    passes_on_device(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_two_hundred_networks(first, tmp_path):
    for seed in range(first, first + 50):
        same_with_and_without(seed, tmp_path)
        passes_on_device(seed)
