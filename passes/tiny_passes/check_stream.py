"""Whether the ring of a streamed input keeps each row until it is read: replayed, not derived.

The planner takes the slots of the ring from a formula; this file lets the rows arrive as the device
does and looks whether a row that is read has been overwritten. It shares no code with `streamed`
and `row_schedule`.
"""

from math import prod
from typing import Any

from tiny_dialect.attributes import to_list
from tiny_dialect.bindings import ir
from tiny_dialect.types import numpy_type, shape_of
from tiny_passes.check_overlap import computed_at
from tiny_passes.registry import PassError

_STREAMED, _RING_ROWS = "tiny.streamed", "tiny.ring_rows"


def streamed_bytes(function: Any, number: int) -> int | None:
    """The bytes of the ring of argument `number`; None where that argument exists whole.

    Raises `PassError` where the argument cannot be streamed, or its ring has too few slots.
    """
    attributes = _argument_attributes(function, number)
    if _STREAMED not in attributes:
        return None
    if _RING_ROWS not in attributes or not isinstance(attributes[_RING_ROWS], ir.IntegerAttr):
        raise PassError(function, f"argument {number} is streamed, but has no {_RING_ROWS}")
    slots = attributes[_RING_ROWS].value
    if slots < 1:
        raise PassError(function, f"argument {number} is streamed through a ring of {slots} rows")
    x = function.regions[0].blocks[0].arguments[number]
    reader = _reader(function, x)
    lost = first_lost(reader, x, slots)
    if lost is not None:
        raise PassError(
            reader, f"reads row {lost} of a streamed input of which {slots} rows are kept too late"
        )
    return slots * prod(shape_of(x)[2:]) * numpy_type(x).itemsize


def _argument_attributes(function: Any, number: int) -> Any:
    attributes = function.operation.attributes
    return attributes["arg_attrs"][number] if "arg_attrs" in attributes else {}


def _reader(function: Any, x: Any) -> Any:
    """The one op that reads `x`, as the input of its first convolution."""
    readers = [use.owner.opview for use in x.uses]
    if len(readers) != 1 or len(shape_of(x)) != 4:
        raise PassError(function, f"a streamed input is read by one op, not by {len(readers)}")
    (reader,) = readers
    first = _convolutions(reader)[:1]
    argument = _inside(reader, x)
    inner_uses = [use.owner.operation for use in argument.uses]
    if not first or first[0].operands[0] != argument or inner_uses != [first[0].operation]:
        raise PassError(reader, "reads a streamed input other than by its first convolution")
    return reader


def _inside(reader: Any, x: Any) -> Any:
    if reader.operation.name != "tiny.fused_block":
        return x
    return reader.regions[0].blocks[0].arguments[list(reader.operands).index(x)]


def _ops(reader: Any) -> list[Any]:
    if reader.operation.name != "tiny.fused_block":
        return [reader]
    *ops, _ = reader.regions[0].blocks[0].operations
    return ops


def _convolutions(reader: Any) -> list[Any]:
    return [op for op in _ops(reader) if op.operation.name == "tiny.conv2d"]


def first_lost(reader: Any, x: Any, slots: int) -> int | None:
    """Let rows arrive step by step; the first that is read after its slot was used again."""
    convolutions = _convolutions(reader)
    steps = shape_of(convolutions[-1].results[0])[1]
    reads: list[set[int]] = [set() for _ in range(steps)]
    kernel = shape_of(convolutions[0].operands[1])[1]
    strides, pads = (to_list(convolutions[0].attributes[name]) for name in ("strides", "pads"))
    for row, time in enumerate(computed_at(convolutions, _ops(reader), steps)):
        if time <= steps:  # else never; what follows the last step belongs to it
            window = range(row * strides[0] - pads[0], row * strides[0] - pads[0] + kernel)
            reads[min(time, steps - 1)] |= {r for r in window if 0 <= r < shape_of(x)[1]}
    holds: dict[int, int] = {}
    arrived = 0
    for wanted in reads:
        while arrived <= max(wanted, default=-1):
            holds[arrived % slots] = arrived
            arrived += 1
        for row in sorted(wanted):
            if holds.get(row % slots) != row:
                return row
    return None
