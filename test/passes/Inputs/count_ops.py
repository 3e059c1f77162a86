"""A user's pass: writes the number of ops, times a factor, on each function."""

from typing import Any, Literal

from tiny_dialect.attributes import integer
from tiny_passes.registry import PassError, register_pass, register_pipeline


@register_pass("tiny-count-ops", anchor="func.func")
def count_ops(
    function: Any, *, factor: int = 1, refuse: tuple[str, ...] = (), unit: Literal["op"] = "op"
) -> None:
    """Write the number of ops times `factor` on each function.

    This paragraph is not part of the summary.
    """
    ops = list(function.regions[0].blocks[0].operations)
    for op in ops:
        if op.operation.name in refuse:
            raise PassError(op, f"refuses {op.operation.name}")
    function.attributes["count"] = integer(len(ops) * factor)


@register_pass("tiny-break", anchor="func.func", only="broken")
def break_function(function: Any) -> None:
    """Leave a function without its return."""
    list(function.regions[0].blocks[0].operations)[-1].operation.erase()


register_pipeline("tiny-twice", "cse,func.func(tiny-count-ops{factor=2},cse)", "counts double")
