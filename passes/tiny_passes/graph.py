"""What every pass asks of a function: its ops, parameters, layers, and who uses a value."""

from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.ops import MaxPool2D, Parameter
from tiny_dialect.ops.pooling import index_element, window_of
from tiny_dialect.types import shape_of, tensor
from tiny_passes.rebuild import rebuilt
from tiny_passes.registry import PassError

INFER, TRAIN_STEP = "infer", "train_step"
FUSED_BLOCK = "tiny.fused_block"


def functions(module: Any) -> dict[str, Any]:
    """Every `func.func` of the module by name, declarations included."""
    found = [op for op in module.body.operations if op.operation.name == "func.func"]
    return {op.name.value: op for op in found}


def find_function(module: Any, name: str) -> Any:
    """The function `@name` with a single block; raises `PassError` where there is none."""
    known = functions(module)
    if name not in known or known[name].is_external:
        has = ", ".join(f"@{other}" for other in known) or "none"
        raise PassError(module.operation, f"needs a function @{name}; the module has {has}")
    body(known[name])
    return known[name]


def body(function: Any) -> list[Any]:
    """The ops of the function in program order; raises `PassError` for control flow."""
    blocks = list(function.regions[0].blocks)
    if len(blocks) != 1:
        raise PassError(function, "expects a function of a single block")
    return list(blocks[0].operations)


def terminator(function: Any) -> Any:
    """The `func.return`."""
    return body(function)[-1]


def producer(value: Any) -> Any | None:
    """The op that produces a value; None for a function argument."""
    owner = value.owner
    return None if isinstance(owner, ir.Block) else owner.opview


def outer_value(value: Any) -> Any:
    """What a value stands for in the function: the operand of a fused block for its argument."""
    if not isinstance(value.owner, ir.Block):
        return value
    owner = value.owner.owner.operation
    return owner.operands[value.arg_number] if owner.name == FUSED_BLOCK else value


def users(value: Any) -> list[Any]:
    """The ops that use a value, one entry a use, in no particular order."""
    return [use.owner.opview for use in value.uses]


def is_used(op: Any) -> bool:
    """True where any result of the op has a use."""
    return any(next(iter(result.uses), None) is not None for result in op.results)


def layer_of(op: Any) -> str:
    """The name of the layer that the op belongs to; empty where it has none."""
    return op.attributes["layer"].value if "layer" in op.attributes else ""


def copy_layer(source: Any, target: Any) -> None:
    """Make `target` belong to the layer of `source`."""
    if "layer" in source.attributes:
        target.attributes["layer"] = source.attributes["layer"]


def parameters(function: Any) -> dict[str, Any]:
    """The `tiny.parameter` ops by symbol, in program order; a repeated one is a `PassError`."""
    found: dict[str, Any] = {}
    for op in body(function):
        if isinstance(op, Parameter):
            if op.symbol.value in found:
                raise PassError(op, f"parameter '{op.symbol.value}' occurs twice in the function")
            found[op.symbol.value] = op
    return found


def is_trained(parameter: Any) -> bool:
    """True for a parameter that is mutable state."""
    return "trained" in parameter.attributes


def with_mask(op: Any) -> Any:
    """The op with the second result that its gradient reads; `op` is erased where it has none.

    That is the clamp mask, and of a `max_pool2d` which tap was the largest.
    """
    if len(op.results) == 2:
        return op
    element = index_element(window_of(op)) if isinstance(op, MaxPool2D) else "i1"
    masked = rebuilt(
        op,
        results=[op.y.type, tensor(shape_of(op.y), element)],
        attributes={"resultSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1])},
    )
    op.y.replace_all_uses_with(masked.y)
    op.operation.erase()
    return masked
