"""Random cases of every op: shapes, geometries, storage types, extreme values.

Float operands of updates and of weight gradients are multiples of 1/16, so that every sum is exact
in float32 and what is rounded to integers can be compared bit for bit. A float parameter cannot:
cores with fused multiply-add round `old - gradient * k` once, others twice.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from kernel_case import Case, Maker

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer, integers, real
from tiny_dialect.ops.convolution import input_channels, is_depthwise, trained_shape
from tiny_dialect.types import quantized, tensor


@dataclass(frozen=True)
class Geometry:
    """A convolution's shape."""

    size: tuple[int, int]
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    @property
    def weight(self) -> tuple[int, ...]:
        return (self.outputs, *self.kernel, self.inputs // self.groups)

    @property
    def output(self) -> tuple[int, int, int]:
        h = (self.size[0] + self.pads[0] + self.pads[2] - self.kernel[0]) // self.strides[0] + 1
        w = (self.size[1] + self.pads[1] + self.pads[3] - self.kernel[1]) // self.strides[1] + 1
        return h, w, self.outputs

    def attributes(self, groups: int | None = None) -> dict[str, Any]:
        return {
            "strides": integers(self.strides),
            "pads": integers(self.pads),
            "groups": integer(self.groups if groups is None else groups),
        }


def random_geometry(rng: np.random.Generator) -> Geometry:
    """Any kernel of 1, 3, 5, 7 (or 1 by k), strides 1 to 3, uneven pads, grouped or depthwise."""
    groups, per_group, outputs = 1, int(rng.integers(1, 12)), int(rng.integers(1, 12))
    kind = rng.choice(["dense", "depthwise", "multiplied", "grouped"])
    if kind == "depthwise":
        groups, per_group, outputs = int(rng.integers(2, 13)), 1, 1
    elif kind == "multiplied":
        groups, per_group, outputs = int(rng.integers(2, 5)), 1, 2
    elif kind == "grouped":
        groups, per_group, outputs = 3, int(rng.integers(1, 6)), int(rng.integers(1, 4))
    kernel = int(rng.choice([1, 3, 5, 7]))
    flat = rng.random() < 0.25
    kernels = (1 if flat else kernel, kernel)
    pads = rng.integers(0, [kernels[0], kernels[1]] * 2 if kernel > 1 else [2] * 4)
    if flat:
        pads[0] = pads[2] = 0
    low = [max(1, kernels[i] - pads[i] - pads[i + 2]) for i in (0, 1)]
    height, width = (int(rng.integers(low[i], low[i] + 6)) for i in (0, 1))
    return Geometry(
        size=(1 if flat else height, width), inputs=groups * per_group,
        outputs=groups * outputs, kernel=kernels,
        strides=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        pads=(int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])), groups=groups,
    )  # fmt: skip


def some_channels(rng: np.random.Generator, count: int) -> list[int]:
    chosen = rng.choice(count, int(rng.integers(1, count + 1)), replace=False)
    return sorted(int(c) for c in chosen)


def random_weight(rng: np.random.Generator, shape: Any, storage: str) -> np.ndarray:
    if storage == "i16":
        return rng.integers(-(2**15), 2**15, shape).astype(np.int16)
    if storage == "f32":
        return (rng.integers(-270, 271, shape) / 2).astype(np.float32)
    return rng.integers(-128, 128, shape).astype(np.int8)


def weights(make: Maker, geo: Geometry, storage: str, overlay: bool) -> tuple[Any, dict[str, Any]]:
    """The weight value, and the trained part as keyword arguments where `overlay`."""
    if not overlay:
        return make.parameter(random_weight(make.rng, geo.weight, storage), storage != "i8"), {}
    axis = 0 if is_depthwise(geo.groups, geo.weight) else 3
    channels = some_channels(make.rng, geo.weight[axis])
    shape = trained_shape(geo.groups, geo.weight, len(channels))
    part = make.parameter(random_weight(make.rng, shape, storage), True)
    whole = make.parameter(random_weight(make.rng, geo.weight, "i8"))
    return whole, {"trained": part, "trained_channels": channels}


def conv2d(
    seed: int,
    geo: Geometry,
    storage: str = "i8",
    overlay: bool = False,
    mask: bool = False,
    bias_range: int = 2000,
    bias_trained: bool = False,
    gain: float = 1.0,
) -> Case:
    """A convolution whose outputs spread over the int8 range for `gain` 1."""
    make = Maker(seed)
    rng = make.rng
    products = float(np.prod(geo.weight[1:]))
    factors = gain * rng.uniform(0.5, 1.5, geo.outputs) / (74 * np.sqrt(products) * 2)
    factors[rng.random(geo.outputs) < 0.05] = 1e-12
    scale_x, scale_y = 0.02, 0.05
    x = make.activation((*geo.size, geo.inputs), scale_x, make.zero_point())
    bias = rng.integers(-bias_range, bias_range, geo.outputs)
    if bias_range == 2**31:
        bias[0], bias[-1] = 2**31 - 1, -(2**31)
    w, kwargs = weights(make, geo, storage, overlay)
    b = make.parameter(bias.astype(np.int32), bias_trained)
    y = quantized((1, *geo.output), scale_y, make.zero_point())
    if mask:
        kwargs["mask"] = tensor((1, *geo.output), "i1")
    clamp = [(-128, 127), (-128, 20), (-7, 127)][int(rng.integers(3))]
    return make.case(
        f"conv2d {seed} {geo} {storage} overlay={overlay} mask={mask}", ops.Conv2D, x, w, b, y,
        dense(factors * scale_y / scale_x), clamp=integers(clamp), **geo.attributes(), **kwargs,
    )  # fmt: skip


def conv2d_beyond_32_bits(seed: int) -> Case:
    """80,000 products of about 123 * 251: their sum exceeds 2^31."""
    make, inputs, outputs = Maker(seed), 80_000, 2
    x = make.activation((1, 1, inputs), 0.02, -128, (120, 128))
    w = make.parameter(make.rng.integers(120, 128, (outputs, 1, 1, inputs)).astype(np.int8))
    bias = make.parameter(np.array([-5, 2**30], np.int32))
    y = quantized((1, 1, 1, outputs), 0.02, 0)
    scales = dense(np.full(outputs, 4e-8))
    return make.case(f"conv2d {seed} beyond 32 bits", ops.Conv2D, x, w, bias, y, scales)


def conv2d_input_grad(seed: int, geo: Geometry, storage: str = "i8", overlay: bool = False) -> Case:
    make = Maker(seed)
    g = make.floats((1, *geo.output))
    w, kwargs = weights(make, geo, storage, overlay)
    scales = make.rng.uniform(1e-4, 1e-2, geo.outputs).astype(np.float32)
    return make.case(
        f"conv2d_input_grad {seed} {geo} {storage} overlay={overlay}", ops.Conv2DInputGrad, g, w,
        tensor((1, *geo.size, geo.inputs), "f32"), dense(scales),
        exact=False, **geo.attributes(), **kwargs,
    )  # fmt: skip


def _partial(make: Maker, geo: Geometry) -> tuple[Any, Any, tuple[int, ...], dict[str, Any]]:
    """Operands of a weight gradient of some channels: gathered x, whole g, shape, attributes."""
    axis = 0 if is_depthwise(geo.groups, geo.weight) else 3
    channels = some_channels(make.rng, geo.weight[axis])
    gathered = len(input_channels(geo.groups, geo.weight, channels))
    x = make.activation((*geo.size, gathered), 0.02, make.zero_point())
    g = make.floats((1, *geo.output), exact=True)
    shape = trained_shape(geo.groups, geo.weight, len(channels))
    if axis == 0:
        return x, g, shape, {**geo.attributes(gathered), "output_channels": channels}
    return x, g, shape, geo.attributes()


def _whole(make: Maker, geo: Geometry) -> tuple[Any, Any, tuple[int, ...], dict[str, Any]]:
    x = make.activation((*geo.size, geo.inputs), 0.02, make.zero_point())
    return x, make.floats((1, *geo.output), exact=True), geo.weight, geo.attributes()


def conv2d_weight_grad(seed: int, geo: Geometry, partial: bool = False) -> Case:
    make = Maker(seed)
    x, g, shape, attributes = (_partial if partial else _whole)(make, geo)
    scales = np.exp2(make.rng.integers(-9, 3, shape[0])).astype(np.float32)
    return make.case(
        f"conv2d_weight_grad {seed} {geo} partial={partial}", ops.Conv2DWeightGrad, x, g,
        tensor(shape, "f32"), dense(scales), **attributes,
    )  # fmt: skip


def conv2d_weight_update(seed: int, geo: Geometry, storage: str, partial: bool = False) -> Case:
    make = Maker(seed)
    x, g, shape, attributes = (_partial if partial else _whole)(make, geo)
    parameter = make.parameter(random_weight(make.rng, shape, storage), True)
    return make.case(
        f"conv2d_weight_update {seed} {geo} {storage} partial={partial}", ops.Conv2DWeightUpdate,
        parameter, x, g, rate(make), factors(make, shape[0]), exact=storage != "f32", **attributes,
    )  # fmt: skip


def rate(make: Maker) -> Any:
    return make.argument(tensor((), "f32"), np.array(0.0371, np.float32))


def factors(make: Maker, count: int) -> Any:
    """Mostly usual ones; zero (a frozen channel), and huge enough to saturate and to overflow."""
    values = 10.0 ** make.rng.uniform(-4, 0, count)
    values[make.rng.random(count) < 0.2] = 0.0
    values[make.rng.random(count) < 0.1] = 1e30
    values[make.rng.random(count) < 0.1] = 3e38
    return dense(values.astype(np.float32))


def random_bias(make: Maker, count: int, storage: str) -> Any:
    if storage == "f32":
        return make.parameter(make.rng.normal(size=count).astype(np.float32), True)
    values = make.rng.integers(-5000, 5000, count)
    values[make.rng.random(count) < 0.3] = 2**30 - 1
    values[make.rng.random(count) < 0.3] = -(2**31)
    return make.parameter(values.astype(np.int32), True)


def bias_update(seed: int, shape: Any, storage: str = "i32") -> Case:
    make = Maker(seed)
    g = make.floats((1, *shape), exact=True)
    parameter = random_bias(make, shape[-1], storage)
    return make.case(
        f"bias_update {seed} {shape} {storage}", ops.BiasUpdate,
        parameter, g, rate(make), factors(make, shape[-1]), exact=storage != "f32",
    )  # fmt: skip


def apply_update(seed: int, shape: Any, storage: str) -> Case:
    make = Maker(seed)
    array = make.rng.normal(size=shape).astype(np.float32) * np.float32(50)
    array.reshape(-1)[0] = np.nan
    gradient = make.argument(tensor(shape, "f32"), array)
    if storage == "i32":
        parameter = random_bias(make, shape[0], storage)
    else:
        parameter = make.parameter(random_weight(make.rng, shape, storage), True)
    return make.case(
        f"apply_update {seed} {shape} {storage}", ops.ApplyUpdate,
        parameter, gradient, rate(make), factors(make, shape[0]), exact=storage != "f32",
    )  # fmt: skip


def linear_weight_update(seed: int, classes: int, shape: Any, storage: str = "f32") -> Case:
    make = Maker(seed)
    x, g = make.floats((1, *shape)), make.floats((1, classes))
    features = int(np.prod(shape))
    parameter = make.parameter(random_weight(make.rng, (classes, features), storage), True)
    return make.case(
        f"linear_weight_update {seed} {classes} {shape}", ops.LinearWeightUpdate,
        parameter, x, g, rate(make), factors(make, classes), exact=storage != "f32",
    )  # fmt: skip


def add(seed: int, shape: Any, mask: bool = False, scales: Any = (0.03, 0.05, 0.06)) -> Case:
    make = Maker(seed)
    a = make.activation(shape, scales[0], make.zero_point())
    b = make.activation(shape, scales[1], make.zero_point())
    y = quantized((1, *shape), scales[2], make.zero_point())
    kwargs = {"mask": tensor((1, *shape), "i1")} if mask else {}
    clamp = integers([(-128, 127), (-100, 90)][seed % 2])
    return make.case(f"add {seed} {shape} mask={mask}", ops.Add, a, b, y, clamp=clamp, **kwargs)


def global_average_pool(seed: int, shape: Any, ties: bool = False) -> Case:
    make = Maker(seed)
    zero = make.zero_point()
    x = make.activation(shape, 0.1, zero, (-3, 3) if ties else (-128, 128))
    y = quantized((1, 1, 1, shape[2]), 0.1, zero)
    return make.case(f"global_average_pool {seed} {shape}", ops.GlobalAveragePool, x, y)


def gather_channels(seed: int, shape: Any) -> Case:
    make = Maker(seed)
    x = make.activation(shape, 0.1, 3)
    channels = some_channels(make.rng, shape[2])
    y = quantized((1, *shape[:2], len(channels)), 0.1, 3)
    return make.case(f"gather {seed} {shape}", ops.GatherChannels, x, y, integers(channels))


def dequantize(seed: int, shape: Any) -> Case:
    make = Maker(seed)
    x = make.activation(shape, 0.0123, make.zero_point())
    return make.case(f"dequantize {seed} {shape}", ops.Dequantize, x, tensor((1, *shape), "f32"))


def linear(seed: int, classes: int, shape: Any) -> Case:
    make = Maker(seed)
    features = int(np.prod(shape))
    x = make.floats((1, *shape))
    w = make.parameter(make.rng.normal(size=(classes, features)).astype(np.float32), True)
    bias = make.parameter(make.rng.normal(size=classes).astype(np.float32), True)
    y = tensor((1, classes), "f32")
    return make.case(f"linear {seed} {classes} {shape}", ops.Linear, x, w, bias, y, exact=False)


def linear_input_grad(seed: int, classes: int, shape: Any) -> Case:
    make = Maker(seed)
    g = make.floats((1, classes))
    features = int(np.prod(shape))
    w = make.parameter(make.rng.normal(size=(classes, features)).astype(np.float32), True)
    gx = tensor((1, *shape), "f32")
    return make.case(
        f"linear_input_grad {seed} {classes} {shape}", ops.LinearInputGrad, g, w, gx, exact=False
    )


def linear_weight_grad(seed: int, classes: int, shape: Any) -> Case:
    make = Maker(seed)
    x, g = make.floats((1, *shape)), make.floats((1, classes))
    gw = tensor((classes, int(np.prod(shape))), "f32")
    return make.case(f"linear_weight_grad {seed}", ops.LinearWeightGrad, x, g, gw)


def softmax(seed: int, classes: int, spread: float, gradient: bool) -> Case:
    make = Maker(seed)
    array = (make.rng.normal(size=(1, classes)) * spread).astype(np.float32)
    logits = make.argument(tensor((1, classes), "f32"), array)
    label = make.argument(tensor((), "i32"), np.array(make.rng.integers(classes), np.int32))
    op_class = ops.SoftmaxCrossEntropyGrad if gradient else ops.SoftmaxCrossEntropy
    result = tensor((1, classes), "f32") if gradient else tensor((), "f32")
    what = f"softmax {seed} {classes} {spread} gradient={gradient}"
    return make.case(what, op_class, logits, label, result, exact=False)


def scale_gradient(seed: int, shape: Any, mask: bool) -> Case:
    make = Maker(seed)
    g = make.floats((1, *shape))
    kwargs = {}
    if mask:
        bits = make.rng.random((1, *shape)) < 0.5
        kwargs["mask"] = make.argument(tensor((1, *shape), "i1"), bits)
    gx = tensor((1, *shape), "f32")
    return make.case(
        f"scale_gradient {seed} {shape} mask={mask}", ops.ScaleGradient, g, gx, real(0.37), **kwargs
    )


def add_gradients(seed: int, shape: Any) -> Case:
    make = Maker(seed)
    a, b = make.floats((1, *shape)), make.floats((1, *shape))
    gx = tensor((1, *shape), "f32")
    return make.case(f"add_gradients {seed} {shape}", ops.AddGradients, a, b, gx)


def global_average_pool_grad(seed: int, shape: Any) -> Case:
    make = Maker(seed)
    g = make.floats((1, 1, 1, shape[2]))
    gx = tensor((1, *shape), "f32")
    return make.case(f"pool_grad {seed} {shape}", ops.GlobalAveragePoolGrad, g, gx)


def bias_grad(seed: int, shape: Any) -> Case:
    make = Maker(seed)
    g = make.floats((1, *shape), exact=True)
    scales = np.exp2(make.rng.integers(-9, 3, shape[2])).astype(np.float32)
    gb = tensor((shape[2],), "f32")
    return make.case(f"bias_grad {seed} {shape}", ops.BiasGrad, g, gb, dense(scales))
