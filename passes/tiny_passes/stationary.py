"""Which channels of a trained parameter no update can move.

Rescaling gives a dead channel, one whose weights are almost zero, a factor of 0. An integer update
with a factor of 0 takes a step of 0 whatever the gradient and the rate are, so the channel keeps
its initial value for ever, and kernels may count on it. (A float one makes NaN of an infinite
rate.)
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array
from tiny_dialect.ops import Parameter
from tiny_dialect.types import shape_of
from tiny_passes.graph import body, users
from tiny_passes.prune_backward import UPDATES

_INTEGER = "tiny.integer_"


def stationary_channels(parameter: Any) -> NDArray[np.bool_]:
    """Per channel (axis 0) of a trained `tiny.parameter`: True where every update leaves it alone.

    All functions of the module count; without any update there, nothing is known, so nothing stays.
    """
    count = shape_of(parameter.result)[0]
    updates = [op for same in _copies(parameter) for op in _updates(same)]
    stays = np.full(count, bool(updates))
    for update in updates:
        exact = update.operation.name.startswith(_INTEGER)
        stays &= exact & (to_array(update.attributes["factors"]) == 0)
    return stays


def _updates(parameter: Any) -> Iterator[Any]:
    for op in users(parameter.result):
        if op.operation.name in UPDATES and op.operands[0] == parameter.result:
            yield op


def _copies(parameter: Any) -> Iterator[Any]:
    """The parameter in every function beside its own: the same symbol is the same storage."""
    function = parameter.operation.parent
    if function is None or function.operation.parent is None:
        yield parameter
        return
    for other in function.operation.block:
        if other.operation.name != "func.func" or other.is_external:
            continue
        for op in body(other):
            if isinstance(op, Parameter) and op.symbol.value == parameter.symbol.value:
                yield op
