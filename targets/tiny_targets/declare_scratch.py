"""Declare the scratch memory that the kernels of a target need, before the arena is planned.

Before:  %y, %m = "tiny.conv2d"(%x, %w, %b) {...}
After:   %y, %m = "tiny.conv2d"(%x, %w, %b) {tiny.scratch_bytes = 592, ...}

A kernel names useful amounts, from the least upwards; this is the least. `tiny-grow-scratch` adds
what the plan leaves free. Together they are what knows the hardware before code generation. Results
do not change.
"""

from typing import Any

from tiny_dialect.attributes import integer
from tiny_passes.graph import body, functions
from tiny_passes.liveness import round_up
from tiny_passes.registry import register_pass
from tiny_targets.kernels.scratch import SCRATCH_BYTES, scratch_of, scratch_wish_of
from tiny_targets.target import find_target

_WORD = 4


@register_pass("tiny-declare-scratch", anchor="builtin.module")
def declare_scratch(module: Any, *, target: str) -> None:
    """Declare the least useful scratch memory for the kernels of `target`."""
    core = find_target(target)
    for function in functions(module).values():
        for op in () if function.is_external else body(function):
            wish = scratch_wish_of(op, core)
            if wish is not None and wish.sizes[0] > scratch_of(op):
                op.attributes[SCRATCH_BYTES] = integer(round_up(wish.sizes[0], _WORD))
