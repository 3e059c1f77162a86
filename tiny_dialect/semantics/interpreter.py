"""Runs a function of the dialect on NumPy arrays, op by op in program order."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

_MEANING: dict[str, Callable[..., list[Array]]] = {
    f"tiny.{function.__name__}": function
    for function in (
        forward.parameter,
        forward.conv2d,
        forward.add,
        forward.global_average_pool,
        forward.gather_channels,
        forward.dequantize,
        forward.linear,
        forward.softmax_cross_entropy,
        backward.softmax_cross_entropy_grad,
        backward.linear_input_grad,
        backward.linear_weight_grad,
        backward.scale_gradient,
        backward.add_gradients,
        backward.global_average_pool_grad,
        backward.conv2d_input_grad,
        backward.conv2d_weight_grad,
        backward.bias_grad,
        update.apply_update,
        update.conv2d_weight_update,
        update.bias_update,
        update.linear_weight_update,
        update.stochastic_update,
        update.stochastic_conv2d_weight_update,
        update.advance_counter,
        update.clear,
        pooling.max_pool2d,
        pooling.average_pool2d,
        pooling.mean,
        pooling.max_pool2d_grad,
        pooling.average_pool2d_grad,
        pooling.integer_pool2d_grad,
        layout.requantize,
        layout.pad,
        layout.reshape,
        integer_backward.normalize_gradient,
        integer_backward.integer_add_gradients,
        integer_backward.integer_conv2d_input_grad,
        integer_update.integer_conv2d_weight_update,
        integer_update.integer_stochastic_conv2d_weight_update,
        integer_update.integer_bias_update,
        integer_update.integer_linear_weight_update,
        integer_head.dequantize_fixed,
        integer_head.fixed_to_float,
        integer_head.integer_linear,
        integer_head.integer_linear_input_grad,
        integer_head.integer_softmax_cross_entropy,
        integer_head.integer_softmax_cross_entropy_grad,
    )
}


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
