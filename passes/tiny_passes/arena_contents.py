"""What lies where while a planned function runs, read from the planned ops alone.

For each op: the bytes it is told to read and to write, and the bytes whose contents something still
reads when it starts. All other bytes of the arena are dead then, and whoever runs the function may
put anything there. Like `check_plan`, whose question it answers byte by byte for the emulator, it
shares no code with the planner.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tiny_dialect.attributes import to_list
from tiny_dialect.bindings import ir
from tiny_dialect.types import shape_of, storage_bytes

_PARAMETER, _FUSED_BLOCK = "tiny.parameter", "tiny.fused_block"
ARENA, STATE = "arena", "state"


@dataclass(frozen=True)
class Place:
    """The bytes [start, end) of a region, with what they hold."""

    what: str
    """`operand 0`, `result 1`, `scratch`."""
    region: str
    """`arena` or `state`."""
    start: int
    end: int


@dataclass(frozen=True)
class OpMemory:
    """One op: its declared buffers, and what must survive until it starts."""

    name: str
    """`blocks.3.depthwise conv2d`."""
    reads: tuple[Place, ...]
    """Operands that are not frozen, in operand order; those are in flash."""
    writes: tuple[Place, ...]
    """Results, scratch memory, and the parameter that an update writes."""
    live: tuple[tuple[int, int], ...]
    """Disjoint ranges of the arena, in increasing order, that this op or a later one reads and that
    hold a value when this op starts."""
    reads_in_order: bool = False
    """True where the op keeps to a traversal and never reads its result: what it has overwritten of
    an operand, it reads no more."""


@dataclass(frozen=True)
class FunctionMemory:
    """A planned function as a sequence of uses of its arena and state."""

    ops: tuple[OpMemory, ...]
    """In program order, `tiny.parameter` left out; the last one is the return."""
    arena_bytes: int
    state: tuple[tuple[int, int], ...]
    """Disjoint ranges of the state region that hold a trained parameter, in increasing order."""


def function_memory(function: Any) -> FunctionMemory:
    """The uses of a planned function, `func.func` with the attributes of tiny-plan-memory."""
    block = function.regions[0].blocks[0]
    ops = list(block.operations)
    places = _argument_places(function, block.arguments)
    born = dict.fromkeys(block.arguments, -1)
    last_read: dict[Any, int] = {}
    for number, op in enumerate(ops):
        for index, value in enumerate(op.results):
            places[value] = _result_place(op, index)
            born[value] = number
        for value in op.operands:
            last_read[value] = number
    used = []
    for number, op in enumerate(ops):
        if op.operation.name == _PARAMETER:
            continue
        live = [
            places[value]
            for value, last in last_read.items()
            if born[value] < number <= last and places[value].region == ARENA
        ]
        used.append(_op_memory(op, places, live))
    state = [place for place in places.values() if place.region == STATE]
    arena_bytes = function.attributes["tiny.arena_bytes"].value
    return FunctionMemory(tuple(used), arena_bytes, merged(state))


def merged(places: Iterable[Place]) -> tuple[tuple[int, int], ...]:
    """The bytes that `places` cover, as disjoint ranges in increasing order."""
    ranges: list[tuple[int, int]] = []
    for place in sorted(places, key=lambda place: place.start):
        if ranges and place.start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], place.end))
        else:
            ranges.append((place.start, place.end))
    return tuple(ranges)


def gaps(ranges: Iterable[tuple[int, int]], size: int) -> tuple[tuple[int, int], ...]:
    """What `ranges`, in the order of their starts, leave of [0, size)."""
    found, reached = [], 0
    for start, end in ranges:
        if start > reached:
            found.append((reached, start))
        reached = max(reached, end)
    return (*found, (reached, size)) if reached < size else tuple(found)


def _argument_places(function: Any, arguments: Iterable[Any]) -> dict[Any, Place]:
    offsets = to_list(function.attributes["tiny.argument_offsets"])
    return {
        value: Place(f"argument {number}", ARENA, offset, offset + _kept_bytes(function, number))
        for number, (value, offset) in enumerate(zip(arguments, offsets, strict=True))
    }


def _kept_bytes(function: Any, number: int) -> int:
    """An argument, or of one that arrives row by row the ring of its newest rows."""
    value = function.regions[0].blocks[0].arguments[number]
    attributes = function.operation.attributes
    named = attributes["arg_attrs"][number] if "arg_attrs" in attributes else {}
    if "tiny.ring_rows" not in named:
        return storage_bytes(value)
    return storage_bytes(value) // shape_of(value)[1] * named["tiny.ring_rows"].value


def _result_place(op: Any, index: int) -> Place:
    """Where a result lies; a frozen parameter has an empty place, for it is in flash."""
    value = op.results[index]
    if op.operation.name != _PARAMETER:
        offset = to_list(op.attributes["tiny.offsets"])[index]
        return Place(f"result {index}", ARENA, offset, offset + storage_bytes(value))
    symbol = op.attributes["symbol"].value
    if "tiny.state_offset" not in op.attributes:
        return Place(symbol, "flash", 0, 0)
    offset = op.attributes["tiny.state_offset"].value
    return Place(symbol, STATE, offset, offset + storage_bytes(value))


def _op_memory(op: Any, places: dict[Any, Place], live: list[Place]) -> OpMemory:
    operands = [
        Place(f"operand {number}", places[value].region, places[value].start, places[value].end)
        for number, value in enumerate(op.operands)
        if isinstance(value.owner, ir.Block) or places[value].end
    ]
    writes = [places[value] for value in op.results]
    if "tiny.scratch_offset" in op.attributes:
        start = op.attributes["tiny.scratch_offset"].value
        size = op.attributes["tiny.scratch_bytes"].value
        writes.append(Place("scratch", ARENA, start, start + size))
    if not len(op.results) and op.operation.name.startswith("tiny."):
        writes.append(next(place for place in operands if place.what == "operand 0"))
    layer = op.attributes["layer"].value if "layer" in op.attributes else ""
    name = f"{layer} {op.operation.name.removeprefix('tiny.')}".strip()
    reads_in_order = "tiny.traversal" in op.attributes and not _reads_back(op)
    return OpMemory(name, tuple(operands), tuple(writes), merged(live), reads_in_order)


def _reads_back(op: Any) -> bool:
    """True for an op that reads its own result, which may lie where an operand was.

    The header of an integer gradient follows from its finished mantissas; the residual addition of
    a fused block finishes rows that the last convolution has written.
    """
    if op.operation.name == _FUSED_BLOCK:
        return any(inner.operation.name == "tiny.add" for inner in op.regions[0].blocks[0])
    return op.operation.name.startswith("tiny.integer_")
