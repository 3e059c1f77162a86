"""What each memory pass saves on a published model; `pytest -s` prints the ladder."""

import time

import pytest

from tiny_dialect.bindings import ir
from tiny_passes.graph import functions
from tiny_passes.registry import run_pipeline
from tiny_pipelines.frontends import import_model
from tiny_pipelines.memory_reports.arena_ladder import arena_ladder
from tiny_pipelines.training import TrainingOptions

SECONDS = 20


@pytest.mark.data
@pytest.mark.parametrize("scheme", ["full", "mcunet-5fps-99kb", "mcunet-5fps-49kb"])
def test_ladder_of_mcunet(context, zoo, scheme):
    module = import_model(zoo / "models" / "original" / "mcunet-5fps.pkl", classes=10)
    rungs = arena_ladder(module, TrainingOptions(scheme))
    print(f"\nmcunet-5fps, {scheme}", *rungs, sep="\n  ")
    first, *_, last = rungs
    sizes = [rung.arena_bytes for rung in rungs]
    assert sizes == sorted(sizes, reverse=True)
    assert last.arena_bytes <= 1.03 * last.bound_bytes
    if scheme == "full":
        assert first.arena_bytes >= 3 * last.arena_bytes


@pytest.mark.data
def test_the_largest_step_is_scheduled_in_seconds(context, zoo):
    module = import_model(zoo / "models" / "original" / "mcunet-5fps.pkl", classes=10)
    run_pipeline(module, "tiny-differentiate")
    start = time.process_time()
    run_pipeline(module, "tiny-reorder,tiny-plan-memory,tiny-check-plan")
    assert time.process_time() - start < SECONDS
    step = functions(module)["train_step"]
    assert isinstance(step.attributes["tiny.arena_bytes"], ir.IntegerAttr)
    bound = step.attributes["tiny.arena_lower_bound_bytes"].value
    assert step.attributes["tiny.arena_bytes"].value <= 1.05 * bound
