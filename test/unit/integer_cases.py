"""Random cases of every integer backward op: shapes, widths of mantissas, exponents, storage."""

from typing import Any

import numpy as np
from kernel_case import Case, Maker
from kernel_cases import Geometry, random_weight, some_channels, weights

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer
from tiny_dialect.block_float import header
from tiny_dialect.ops.convolution import input_channels, is_depthwise, trained_shape
from tiny_dialect.types import quantized, tensor

HEADER = (2,)
_LIMIT = 2**31 - 1


def _kind(bits: int) -> str:
    return "i8" if bits <= 8 else "i16"


class Gradient:
    """Mantissas of at most `bits` bits with their header, as two arguments."""

    def __init__(
        self, make: Maker, shape: Any, bits: int = 16, exponent: int = 0, element: str = "i16"
    ) -> None:
        top = 2 ** (bits - 1) if bits else 0
        array = make.rng.integers(-top, max(top, 1), shape)
        stored = array.astype(np.int8 if element == "i8" else np.int16)
        self.mantissas = make.argument(tensor(shape, element), stored)
        self.header = make.argument(tensor(HEADER, "i32"), header(exponent, stored))


def results(shape: Any, element: str = "i16") -> tuple[Any, Any]:
    return tensor(shape, element), tensor(HEADER, "i32")


def _random_bits(rng: np.random.Generator, most: int, element: str) -> int:
    """Mostly as many bits as allowed, sometimes few or none."""
    most = min(most, 8 if element == "i8" else 16)
    return int(rng.choice([most, most, most, max(most - 3, 1), 1, 0]))


def normalize(
    seed: int, shape: Any, *, bits: int = 16, mask: bool = True, spread: bool = False,
    uniform: bool = False, source: str = "i16",
) -> Case:  # fmt: skip
    make = Maker(seed)
    g_shape = (1, 1, 1, shape[-1]) if spread else (1, *shape)
    g = Gradient(make, g_shape, _random_bits(make.rng, 16, source), -7, source)
    multipliers = make.rng.integers(0, 2**15, 1 if uniform else shape[-1]).astype(np.int16)
    multipliers[0] = 2**15 - 1
    chosen = None
    if mask:
        chosen = make.argument(tensor((1, *shape), "i1"), make.rng.random((1, *shape)) < 0.6)
    return make.case(
        f"normalize {seed} {shape} {bits} {mask} {spread} {uniform} {source}",
        ops.NormalizeGradient, g.mantissas, g.header, *results((1, *shape), _kind(bits)),
        dense(multipliers), integer(-11), integer(bits), mask=chosen,
    )  # fmt: skip


def add(
    seed: int, shape: Any, exponents: tuple[int, int], bits: tuple[int, int] = (16, 16)
) -> Case:
    make = Maker(seed)
    a, b = (Gradient(make, (1, *shape), n, e) for n, e in zip(bits, exponents, strict=True))
    return make.case(
        f"add {seed} {shape} {exponents} {bits}", ops.IntegerAddGradients,
        a.mantissas, a.header, b.mantissas, b.header, *results((1, *shape)),
    )  # fmt: skip


def bits_for(largest_sum: int) -> int:
    """The most bits of mantissas whose sums stay below 2^31."""
    return (_LIMIT // largest_sum).bit_length()


def input_grad(
    seed: int, geo: Geometry, storage: str = "i8", overlay: bool = False, element: str = "i16"
) -> Case:
    make = Maker(seed)
    largest = 128 * int(np.prod(geo.weight[:3])) // geo.groups
    bits = _random_bits(make.rng, bits_for(2 * largest), element)
    g = Gradient(make, (1, *geo.output), bits, -9, element)
    w, kwargs = weights(make, geo, storage, overlay)
    shift = max(0, (largest.bit_length() + bits - 18)) if seed % 4 else 0
    return make.case(
        f"input_grad {seed} {geo} {storage} overlay={overlay} {element} {bits}",
        ops.IntegerConv2DInputGrad, g.mantissas, g.header, w,
        *results((1, *geo.size, geo.inputs)), integer(shift), **geo.attributes(), **kwargs,
    )  # fmt: skip


def _rate(make: Maker) -> Any:
    return make.argument(tensor((), "f32"), np.array(0.0371, np.float32))


def factors(make: Maker, count: int, typical: float) -> Any:
    """Around `typical`; zero, negative, subnormal, huge and infinite ones too."""
    values = typical * 10.0 ** make.rng.uniform(-3, 1, count)
    odd = make.rng.random(count)
    for limit, value in ((0.3, 3e38), (0.2, np.inf), (0.15, 1e-42), (0.1, 0.0)):
        values[odd < limit] = value
    values[make.rng.random(count) < 0.1] *= -1
    return dense(values.astype(np.float32))


RANDOM = "random i8"
STORAGES = ("i16", "i8", RANDOM, "f32")


def _stored_weight(make: Maker, shape: Any, storage: str) -> Any:
    if storage == "f32":
        array = (make.rng.normal(size=shape) * 50).astype(np.float32)
    else:
        array = random_weight(make.rng, shape, storage.removeprefix("random "))
    return make.parameter(array, True)


def weight_update(
    seed: int, geo: Geometry, partial: bool = False, element: str = "i16", storage: str = "i16"
) -> Case:
    make = Maker(seed)
    zero = make.zero_point()
    pixels = int(np.prod(geo.output[:2]))
    most = bits_for(pixels * max(127 - zero, zero + 128))
    bits = _random_bits(make.rng, most, element)
    shape, channels = geo.weight, geo.inputs
    attributes: dict[str, Any] = geo.attributes()
    if partial:
        axis = 0 if is_depthwise(geo.groups, geo.weight) else 3
        chosen = some_channels(make.rng, geo.weight[axis])
        channels = len(input_channels(geo.groups, geo.weight, chosen))
        shape = trained_shape(geo.groups, geo.weight, len(chosen))
        if axis == 0:
            attributes = {**geo.attributes(channels), "output_channels": chosen}
    x = make.activation((*geo.size, channels), 0.02, zero)
    g = Gradient(make, (1, *geo.output), bits, -20, element)
    parameter = _stored_weight(make, shape, storage)
    unit = {"i16": 2.0**8, "f32": 1.0}.get(storage, 2.0**16)
    typical = 2.0 ** (20 - bits - 5) * unit
    align = 31 - (pixels * max(127 - zero, zero + 128) << max(bits - 1, 0)).bit_length()
    name = f"weight_update {seed} {geo} partial={partial} {element} {bits} {storage}"
    operands = [parameter, x, g.mantissas, g.header, _rate(make)]
    constants = factors(make, shape[0], typical)
    if storage == RANDOM:
        counter = make.argument(tensor((1,), "i32"), np.array([seed - 3], np.int32))
        stream = integer(int(make.rng.integers(2**32)))
        return make.case(
            name, ops.IntegerStochasticConv2DWeightUpdate, *operands, counter, constants,
            integer(align), stream, **attributes,
        )  # fmt: skip
    align = align if storage == "i8" else 0
    kind = ops.IntegerConv2DWeightUpdate
    return make.case(name, kind, *operands, constants, align=integer(align), **attributes)


def summed_bias(seed: int, shape: Any) -> Case:
    make = Maker(seed)
    g = Gradient(make, (1, *shape), bits_for(int(np.prod(shape[:-1]))), -3)
    sums = make.parameter(make.rng.normal(size=shape[-1]).astype(np.float32), True)
    return make.case(
        f"summed_bias {seed} {shape}", ops.IntegerBiasUpdate, sums, g.mantissas, g.header,
        _rate(make), factors(make, shape[-1], 1.0), integer(0),
    )  # fmt: skip


def bias_update(seed: int, shape: Any, element: str = "i16", initial: int = 2**20) -> Case:
    make = Maker(seed)
    pixels = int(np.prod(shape[:-1]))
    bits = _random_bits(make.rng, bits_for(pixels), element)
    g = Gradient(make, (1, *shape), bits, -3, element)
    biases = make.rng.integers(-initial, initial, shape[-1]).astype(np.int32)
    parameter = make.parameter(biases, True)
    align = max(31 - (bits or 1) + 1 - (pixels - 1).bit_length() - 1, 0)
    return make.case(
        f"bias_update {seed} {shape} {element} {bits} {align}", ops.IntegerBiasUpdate,
        parameter, g.mantissas, g.header, _rate(make), factors(make, shape[-1], 100.0),
        integer(align),
    )  # fmt: skip


def _features(make: Maker, shape: Any) -> tuple[Any, int]:
    return make.activation(shape, 0.031, make.zero_point()), int(np.prod(shape))


def _head_weights(make: Maker, shape: Any, limit: int = 2**25) -> Any:
    return make.parameter(make.rng.integers(-limit, limit, shape).astype(np.int32), True)


def linear(seed: int, classes: int, shape: Any, limit: int = 2**25) -> Case:
    make = Maker(seed)
    x, features = _features(make, shape)
    w = _head_weights(make, (classes, features), limit)
    bias = _head_weights(make, (classes,), limit)
    return make.case(
        f"linear {seed} {classes} {shape}", ops.IntegerLinear,
        x, w, bias, tensor((1, classes), "i32"), integer(24 if seed % 2 else 16),
    )  # fmt: skip


def linear_input_grad(seed: int, classes: int, shape: Any, bits: int = 16) -> Case:
    make = Maker(seed)
    g = Gradient(make, (1, classes), bits, -15)
    w = _head_weights(make, (classes, int(np.prod(shape))), 2**30 if seed % 2 else 2**9)
    return make.case(
        f"linear_input_grad {seed} {classes} {shape} {bits}", ops.IntegerLinearInputGrad,
        g.mantissas, g.header, w, *results((1, *shape)), integer(24),
    )  # fmt: skip


def linear_weight_update(seed: int, classes: int, shape: Any, summed: bool = False) -> Case:
    make = Maker(seed)
    x, features = _features(make, shape)
    g = Gradient(make, (1, classes), 16, -20)
    w = _head_weights(make, (classes, features), 2**31 - 1)
    if summed:
        zeros = make.rng.normal(size=(classes, features)).astype(np.float32)
        w = make.parameter(zeros, True)
    return make.case(
        f"linear_weight_update {seed} {classes} {shape} {summed}", ops.IntegerLinearWeightUpdate,
        w, x, g.mantissas, g.header, _rate(make), factors(make, classes, 1e4),
    )  # fmt: skip


def softmax(seed: int, classes: int, spread: float, gradient: bool) -> Case:
    make = Maker(seed)
    logits = np.rint(make.rng.normal(size=(1, classes)) * spread * 2**16)
    logits = np.clip(logits, -(2**30), 2**30).astype(np.int32)
    value = make.argument(tensor((1, classes), "i32"), logits)
    label = make.argument(tensor((), "i32"), np.array(make.rng.integers(classes), np.int32))
    name = f"softmax {seed} {classes} {spread} {gradient}"
    if gradient:
        kinds = results((1, classes))
        return make.case(name, ops.IntegerSoftmaxCrossEntropyGrad, value, label, *kinds)
    return make.case(name, ops.IntegerSoftmaxCrossEntropy, value, label, tensor((), "i32"))


def dequantize_fixed(seed: int, shape: Any, scale: float) -> Case:
    make = Maker(seed)
    array = make.rng.integers(-128, 128, (1, *shape)).astype(np.int8)
    x = make.argument(quantized((1, *shape), scale, make.zero_point()), array)
    kind = tensor((1, *shape), "i32")
    return make.case(f"dequantize_fixed {seed} {scale}", ops.DequantizeFixed, x, kind)


def fixed_to_float(seed: int, count: int) -> Case:
    make = Maker(seed)
    array = make.rng.integers(-(2**31), 2**31, (1, count)) >> make.rng.integers(0, 32, (1, count))
    edges = [0, 1, -1, 2**31 - 1, -(2**31), 2**24 + 1, 2**24 + 3, -(2**24) - 1, 2**25 - 1]
    array[0, : len(edges)] = edges[:count]
    x = make.argument(tensor((1, count), "i32"), array.astype(np.int32))
    return make.case(f"fixed_to_float {seed}", ops.FixedToFloat, x, tensor((1, count), "f32"))
