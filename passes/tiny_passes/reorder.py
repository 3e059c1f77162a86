"""Put the ops of a function in the order that needs the fewest bytes at once.

Before:  %gx = "tiny.conv2d_input_grad"(%g, %w)
         %gy = "tiny.conv2d_input_grad"(%gx, %v)          %g stays alive for the update below
         "tiny.bias_update"(%b, %g, %rate)
After:   "tiny.bias_update"(%b, %g, %rate)
         %gx = "tiny.conv2d_input_grad"(%g, %w)           %g dies
         %gy = "tiny.conv2d_input_grad"(%gx, %v)

Every op still follows its operands, and every update all other uses of its parameter. An update
stands right behind the last of those unless that would raise the peak. Parameters stand before
their first use. Nothing is recomputed, and no result changes by a bit.

Cost: a few seconds for several hundred ops; the search is in `order_search`. The result never needs
more bytes than the input.
"""

from typing import Any

from tiny_dialect.attributes import string
from tiny_passes.liveness import FunctionGraph, Order, read_function
from tiny_passes.order_search import find_order
from tiny_passes.registry import register_pass


@register_pass("tiny-reorder", anchor="func.func")
def reorder(function: Any, *, in_place: bool = True) -> None:
    """Move the ops of `function`; `in_place` counts a result over a dying operand once.

    Raises `PassError` where an update precedes another use of its parameter.
    """
    source = read_function(function)
    result = find_order(source.graph, in_place=in_place)
    apply_order(source, result.order)
    function.attributes["tiny.stage"] = string("scheduled")


def apply_order(source: FunctionGraph, order: Order) -> None:
    """Rewrite the function behind `source` so that its ops stand in `order`."""
    parameter_of = {parameter.result: parameter for parameter in source.parameters}
    terminator = source.ops[-1]
    for index in order[1:-1]:
        op = source.ops[index]
        for operand in op.operands:
            parameter = parameter_of.pop(operand, None)
            if parameter is not None:
                parameter.operation.move_before(terminator.operation)
        op.operation.move_before(terminator.operation)
