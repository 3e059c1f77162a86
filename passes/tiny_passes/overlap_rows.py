"""Let results overwrite the rows of an operand that have been read, where that lowers the peak.

Before:  %gx = "tiny.conv2d_input_grad"(%g, %w) ...                   %g is not used again
After:   %gx = "tiny.conv2d_input_grad"(%g, %w) {tiny.traversal = "rows"} ...

The attribute binds the kernel to an order, see `overwriting`, and allows the planner to let the two
overlap at the distance that follows from it. It is set on those ops alone without which the lowest
peak cannot be reached, so that every other kernel stays free. @infer is held to the peak of
@train_step, because both use the same arena.

Cost: one order search a function. Results do not change.
"""

from typing import Any

from tiny_passes.graph import TRAIN_STEP, functions
from tiny_passes.liveness import choose_sharings, live_bytes, read_function
from tiny_passes.order_search import find_order
from tiny_passes.overwriting import grant, granted, possible
from tiny_passes.registry import register_pass


@register_pass("tiny-overlap-rows", anchor="builtin.module")
def overlap_rows(module: Any, *, all: bool = False) -> None:
    """Set `tiny.traversal` in every function; with `all` wherever an operand may be overwritten."""
    known = [function for function in functions(module).values() if not function.is_external]
    known.sort(key=lambda function: function.name.value != TRAIN_STEP)
    peak = 0
    for function in known:
        source = read_function(function, row_overlap=True)
        order = find_order(source.graph).order
        best = _needs(source.graph, order)
        plain = _needs(read_function(function).graph, order)
        peak = max(peak, *best)
        for place, step in enumerate(order):
            op = source.ops[step]
            if op is None or granted(op).distances or not possible(op).distances:
                continue
            if all or plain[place] > peak:
                grant(op, possible(op))


def _needs(graph: Any, order: Any) -> tuple[int, ...]:
    return live_bytes(graph, order, choose_sharings(graph, order))
