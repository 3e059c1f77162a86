"""What a training step costs on a core, op by op and layer by layer, measured in the emulator."""

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import to_bytecode
from tiny_dialect.types import storage_bytes
from tiny_passes.arena_map import ArenaMap, Placement, arena_map
from tiny_passes.graph import TRAIN_STEP, body, find_function, is_trained, layer_of, producer
from tiny_pipelines.benchmarks.benchmark import Benchmark, OpCost, run_benchmark
from tiny_pipelines.memory_reports.arena_ladder import Rung, arena_ladder
from tiny_pipelines.training import TrainingOptions
from tiny_targets.target import Target


@dataclass(frozen=True)
class OpReport:
    """One op of the step, in the order of execution."""

    layer: str
    op: str
    kind: str
    backward: bool
    macs: int
    instructions: int
    code_bytes: int
    """Of its kernel, which others may share."""
    sram_bytes: int
    """Of the arena in use while it runs, and the trained state."""


@dataclass(frozen=True)
class LayerReport:
    """The ops of one layer together."""

    layer: str
    macs: int
    forward_instructions: int
    backward_instructions: int
    flash_bytes: int
    """Of its frozen parameters."""
    trained_bytes: int
    sram_bytes: int
    """The most that is in use while one of its ops runs."""

    @property
    def figures(self) -> tuple[int, ...]:
        """What a table shows of it, in the order of the fields."""
        return astuple(self)[1:]


@dataclass(frozen=True)
class StepReport:
    """A training step on one core: totals, layers, ops, memory, and what each pass saves."""

    model: str
    scheme: str
    update: str
    gradients: str
    target: str
    totals: dict[str, int]
    """`forward step` in instructions; `macs`; `arena bound state sram code weights` in bytes."""
    peak: str
    layers: tuple[LayerReport, ...]
    ops: tuple[OpReport, ...]
    memory: ArenaMap
    stages: tuple[Rung, ...]
    """The schedule before and after each memory pass."""

    @property
    def title(self) -> str:
        """What the report is about."""
        return f"{self.model}, {self.scheme}, {self.gradients} gradients, {self.target}"

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return plain(asdict(self))


def plain(value: Any) -> Any:
    """`value` with tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def collect_report(module: Any, training: TrainingOptions, target: Target) -> StepReport:
    """Measure a model-stage module, which is changed in place to the planned stage.

    Raises what building, compiling and running the step raise.
    """
    copy = ir.Module.parse(to_bytecode(module), module.context)
    stages = arena_ladder(copy, training, target=target.name)
    costs = run_benchmark(module, training, target)
    step = find_function(module, TRAIN_STEP)
    memory = arena_map(step)
    ops = tuple(_ops(costs.of(TRAIN_STEP), memory))
    layers = tuple(_layers(ops, step))
    return StepReport(
        model=costs.model,
        scheme=Path(training.scheme).stem,
        update=training.update,
        gradients=costs.gradients,
        target=target.name,
        totals=_totals(costs, memory, layers),
        peak=memory.steps[memory.peak_step],
        layers=layers,
        ops=ops,
        memory=memory,
        stages=tuple(stages),
    )


def _ops(costs: Iterable[OpCost], memory: ArenaMap) -> Iterable[OpReport]:
    # Step 0 of the memory is the entry of the function.
    for step, cost in enumerate(costs, start=1):
        yield OpReport(
            layer=cost.layer,
            op=cost.op,
            kind=cost.kind,
            backward=cost.backward,
            macs=cost.macs,
            instructions=cost.instructions,
            code_bytes=cost.code_bytes,
            sram_bytes=occupied_bytes(memory.live_at(step)) + memory.state_bytes,
        )


def occupied_bytes(placements: Iterable[Placement]) -> int:
    """The bytes that placements cover; those that share addresses count once."""
    total = end = 0
    for one in sorted(placements, key=lambda placement: placement.offset):
        stop = one.offset + one.size_bytes
        total += max(0, stop - max(end, one.offset))
        end = max(end, stop)
    return total


def _layers(ops: Iterable[OpReport], step: Any) -> Iterable[LayerReport]:
    by_layer: dict[str, list[OpReport]] = {}
    for op in ops:
        by_layer.setdefault(op.layer, []).append(op)
    frozen, trained = _parameter_bytes(step, False), _parameter_bytes(step, True)
    for layer, group in by_layer.items():
        yield LayerReport(
            layer=layer,
            macs=sum(op.macs for op in group),
            forward_instructions=sum(op.instructions for op in group if not op.backward),
            backward_instructions=sum(op.instructions for op in group if op.backward),
            flash_bytes=frozen.get(layer, 0),
            trained_bytes=trained.get(layer, 0),
            sram_bytes=max(op.sram_bytes for op in group),
        )


def _parameter_bytes(step: Any, trained: bool) -> dict[str, int]:
    """Bytes of the parameters by the layer of the op that reads them first."""
    sizes: dict[str, int] = {}
    seen: set[Any] = set()
    for op in body(step):
        for operand in op.operands:
            parameter = producer(operand)
            if parameter is None or parameter.operation.name != "tiny.parameter" or operand in seen:
                continue
            seen.add(operand)
            if is_trained(parameter) == trained:
                layer = layer_of(op)
                sizes[layer] = sizes.get(layer, 0) + storage_bytes(operand)
    return sizes


def _totals(costs: Benchmark, memory: ArenaMap, layers: Iterable[LayerReport]) -> dict[str, int]:
    return {
        "forward": costs.instructions["forward"],
        "step": costs.instructions["step"],
        "macs": sum(layer.macs for layer in layers),
        "arena": memory.arena_bytes,
        "bound": memory.bound_bytes,
        "state": memory.state_bytes,
        "sram": costs.sram_bytes,
        "code": costs.code_bytes,
        "weights": sum(layer.flash_bytes for layer in layers),
    }
