"""What lies where in the arena at each step of a planned function, and what it is there for.

Plain data for reports; nothing is changed. The kinds follow from uses alone: what depends on the
label is a `gradient`, what a step that depends on the label reads was `saved` for it, every other
value is an `activation`; kernels' `scratch` and `trained` state complete the memory.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from tiny_dialect.attributes import to_list
from tiny_dialect.types import element_name, shape_of
from tiny_passes.graph import INFER, TRAIN_STEP, is_trained, layer_of
from tiny_passes.liveness import (
    FunctionGraph,
    Lifetime,
    label_steps,
    lifetimes,
    read_function,
    whole_words,
)

Kind = Literal["activation", "saved", "gradient", "scratch", "trained"]
KINDS: tuple[Kind, ...] = ("activation", "saved", "gradient", "scratch", "trained")


@dataclass(frozen=True)
class Placement:
    """A tensor at an address from its first to its last step, both included.

    `offset` counts from the start of the arena, of `trained` ones from the start of the state.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    element: str
    offset: int
    size_bytes: int
    first: int
    last: int

    @property
    def type_text(self) -> str:
        """`1x16x16x48 i8`; empty for scratch memory."""
        return f"{'x'.join(map(str, self.shape)) or 'scalar'} {self.element}".strip()


@dataclass(frozen=True)
class ArenaMap:
    """The memory of one planned function; step 0 is the entry, the last one the return."""

    function: str
    steps: tuple[str, ...]
    placements: tuple[Placement, ...]
    trained: tuple[Placement, ...]
    arena_bytes: int
    bound_bytes: int
    state_bytes: int
    peak_step: int
    """The first step at which the highest byte of the arena and the most bytes are in use."""

    def live_at(self, step: int) -> list[Placement]:
        """What lies in the arena at a step, from the largest on."""
        live = [one for one in self.placements if one.first <= step <= one.last]
        return sorted(live, key=lambda one: (-one.size_bytes, one.offset))

    def used_bytes(self, step: int) -> int:
        """Bytes of the arena that are in use at a step; shared ones count once."""
        used, end = 0, 0
        for one in sorted(self.live_at(step), key=lambda one: one.offset):
            used += max(0, one.offset + one.size_bytes - max(end, one.offset))
            end = max(end, one.offset + one.size_bytes)
        return used


def arena_map(function: Any) -> ArenaMap:
    """The map of a planned `func.func`."""
    source = read_function(function)
    lives = lifetimes(source.graph, source.graph.source_order)
    backward = label_steps(function)
    placements = (*_values(source, function, lives, backward), *_scratch(source))
    steps = tuple(_step_name(op) for op in source.ops)
    attributes = function.attributes
    found = ArenaMap(
        function.name.value,
        steps,
        placements,
        _trained(source, len(steps)),
        attributes["tiny.arena_bytes"].value,
        attributes["tiny.arena_lower_bound_bytes"].value,
        attributes["tiny.state_bytes"].value,
        0,
    )
    peak = max(range(len(steps)), key=lambda step: (found.used_bytes(step), -step))
    return replace(found, peak_step=peak)


def _step_name(op: Any) -> str:
    if op is None:
        return "entry"
    return f"{layer_of(op)} {op.operation.name.rpartition('.')[2]}".strip()


def _values(
    source: FunctionGraph, function: Any, lives: tuple[Lifetime, ...], backward: set[int]
) -> list[Placement]:
    graph, found = source.graph, []
    for index, step in enumerate(graph.steps):
        op = source.ops[index]
        owner = function if op is None else op
        key = "tiny.argument_offsets" if op is None else "tiny.offsets"
        offsets = to_list(owner.attributes[key]) if step.writes else []
        for number, (buffer, offset) in enumerate(zip(step.writes, offsets, strict=True)):
            value, life = source.values[buffer], lives[buffer]
            saved = any(reader in backward for reader in graph.readers[buffer])
            found.append(
                Placement(
                    _argument_name(function, number) if op is None else _value_name(op, number),
                    "gradient" if index in backward else "saved" if saved else "activation",
                    tuple(shape_of(value)),
                    element_name(value),
                    offset,
                    graph.buffers[buffer].size_bytes,
                    life.first,
                    life.last,
                )
            )
    return found


def _argument_name(function: Any, number: int) -> str:
    """What the signature says: docs/design/ir.md."""
    names = ("input", "label", "rate")
    known = function.name.value in (INFER, TRAIN_STEP) and number < len(names)
    return names[number] if known else f"argument {number}"


def _value_name(op: Any, number: int) -> str:
    """The step's name, and what the result is where it is not the first."""
    if not number:
        return _step_name(op)
    what = "mask" if element_name(op.results[number]) == "i1" else f"result {number}"
    return f"{_step_name(op)} {what}"


def _scratch(source: FunctionGraph) -> list[Placement]:
    found: list[Placement] = []
    for index, op in enumerate(source.ops):
        if op is not None and "tiny.scratch_offset" in op.attributes:
            size = op.attributes["tiny.scratch_bytes"].value
            offset = op.attributes["tiny.scratch_offset"].value
            name = f"{_step_name(op)} scratch"
            found.append(Placement(name, "scratch", (size,), "bytes", offset, size, index, index))
    return found


def _trained(source: FunctionGraph, steps: int) -> tuple[Placement, ...]:
    found = [
        Placement(
            parameter.attributes["symbol"].value,
            "trained",
            tuple(shape_of(parameter.result)),
            element_name(parameter.result),
            parameter.attributes["tiny.state_offset"].value,
            whole_words(parameter.result),
            0,
            steps - 1,
        )
        for parameter in source.parameters
        if is_trained(parameter)
    ]
    return tuple(sorted(found, key=lambda one: one.offset))
