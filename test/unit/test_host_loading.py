"""Initial values are state and no code: another seed of the same step compiles nothing."""

import numpy as np
import pytest
import small_network

from tiny_dialect.dialect import to_bytecode
from tiny_dialect.semantics import initial_state
from tiny_passes.graph import functions
from tiny_pipelines import host_loading
from tiny_pipelines.frontends.head import replace_head
from tiny_pipelines.training import TrainingOptions, build_training_step

OPTIONS = {
    "int16": TrainingOptions("full", split_prefix=True, fuse_blocks=False, row_overlap=False),
    "stochastic": TrainingOptions(
        "full", "int8-stochastic", "float32", accumulate=True, fuse_blocks=False, row_overlap=False
    ),
}


def step_of(options, seed):
    from dataclasses import replace

    module = small_network.build()
    replace_head(module, 4, seed)
    return build_training_step(module, replace(options, seed=seed), until="scheduled")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_steps_of_two_seeds_share_their_code_and_differ_in_state(context, options):
    modules = [step_of(options, seed) for seed in (0, 7)]
    assert to_bytecode(modules[0]) != to_bytecode(modules[1])
    bare = [to_bytecode(host_loading.without_initial_values(module)) for module in modules]
    assert bare[0] == bare[1]
    assert [to_bytecode(module) for module in modules] != bare


def test_a_loaded_step_starts_from_its_initial_values_and_returns_to_them(context, monkeypatch):
    module = step_of(OPTIONS["int16"], 3)
    expected = {}
    for function in functions(module).values():
        expected |= initial_state(function)
    model = host_loading.load_host(module)

    def equal():
        state = model.state()
        return all((state[name] == value).all() for name, value in expected.items())

    assert equal() and set(model.symbols) == set(expected)
    x = model.prefix(small_network.sample(0)) if model.has_prefix else small_network.sample(0)
    model.train_step(x, 1, 0.05)
    assert not equal()
    model.reset()
    assert equal()


def test_the_second_seed_finds_the_code_in_the_cache(context, monkeypatch, tmp_path):
    import tiny_pipelines.iree.host as host

    monkeypatch.setenv("TINY_CACHE", str(tmp_path))
    compiled = []
    known = host.compile_bytecode
    monkeypatch.setattr(
        host, "compile_bytecode", lambda *a, **k: compiled.append(1) or known(*a, **k)
    )
    first = host_loading.load_host(step_of(OPTIONS["int16"], 0)).state()
    assert compiled
    count = len(compiled)
    second = host_loading.load_host(step_of(OPTIONS["int16"], 1)).state()
    assert len(compiled) == count
    assert any((first[name] != second[name]).any() for name in first)
    assert all(np.isfinite(value).all() for value in second.values())
