"""Meaning of the integer backward ops: exact integers, computed in int64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array
from tiny_dialect.block_float import (
    MANTISSA_BITS,
    aligning_shift,
    header,
    normalizing_shift,
    round_shift,
    saturate,
    sum_exponent,
)
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.semantics.convolution import convolve_input_gradient, effective_weight
from tiny_dialect.semantics.forward import trained_channels
from tiny_dialect.types import numpy_type, shape_of

Array = NDArray[Any]


def with_header(op: Any, mantissas: Array, exponent: int) -> list[Array]:
    """The two results of an op: mantissas in its result type, and their header."""
    stored = mantissas.astype(numpy_type(op.results[0])).reshape(shape_of(op.results[0]))
    return [stored, header(exponent, stored)]


def normalize_gradient(
    op: Any, g: Array, g_header: Array, mask: Array | None = None
) -> list[Array]:
    """Mask, multiply, shift to `bits` bits."""
    bits = op.attributes["bits"].value
    exponent, width = (int(value) for value in g_header)
    shift = normalizing_shift(width, bits, op.attributes["overshoot"].value)
    product = g.astype(np.int64) * to_array(op.attributes["multipliers"]).astype(np.int64)
    scaled = saturate(round_shift(product, shift), bits)
    spread = np.broadcast_to(scaled, shape_of(op.results[0]))
    kept = spread if mask is None else np.where(mask, spread, 0)
    return with_header(op, kept, exponent + op.attributes["scale"].value + shift)


def integer_add_gradients(
    op: Any, a: Array, a_header: Array, b: Array, b_header: Array
) -> list[Array]:
    """Both operands at the exponent of the sum, added, saturated."""
    target = sum_exponent(a_header, b_header)
    total = sum(
        round_shift(mantissas, aligning_shift(int(head[0]), target))
        for mantissas, head in ((a, a_header), (b, b_header))
    )
    return with_header(op, saturate(np.asarray(total), MANTISSA_BITS), target)


def integer_conv2d_input_grad(
    op: Any, g: Array, g_header: Array, w: Array, trained: Array | None = None
) -> list[Array]:
    """The transposed convolution, shifted into i16."""
    geo, shift = geometry(op), op.attributes["shift"].value
    weight = effective_weight(w, trained, trained_channels(op), geo.groups)
    # Sums stay below 2^31, where float64 is exact.
    sums = convolve_input_gradient(g, weight, geo, shape_of(op.results[0]))
    rounded = round_shift(np.rint(sums), shift)
    return with_header(op, saturate(rounded, MANTISSA_BITS), int(g_header[0]) + shift)
