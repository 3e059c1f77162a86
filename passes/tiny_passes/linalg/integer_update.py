"""Rules of the integer updates: each returns the new value of the parameter's storage."""

from typing import Any

from tiny_dialect.attributes import to_list
from tiny_dialect.block_float import HEAD_ALIGN, PRODUCT_SHIFT
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.semantics.update import BIAS_LIMIT
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_passes.linalg.block_float import step_multipliers
from tiny_passes.linalg.convolution import convolve_weight_gradient, pad_for
from tiny_passes.linalg.scalars import Scalar
from tiny_passes.linalg.tensors import (
    channel_sums,
    dims,
    elementwise,
    empty,
    flatten,
    gather,
    generic,
)

_RANGES = {"i16": (-(2**15), 2**15 - 1), "i32": (-BIAS_LIMIT, BIAS_LIMIT)}


def _apply(op: Any, parameter: Any, total: Any, g_header: Any, rate: Any, align: int) -> Any:
    """`parameter - ((total << align) * K + 2^31 >> 32)` within the range of the storage."""
    element = element_name(parameter)
    low, high = _RANGES[element]
    multipliers = step_multipliers(op, g_header, rate, align)

    def body(old: Scalar, acc: Scalar, k: Scalar) -> Scalar:
        product = acc.to("i64") * (1 << align) * k
        step = (product + (1 << (PRODUCT_SHIFT - 1))) >> PRODUCT_SHIFT
        inside = (old.to("i64") - step).at_most(high).at_least(low).to(element)
        return step.compare("eq", 0).select(old, inside)

    return elementwise([parameter, total, multipliers], [element], body, channel_first=True)


def integer_conv2d_weight_update(
    op: Any, parameter: Any, x: Any, g: Any, g_header: Any, rate: Any
) -> Any:
    """The weight gradient of the mantissas, stepped into the master."""
    _, zero = quantization(op.x)
    geo, shape = geometry(op), shape_of(parameter)
    if "output_channels" in op.attributes:
        g = gather(g, 3, to_list(op.attributes["output_channels"]))
    centred = elementwise([x], ["i32"], lambda q: q.to("i32") - zero)
    wide = elementwise([g], ["i32"], lambda value: value.to("i32"))
    sums = convolve_weight_gradient(pad_for(centred, geo, shape, 0), wide, geo, shape)
    return _apply(op, parameter, sums, g_header, rate, 0)


def integer_bias_update(op: Any, parameter: Any, g: Any, g_header: Any, rate: Any) -> Any:
    """The channel sums of the mantissas, stepped into the bias."""
    align = op.attributes["align"].value
    return _apply(op, parameter, channel_sums(g, "i32"), g_header, rate, align)


def integer_linear_weight_update(
    op: Any, parameter: Any, x: Any, g: Any, g_header: Any, rate: Any
) -> Any:
    """The outer product of the mantissas and the centred input, stepped into the head."""
    _, zero = quantization(op.x)
    k, c = dims(2)
    products = generic(
        [(flatten(g), [k]), (flatten(x), [c])],
        [(empty(shape_of(parameter), "i32"), [k, c])],
        "pp",
        lambda gradient, value, _: gradient.to("i32") * (value.to("i32") - zero),
    )
    return _apply(op, parameter, products, g_header, rate, HEAD_ALIGN)
