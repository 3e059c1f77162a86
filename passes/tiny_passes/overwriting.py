"""Where the result of an op may lie over an operand that dies: how many bytes before it it starts.

What is legal follows from the order in which a kernel reads and writes:

- elementwise ops (`add`, `requantize`, `reshape`, gradients scaled and added) read an element
  of each operand before they write the same element, in increasing order: the distance is 0, where
  the result has as many elements and is not larger than the operand;
- with `tiny.traversal = "rows"` the rows of the result are computed one after the other, and all
  that is read for a row is read from the rows that `row_schedule` names: the distance follows;
- with `tiny.traversal = "planes"` a depthwise op copies a channel to scratch memory before it
  writes that channel of the result: the distance is 0. Where a forward convolution has the choice,
  whole planes are taken unless keeping the rows apart costs less than a plane.

A streamed input lies in a ring of rows, over which nothing else may lie.

An op without the attribute promises no order. Its kernel is free to choose one, so nothing may be
overwritten; `tiny-overlap-rows` sets the attribute where it pays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import numpy_type, shape_of, storage_bytes
from tiny_passes.graph import FUSED_BLOCK, outer_value
from tiny_passes.row_schedule import Chain, Window, chain_of, lowest_rows, overwrite_distance
from tiny_passes.streamed import is_streamed

TRAVERSAL = "tiny.traversal"
ROWS, PLANES = "rows", "planes"

_ELEMENTWISE = {
    "tiny.scale_gradient": (0,),
    "tiny.add_gradients": (0, 1),
    "tiny.add": (0, 1),
    "tiny.requantize": (0,),
    "tiny.reshape": (0,),
    "tiny.normalize_gradient": (0,),
    "tiny.integer_add_gradients": (0, 2),
}
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Overwriting:
    """By operand number, how many bytes before it result 0 may start; and what that takes."""

    distances: dict[int, int] = field(default_factory=dict)
    traversal: str = ""
    scratch_bytes: int = 0


def traversal_of(op: Any) -> str:
    """The order that the kernel of an op must keep; empty where it is free."""
    return op.attributes[TRAVERSAL].value if TRAVERSAL in op.attributes else ""


def granted(op: Any) -> Overwriting:
    """What the op may overwrite as it is."""
    name = op.operation.name
    if name in _ELEMENTWISE:
        fitting = [n for n in _ELEMENTWISE[name] if _fits(op.results[0], op.operands[n])]
        return Overwriting(dict.fromkeys(fitting, 0))
    best = possible(op)
    return best if best.traversal and traversal_of(op) == best.traversal else Overwriting()


def _fits(result: Any, operand: Any) -> bool:
    """Element for element; one pixel that is spread over a plane is read until the end."""
    elements = prod(shape_of(result)) == prod(shape_of(operand))
    return elements and storage_bytes(result) <= storage_bytes(operand)


def possible(op: Any) -> Overwriting:
    """What the op might overwrite with the traversal that suits it best."""
    name = op.operation.name
    if name == "tiny.conv2d":
        return _convolution(op)
    if name == FUSED_BLOCK:
        found = chain_distances(chain_of(op))
        return Overwriting({value.arg_number: d for value, d in found.items()}, ROWS)
    if name == "tiny.conv2d_input_grad":
        return _input_gradient(op)
    if name == "tiny.integer_conv2d_input_grad" and _is_one_to_one(op, 2):
        return Overwriting({0: 0}, PLANES, _plane_bytes(op))
    return Overwriting()


def _convolution(op: Any) -> Overwriting:
    distance = chain_distances(Chain((op,), None)).get(op.operands[0])
    if distance is None:
        return Overwriting()
    # A kernel may widen what it copies to two bytes.
    if _is_one_to_one(op, 1) and 2 * _plane_bytes(op) <= distance:
        return Overwriting({0: 0}, PLANES, _plane_bytes(op))
    return Overwriting({0: distance}, ROWS)


def _is_one_to_one(op: Any, weight: int) -> bool:
    """True for a depthwise op, channel to channel, between elements of one size.

    Strides do not matter: whatever lies over a pixel of x, its channel c lies over channel c.
    """
    x, y, shape = op.operands[0], op.results[0], shape_of(op.operands[weight])
    same = shape_of(x)[3] == shape_of(y)[3] and numpy_type(x).itemsize == numpy_type(y).itemsize
    return same and shape[3] == 1 and shape[0] == op.attributes["groups"].value


def _plane_bytes(op: Any) -> int:
    """One channel of operand 0."""
    x = op.operands[0]
    return prod(shape_of(x)[1:3]) * numpy_type(x).itemsize


def chain_distances(chain: Chain) -> dict[Any, int]:
    """For the input and the residual of a chain, how far before it the output may start."""
    x, residual = chain.convolutions[0].operands[0], chain.residual
    lowest = {x: lowest_rows(chain.windows(), chain.kept())}
    if residual is not None:
        # The addition reads row r of the residual for row r of the output.
        rows = range(shape_of(residual)[1])
        earlier = lowest.get(residual, [len(rows)] * len(rows))
        lowest[residual] = [min(row, first) for row, first in zip(rows, earlier, strict=True)]
    return {
        value: _distance(value, rows, chain.output)
        for value, rows in lowest.items()
        if not is_streamed(outer_value(value))
    }


def _distance(x: Any, lowest: Sequence[int], y: Any) -> int:
    return overwrite_distance(lowest, shape_of(x)[1], _row_bytes(x), _row_bytes(y))


def _row_bytes(value: Any) -> int:
    return prod(shape_of(value)[2:]) * numpy_type(value).itemsize


def _input_gradient(op: Any) -> Overwriting:
    g, weight, gx = op.operands[0], shape_of(op.operands[1]), op.results[0]
    if len(op.operands) == 2 and _is_one_to_one(op, 1):
        return Overwriting({0: 0}, PLANES, _plane_bytes(op) + prod(weight[1:3]) * _FLOAT_BYTES)
    geo = geometry(op)
    window = Window(weight[1], geo.strides[0], geo.pads[0], shape_of(gx)[1], shape_of(g)[1])
    return Overwriting({0: _distance(g, readers_from(window), gx)}, ROWS)


def readers_from(window: Window) -> list[int]:
    """For each input row of `window`, the first output row that reads it or a later input row."""
    first = [window.outputs] * window.inputs
    for row in range(window.outputs):
        for source in range(window.first(row), window.end(row)):
            first[source] = min(first[source], row)
    for source in reversed(range(window.inputs - 1)):
        first[source] = min(first[source], first[source + 1])
    return first


def grant(op: Any, overwriting: Overwriting) -> None:
    """Make the kernel of `op` keep the order, and give it the scratch memory for it."""
    op.attributes[TRAVERSAL] = ir.StringAttr.get(overwriting.traversal)
    if overwriting.scratch_bytes:
        wide = ir.IntegerType.get_signless(64)
        op.attributes["tiny.scratch_bytes"] = ir.IntegerAttr.get(wide, overwriting.scratch_bytes)
