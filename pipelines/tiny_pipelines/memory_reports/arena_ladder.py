"""How many arena bytes each memory pass saves, for one model and one update scheme.

    @infer --differentiate, select, prune, rescale--> gradients stored --fuse updates--> ...
           --fuse blocks--> ... --overlap rows--> ... --integer gradients--> ... --stream input-->

Every rung is planned for real: the bytes are those of addresses, not estimates. Beside them stand
the figures that were published for the same network, where there are any.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import to_bytecode
from tiny_passes.graph import TRAIN_STEP, find_function
from tiny_passes.liveness import Order, StepGraph, choose_sharings, live_bytes, read_function
from tiny_passes.offset_search import plan_offsets
from tiny_passes.order_search import find_order
from tiny_passes.plan_memory import plan_state
from tiny_passes.registry import PassError, run_pipeline
from tiny_pipelines.training import (
    TrainingOptions,
    build_training_step,
    default_gradients,
    fusing,
    memory_passes,
)

FULL = "full"
STREAMED = "+ input streamed"


@dataclass(frozen=True)
class Rung:
    """A way to schedule a step; `bound_bytes` is the least that its order needs.

    `published_kb` is what was published for it, in the unit of the publication.
    """

    name: str
    arena_bytes: int
    bound_bytes: int
    state_bytes: int
    peak: str
    published_kb: int | None = None
    profile: tuple[int, ...] = ()
    """Bytes in use at each step."""

    def __str__(self) -> str:
        published = f"{self.published_kb:>9,} KB" if self.published_kb else " " * 12
        return (
            f"{self.name:<40}{self.arena_bytes:>11,} B{self.bound_bytes:>11,} B"
            f"{self.state_bytes:>11,} B{published}  {self.peak}"
        )


LADDER_HEADER = f"{'':<40}{'arena':>13}{'bound':>13}{'trained':>13}{'published':>12}  peak"


@dataclass(frozen=True)
class PublishedMemory:
    """Peak SRAM in KB of one network; `schemes` holds (sparse, reordered) of several."""

    full: int
    sparse: int
    reordered: int
    schemes: tuple[tuple[int, int], ...]
    source: str


@cache
def published_memory(model: str) -> PublishedMemory | None:
    """What was published about `model`, by its name; None where nothing was."""
    text = (resources.files("tiny_pipelines.memory_reports") / "published_memory.json").read_text()
    record = json.loads(text)
    found = record["models"].get(model)
    if found is None:
        return None
    schemes = tuple((int(sparse), int(reordered)) for sparse, reordered in found["schemes"])
    figures = int(found["full"]), int(found["sparse"]), int(found["reordered"])
    return PublishedMemory(*figures, schemes, record["source"])


def arena_ladder(module: Any, options: TrainingOptions, *, target: str | None = None) -> list[Rung]:
    """The rungs from a full update with stored gradients to a streamed input.

    The last is there where the input is read once. With a `target` every rung has room for the
    least scratch memory of its kernels. `module`, at the `model` stage, stays as it is. Raises what
    `build_training_step` raises.
    """
    known = published_memory(find_function(module, "infer").attributes["tiny.model"].value)
    rungs: list[Rung] = []
    late = "updated at the end"
    if options.scheme != FULL:
        full = _scaled(module, replace(options, scheme=FULL))
        stored = _after(full, "", target)
        published = known.full if known else None
        rungs.append(_rung(f"full update, {late}", stored, _late(stored), False, published))
    scaled = _scaled(module, options)
    stored = _after(scaled, "", target)
    sparse = known and (known.full if options.scheme == FULL else known.sparse)
    name = f"{'full' if options.scheme == FULL else 'sparse'} update, {late}"
    rungs.append(_rung(name, stored, _late(stored), False, sparse))
    rungs.append(_rung("+ in place", stored, _late(stored)))
    order = find_order(stored.graph).order
    reordered = known.reordered if known and options.scheme != FULL else None
    rungs.append(_rung("+ reordered", stored, order, published=reordered))
    for name, passes in _scheduled(options).items():
        try:
            graph = _after(scaled, passes, target)
        except PassError:
            if name != STREAMED:
                raise
            continue  # an op reads the input a second time
        rungs.append(_rung(name, graph, find_order(graph.graph).order))
    return rungs


def _scheduled(options: TrainingOptions) -> dict[str, str]:
    """The passes from the `scaled` stage to each further rung, by its name."""
    options = replace(options, fuse_blocks=True, row_overlap=True, stream_input=False)
    fused = f"{fusing('float32')},"
    blocks = memory_passes(replace(options, row_overlap=False))
    rows = memory_passes(options)
    passes = {
        "+ updates fused": fused,
        "+ blocks fused": f"{fused}tiny-extract-inference,{blocks}",
        "+ rows overlapped": f"{fused}tiny-extract-inference,{rows}",
    }
    if default_gradients(options.update) == "int16":
        fused = f"{fusing('int16')},tiny-quantize-gradients{{bits=16}},"
        passes["+ gradients in 16 bits"] = f"{fused}tiny-extract-inference,{rows}"
    streamed = memory_passes(replace(options, stream_input=True))
    passes[STREAMED] = f"{fused}tiny-extract-inference,{streamed}"
    return passes


@dataclass(frozen=True)
class _Step:
    """The graph of `@train_step` and the bytes of the module's trained state."""

    graph: StepGraph
    state_bytes: int


def _scaled(module: Any, options: TrainingOptions) -> Any:
    copy = ir.Module.parse(to_bytecode(module), module.context)
    return build_training_step(copy, options, until="scaled")


def _after(module: Any, passes: str, target: str | None) -> _Step:
    """The step of a copy of `module` that `passes` have run on."""
    if target is not None:
        from tiny_targets import declare_scratch  # noqa: F401  registers the pass

        passes += f"tiny-declare-scratch{{target={target}}}"
    copy = ir.Module.parse(to_bytecode(module), module.context)
    if passes:
        run_pipeline(copy, passes.rstrip(","))
    source = read_function(find_function(copy, TRAIN_STEP))
    return _Step(source.graph, plan_state([source]).state_bytes)


def updates_last(graph: StepGraph) -> Order:
    """The source order with every update after all other ops."""
    *inner, last = graph.source_order
    inner.sort(key=lambda index: graph.steps[index].is_update)
    return (*inner, last)


def _late(step: _Step) -> Order:
    return updates_last(step.graph)


def _rung(
    name: str, step: _Step, order: Order, in_place: bool = True, published: int | None = None
) -> Rung:
    plan = plan_offsets(step.graph, order, in_place=in_place)
    peak = step.graph.steps[plan.peak_step].name.replace("tiny.", "")
    sharings = choose_sharings(step.graph, order) if in_place else ()
    profile = live_bytes(step.graph, order, sharings)
    return Rung(
        name, plan.arena_bytes, plan.bound_bytes, step.state_bytes, peak, published, profile
    )
