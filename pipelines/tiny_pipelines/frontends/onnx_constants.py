"""What an ONNX graph computes from constants alone: quantized weights, and arithmetic on shapes.

Exporters write a flattened batch as Shape, Gather, Concat, Reshape, and pads as a small graph of
their own; quantizers of weights leave QuantizeLinear behind a float constant. All of it is known
when the file is read, so it is computed here, and no layer comes of it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.onnx_file import KINDS, Node

Array = NDArray[Any]
Fold = Callable[[Node, Sequence[Array | None]], Array]

_FOLDS: dict[str, Fold] = {}
_VIEWS = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_MAX_ELEMENTS = 256
"""Of an operand and of a result, except of a view: shapes and pads have a few."""
_ARITHMETIC = (KINDS[1], KINDS[6], KINDS[7])


def folded(node: Node, operands: Sequence[Array | None]) -> Array | None:
    """What `node` computes from these constants, None for one left out.

    None where no operand is given, one is large, or the operator is not one of shape arithmetic.
    Raises `InvalidModel` at the node for operands that do not fit it.
    """
    given = [operand for operand in operands if operand is not None]
    fold, bounded = _FOLDS.get(node.type), node.type not in _VIEWS
    if fold is None or not given or (bounded and any(map(_is_large, given))):
        return None
    try:
        with np.errstate(all="raise"):
            result = np.asarray(fold(node, operands))
    except (ArithmeticError, IndexError, TypeError, ValueError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        node.fail(f"cannot be computed from its constants: {reason}")
    if bounded and _is_large(result):
        node.fail(f"computes a constant of {result.size} elements; expected {_MAX_ELEMENTS}")
    return result


def _is_large(array: Array) -> bool:
    return array.size > _MAX_ELEMENTS


def quantized(values: Array, scales: Array, zeros: Array, axis: int) -> Array:
    """The integers of float32 `values` as QuantizeLinear rounds them, of the type of `zeros`.

    `scales` (float32) and `zeros` are one number each, or one an index of `axis`.
    """
    shape = [1] * values.ndim
    if scales.size > 1:
        shape[axis] = scales.size
    limits = np.iinfo(zeros.dtype)
    with np.errstate(over="ignore"):
        units = np.rint(values / scales.reshape(shape)) + zeros.reshape(shape).astype(np.float32)
    return np.asarray(np.clip(units, limits.min, limits.max).astype(zeros.dtype))


def _folds(name: str) -> Callable[[Fold], Fold]:
    def register(fold: Fold) -> Fold:
        _FOLDS[name] = fold
        return fold

    return register


def _operand(operands: Sequence[Array | None], number: int) -> Array:
    found = operands[number] if number < len(operands) else None
    if found is None:
        raise ValueError(f"input {number} is missing")
    return found


def _axes(node: Node, operands: Sequence[Array | None]) -> tuple[int, ...] | None:
    """Axes as an attribute (older operator sets) or as input 1."""
    listed = node.integers("axes", None)
    if len(operands) > 1 and operands[1] is not None:
        listed = [int(axis) for axis in operands[1].reshape(-1)]
    return None if listed is None else tuple(listed)


@_folds("Identity")
def _identity(node: Node, operands: Sequence[Array | None]) -> Array:
    return _operand(operands, 0)


@_folds("Gather")
def _gather(node: Node, operands: Sequence[Array | None]) -> Array:
    return np.take(_operand(operands, 0), _operand(operands, 1), axis=node.integer("axis", 0))


@_folds("Concat")
def _concat(node: Node, operands: Sequence[Array | None]) -> Array:
    parts = [_operand(operands, number) for number in range(len(operands))]
    return np.concatenate(parts, axis=node.integer("axis", 0))


@_folds("Squeeze")
def _squeeze(node: Node, operands: Sequence[Array | None]) -> Array:
    return np.squeeze(_operand(operands, 0), axis=_axes(node, operands))


@_folds("Unsqueeze")
def _unsqueeze(node: Node, operands: Sequence[Array | None]) -> Array:
    return np.expand_dims(_operand(operands, 0), _axes(node, operands) or ())


@_folds("Reshape")
def _reshape(node: Node, operands: Sequence[Array | None]) -> Array:
    x = _operand(operands, 0)
    wanted = [int(size) for size in _operand(operands, 1).reshape(-1)]
    if not node.integer("allowzero", 0):
        wanted = [size or x.shape[axis] for axis, size in enumerate(wanted)]
    return x.reshape(wanted)


@_folds("Transpose")
def _transpose(node: Node, operands: Sequence[Array | None]) -> Array:
    return np.transpose(_operand(operands, 0), node.integers("perm", None))


@_folds("Slice")
def _slice(node: Node, operands: Sequence[Array | None]) -> Array:
    x = _operand(operands, 0)
    given = [None if found is None else found.reshape(-1) for found in (*operands[1:], *[None] * 4)]
    starts, ends, axes, steps = given[:4]
    if starts is None or ends is None:
        raise ValueError("starts or ends are missing")
    chosen = [slice(None)] * x.ndim
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = number if axes is None else int(axes[number])
        step = 1 if steps is None else int(steps[number])
        # Far below zero means before the first, which a slice backwards has no number for.
        before_first = step < 0 and end < -x.shape[axis]
        chosen[axis] = slice(int(start), None if before_first else int(end), step)
    return x[tuple(chosen)]


@_folds("Cast")
def _cast(node: Node, operands: Sequence[Array | None]) -> Array:
    kind = KINDS.get(node.integer("to", 0))
    if kind not in _ARITHMETIC:
        raise ValueError("it casts to a type that is not read")
    return _operand(operands, 0).astype(kind)


@_folds("ConstantOfShape")
def _constant_of_shape(node: Node, operands: Sequence[Array | None]) -> Array:
    shape = [int(size) for size in _operand(operands, 0).reshape(-1)]
    if min(shape, default=0) < 0 or math.prod(shape) > _MAX_ELEMENTS:
        raise ValueError(f"its shape is {shape[:4]}")
    value = node.tensor("value")
    return np.zeros(shape, np.float32) if value is None else np.resize(value, shape)


def _integer_division(a: Array, b: Array) -> Array:
    """Towards zero, as in C."""
    return np.sign(a) * np.sign(b) * (abs(a) // abs(b))


def _divided(a: Array, b: Array) -> Array:
    return a / b if a.dtype.kind == "f" else _integer_division(a, b)


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divided,
}


def _binary(node: Node, operands: Sequence[Array | None]) -> Array:
    a, b = _operand(operands, 0), _operand(operands, 1)
    if a.dtype != b.dtype or a.dtype not in _ARITHMETIC:
        raise ValueError(f"it reads {a.dtype} and {b.dtype}")
    return _BINARY[node.type](a, b)


_FOLDS.update(dict.fromkeys(_BINARY, _binary))
