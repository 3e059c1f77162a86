"""The hash that a saved state carries: the network's own, and nothing else's."""

import re

import numpy as np
import pytest
import small_network

from tiny_dialect.attributes import dense, to_array
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_passes.graph import find_function, parameters
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.model_hash import model_hash
from tiny_targets.target import TARGETS


@pytest.fixture(autouse=True)
def context():
    with new_context(), ir.Location.unknown():
        yield


def hash_of(seed=0, target=None, scheme="full", **options):
    module = small_network.build(seed)
    build_training_step(module, TrainingOptions(scheme, **options), target=target)
    return model_hash(find_function(module, "infer"))


def test_core_order_and_memory_passes_do_not_matter():
    wanted = hash_of()
    assert all(hash_of(target=target) == wanted for target in TARGETS)
    assert hash_of(fuse_blocks=False, row_overlap=False) == wanted
    frozen = {"scheme": "classifier-only"}
    assert hash_of(**frozen, stream_input=True) == hash_of(**frozen)


def test_what_is_trained_and_how_it_is_stored_matter():
    hashes = [
        hash_of(),
        hash_of(scheme="classifier-only"),
        hash_of(update="float32", gradients="float32"),
        hash_of(update="int8-stochastic"),
        hash_of(seed=1),
    ]
    assert len(set(hashes)) == len(hashes)


def changed(symbol, change):
    """The hash after one parameter was given other values."""
    module = small_network.planned("classifier-only")
    infer = find_function(module, "infer")
    parameter = parameters(infer)[symbol]
    before = model_hash(infer)
    value = change(np.array(to_array(parameter.attributes["value"])))
    parameter.attributes["value"] = dense(value)
    return before, model_hash(infer)


def test_a_frozen_weight_matters_and_an_initial_value_does_not():
    module = small_network.planned("classifier-only")
    held = parameters(find_function(module, "infer"))
    trained = next(name for name, p in held.items() if "trained" in p.attributes)
    frozen = next(name for name, p in held.items() if "trained" not in p.attributes)

    def flip(value):
        value.reshape(-1)[0] ^= 1
        return value

    before, after = changed(frozen, flip)
    assert before != after
    before, after = changed(trained, lambda value: value + value.dtype.type(1))
    assert before == after


def test_a_scale_of_an_activation_matters():
    module = small_network.planned("classifier-only")
    text = str(module)
    infer = find_function(module, "infer")
    scales = re.findall(r"quant.uniform<i8:f32, ([0-9.e+-]+):", text)
    other = text.replace(scales[-1], repr(float(scales[-1]) * 2))
    again = ir.Module.parse(other)
    assert model_hash(find_function(again, "infer")) != model_hash(infer)
