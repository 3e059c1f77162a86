"""Runs a function of the dialect on NumPy arrays, op by op in program order."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.op_functions import functions_of_ops
from tiny_dialect.semantics import (
    backward,
    forward,
    integer_backward,
    integer_head,
    integer_update,
    layout,
    pooling,
    update,
)
from tiny_dialect.types import numpy_type, shape_of

Array = NDArray[Any]
State = dict[str, Array]
Observer = Callable[[Any, list[Array]], None]

_MEANING: dict[str, Callable[..., list[Array]]] = functions_of_ops(
    forward, backward, update, pooling, layout, integer_backward, integer_update, integer_head
)


def register_meaning(name: str, function: Callable[..., list[Array]]) -> None:
    """Give a user's op `name` its NumPy meaning: `function(op, *arrays) -> arrays`."""
    _MEANING[name] = function


def evaluate_op(op: Any, operands: Sequence[Array]) -> list[Array]:
    """The results of one op; an update writes `operands[0]` in place and returns an empty list."""
    meaning = _MEANING.get(op.operation.name)
    if meaning is None:
        raise NotImplementedError(f"no NumPy meaning for '{op.operation.name}'")
    return meaning(op, *operands)


def body_of(function: Any) -> Any:
    """The single block of a `func.func` or of a fused block."""
    return function.regions[0].blocks[0]


def fused_block(op: Any, *operands: Array) -> list[Array]:
    """Its region, op by op; nothing inside has a state of its own."""
    block = body_of(op)
    values: dict[Any, Array] = dict(zip(block.arguments, operands, strict=True))
    for inner in block:
        arrays = [values[operand] for operand in inner.operands]
        if inner.operation.name == "tiny.yield":
            return arrays
        values.update(zip(inner.results, evaluate_op(inner, arrays), strict=True))
    raise ValueError("the fused block yields nothing")


register_meaning("tiny.fused_block", fused_block)


def initial_state(function: Any) -> State:
    """A fresh copy of every trained parameter of the function, by symbol."""
    return {
        op.attributes["symbol"].value: forward.parameter(op)[0].copy()
        for op in body_of(function)
        if op.operation.name == "tiny.parameter" and "trained" in op.attributes
    }


def _checked_argument(argument: Any, value: Any) -> Array:
    array = np.asarray(value)
    if array.shape != shape_of(argument) or array.dtype != numpy_type(argument):
        raise ValueError(
            f"expected {argument.type}, got {array.dtype} array of shape {array.shape}"
        )
    return array


def run(
    function: Any,
    arguments: Sequence[Any],
    state: State | None = None,
    observe: Observer | None = None,
) -> list[Array]:
    """The returned arrays of one call.

    `arguments` are arrays of the argument types (int8 NHWC for quantized ones). `state` holds the
    trained parameters by symbol and is updated in place; without it a fresh initial state is used
    and dropped. `observe(op, results)` sees every op. Raises `ValueError` for arguments of the
    wrong shape or type.
    """
    block = body_of(function)
    if len(arguments) != len(block.arguments):
        raise ValueError(f"expected {len(block.arguments)} arguments, got {len(arguments)}")
    if state is None:
        state = initial_state(function)
    values: dict[Any, Array] = {
        argument: _checked_argument(argument, value)
        for argument, value in zip(block.arguments, arguments, strict=True)
    }
    for op in block:
        operands = [values[operand] for operand in op.operands]
        if op.operation.name == "func.return":
            return operands
        if op.operation.name == "tiny.parameter" and "trained" in op.attributes:
            results = [state[op.attributes["symbol"].value]]
        else:
            results = evaluate_op(op, operands)
        values.update(zip(op.results, results, strict=True))
        if observe is not None:
            observe(op, results)
    raise ValueError("the function has no return")
