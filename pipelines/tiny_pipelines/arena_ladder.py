"""How many arena bytes each memory pass saves, for one model and one update scheme.

    @infer --differentiate, select, prune, rescale--> gradients stored --fuse updates--> ...
           --fuse blocks--> ... --overlap rows--> ... --integer gradients--> scheduled

Every rung is planned for real: the bytes are those of addresses, not estimates.
"""

from dataclasses import dataclass, replace
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import to_bytecode
from tiny_passes.graph import TRAIN_STEP, find_function
from tiny_passes.liveness import Order, StepGraph, read_function
from tiny_passes.offset_search import plan_offsets
from tiny_passes.order_search import find_order
from tiny_passes.registry import run_pipeline
from tiny_pipelines.training import TrainingOptions, build_training_step, memory_passes


@dataclass(frozen=True)
class Rung:
    """A way to schedule the same step; `bound_bytes` is the least that its order needs."""

    name: str
    arena_bytes: int
    bound_bytes: int

    def __str__(self) -> str:
        return f"{self.name:<42} {self.arena_bytes:>9,} B  (lower bound {self.bound_bytes:>9,} B)"


def arena_ladder(module: Any, options: TrainingOptions) -> list[Rung]:
    """The rungs from stored gradients to row overlap and integer gradients.

    `module` goes from the `model` to the `scaled` stage; the last rung is there where the update
    rule allows it. Raises what `build_training_step` raises.
    """
    build_training_step(module, options, until="scaled")
    stored = _graph(module)
    late = updates_last(stored)
    rungs = [
        _rung("gradients stored, applied at the end", stored, late, in_place=False),
        _rung("+ in place", stored, late),
        _rung("+ reordered", stored, find_order(stored).order),
    ]
    for name, passes in _scheduled(options).items():
        graph = _graph_after(module, passes)
        rungs.append(_rung(name, graph, graph.source_order))
    return rungs


def _scheduled(options: TrainingOptions) -> dict[str, str]:
    """The passes from the `scaled` stage to each further rung, by its name."""
    fused = "tiny-fuse-updates,"
    overlapped = f"tiny-extract-inference,{memory_passes(options)}tiny-reorder"
    without = replace(options, row_overlap=False)
    passes = {
        "+ updates fused": f"{fused}tiny-reorder",
        "+ blocks fused": f"{fused}tiny-extract-inference,{memory_passes(without)}tiny-reorder",
        "+ rows overlapped": fused + overlapped,
    }
    if options.update == "int16":
        passes["+ gradients in 16 bits"] = f"{fused}tiny-quantize-gradients{{bits=16}},{overlapped}"
    return passes


def _graph_after(module: Any, passes: str) -> StepGraph:
    """The step of a copy of `module` that `passes` have run on."""
    copy = ir.Module.parse(to_bytecode(module), module.context)
    run_pipeline(copy, passes)
    return _graph(copy)


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
