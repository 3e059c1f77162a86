"""The host path of the integer gradients against their NumPy meaning, headers included."""

from collections.abc import Callable
from typing import Any

import numpy as np
from host_bench import Bench, Layer, check, random_layer, split, stored_values

from tiny_dialect import ops, types
from tiny_dialect.attributes import dense, integer, integers
from tiny_dialect.bindings import ir
from tiny_dialect.block_float import header
from tiny_dialect.dialect import new_context


def mantissas(bench: Bench, shape: tuple[int, ...], bits: int = 16, spread: int = 0) -> list[int]:
    """Two arguments: mantissas of up to `bits` bits, the extremes among them, and their header."""
    limit = 1 << (bits - 1 - spread)
    value = bench.rng.integers(-limit, limit, shape)
    flat = value.reshape(-1)
    if spread == 0 and flat.size > 1:
        flat[:2] = [-limit, limit - 1]
    stored = value.astype(np.int8 if bits <= 8 else np.int16)
    exponent = int(bench.rng.integers(-60, 10))
    kind = types.tensor(shape, "i8" if bits <= 8 else "i16")
    return [
        bench.argument(kind, stored),
        bench.argument(types.tensor((2,), "i32"), header(exponent, stored)),
    ]


def gradient_types(shape: tuple[int, ...], element: str = "i16") -> tuple[Any, Any]:
    return types.tensor(shape, element), types.tensor((2,), "i32")


def add_normalize(bench: Bench) -> None:
    rng = bench.rng
    shape = (1, int(rng.integers(1, 6)), int(rng.integers(1, 6)), int(rng.integers(1, 9)))
    spread = bool(rng.random() < 0.3)
    bits = int(rng.integers(2, 17))
    g, h = mantissas(bench, (1, 1, 1, shape[3]) if spread else shape, spread=int(rng.integers(15)))
    count = shape[3] if rng.random() < 0.7 else 1
    multipliers = rng.integers(0, 2**15, count).astype(np.int16)
    element = "i8" if bits <= 8 else "i16"
    mask = None
    if rng.random() < 0.7:
        mask = bench.argument(types.tensor(shape, "i1"), rng.random(shape) < 0.6)

    def build(v: list[Any]) -> list[Any]:
        op = ops.NormalizeGradient(
            v[g],
            v[h],
            *gradient_types(shape, element),
            dense(multipliers),
            integer(int(rng.integers(-30, 5))),
            integer(bits),
            mask=None if mask is None else v[mask],
            overshoot=integer(int(rng.integers(0, 3))),
        )
        return [op.gx, op.gx_header]

    bench.builders.append(build)


def add_sum(bench: Bench, apart: int | None = None) -> None:
    """Of random exponents; the second is the larger by `apart` where that is given."""
    shape = (1, 3, 4, int(bench.rng.integers(1, 9)))
    a, a_header = mantissas(bench, shape, spread=int(bench.rng.integers(15)))
    b, b_header = mantissas(bench, shape, spread=int(bench.rng.integers(15)))
    if bench.rng.random() < 0.3:
        bench.values[a][...] = 0
        bench.values[a_header] = header(40, bench.values[a])
    if apart is None and bench.rng.random() < 0.7:
        apart = int(bench.rng.integers(-9, 9))
    if apart is not None:
        bench.values[b_header][0] = bench.values[a_header][0] + apart

    def build(v: list[Any]) -> list[Any]:
        op = ops.IntegerAddGradients(v[a], v[a_header], v[b], v[b_header], *gradient_types(shape))
        return [op.gx, op.gx_header]

    bench.builders.append(build)


def add_input_gradient(bench: Bench, layer: Layer) -> None:
    bits = 7 if bench.rng.random() < 0.5 else 16
    g, h = mantissas(bench, layer.y, bits)
    column = int(np.prod(layer.w[:3])) * 128 // layer.geometry.groups
    bits = min(bits, 31 - column.bit_length())
    bench.values[g] >>= max(0, 16 - bits) if bench.values[g].dtype == np.int16 else 0
    shift = int(bench.rng.integers(0, max(1, column.bit_length() + 2)))

    def build(v: list[Any]) -> list[Any]:
        w, part, extra = split(bench, layer, ("i8", "i16"))
        op = ops.IntegerConv2DInputGrad(
            v[g],
            v[h],
            w,
            *gradient_types(layer.x),
            integer(shift),
            trained=part,
            **layer.attributes(),
        )
        for name, attribute in extra.items():
            op.operation.attributes[name] = attribute
        return [op.gx, op.gx_header]

    bench.builders.append(build)


def add_updates(bench: Bench, layer: Layer, rate: int) -> None:
    """A master and a bias of one layer; factors from none to far too large."""
    rng = bench.rng
    x = bench.activation(layer.x)
    g, h = mantissas(bench, layer.y, 8 if rng.random() < 0.3 else 14)
    factors = np.exp2(rng.uniform(-20, 60, layer.w[0])).astype(np.float32)
    factors[rng.random(layer.w[0]) < 0.2] = 0.0
    master = stored_values(rng, layer.w, "i16")
    bias = stored_values(rng, (layer.y[3],), "i32")
    align = integer(int(rng.integers(0, 5)))

    def build(v: list[Any]) -> list[Any]:
        w, b = bench.parameter(master, True), bench.parameter(bias, True)
        constants = dense(factors)
        ops.IntegerConv2DWeightUpdate(w, v[x], v[g], v[h], v[rate], constants, **layer.attributes())
        ops.IntegerBiasUpdate(b, v[g], v[h], v[rate], constants, align)
        return []

    bench.builders.append(build)


def _update_inputs(bench: Bench, layer: Layer, low: int, high: int) -> tuple[int, int, int, Any]:
    """(x, mantissas, header, factors) of an update of one layer; factors are 2^low to 2^high."""
    rng = bench.rng
    x = bench.activation(layer.x)
    g, h = mantissas(bench, layer.y, 8 if rng.random() < 0.3 else 14)
    factors = np.exp2(rng.uniform(low, high, layer.w[0])).astype(np.float32)
    factors[rng.random(layer.w[0]) < 0.2] = 0.0
    return x, g, h, dense(factors)


def add_byte_updates(bench: Bench, layer: Layer, rate: int) -> None:
    """Two int8 weights of one layer, to nearest and at random."""
    x, g, h, factors = _update_inputs(bench, layer, 0, 60)
    weight = stored_values(bench.rng, layer.w, "i8")
    count = np.array([bench.rng.integers(-5, 5)], np.int32)
    counter = bench.argument(types.tensor((1,), "i32"), count)
    stream, align = (integer(int(bench.rng.integers(n))) for n in (2**32, 3))

    def build(v: list[Any]) -> list[Any]:
        near, random = (bench.parameter(weight, True) for _ in range(2))
        operands = [v[x], v[g], v[h], v[rate]]
        ops.IntegerConv2DWeightUpdate(near, *operands, factors, align=align, **layer.attributes())
        ops.IntegerStochasticConv2DWeightUpdate(
            random, *operands, v[counter], factors, align, stream, **layer.attributes()
        )
        return []

    bench.builders.append(build)


def add_sums(bench: Bench, layer: Layer, rate: int) -> None:
    """Float32 parameters take the integer sums of weights, biases and a head."""
    rng = bench.rng
    x, g, h, factors = _update_inputs(bench, layer, -40, 60)
    f = bench.activation((1, 1, 1, 7))
    gl, hl = mantissas(bench, (1, 3))
    weight = stored_values(rng, layer.w, "f32")
    bias, head = (rng.normal(size=n).astype(np.float32) for n in (layer.w[0], (3, 7)))

    def build(v: list[Any]) -> list[Any]:
        w, b, hw = (bench.parameter(value, True) for value in (weight, bias, head))
        ops.IntegerConv2DWeightUpdate(w, v[x], v[g], v[h], v[rate], factors, **layer.attributes())
        ops.IntegerBiasUpdate(b, v[g], v[h], v[rate], factors, integer(0))
        ones = dense(np.full(3, -1, np.float32))
        ops.IntegerLinearWeightUpdate(hw, v[f], v[gl], v[hl], v[rate], ones)
        return []

    bench.builders.append(build)


def add_gathered_depthwise_update(bench: Bench, rate: int) -> None:
    x = bench.activation((1, 6, 7, 3))
    g, h = mantissas(bench, (1, 3, 4, 5), 14)
    master = stored_values(bench.rng, (3, 3, 3, 1), "i16")
    factors = np.exp2(bench.rng.uniform(0, 40, 3)).astype(np.float32)

    def build(v: list[Any]) -> list[Any]:
        op = ops.IntegerConv2DWeightUpdate(
            bench.parameter(master, True),
            v[x],
            v[g],
            v[h],
            v[rate],
            dense(factors),
            strides=integers([2, 2]),
            pads=integers([1, 1, 1, 1]),
            groups=integer(3),
        )
        op.operation.attributes["output_channels"] = integers([1, 3, 4])
        return []

    bench.builders.append(build)


def add_head(bench: Bench, rate: int) -> None:
    rng = bench.rng
    features, classes = int(rng.integers(1, 40)), int(rng.integers(2, 12))
    x = bench.activation((1, 1, 1, features))
    weight = rng.integers(-(2**27), 2**27, (classes, features)).astype(np.int32)
    bias = rng.integers(-(2**27), 2**27, classes).astype(np.int32)
    label = bench.argument(types.tensor((), "i32"), np.array(rng.integers(classes), np.int32))
    spread = 2 ** int(rng.integers(8, 25))
    other = rng.integers(-spread, spread, (1, classes)).astype(np.int32)
    logits = bench.argument(types.tensor((1, classes), "i32"), other)
    factors = np.exp2(rng.uniform(0, 30, classes)).astype(np.float32)

    def build(v: list[Any]) -> list[Any]:
        w, b = bench.parameter(weight, True), bench.parameter(bias, True)
        head = ops.IntegerLinear(v[x], w, b, types.tensor((1, classes), "i32"), integer(24))
        results = [head.y, ops.FixedToFloat(head.y, types.tensor((1, classes), "f32")).y]
        fixed = ops.DequantizeFixed(v[x], types.tensor((1, 1, 1, features), "i32")).y
        results.append(fixed)
        for value in (head.y, v[logits]):
            loss = ops.IntegerSoftmaxCrossEntropy(value, v[label], types.tensor((), "i32")).loss
            g = ops.IntegerSoftmaxCrossEntropyGrad(value, v[label], *gradient_types((1, classes)))
            gx = ops.IntegerLinearInputGrad(
                g.gx, g.gx_header, w, *gradient_types((1, 1, 1, features)), integer(24)
            )
            results += [loss, g.gx, g.gx_header, gx.gx, gx.gx_header]
        ops.IntegerLinearWeightUpdate(w, v[x], g.gx, g.gx_header, v[rate], dense(factors))
        ops.IntegerBiasUpdate(b, g.gx, g.gx_header, v[rate], dense(factors), integer(16))
        return results

    bench.builders.append(build)


def test_gradients() -> None:
    def build(bench: Bench, _: int) -> None:
        for _ in range(12):
            add_normalize(bench)
            add_sum(bench)
        for apart in (-60, -32, -20, 20, 32, 60):
            add_sum(bench, apart)

    run(build, 1)


def test_input_gradients() -> None:
    run(lambda bench, _: [add_input_gradient(bench, random_layer(bench.rng)) for _ in range(8)], 2)


def test_updates() -> None:
    def fill(bench: Bench, rate: int) -> None:
        for _ in range(6):
            add_updates(bench, random_layer(bench.rng), rate)
        add_gathered_depthwise_update(bench, rate)

    run(fill, 3)


def test_other_storage() -> None:
    def fill(bench: Bench, rate: int) -> None:
        for _ in range(4):
            add_byte_updates(bench, random_layer(bench.rng), rate)
            add_sums(bench, random_layer(bench.rng), rate)

    run(fill, 5)


def test_heads() -> None:
    run(lambda bench, rate: [add_head(bench, rate) for _ in range(3)], 4)


def run(fill: Callable[[Bench, int], Any], seed: int) -> None:
    """Compile one function of the ops that `fill` adds, and compare two calls."""
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(seed))
        rate = bench.argument(types.tensor((), "f32"), np.array(0.0137, np.float32))
        fill(bench, rate)
        check(bench)
