"""Replace an op by one with other operands, results or attributes; all else stays as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from tiny_dialect.bindings import ir


def attributes_of(op: Any) -> dict[str, Any]:
    """The attributes of an op by name."""
    return {name: op.attributes[name] for name in op.attributes}


def rebuilt(
    op: Any,
    *,
    name: str | None = None,
    operands: Sequence[Any] | None = None,
    results: Sequence[Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    at: Any | None = None,
) -> Any:
    """A new op at the insertion point `at` (before `op` if None), like `op` but for what is given.

    `attributes` are added or replaced; None drops one. `op` stays where it is.
    """
    merged = attributes_of(op) | dict(attributes or {})
    return ir.Operation.create(
        name or op.operation.name,
        results=[r.type for r in op.results] if results is None else list(results),
        operands=list(op.operands) if operands is None else list(operands),
        attributes={key: value for key, value in merged.items() if value is not None},
        loc=op.location,
        ip=ir.InsertionPoint(op) if at is None else at,
    ).opview


def replace(op: Any, replacement: Any) -> None:
    """Give the uses of each result of `op` to the same result of `replacement`; erase `op`."""
    for old, new in zip(op.results, replacement.results, strict=True):
        old.replace_all_uses_with(new)
    op.operation.erase()


def without_mask(op: Any) -> Any:
    """Replace an op whose mask (its second result) has no use by one without; the new op."""
    sizes = ir.DenseI32ArrayAttr.get([1, 0])
    plain = rebuilt(op, results=[op.results[0].type], attributes={"resultSegmentSizes": sizes})
    op.results[0].replace_all_uses_with(plain.results[0])
    op.operation.erase()
    return plain


def with_trained(op: Any, trained: Any, channels: Any) -> Any:
    """Replace a `conv2d` or `conv2d_input_grad` by one whose `channels` come from `trained`."""
    sizes = [*list(op.attributes["operandSegmentSizes"])[:-1], 1]
    split = rebuilt(
        op,
        operands=[*op.operands, trained],
        attributes={
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get(sizes),
            "trained_channels": channels,
        },
    )
    replace(op, split)
    return split
