"""A block of layers as one op: what lies between them need never exist as a whole.

`tiny.fused_block` says *that* its region may be computed row by row; how is the kernel's business.
Its meaning is that of its region, so results do not depend on fusion.
"""

from collections.abc import Sequence
from typing import Any

from tiny_dialect.bindings import ext, ir
from tiny_dialect.namespace import Tiny
from tiny_dialect.verify import require, typed, verifier

Operand = ext.Operand
Result = ext.Result

INNER_OPS = frozenset({"tiny.conv2d", "tiny.add", "tiny.gather_channels"})
"""The ops that a fused block may hold."""

MAX_OPERANDS, MAX_RESULTS = 32, 16
"""What a fused block may touch; more would not fit one dispatch either."""

_SEGMENTS = {"operandSegmentSizes": MAX_OPERANDS, "resultSegmentSizes": MAX_RESULTS}

# IRDL binds a variadic operand to one type. Operands of different types are optional ones instead,
# of which the first are present.
_INPUTS = {f"input{number}": Operand[Any] | None for number in range(MAX_OPERANDS)}
_OUTPUTS = {f"output{number}": Result[Any] | None for number in range(MAX_RESULTS)}
_VALUES = {f"value{number}": Operand[Any] | None for number in range(MAX_RESULTS)}


def _segments(limit: int, count: int) -> Any:
    """Segment sizes: the first `count` of `limit` optional values are present."""
    return ir.DenseI32ArrayAttr.get([1] * count + [0] * (limit - count))


class Yield(Tiny.Operation, name="yield", traits=[ir.IsTerminatorTrait]):
    """The values that a fused block hands out."""

    __annotations__ = dict(_VALUES)
    locals().update(dict.fromkeys(_VALUES))


class FusedBlock(
    Tiny.Operation, name="fused_block", traits=[ext.Pure, ir.IsIsolatedFromAboveTrait]
):
    """Convolutions, a residual addition and channel gathers, as one op; see `create_fused_block`.

    The block arguments mirror the operands: activations first, then parameters, in the order of
    their first use inside. The first result is the block's output; masks and gathered channels of
    the tensors inside follow where a backward op needs them. Meaning: run the region.
    """

    __annotations__ = {**_INPUTS, **_OUTPUTS, "body": ext.Region}
    locals().update(dict.fromkeys([*_INPUTS, *_OUTPUTS]))

    @verifier
    def verify_invariants(op: Any) -> None:
        typed(op, FusedBlock)
        for name, limit in _SEGMENTS.items():
            count = len(op.operands if name.startswith("operand") else op.results)
            require(op.attributes[name] == _segments(limit, count), f"has wrong {name}")
        blocks = list(op.regions[0].blocks)
        require(len(blocks) == 1, f"expects one block, got {len(blocks)}")
        ops = list(blocks[0].operations)
        require(bool(ops) and ops[-1].operation.name == Yield.OPERATION_NAME, "expects tiny.yield")
        _require_types([a.type for a in blocks[0].arguments], op.operands, "block arguments")
        _require_types([v.type for v in ops[-1].operands], op.results, "yielded values")
        require(len(op.results) >= 1, "expects a result")
        for inner in ops[:-1]:
            name = inner.operation.name
            require(name in INNER_OPS, f"cannot hold '{name}'")


def create_fused_block(
    operands: Sequence[Any], result_types: Sequence[Any], *, loc: Any, ip: Any
) -> Any:
    """A fused block with an empty block of arguments like `operands`; end it by `create_yield`."""
    op = ir.Operation.create(
        FusedBlock.OPERATION_NAME,
        results=list(result_types),
        operands=list(operands),
        attributes={
            "operandSegmentSizes": _segments(MAX_OPERANDS, len(operands)),
            "resultSegmentSizes": _segments(MAX_RESULTS, len(result_types)),
        },
        regions=1,
        loc=loc,
        ip=ip,
    )
    types = [value.type for value in operands]
    op.regions[0].blocks.append(*types, arg_locs=[loc] * len(types))
    return op.opview


def create_yield(values: Sequence[Any], *, loc: Any) -> Any:
    """The terminator of a fused block, at the insertion point."""
    segments = {"operandSegmentSizes": _segments(MAX_RESULTS, len(values))}
    return ir.Operation.create(
        Yield.OPERATION_NAME, operands=list(values), attributes=segments, loc=loc
    ).opview


def _require_types(got: list[Any], values: Any, what: str) -> None:
    expected = [value.type for value in values]
    require(got == expected, f"expects {what} of types {_listed(expected)}, got {_listed(got)}")


def _listed(types: list[Any]) -> str:
    return f"({', '.join(str(type_) for type_ in types)})"
