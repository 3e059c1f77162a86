"""Record on each op how its kernel is blocked: a decision of the plan, not of code generation.

Before:  %y = "tiny.conv2d"(%x, %w, %b) {...}                    pointwise
After:   %y = "tiny.conv2d"(%x, %w, %b) {tiny.blocking = array<i64: 2, 2, 12>, ...}

Pixels by channels that are summed at once, and the steps of the depth that are unrolled: the lanes
of the panels that a kernel lays its operands out in, so also of the scratch memory that it needs.
The figures are those of the target in `kernels/blocking.json`. Ops that have a blocking keep it;
results do not change.
"""

from collections.abc import Iterator
from typing import Any

from tiny_passes.graph import FUSED_BLOCK, body, functions
from tiny_passes.registry import register_pass
from tiny_targets.kernels.blocked_forms import blocked_form
from tiny_targets.kernels.blocking import BLOCKING, chosen_blocking, record_blocking
from tiny_targets.target import find_target


@register_pass("tiny-choose-blocking", anchor="builtin.module")
def choose_blocking(module: Any, *, target: str) -> None:
    """Record the measured blocking of `target` on every op whose kernel has one."""
    core = find_target(target)
    for function in functions(module).values():
        for op in () if function.is_external else _ops(function):
            form = blocked_form(op, core)
            if form is not None and BLOCKING not in op.attributes:
                record_blocking(op, chosen_blocking(form, core))


def _ops(function: Any) -> Iterator[Any]:
    """All ops, those of fused blocks too."""
    for op in body(function):
        yield op
        if op.operation.name == FUSED_BLOCK:
            yield from body(op)
