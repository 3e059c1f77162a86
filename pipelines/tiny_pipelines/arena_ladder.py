"""How many arena bytes each memory pass saves, for one model and one update scheme.

    @infer --differentiate, select, prune, rescale--> gradients stored --fuse, reorder--> scheduled

Every rung is planned for real: the bytes are those of addresses, not estimates.
"""

from dataclasses import dataclass
from typing import Any

from tiny_passes.graph import TRAIN_STEP, find_function
from tiny_passes.liveness import Order, StepGraph, read_function
from tiny_passes.offset_search import plan_offsets
from tiny_passes.order_search import find_order
from tiny_passes.registry import run_pipeline
from tiny_pipelines.training import TrainingOptions, build_training_step


@dataclass(frozen=True)
class Rung:
    """A way to schedule the same step; `bound_bytes` is the least that its order needs."""

    name: str
    arena_bytes: int
    bound_bytes: int

    def __str__(self) -> str:
        return f"{self.name:<42} {self.arena_bytes:>9,} B  (lower bound {self.bound_bytes:>9,} B)"


def arena_ladder(module: Any, options: TrainingOptions) -> list[Rung]:
    """The rungs from stored gradients to the default schedule; `module` ends up scheduled.

    `module` is at the `model` stage. Raises what `build_training_step` raises.
    """
    build_training_step(module, options, until="scaled")
    stored = _graph(module)
    late = updates_last(stored)
    rungs = [
        _rung("gradients stored, applied at the end", stored, late, in_place=False),
        _rung("+ in place", stored, late),
        _rung("+ reordered", stored, find_order(stored).order),
    ]
    run_pipeline(module, "tiny-fuse-updates,tiny-reorder")
    scheduled = _graph(module)
    rungs.append(_rung("+ updates fused", scheduled, scheduled.source_order))
    return rungs


def updates_last(graph: StepGraph) -> Order:
    """The source order with every update after all other ops."""
    *inner, last = graph.source_order
    inner.sort(key=lambda index: graph.steps[index].is_update)
    return (*inner, last)


def _graph(module: Any) -> StepGraph:
    return read_function(find_function(module, TRAIN_STEP)).graph


def _rung(name: str, graph: StepGraph, order: Order, *, in_place: bool = True) -> Rung:
    plan = plan_offsets(graph, order, in_place=in_place)
    return Rung(name, plan.arena_bytes, plan.bound_bytes)
