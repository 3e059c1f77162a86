"""Rules of the integer backward ops: 32-bit sums, bit for bit those of the semantics."""

from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array
from tiny_dialect.block_float import MANTISSA_BITS, MULTIPLIER_BITS
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import element_name, shape_of
from tiny_passes.linalg.block_float import (
    EXPONENT,
    WIDTH,
    header_part,
    round_shift,
    saturate,
    with_header,
)
from tiny_passes.linalg.convolution import convolve_input_gradient
from tiny_passes.linalg.forward import trained_channels
from tiny_passes.linalg.scalars import Scalar, number
from tiny_passes.linalg.tensors import constant, elementwise, flatten
from tiny_passes.linalg.weights import effective_weight

_LOWEST = -(2**30)


def normalize_gradient(op: Any, g: Any, g_header: Any, mask: Any | None = None) -> list[Any]:
    """Mask, multiply, shift to `bits` bits."""
    bits, scale = op.attributes["bits"].value, op.attributes["scale"].value
    base = MULTIPLIER_BITS - bits - op.attributes["overshoot"].value
    width, exponent = header_part(g_header, WIDTH), header_part(g_header, EXPONENT)
    shift = elementwise([width], ["i32"], lambda w: (w + base).at_least(1))
    shape, element = shape_of(op.results[0]), element_name(op.results[0])
    multipliers = to_array(op.attributes["multipliers"]).astype(np.int32)
    spread = shape_of(g) != shape

    def body(value: Scalar, m: Scalar, s: Scalar, *kept: Scalar) -> Scalar:
        scaled = saturate(round_shift(value.to("i32") * m, s), bits).to(element)
        return kept[0].compare("ne", 0).select(scaled, 0) if kept else scaled

    by_channel = np.broadcast_to(multipliers, (shape[-1],))
    operands = [flatten(g) if spread else g, constant(by_channel), shift]
    mantissas = elementwise(
        operands if mask is None else [*operands, mask], [element], body, shape=shape
    )
    total = elementwise([exponent, shift], ["i32"], lambda e, s: e + s + scale)
    return with_header(mantissas, total)


def integer_add_gradients(op: Any, a: Any, a_header: Any, b: Any, b_header: Any) -> list[Any]:
    """Both operands at the exponent of the sum, added, saturated."""
    parts = [header_part(h, part) for h in (a_header, b_header) for part in (EXPONENT, WIDTH)]

    def target(e_a: Scalar, w_a: Scalar, e_b: Scalar, w_b: Scalar) -> Scalar:
        lowest = number(_LOWEST, e_a.type)
        top_a = w_a.compare("eq", 0).select(lowest, e_a + w_a)
        top_b = w_b.compare("eq", 0).select(lowest, e_b + w_b)
        top = top_a.at_least(top_b)
        empty = (w_a | w_b).compare("eq", 0)
        return empty.select(e_a, top - (MANTISSA_BITS - 1))

    exponent = elementwise(parts, ["i32"], target)
    shifts = [
        elementwise([exponent, own], ["i32"], lambda t, e: (t - e).at_least(-15).at_most(31))
        for own in (parts[0], parts[2])
    ]

    def body(left: Scalar, right: Scalar, s_a: Scalar, s_b: Scalar) -> Scalar:
        total = round_shift(left.to("i32"), s_a) + round_shift(right.to("i32"), s_b)
        return saturate(total, MANTISSA_BITS).to("i16")

    return with_header(elementwise([a, b, *shifts], ["i16"], body), exponent)


def integer_conv2d_input_grad(
    op: Any, g: Any, g_header: Any, w: Any, trained: Any | None = None
) -> list[Any]:
    """The transposed convolution, shifted into i16."""
    geo, shift = geometry(op), op.attributes["shift"].value
    weight = effective_weight(w, trained, trained_channels(op), geo.groups)
    wide_w = elementwise([weight], ["i32"], lambda value: value.to("i32"))
    wide_g = elementwise([g], ["i32"], lambda value: value.to("i32"))
    sums = convolve_input_gradient(wide_g, wide_w, geo, shape_of(op.results[0]))

    def body(total: Scalar) -> Scalar:
        return saturate(round_shift(total, shift), MANTISSA_BITS).to("i16")

    exponent = elementwise([header_part(g_header, EXPONENT)], ["i32"], lambda e: e + shift)
    return with_header(elementwise([sums], ["i16"], body), exponent)
