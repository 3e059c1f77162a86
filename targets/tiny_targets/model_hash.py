"""Which network a saved state belongs to, as 64 bits; docs/design/state-blob.md.

The hash covers what gives trained values their meaning: their symbols, types and shapes, and the
frozen network that reads them. It is the same for every core, order of ops and memory plan, and for
any initial values of what is trained.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array
from tiny_dialect.types import element_name, shape_of
from tiny_passes.graph import FUSED_BLOCK, body, layer_of, outer_value

_PARAMETER = "tiny.parameter"
_PLAN_PREFIX = "tiny."


def model_hash(function: Any) -> int:
    """The hash of the forward function `@infer`, or of another one that reads the parameters."""
    lines = sorted(_line(op) for op in _ops(function))
    return int.from_bytes(hashlib.sha256("\n".join(lines).encode()).digest()[:8], "little")


def _ops(function: Any) -> Iterator[Any]:
    """All ops that compute, those inside fused blocks in place of the blocks."""
    for op in body(function)[:-1]:
        if op.operation.name == FUSED_BLOCK:
            yield from list(op.regions[0].blocks[0].operations)[:-1]
        else:
            yield op


def _line(op: Any) -> str:
    """An op with everything that decides what it computes, in one line."""
    held = op.operation.attributes
    attributes = {name: held[name] for name in held}
    if op.operation.name == _PARAMETER:
        return _parameter(op, attributes)
    kept = sorted(
        f"{name}={attribute}"
        for name, attribute in attributes.items()
        if not name.startswith(_PLAN_PREFIX)
    )
    operands = [_source(operand) for operand in op.operation.operands]
    results = [str(result.type) for result in op.operation.results]
    return json.dumps([op.operation.name, kept, operands, results])


def _parameter(op: Any, attributes: dict[str, Any]) -> str:
    value = op.operation.results[0]
    content = ""
    if "trained" not in attributes:
        array = np.ascontiguousarray(to_array(attributes["value"]))
        content = hashlib.sha256(array.tobytes()).hexdigest()
    return json.dumps(
        [_PARAMETER, attributes["symbol"].value, element_name(value), shape_of(value),
         str(value.type), content]
    )  # fmt: skip


def _source(value: Any) -> str:
    """Where a value comes from, whether through a fused block or not."""
    value = outer_value(value)
    if hasattr(value, "arg_number"):
        return f"argument {value.arg_number} {value.type}"
    op = value.owner.operation
    if op.name == FUSED_BLOCK:
        yielded = list(op.regions[0].blocks[0].operations)[-1].operation.operands
        return _source(yielded[value.result_number])
    if op.name == _PARAMETER:
        return f"parameter {op.attributes['symbol'].value}"
    return f"{op.name} {layer_of(op)} {value.result_number} {value.type}"
