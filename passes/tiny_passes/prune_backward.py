"""Remove every gradient that no kept update needs.

Before:  %y, %mask = "tiny.conv2d"(%x, %w, %b)
         %gw = "tiny.conv2d_weight_grad"(%x, %g) ...      nothing updates conv3.w any more
         %gx = "tiny.conv2d_input_grad"(%g, %w) ...       nothing before conv3 is trained
After:   %y = "tiny.conv2d"(%x, %w, %b)

The backward pass stops at the earliest trained layer, masks and saved activations that only it used
die, and parameters that nothing reads disappear. Ops of other dialects are left alone.

Cost: one reverse walk. Input and output are valid IR; the returned values are unchanged.
"""

from typing import Any

from tiny_dialect.attributes import string
from tiny_passes.graph import body, is_used
from tiny_passes.rebuild import without_mask
from tiny_passes.registry import PassError, register_pass

UPDATES = frozenset(
    {
        "tiny.apply_update",
        "tiny.conv2d_weight_update",
        "tiny.linear_weight_update",
        "tiny.bias_update",
        "tiny.stochastic_update",
        "tiny.stochastic_conv2d_weight_update",
        "tiny.integer_conv2d_weight_update",
        "tiny.integer_stochastic_conv2d_weight_update",
        "tiny.integer_linear_weight_update",
        "tiny.integer_bias_update",
    }
)

_MASKED = ("tiny.conv2d", "tiny.add", "tiny.max_pool2d", "tiny.mean", "tiny.requantize")


def updates_of(function: Any) -> list[Any]:
    """The update ops of a function, in program order."""
    return [op for op in body(function) if op.operation.name in UPDATES]


def updated_symbol(update: Any) -> str:
    """The symbol of the parameter that an update writes."""
    return update.operands[0].owner.attributes["symbol"].value


def _drop_updates(step: Any, keep: frozenset[str]) -> None:
    """Erase the updates of every other parameter; what they wrote is a constant from now on."""
    updates = updates_of(step)
    symbols = {updated_symbol(update) for update in updates}
    unknown = sorted(keep - symbols)
    if unknown:
        known = ", ".join(sorted(symbols)) or "no parameter"
        raise PassError(step, f"keep names {', '.join(unknown)}; the step updates {known}")
    for update in updates:
        if updated_symbol(update) not in keep:
            del update.operands[0].owner.attributes["trained"]
            update.operation.erase()


def remove_unused(function: Any) -> None:
    """Erase every `tiny` op with results and no use, and every mask without use."""
    for op in reversed(body(function)):
        if not op.operation.name.startswith("tiny.") or len(op.results) == 0:
            continue
        if not is_used(op):
            op.operation.erase()
        elif op.operation.name in _MASKED and len(op.results) == 2 and not list(op.results[1].uses):
            without_mask(op)


@register_pass("tiny-prune-backward", anchor="func.func", only="train_step")
def prune_backward(step: Any, *, keep: tuple[str, ...] = ()) -> None:
    """Keep only the updates of the parameters named in `keep` (all present ones if empty).

    Raises `PassError` for a name that the step does not update.
    """
    if keep:
        _drop_updates(step, frozenset(keep))
    remove_unused(step)
    step.attributes["tiny.stage"] = string("sparse")
