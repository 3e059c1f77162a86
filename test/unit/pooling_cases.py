"""Random cases of the ops between convolutions: pools, means, borders, rescalings, reshapes."""

from typing import Any

import numpy as np
from kernel_case import Case, Maker

from tiny_dialect import ops
from tiny_dialect.attributes import integer, integers
from tiny_dialect.block_float import header
from tiny_dialect.ops.pooling import Window, index_element
from tiny_dialect.types import quantized, tensor

Shape = tuple[int, int, int]

# Odd channels, non-square, borders on every side, overlap, gaps, one dimension, the whole image.
SQUARE = (Window((2, 2), (2, 2), (0, 0, 0, 0)), (6, 8, 5))
OVERLAP = (Window((3, 3), (2, 2), (1, 1, 1, 1)), (7, 6, 13))
UNEVEN = (Window((3, 2), (1, 2), (0, 1, 2, 0)), (5, 4, 3))
GAPS = (Window((1, 2), (3, 4), (0, 0, 0, 1)), (7, 9, 2))
ONE_AXIS = (Window((1, 5), (1, 3), (0, 4, 0, 2)), (1, 20, 7))
WHOLE = (Window((4, 3), (1, 1), (0, 0, 0, 0)), (4, 3, 8))
PIXEL = (Window((1, 1), (1, 1), (0, 0, 0, 0)), (1, 1, 1))
WIDE = (Window((12, 12), (5, 5), (3, 3, 3, 3)), (13, 14, 3))
WINDOWS = (SQUARE, OVERLAP, UNEVEN, GAPS, ONE_AXIS, WHOLE, PIXEL, WIDE)


def attributes(window: Window) -> dict[str, Any]:
    return {
        "kernel": integers(window.kernel),
        "strides": integers(window.strides),
        "pads": integers(window.pads),
    }


def pool(
    seed: int, op_class: Any, window: Window, shape: Shape, ties: bool, **results: Any
) -> Case:
    make = Maker(seed)
    zero = make.zero_point()
    x = make.activation(shape, 0.1, zero, (-3, 3) if ties else (-128, 128))
    y = quantized(window.output_shape((1, *shape)), 0.1, zero)
    label = f"{op_class.__name__} {seed} {window} {shape}"
    return make.case(label, op_class, x, y, **results, **attributes(window))


def max_pool2d(seed: int, window: Window, shape: Shape, argmax: bool) -> Case:
    kind = tensor(window.output_shape((1, *shape)), index_element(window))
    extra = {"argmax": kind} if argmax else {}
    return pool(seed, ops.MaxPool2D, window, shape, seed % 2 == 0, **extra)


def average_pool2d(seed: int, window: Window, shape: Shape) -> Case:
    return pool(seed, ops.AveragePool2D, window, shape, seed % 2 == 0)


def taps(make: Maker, window: Window, y: Any) -> Any:
    element = index_element(window)
    array = make.rng.integers(0, window.taps, y).astype(np.int8 if element == "i8" else np.int16)
    return make.argument(tensor(y, element), array)


def pool_grad(seed: int, window: Window, shape: Shape, largest: bool) -> Case:
    make = Maker(seed)
    y = window.output_shape((1, *shape))
    operands = [make.floats(y)]
    if largest:
        operands.append(taps(make, window, y))
    op_class = ops.MaxPool2DGrad if largest else ops.AveragePool2DGrad
    label = f"{op_class.__name__} {seed} {window} {shape}"
    gx = tensor((1, *shape), "f32")
    return make.case(label, op_class, *operands, gx, exact=False, **attributes(window))


def integer_pool_grad(seed: int, window: Window, shape: Shape, largest: bool, shift: int) -> Case:
    make = Maker(seed)
    y = window.output_shape((1, *shape))
    element = ("i16", "i8")[seed % 2]
    info = np.iinfo(np.int16 if element == "i16" else np.int8)
    array = make.rng.integers(info.min, info.max + 1, y).astype(info.dtype)
    g = make.argument(tensor(y, element), array)
    head = make.argument(tensor((2,), "i32"), header(int(make.rng.integers(-30, 5)), array))
    extra = {"argmax": taps(make, window, y)} if largest else {}
    kinds = (tensor((1, *shape), "i16"), tensor((2,), "i32"))
    label = f"integer_pool2d_grad {seed} {window} {shape} {largest}"
    names = attributes(window)
    kernel = names.pop("kernel")
    return make.case(
        label, ops.IntegerPool2DGrad, g, head, *kinds, kernel, integer(shift), **extra, **names
    )


def mean(seed: int, shape: Shape, axes: Any, scales: Any = (0.1, 0.03), mask: bool = False) -> Case:
    make = Maker(seed)
    x = make.activation(shape, scales[0], make.zero_point())
    kept = tuple(1 if axis + 1 in axes else n for axis, n in enumerate(shape))
    y = quantized((1, *kept), scales[1], make.zero_point())
    extra = {"mask": tensor((1, *kept), "i1")} if mask else {}
    clamp = integers([(-128, 127), (-100, 90)][seed % 2])
    label = f"mean {seed} {shape} {axes} mask={mask}"
    return make.case(label, ops.Mean, x, y, integers(axes), clamp=clamp, **extra)


def requantize(seed: int, shape: Shape, scales: Any, mask: bool = False) -> Case:
    make = Maker(seed)
    x = make.activation(shape, scales[0], make.zero_point())
    y = quantized((1, *shape), scales[1], make.zero_point())
    extra = {"mask": tensor((1, *shape), "i1")} if mask else {}
    clamp = integers([(-128, 127), (-100, 90)][seed % 2])
    return make.case(f"requantize {seed} {shape}", ops.Requantize, x, y, clamp=clamp, **extra)


def pad(seed: int, shape: Shape, pads: Any) -> Case:
    make = Maker(seed)
    zero = make.zero_point()
    x = make.activation(shape, 0.1, zero)
    top, left, bottom, right = pads
    y = quantized((1, shape[0] + top + bottom, shape[1] + left + right, shape[2]), 0.1, zero)
    return make.case(f"pad {seed} {shape} {pads}", ops.Pad, x, y, integers(pads))


def reshape(seed: int, shape: Shape, other: Shape, element: str = "quant") -> Case:
    make = Maker(seed)
    if element == "quant":
        x, y = make.activation(shape, 0.1, 5), quantized((1, *other), 0.1, 5)
    else:
        x, y = make.floats((1, *shape)), tensor((1, *other), "f32")
    return make.case(f"reshape {seed} {shape} {other}", ops.Reshape, x, y)


def forward_cases() -> Any:
    for seed, (window, shape) in enumerate(WINDOWS):
        yield max_pool2d(seed, window, shape, argmax=False)
        yield max_pool2d(seed + 100, window, shape, argmax=True)
        yield average_pool2d(seed, window, shape)
        yield average_pool2d(seed + 101, window, shape)
    for seed, shape in enumerate([(3, 5, 13), (1, 7, 8), (1, 1, 1), (4, 1, 9)]):
        for number, axes in enumerate(([1, 2], [1], [2])):
            mask = (seed + number) % 2 == 0
            yield mean(seed * 3 + number, shape, axes, mask=mask)
        yield requantize(seed, shape, (0.1, 0.07), mask=seed % 2 == 0)
        yield requantize(seed + 10, shape, (0.1, 0.1), mask=True)
        yield pad(seed, shape, (1, 0, 2, 3) if seed else (0, 0, 0, 0))
    yield mean(20, (2, 2, 40), [1, 2], (0.1, 0.1))
    yield requantize(21, (2, 3, 5), (30.0, 1e-3), mask=True)
    yield requantize(22, (2, 3, 5), (1e-6, 1e3))
    yield reshape(1, (3, 4, 5), (1, 1, 60))
    yield reshape(2, (1, 12, 5), (4, 3, 5), "f32")


def backward_cases() -> Any:
    for seed, (window, shape) in enumerate(WINDOWS):
        yield pool_grad(seed, window, shape, largest=True)
        yield pool_grad(seed, window, shape, largest=False)
        shift = (window.cover - 1).bit_length()
        yield integer_pool_grad(seed, window, shape, True, shift)
        yield integer_pool_grad(seed + 1, window, shape, False, shift)
    pads = Window((1, 1), (1, 1), (2, 0, 1, 3))
    yield pool_grad(30, pads, (3, 4, 5), largest=False)
    yield integer_pool_grad(31, pads, (3, 4, 5), False, 0)
    # Without a shift the sums of many windows saturate.
    yield integer_pool_grad(32, *OVERLAP, False, 0)
