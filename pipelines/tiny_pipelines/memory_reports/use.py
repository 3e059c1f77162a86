"""What a planned training step takes of SRAM, and what holds its peak."""

from dataclasses import dataclass
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import to_bytecode
from tiny_dialect.types import shape_of
from tiny_passes.arena_map import ArenaMap, Placement, arena_map
from tiny_passes.graph import INFER, TRAIN_STEP, find_function, functions
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.firmware import STACK_BYTES


@dataclass(frozen=True)
class MemoryUse:
    """The arena of one scheme with its bounds; `ran` holds what a run in the emulator used.

    `order_bound_bytes` is what the chosen order needs, `proven_bound_bytes` what every order does.
    """

    scheme: str
    update: str
    gradients: str
    arena_bytes: int
    order_bound_bytes: int
    proven_bound_bytes: int | None
    state_bytes: int
    peak: str
    held_by: tuple[Placement, ...]
    ran: dict[str, int] | None = None

    @property
    def gap(self) -> float:
        """How much larger the arena is than the bound of its order, as a fraction."""
        return self.arena_bytes / max(1, self.order_bound_bytes) - 1

    @property
    def sram_bytes(self) -> int:
        """All of SRAM: measured where it ran, else with the stack that is reserved."""
        if self.ran is not None:
            return sum(self.ran.values())
        return self.arena_bytes + self.state_bytes + STACK_BYTES

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        own = {name: value for name, value in vars(self).items() if name != "held_by"}
        tensors = [vars(one) for one in self.held_by]
        return {**own, "gap": self.gap, "sram_bytes": self.sram_bytes, "held_by": tensors}


def planned(module: Any, options: TrainingOptions, target: str) -> Any:
    """A copy of the model-stage `module`, planned for `target`."""
    copy = ir.Module.parse(to_bytecode(module), module.context)
    return build_training_step(copy, options, target=target)


def memory_use(
    module: Any, options: TrainingOptions, target: str, *, run: bool = False
) -> MemoryUse:
    """The memory of `module`, at the `model` stage, trained as `options` say on a `target` core.

    With `run` it is compiled, and a step runs in the emulator. Raises what those raise.
    """
    ready = planned(module, options, target)
    maps = {
        name: arena_map(find_function(ready, name))
        for name in (TRAIN_STEP, INFER)
        if name in functions(ready)
    }
    # Both functions use the same memory; the larger arena counts, training first.
    found = max(maps.values(), key=lambda one: one.arena_bytes)
    step = maps[TRAIN_STEP]
    bound = "tiny.arena_proven_bound_bytes"
    attributes = find_function(ready, found.function).attributes
    return MemoryUse(
        options.scheme,
        options.update,
        options.gradient_type,
        found.arena_bytes,
        found.bound_bytes,
        attributes[bound].value if bound in attributes else None,
        step.state_bytes,
        found.steps[found.peak_step],
        tuple(_largest(found)),
        _run(ready, target) if run else None,
    )


def _largest(found: ArenaMap) -> list[Placement]:
    """The tensors of the peak, without the scalars that are always there."""
    live = found.live_at(found.peak_step)
    return [one for one in live if one.size_bytes >= max(64, found.arena_bytes // 200)]


def _run(module: Any, target: str) -> dict[str, int]:
    """Bytes of SRAM that an image of the planned `module` uses in one step, by what for."""
    import numpy as np

    from tiny_targets.boards import roomy_board
    from tiny_targets.codegen import compile_kernels
    from tiny_targets.emulate import Emulator
    from tiny_targets.firmware import build_image
    from tiny_targets.schedule import build_schedule
    from tiny_targets.target import find_target

    core = find_target(target)
    schedule = build_schedule(module, core)
    compiled = compile_kernels(schedule.kernels, core, embedded=core.hard_float)
    image = build_image(schedule, compiled, roomy_board(core))
    emulator = Emulator(image)
    # Of the function, not of the schedule: a streamed input is whole here, and a ring there.
    shape = shape_of(find_function(module, TRAIN_STEP).regions[0].blocks[0].arguments[0])
    emulator.train_step(np.zeros(shape, np.int8), 0, 0.0)
    sizes = image.sizes
    return {
        "arena": sizes.arena,
        "trained": sizes.trainable,
        "data_bss": sizes.data_bss,
        "stack": emulator.stack_bytes_used,
    }
