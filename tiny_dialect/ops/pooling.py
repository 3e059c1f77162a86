"""Pooling ops: maximum and average over windows, means over whole axes, and their gradients.

Every gradient op is a sum over the windows that cover a pixel, so one of them serves for pads too:
`tiny.pad` is a window of one pixel.
"""

# pyright: reportInvalidTypeForm=false
# (the untyped bindings' own `Operand[...]` and `Result[...]` are field annotations here)

from dataclasses import dataclass
from typing import Any

from tiny_dialect.attributes import DenseArray, integers, to_list
from tiny_dialect.bindings import ext, ir
from tiny_dialect.namespace import Tiny
from tiny_dialect.ops.forward import (
    FULL_RANGE,
    require_clamp,
    require_factors,
    require_mask,
)
from tiny_dialect.ops.integer_backward import require_mantissas, require_within
from tiny_dialect.types import Shape, quantization, shape_of
from tiny_dialect.verify import (
    Violation,
    require,
    require_activation,
    require_element,
    require_rank,
    require_shape,
    typed,
    verifier,
)

Operand = ext.Operand
Result = ext.Result

_BYTE_TAPS = 128
MEAN_AXES = ([1, 2], [1], [2])


@dataclass(frozen=True)
class Window:
    """Kernel and strides (h, w) and pads (top, left, bottom, right) of a pool."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]

    @property
    def taps(self) -> int:
        """Pixels of a whole window."""
        return self.kernel[0] * self.kernel[1]

    def output_shape(self, x: Shape) -> Shape:
        """NHWC output shape for an NHWC input."""
        top, left, bottom, right = self.pads
        height = (x[1] + top + bottom - self.kernel[0]) // self.strides[0] + 1
        width = (x[2] + left + right - self.kernel[1]) // self.strides[1] + 1
        return (x[0], height, width, x[3])

    @property
    def cover(self) -> int:
        """The most windows that can hold one pixel."""
        rows, columns = (-(-k // s) for k, s in zip(self.kernel, self.strides, strict=True))
        return rows * columns


def window_of(op: Any) -> Window:
    """The window of any pooling op; raises `Violation` where its attributes are malformed."""
    try:
        kernel, strides, pads = (to_list(op.attributes[n]) for n in ("kernel", "strides", "pads"))
    except TypeError as error:
        raise Violation(str(error)) from error
    for what, pair in (("kernel", kernel), ("strides", strides)):
        require(
            len(pair) == 2 and min(pair) >= 1, f"expects two {what} sizes of at least 1, got {pair}"
        )
    require(len(pads) == 4 and min(pads) >= 0, f"expects four pads of at least 0, got {pads}")
    return Window(
        (kernel[0], kernel[1]), (strides[0], strides[1]), (pads[0], pads[1], pads[2], pads[3])
    )


def index_element(window: Window) -> str:
    """The element type that numbers the taps of a window, row by row."""
    return "i8" if window.taps <= _BYTE_TAPS else "i16"


def _require_windows(window: Window, x: Shape, y: Shape) -> None:
    expected = window.output_shape(x)
    require(min(expected) >= 1, f"has an empty output: kernel {list(window.kernel)} over {list(x)}")
    require(y == expected, f"expects shape {list(expected)} behind the windows, got {list(y)}")


def _require_pool(op: Any, x: Any, y: Any) -> Window:
    """Windows that each hold a pixel of the input, and one quantization; raises `Violation`."""
    require_activation(x, "x")
    require_activation(y, "y")
    window = window_of(op)
    _require_windows(window, shape_of(x), shape_of(y))
    top, left, bottom, right = window.pads
    require(
        max(top, bottom) < window.kernel[0] and max(left, right) < window.kernel[1],
        f"expects pads smaller than kernel {list(window.kernel)}, got {list(window.pads)}",
    )
    require(quantization(x) == quantization(y), "expects equal quantization of x and y")
    return window


class MaxPool2D(Tiny.Operation, name="max_pool2d", traits=[ext.Pure]):
    """The largest raw value of each window; what lies outside the input never counts.

    `argmax`, where present, is the tap (`row * width + column`) of the first largest value of the
    window, row by row; i8 for windows of at most 128 taps, else i16.
    Gradient: `max_pool2d_grad`.
    """

    x: Operand[Any]
    y: Result[Any]
    kernel: DenseArray
    argmax: Result[Any] | None = None
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, MaxPool2D)
        window = _require_pool(op, self.x, self.y)
        require(window.taps <= 2**15, f"expects at most 32768 taps, got {window.taps}")
        if self.argmax is not None:
            require_element(self.argmax, (index_element(window),), "argmax")
            require_shape(self.argmax, shape_of(self.y), "argmax")


class AveragePool2D(Tiny.Operation, name="average_pool2d", traits=[ext.Pure]):
    """The mean of the raw values of each window, half away from zero.

    At the border only the elements inside the input are summed and counted.
    Gradient: `average_pool2d_grad` (straight through the rounding).
    """

    x: Operand[Any]
    y: Result[Any]
    kernel: DenseArray
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, AveragePool2D)
        _require_pool(op, self.x, self.y)


class Mean(Tiny.Operation, name="mean", traits=[ext.Pure]):
    """The mean over whole axes (`[1, 2]`, `[1]` or `[2]`), rescaled, rounded once, clamped.

    `y = clamp(round(sum(x - z_x) * s_x / (n s_y)) + z_y)` with a Q31 multiplier.
    Gradient: `scale_gradient` by `s_x / s_y` behind the mask, then the gradient of the average.
    """

    x: Operand[Any]
    y: Result[Any]
    axes: DenseArray
    mask: Result[Any] | None = None
    clamp: DenseArray = ext.attribute(default_factory=lambda: integers(FULL_RANGE))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, Mean)
        require_activation(self.x, "x")
        require_activation(self.y, "y")
        axes = to_list(self.axes)
        require(axes in MEAN_AXES, f"expects axes [1, 2], [1] or [2], got {axes}")
        shape = shape_of(self.x)
        require_shape(self.y, [1 if axis in axes else n for axis, n in enumerate(shape)], "y")
        require_factors(mean_factor(self))
        require_clamp(op)
        require_mask(self.mask, self.y)


def mean_count(op: Any) -> int:
    """How many values a `mean` sums for each result."""
    count = 1
    for axis in to_list(op.attributes["axes"]):
        count *= shape_of(op.operands[0])[axis]
    return count


def mean_factor(op: Any) -> float:
    """What a `mean` multiplies a sum with: `s_x / (n s_y)`."""
    scale_x, scale_y = quantization(op.operands[0])[0], quantization(op.results[0])[0]
    return scale_x / (scale_y * mean_count(op))


class MaxPool2DGrad(Tiny.Operation, name="max_pool2d_grad", traits=[ext.Pure]):
    """`gx[p] = sum of g[o] over the windows o whose largest value was at p`."""

    g: Operand[Any]
    argmax: Operand[Any]
    gx: Result[Any]
    kernel: DenseArray
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, MaxPool2DGrad)
        window = _require_gradient(op, self.g, self.gx, ("f32",))
        require_element(self.argmax, (index_element(window),), "argmax")
        require_shape(self.argmax, shape_of(self.g), "argmax")


class AveragePool2DGrad(Tiny.Operation, name="average_pool2d_grad", traits=[ext.Pure]):
    """`gx[p] = sum of g[o] / n[o] over the windows o that hold p`; n counts valid elements."""

    g: Operand[Any]
    gx: Result[Any]
    kernel: DenseArray
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, AveragePool2DGrad)
        _require_gradient(op, self.g, self.gx, ("f32",))


def _require_gradient(op: Any, g: Any, gx: Any, elements: tuple[str, ...]) -> Window:
    for value, what in ((g, "g"), (gx, "gx")):
        require_rank(value, 4, what)
        require_element(value, elements, what)
    window = window_of(op)
    _require_windows(window, shape_of(gx), shape_of(g))
    return window


class IntegerPool2DGrad(Tiny.Operation, name="integer_pool2d_grad", traits=[ext.Pure]):
    """`gx[p] = saturate(round(sum g[o] * 2^-shift))` in i16 over the windows o that hold p.

    With `argmax` only the windows whose largest value was at p. Exponent `exponent + shift`.
    The division of an average is a factor of the gradient that the next op applies.
    """

    g: Operand[Any]
    g_header: Operand[Any]
    gx: Result[Any]
    gx_header: Result[Any]
    kernel: DenseArray
    shift: ir.IntegerAttr
    argmax: Operand[Any] | None = None
    strides: DenseArray = ext.attribute(default_factory=lambda: integers([1, 1]))
    pads: DenseArray = ext.attribute(default_factory=lambda: integers([0, 0, 0, 0]))

    @verifier
    def verify_invariants(op: Any) -> None:
        self = typed(op, IntegerPool2DGrad)
        require_mantissas(self.g, self.g_header, "g")
        require_mantissas(self.gx, self.gx_header, "gx", ("i16",))
        require_within(op, "shift", 0, 15)
        window = _require_gradient(op, self.g, self.gx, ("i8", "i16"))
        require(window.cover <= 2**15, f"has pixels in {window.cover} windows, at most 32768")
        if self.argmax is not None:
            require_element(self.argmax, (index_element(window),), "argmax")
            require_shape(self.argmax, shape_of(self.g), "argmax")
