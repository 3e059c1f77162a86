"""Tensor forms that the lowering rules are made of: linalg.generic, constants, padding, reshapes.

Every function builds ops at the current insertion point and location and returns SSA values.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.attributes import dense
from tiny_dialect.bindings import ir, load
from tiny_dialect.iree_util import OptimizationBarrier
from tiny_dialect.types import Shape, shape_of
from tiny_passes.linalg.scalars import Scalar, element_type, number

_arith = load("dialects.arith")
_linalg = load("dialects.linalg")
_tensor = load("dialects.tensor")

Body = Callable[..., Any]


def tensor_type(shape: Sequence[int], element: str) -> Any:
    """`tensor<shape x element>`."""
    return ir.RankedTensorType.get(list(shape), element_type(element))


def constant(values: Any) -> Any:
    """A dense constant of the array's shape and type (int8/16/32/64, float32)."""
    array = np.ascontiguousarray(values)
    if array.dtype == np.int64:
        attribute = ir.DenseElementsAttr.get(
            array, type=element_type("i64"), shape=list(array.shape)
        )
    else:
        attribute = dense(array)
    return _arith.ConstantOp(attribute.type, attribute).result


def empty(shape: Sequence[int], element: str) -> Any:
    """A tensor of unspecified content."""
    return _tensor.EmptyOp(list(shape), element_type(element)).result


def filled(shape: Sequence[int], element: str, value: float) -> Any:
    """A tensor of one value."""
    target = empty(shape, element)
    return _linalg.fill(number(value, element_type(element)).value, outs=[target])


def zeros(shape: Sequence[int], element: str) -> Any:
    """A tensor filled with zero."""
    return filled(shape, element, 0)


def dims(count: int) -> list[Any]:
    """The affine dimensions d0 ... d(count-1)."""
    return [ir.AffineExpr.get_dim(position) for position in range(count)]


def generic(
    inputs: Sequence[tuple[Any, Sequence[Any]]],
    outputs: Sequence[tuple[Any, Sequence[Any]]],
    loops: str,
    body: Body,
) -> Any:
    """`linalg.generic` over (value, index expressions) pairs.

    `loops` has one letter a loop: `p` parallel, `r` reduction. `body` takes one `Scalar` for each
    input and output and returns the new output scalar, or a tuple of them. Returns one value or a
    list.
    """
    values = [value for value, _ in inputs]
    targets = [value for value, _ in outputs]
    maps = [ir.AffineMap.get(len(loops), 0, list(exprs)) for _, exprs in (*inputs, *outputs)]
    kinds = {"p": "parallel", "r": "reduction"}
    op = _linalg.GenericOp(
        [value.type for value in targets],
        values,
        targets,
        ir.ArrayAttr.get([ir.AffineMapAttr.get(one) for one in maps]),
        ir.ArrayAttr.get(
            [ir.Attribute.parse(f"#linalg.iterator_type<{kinds[loop]}>") for loop in loops]
        ),
    )
    block = op.regions[0].blocks.append(*[v.type.element_type for v in (*values, *targets)])
    with ir.InsertionPoint(block):
        result = body(*[Scalar(argument) for argument in block.arguments])
        scalars = result if isinstance(result, tuple) else (result,)
        _linalg.YieldOp([scalar.value for scalar in scalars])
    return op.results[0] if len(targets) == 1 else list(op.results)


def loop_index(axis: int, element: str = "index") -> Scalar:
    """Inside a body: the index of a loop, converted to `element`."""
    return Scalar(_linalg.IndexOp(axis).result).to(element)


def extract(x: Any, position: Sequence[Scalar]) -> Scalar:
    """Inside a body: one element of a tensor."""
    return Scalar(_tensor.ExtractOp(x, [index.value for index in position]).result)


def _broadcast(shape: Shape, target: Shape, loops: list[Any], leading: bool) -> list[Any]:
    """Index expressions of an operand: equal shape, a scalar, or one value a channel."""
    if shape == target:
        return loops
    if len(shape) == 0:
        return []
    return [loops[0]] if leading else [loops[-1]]


def elementwise(
    inputs: Sequence[Any],
    elements: Sequence[str],
    body: Body,
    shape: Sequence[int] | None = None,
    channel_first: bool = False,
) -> Any:
    """`body` over every element; one result for each of `elements`.

    Operands have the shape of the result (that of the first input unless given), rank 1 (one value
    for each index of the last axis, or of the first with `channel_first`), or rank 0.
    """
    target = tuple(shape if shape is not None else shape_of(inputs[0]))
    loops = dims(len(target))
    count = len(inputs)
    return generic(
        [(v, _broadcast(shape_of(v), target, loops, channel_first)) for v in inputs],
        [(empty(target, element), loops) for element in elements],
        "p" * len(target),
        lambda *scalars: body(*scalars[:count]),
    )


def channel_sums(x: Any, element: str) -> Any:
    """Sums over every axis but the last, accumulated in `element`: shape [C]."""
    loops = dims(len(shape_of(x)))
    return generic(
        [(x, [*loops[1:], loops[0]])],
        [(zeros(shape_of(x)[-1:], element), [loops[0]])],
        "p" + "r" * (len(loops) - 1),
        lambda value, total: total + value.to(element),
    )


def opaque(x: Any) -> Any:
    """`x`, of whose values IREE may assume nothing.

    IREE loses all terms but one of a sum over a tensor that it has found to be constant (all
    elements equal, as where a clamp leaves one value): the sum's body no longer depends on the
    loop, and vectorization then drops the loop.
    """
    return OptimizationBarrier(result=x.type, value=x).result


def gather(x: Any, axis: int, indices: Sequence[int]) -> Any:
    """A copy of the chosen positions along one axis."""
    shape = tuple(len(indices) if i == axis else n for i, n in enumerate(shape_of(x)))
    table = constant(np.asarray(indices, np.int32))
    loops = dims(len(shape))

    def body(index: Scalar, _: Scalar) -> Scalar:
        position = [loop_index(i) for i in range(len(shape))]
        position[axis] = index.to("index")
        return extract(x, position)

    element = str(x.type.element_type)
    return generic(
        [(table, [loops[axis]])], [(empty(shape, element), loops)], "p" * len(shape), body
    )


def transpose(x: Any, order: Sequence[int]) -> Any:
    """Axis `i` of the result is axis `order[i]` of `x`."""
    shape = [shape_of(x)[axis] for axis in order]
    loops = dims(len(shape))
    source = [loops[list(order).index(axis)] for axis in range(len(shape))]
    target = empty(shape, str(x.type.element_type))
    return generic([(x, source)], [(target, loops)], "p" * len(shape), lambda value, _: value)


def pad_or_crop(x: Any, low: Sequence[int], high: Sequence[int], fill: float) -> Any:
    """`fill` around `x`; a negative amount removes elements instead."""
    element = x.type.element_type
    starts = [max(-before, 0) for before in low]
    ends = [n - max(-after, 0) for n, after in zip(shape_of(x), high, strict=True)]
    sizes = [max(end - start, 0) for start, end in zip(starts, ends, strict=True)]
    if 0 in sizes:
        # Nothing of x is left, and no tensor may be empty.
        whole = [n + sum(both) for n, *both in zip(shape_of(x), low, high, strict=True)]
        return filled(whole, str(element), fill)
    x = _slice(x, starts, sizes)
    low, high = [max(n, 0) for n in low], [max(n, 0) for n in high]
    if not any((*low, *high)):
        return x
    padded = [n + before + after for n, before, after in zip(sizes, low, high, strict=True)]
    value = number(fill, element)
    op = _tensor.PadOp(ir.RankedTensorType.get(padded, element), x, [], [], low, high)
    block = op.regions[0].blocks.append(*[element_type("index")] * len(padded))
    with ir.InsertionPoint(block):
        _tensor.YieldOp(value.value)
    return op.result


def _slice(x: Any, starts: Sequence[int], sizes: Sequence[int]) -> Any:
    if tuple(sizes) == shape_of(x):
        return x
    kept = ir.RankedTensorType.get(list(sizes), x.type.element_type)
    return _tensor.ExtractSliceOp(kept, x, [], [], [], starts, sizes, [1] * len(sizes)).result


def _groups_of_axes(fine: Sequence[int], coarse: Sequence[int]) -> list[list[int]]:
    """For each axis of `coarse`, the consecutive axes of `fine` that it is the product of."""
    groups: list[list[int]] = []
    position = 0
    for size in coarse:
        group = [position]
        product = fine[position]
        position += 1
        while product != size:
            group.append(position)
            product *= fine[position]
            position += 1
        groups.append(group)
    groups[-1].extend(range(position, len(fine)))
    return groups


def collapse(x: Any, shape: Sequence[int]) -> Any:
    """`x` with runs of axes merged into those of `shape`."""
    if tuple(shape) == shape_of(x):
        return x
    groups = _reassociation(_groups_of_axes(shape_of(x), shape) if len(shape) else [])
    target = ir.RankedTensorType.get(list(shape), x.type.element_type)
    return _tensor.CollapseShapeOp(target, x, groups).result


def expand(x: Any, shape: Sequence[int]) -> Any:
    """`x` with axes split into those of `shape`."""
    if tuple(shape) == shape_of(x):
        return x
    groups = _reassociation(_groups_of_axes(shape, shape_of(x)))
    target = ir.RankedTensorType.get(list(shape), x.type.element_type)
    return _tensor.ExpandShapeOp(target, x, groups, [], list(shape)).result


def _reassociation(groups: list[list[int]]) -> Any:
    i64 = element_type("i64")
    return ir.ArrayAttr.get(
        [ir.ArrayAttr.get([ir.IntegerAttr.get(i64, axis) for axis in group]) for group in groups]
    )


def flatten(x: Any) -> Any:
    """`x` as one axis."""
    return collapse(x, (prod(shape_of(x)),))


def reshape(x: Any, shape: Sequence[int]) -> Any:
    """`x` as `shape`, through one flat axis where neither splits into the other."""
    return x if tuple(shape) == shape_of(x) else expand(flatten(x), shape)
