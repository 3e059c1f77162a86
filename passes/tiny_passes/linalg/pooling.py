"""Rules of the pooling ops: one reduction over the taps of a window, forward and backward.

Forward, a window is a shifted view of the padded input. Backward, each input pixel sums over the
taps with which some window may hold it; a tap that belongs to no window adds zero.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.block_float import MANTISSA_BITS
from tiny_dialect.fixed_point import quantize_multiplier
from tiny_dialect.ops.pooling import Window, mean_factor, window_of
from tiny_dialect.semantics.pooling import valid_counts
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_passes.linalg.block_float import EXPONENT, header_part, round_shift, saturate, with_header
from tiny_passes.linalg.convolution import pad_spatial
from tiny_passes.linalg.forward import as_list, clamp_with_mask, result_elements
from tiny_passes.linalg.scalars import Scalar, number
from tiny_passes.linalg.tensors import (
    constant,
    dims,
    elementwise,
    empty,
    expand,
    extract,
    filled,
    generic,
    loop_index,
    zeros,
)

_BELOW_ALL = -129
"""Less than every int8: padding is never the largest."""


def _padded(x: Any, window: Window, y: tuple[int, ...], element: str, fill: int) -> Any:
    """`x` in a wider type, padded and cropped to what the windows of an output `y` cover."""
    wide = elementwise([x], [element], lambda value: value.to(element))
    _, height, width, _ = shape_of(x)
    top, left, _, _ = window.pads
    bottom = (y[1] - 1) * window.strides[0] + window.kernel[0] - height - top
    right = (y[2] - 1) * window.strides[1] + window.kernel[1] - width - left
    return pad_spatial(wide, (top, left, bottom, right), fill)


def _over_windows(x: Any, window: Window, targets: list[Any], body: Callable[..., Any]) -> Any:
    """Reduce the windows of a padded `x` into `targets`, [1, OH, OW, C]."""
    batch, row, column, channel, u, v = dims(6)
    place = [
        batch,
        row * window.strides[0] + u,
        column * window.strides[1] + v,
        channel,
    ]
    # Its shape alone is read: it says how many taps there are.
    taps = (empty(window.kernel, "i8"), [u, v])
    results = [(target, [batch, row, column, channel]) for target in targets]
    return generic([(x, place), taps], results, "pppprr", body)


def max_pool2d(op: Any, x: Any) -> list[Any]:
    """The largest value of each window; the first of equal ones."""
    window, shape = window_of(op), shape_of(op.results[0])
    padded = _padded(x, window, shape, "i16", _BELOW_ALL)
    lowest = filled(shape, "i16", _BELOW_ALL)
    if len(op.results) == 1:
        largest = _over_windows(
            padded, window, [lowest], lambda value, _, best: value.at_least(best)
        )
        return [elementwise([largest], ["i8"], lambda value: value.to("i8"))]
    element = element_name(op.results[1])

    def body(value: Scalar, _: Scalar, best: Scalar, tap: Scalar) -> tuple[Scalar, Scalar]:
        own = loop_index(4) * window.kernel[1] + loop_index(5)
        better = value.compare("gt", best)
        return better.select(value, best), better.select(own.to("i32"), tap)

    targets = [lowest, zeros(shape, "i32")]
    largest, tap = _over_windows(padded, window, targets, body)
    return [
        elementwise([largest], ["i8"], lambda value: value.to("i8")),
        elementwise([tap], [element], lambda value: value.to(element)),
    ]


def average_pool2d(op: Any, x: Any) -> list[Any]:
    """The mean of the valid elements, half away from zero."""
    window, shape = window_of(op), shape_of(op.results[0])
    padded = _padded(x, window, shape, "i32", 0)
    total = _over_windows(
        padded, window, [zeros(shape, "i32")], lambda value, _, carried: carried + value
    )

    def body(value: Scalar, count: Scalar, _: Scalar) -> Scalar:
        size = value.at_least(number(0, value.type) - value)
        rounded = (size * 2 + count) // (count * 2)
        negative = number(0, value.type) - rounded
        return value.compare("lt", 0).select(negative, rounded).to("i8")

    return [_with_counts(op, total, valid_counts(window, shape_of(x)), "i8", body)]


def _with_counts(op: Any, x: Any, counts: Any, element: str, body: Callable[..., Any]) -> Any:
    """`body` over `x` and the number that belongs to each pixel."""
    loops = dims(4)
    table = constant(counts[..., 0].astype(np.int32 if element == "i8" else np.float32))
    target = empty(shape_of(x), element)
    return generic([(x, loops), (table, loops[1:3])], [(target, loops)], "pppp", body)


def mean(op: Any, x: Any) -> list[Any]:
    """The sum without zero points, rescaled with one rounding in 64 bits, clamped."""
    (_, zero_x), (_, zero_y) = quantization(op.operands[0]), quantization(op.results[0])
    axes, shape = to_list(op.attributes["axes"]), shape_of(op.results[0])
    multiplier, shift = quantize_multiplier(mean_factor(op))
    kept = [axis for axis in range(4) if axis not in axes]
    loops = dims(4)
    order = [loops[(kept + axes).index(axis)] for axis in range(4)]
    total = generic(
        [(x, order)],
        [(zeros([shape[axis] for axis in kept], "i32"), loops[: len(kept)])],
        "p" * len(kept) + "r" * len(axes),
        lambda value, carried: carried + (value.to("i32") - zero_x),
    )

    def body(value: Scalar) -> Any:
        scaled = (value.to("i64") * multiplier + (1 << (shift - 1))) >> shift
        return clamp_with_mask(op, scaled + zero_y)

    results = as_list(elementwise([total], result_elements(op), body))
    return [expand(result, shape) for result in results]


def _by_pixel(op: Any, g: Any, argmax: Any | None, element: str) -> Any:
    """Sums of `g` over the windows that hold each input pixel, in `element`."""
    window, shape = window_of(op), shape_of(op.results[0])
    _, rows, columns, _ = shape_of(g)
    batch, y, x, channel, u, v = dims(6)
    place = [batch, y, x, channel]

    def body(_: Scalar, carried: Scalar) -> Scalar:
        row, is_row = _window_at(1, 4, 0, rows, window)
        column, is_column = _window_at(2, 5, 1, columns, window)
        position = [loop_index(0), row, column, loop_index(3)]
        value = extract(g, position).to(element)
        counts = is_row & is_column.to("i1")
        if argmax is not None:
            own = loop_index(4) * window.kernel[1] + loop_index(5)
            chosen = extract(argmax, position).to("i32").compare("eq", own.to("i32"))
            counts = counts & chosen.to("i1")
        return carried + counts.select(value, 0)

    taps = (empty(window.kernel, "i8"), [u, v])
    return generic([taps], [(zeros(shape, element), place)], "pppprr", body)


def _window_at(
    axis: int, tap_axis: int, side: int, outputs: int, window: Window
) -> tuple[Scalar, Scalar]:
    """(the window that reads this pixel with this tap, limited; whether there is one)."""
    stride = window.strides[side]
    behind = loop_index(axis) + window.pads[side] - loop_index(tap_axis)
    output = behind // stride
    exact = (output * stride).compare("eq", behind)
    inside = output.compare("ge", 0) & output.compare("lt", outputs).to("i1")
    return output.at_least(0).at_most(outputs - 1), exact & inside.to("i1")


def max_pool2d_grad(op: Any, g: Any, argmax: Any) -> list[Any]:
    """The gradient of each window at its largest value."""
    return [_by_pixel(op, g, argmax, "f32")]


def average_pool2d_grad(op: Any, g: Any) -> list[Any]:
    """The gradient of each window times the float32 reciprocal of its count."""
    counts = valid_counts(window_of(op), shape_of(op.results[0]))
    reciprocals = (1.0 / np.maximum(counts, 1)).astype(np.float32)
    shares = _with_counts(op, g, reciprocals, "f32", lambda value, share, _: value * share)
    return [_by_pixel(op, shares, None, "f32")]


def integer_pool2d_grad(op: Any, g: Any, g_header: Any, argmax: Any | None = None) -> list[Any]:
    """The sums of mantissas, shifted into i16."""
    shift = op.attributes["shift"].value
    total = _by_pixel(op, g, argmax, "i32")

    def body(value: Scalar) -> Scalar:
        return saturate(round_shift(value, shift), MANTISSA_BITS).to("i16")

    exponent = elementwise([header_part(g_header, EXPONENT)], ["i32"], lambda e: e + shift)
    return with_header(elementwise([total], ["i16"], body), exponent)
