"""What a step costs on a core: instructions, multiply-accumulates and code bytes, op by op.

    module --plan, schedule, compile, link--> image --emulator--> one inference, one training step

The counts are those of the emulator on a board as large as the core can address, so that they
depend on the model, the scheme and the compiler alone. Every run repeats them to the instruction.
"""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_list
from tiny_dialect.types import shape_of
from tiny_passes.graph import FUSED_BLOCK, INFER, TRAIN_STEP, body, find_function
from tiny_passes.operation_counts import is_backward, macs
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.boards import roomy_board
from tiny_targets.codegen import CompiledKernels, compile_kernels
from tiny_targets.emulate import CallReport, Emulator
from tiny_targets.firmware import build_image
from tiny_targets.schedule import build_schedule
from tiny_targets.target import Target

RATE = 1e-3
LABEL = 0
_SEED = 0


@dataclass(frozen=True)
class OpCost:
    """One op of a function: what it computes and what that took."""

    function: str
    layer: str
    op: str
    kind: str
    """As `pointwise input gradient`; of other windows with size and stride."""
    parts: tuple[tuple[str, int], ...]
    """(op, multiply-accumulates) of what it computes: of a fused block its ops.

    An op and its integer form have one name.
    """
    macs: int
    instructions: int
    kernel: int
    """Its ordinal; other ops may share it."""
    code_bytes: int
    """Of the kernel."""
    backward: bool

    @property
    def per_mac(self) -> float | None:
        """Instructions for a multiply-accumulate."""
        return self.instructions / self.macs if self.macs else None

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        named = ("function", "layer", "op", "kind", "macs", "instructions", "code_bytes")
        return {**{name: getattr(self, name) for name in named}, "per_mac": self.per_mac}


@dataclass(frozen=True)
class Benchmark:
    """All ops of `@infer` and `@train_step` on one core, with the totals that must not grow."""

    model: str
    scheme: str
    gradients: str
    target: str
    ops: tuple[OpCost, ...]
    instructions: dict[str, int] = field(default_factory=dict[str, int])
    """Of `forward` and `step`, dispatch included."""
    code_bytes: int = 0
    """Kernels and runtime."""
    sram_bytes: int = 0

    @property
    def totals(self) -> dict[str, int]:
        """What is recorded, and held against what was recorded."""
        return {**self.instructions, "code_bytes": self.code_bytes}

    def of(self, function: str) -> list[OpCost]:
        """The ops of one function in program order."""
        return [op for op in self.ops if op.function == function]

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """(multiply-accumulates, instructions) of the step's ops, by kind, the dearest first."""
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for op in self.of(TRAIN_STEP):
            sums[op.kind][0] += op.macs
            sums[op.kind][1] += op.instructions
        ordered = sorted(sums.items(), key=lambda item: -item[1][1])
        return {kind: (work, cost) for kind, (work, cost) in ordered}

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.model,
            "scheme": self.scheme,
            "gradients": self.gradients,
            "target": self.target,
            "totals": self.totals,
            "sram_bytes": self.sram_bytes,
            "kinds": {
                kind: {"macs": work, "instructions": cost, "per_mac": cost / work if work else None}
                for kind, (work, cost) in self.by_kind().items()
            },
            "ops": [op.record() for op in self.ops],
        }


def run_benchmark(
    module: Any,
    training: TrainingOptions,
    target: Target,
    sample: Callable[[Any], NDArray[Any]] | None = None,
) -> Benchmark:
    """The costs of one inference and one training step of a model-stage module.

    The module is changed in place to the planned stage. `sample(step)` gives the int8 input for the
    planned `@train_step`; without it that is noise, always the same. Raises what compiling and
    running raise.
    """
    build_training_step(module, training, target=target.name)
    return measure_planned(module, training, target, sample)


def measure_planned(
    module: Any,
    training: TrainingOptions,
    target: Target,
    sample: Callable[[Any], NDArray[Any]] | None = None,
) -> Benchmark:
    """The same of a module that is planned already."""
    schedule = build_schedule(module, target)
    compiled = compile_kernels(schedule.kernels, target, embedded=target.hard_float)
    image = build_image(schedule, compiled, roomy_board(target))
    step = find_function(module, TRAIN_STEP)
    x = sample(step) if sample else _noise(step)
    emulator = Emulator(image)
    emulator.infer(x)
    calls = {INFER: _last(emulator)}
    emulator.train_step(x, LABEL, RATE)
    calls[TRAIN_STEP] = _last(emulator)
    sizes, names = kernel_sizes(compiled), [kernel.name for kernel in schedule.kernels]
    ops: list[OpCost] = []
    for name, call in calls.items():
        ops += _costs(find_function(module, name), call, names, sizes)
    return Benchmark(
        schedule.model,
        training.scheme,
        training.gradient_type,
        target.name,
        tuple(ops),
        {"forward": calls[INFER].instructions, "step": calls[TRAIN_STEP].instructions},
        image.sizes.code,
        image.sizes.sram,
    )


def _noise(step: Any) -> NDArray[Any]:
    shape = shape_of(step.regions[0].blocks[0].arguments[0])
    return np.random.default_rng(_SEED).integers(-128, 128, shape).astype(np.int8)


def _last(emulator: Emulator) -> CallReport:
    assert emulator.last_call is not None
    return emulator.last_call


def kernel_sizes(compiled: CompiledKernels) -> dict[str, int]:
    """The code bytes of each kernel, by name."""
    from elftools.elf.elffile import ELFFile

    table: Any = ELFFile(io.BytesIO(compiled.object_file)).get_section_by_name(".symtab")
    sizes = {symbol.name: int(symbol["st_size"]) for symbol in table.iter_symbols()}
    return {name: sizes[name] for name in compiled.ordinals}


def _costs(
    function: Any, call: CallReport, names: Sequence[str], sizes: Mapping[str, int]
) -> Iterable[OpCost]:
    """The ops of a planned function beside the commands made of them."""
    ops = [op for op in body(function)[:-1] if op.operation.name != "tiny.parameter"]
    for op, (command, instructions) in zip(ops, call.per_command, strict=True):
        inner = body(op) if op.operation.name == FUSED_BLOCK else [op]
        parts = tuple((_short(part), macs(part)) for part in inner)
        yield OpCost(
            function.name.value,
            command.layer,
            command.op,
            kind_of(op),
            parts,
            macs(op),
            instructions,
            command.kernel,
            sizes[names[command.kernel]],
            is_backward(op),
        )


def _short(op: Any) -> str:
    return op.operation.name.removeprefix("tiny.").removeprefix("integer_")


_CONVOLUTIONS = {
    "conv2d": (1, ""),
    "conv2d_input_grad": (1, " input gradient"),
    "conv2d_weight_update": (0, " weight update"),
}


def kind_of(op: Any) -> str:
    """What an op is in a table of costs: convolutions by the shape of their weights."""
    name = _short(op)
    if name not in _CONVOLUTIONS:
        return re.sub(r"\bgrad\b", "gradient", name.replace("_", " "))
    place, purpose = _CONVOLUTIONS[name]
    weights = next(
        value for value in list(op.operation.operands)[place:] if len(shape_of(value)) == 4
    )
    return _shape_kind(weights, op) + purpose


def _shape_kind(weights: Any, op: Any) -> str:
    shape, groups, stride = shape_of(weights), op.groups.value, max(to_list(op.strides))
    if prod(shape[1:3]) == 1 and groups == 1 and stride == 1:
        return "pointwise"
    kind = "depthwise" if groups > 1 and shape[3] == 1 else "dense"
    return f"{kind} {shape[1]}x{shape[2]}" + (f" stride {stride}" if stride > 1 else "")
