"""A streamed input: it arrives row by row, in the order of a camera, and never exists whole.

The unit attribute `tiny.streamed` on the first argument of a function says that only a ring of its
newest rows has a place in the arena: row `r` in slot `r % slots`. One op reads it, a convolution or
a fused block, which runs in steps: step `r` computes output row `r`, and before it all rows arrive
that it needs and that are not there yet. How many slots that takes follows from the windows.
"""

from math import prod
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.types import numpy_type, shape_of
from tiny_passes.graph import FUSED_BLOCK, users
from tiny_passes.row_schedule import Chain, arrivals, chain_of, slots_needed

STREAMED, RING_ROWS = "tiny.streamed", "tiny.ring_rows"


def is_streamed(value: Any) -> bool:
    """True for a function argument that arrives row by row."""
    return STREAMED in _attributes(value)


def ring_rows(value: Any) -> int:
    """The slots of a streamed input: as planned, or as its reader needs."""
    planned = _attributes(value)
    if RING_ROWS in planned:
        return planned[RING_ROWS].value
    return rows_for(reading_chain(value))


def rows_for(chain: Chain) -> int:
    """The slots that a chain needs of its streamed input."""
    return slots_needed(chain.windows(), chain.kept())


def row_bytes(value: Any) -> int:
    """One row of an image."""
    return prod(shape_of(value)[2:]) * numpy_type(value).itemsize


def steps_of(value: Any) -> list[int]:
    """For each step of the reader of a streamed input, how many rows must have arrived."""
    chain = reading_chain(value)
    return arrivals(chain.windows(), chain.kept())


def reading_chain(value: Any) -> Chain:
    """The chain that reads a streamed input: a fused block, or one convolution."""
    (reader,) = users(value)
    return chain_of(reader) if reader.operation.name == FUSED_BLOCK else Chain((reader,), None)


def mark_streamed(function: Any, **planned: int) -> None:
    """Set the attribute on the first argument of `function`; and what is `planned`, once known."""
    known = [dict(_named(attributes)) for attributes in function.arg_attrs]
    wide = ir.IntegerType.get_signless(64)
    known[0][STREAMED] = ir.UnitAttr.get()
    known[0] |= {name: ir.IntegerAttr.get(wide, value) for name, value in planned.items()}
    function.arg_attrs = [ir.DictAttr.get(attributes) for attributes in known]


def _named(attributes: Any) -> list[tuple[str, Any]]:
    return [(entry.name, entry.attr) for entry in attributes]


def _attributes(value: Any) -> Any:
    """The attributes of a function argument; none for any other value."""
    if not isinstance(value.owner, ir.Block):
        return {}
    function = value.owner.owner
    if function.operation.name != "func.func" or "arg_attrs" not in function.operation.attributes:
        return {}
    return function.operation.attributes["arg_attrs"][value.arg_number]
