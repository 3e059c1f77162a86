"""The host path against the NumPy meaning: integers bit for bit, floats up to rounding of sums."""

from typing import Any

import numpy as np
import pytest
from host_bench import (
    EXTRA,
    Bench,
    Layer,
    add_convolution,
    add_input_gradient,
    add_weight_gradient,
    check,
    random_layer,
)

from tiny_dialect import ops, types
from tiny_dialect.attributes import dense, integer, integers, real
from tiny_dialect.bindings import ir, load
from tiny_dialect.dialect import new_context
from tiny_dialect.ops.convolution import ConvGeometry

func = load("dialects.func")


def add_gathered_depthwise_gradient(bench: Bench) -> None:
    chosen = [1, 3, 4]
    x, g = bench.activation((1, 6, 7, 3)), bench.floats((1, 3, 4, 5))
    factors = bench.rng.uniform(1e-3, 1e-2, 3).astype(np.float32)

    def build(arguments: list[Any]) -> list[Any]:
        op = ops.Conv2DWeightGrad(
            arguments[x],
            arguments[g],
            types.tensor((3, 3, 3, 1), "f32"),
            scales=dense(factors),
            strides=integers([2, 2]),
            pads=integers([1, 1, 1, 1]),
            groups=integer(3),
        )
        op.operation.attributes["output_channels"] = integers(chosen)
        return [op.gw]

    bench.builders.append(build)


def add_elementwise(bench: Bench) -> None:
    """Every op that is not a convolution or an update."""
    rng = bench.rng
    shape = (1, int(rng.integers(1, 6)), int(rng.integers(1, 6)), int(rng.integers(1, 9)))
    a, b, g, h = (
        bench.activation(shape),
        bench.activation(shape),
        bench.floats(shape),
        bench.floats(shape),
    )
    out = types.quantized(shape, 0.07, int(rng.integers(-20, 20)))
    pooled_g = bench.floats((1, 1, 1, shape[3]))
    features, classes = int(np.prod(shape)), int(rng.integers(2, 12))
    head = rng.normal(size=(classes, features)).astype(np.float32)
    head_bias = rng.normal(size=(classes,)).astype(np.float32)
    label = bench.argument(types.tensor((), "i32"), np.array(rng.integers(classes), np.int32))
    logits = bench.floats((1, classes))
    chosen = [int(c) for c in rng.choice(shape[3], shape[3] // 2 + 1, replace=False)]

    def f32(*dims: int) -> Any:
        return types.tensor(dims, "f32")

    def build(v: list[Any]) -> list[Any]:
        kind_a = bench.kinds[a]
        scale, zero = types.quantization(kind_a)
        added = ops.Add(v[a], v[b], out, mask=types.tensor(shape, "i1"))
        pooled = ops.GlobalAveragePool(v[a], types.quantized((1, 1, 1, shape[3]), scale, zero)).y
        gathered = types.quantized((*shape[:3], len(chosen)), scale, zero)
        w, bias = bench.parameter(head, True), bench.parameter(head_bias, False)
        real_x = ops.Dequantize(v[a], f32(*shape)).y
        return [
            added.y,
            added.mask,
            pooled,
            ops.GatherChannels(v[a], gathered, channels=integers(chosen)).y,
            real_x,
            ops.Linear(real_x, w, bias, f32(1, classes)).y,
            ops.SoftmaxCrossEntropy(v[logits], v[label], f32()).loss,
            ops.SoftmaxCrossEntropyGrad(v[logits], v[label], f32(1, classes)).gx,
            ops.LinearInputGrad(v[logits], w, f32(*shape)).gx,
            ops.LinearWeightGrad(real_x, v[logits], f32(classes, features)).gw,
            ops.ScaleGradient(v[g], f32(*shape), factor=real(0.37), mask=added.mask).gx,
            ops.ScaleGradient(v[g], f32(*shape), factor=real(-1.7)).gx,
            ops.AddGradients(v[g], v[h], f32(*shape)).gx,
            ops.GlobalAveragePoolGrad(v[pooled_g], f32(*shape)).gx,
            ops.BiasGrad(v[g], f32(shape[3]), scales=dense(np.ones(shape[3], np.float32))).gb,
        ]

    bench.builders.append(build)


@pytest.mark.parametrize("seed", [0, 1, *EXTRA])
def test_forward_and_gradients(seed: int) -> None:
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(seed))
        for _ in range(6):
            layer = random_layer(bench.rng)
            add_convolution(bench, layer)
            add_input_gradient(bench, layer)
            add_weight_gradient(bench, layer)
        add_gathered_depthwise_gradient(bench)
        add_elementwise(bench)
        check(bench)


def test_sums_beyond_32_bits() -> None:
    """So many taps of one sign that neither the raw products nor the total fit an int32."""
    taps = 2**17 + 5
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(0))
        x = bench.argument(
            types.quantized((1, 1, 1, taps), 0.1, -128), np.full((1, 1, 1, taps), 120, np.int8)
        )
        out = types.quantized((1, 1, 1, 2), 1.0, 0)

        def build(v: list[Any]) -> list[Any]:
            w = bench.parameter(
                np.stack([np.full((1, 1, taps), s, np.int8) for s in (-128, 96)]), False
            )
            bias = bench.parameter(np.array([-(2**31), 2**31 - 1], np.int32), False)
            scales = np.array([3e-7, 1e-7])
            return [ops.Conv2D(v[x], w, bias, out, weight_scales=dense(scales)).y]

        bench.builders.append(build)
        check(bench)


def test_windows_that_see_only_padding() -> None:
    """The crop to what the windows cover leaves nothing of the input."""
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(0))
        for groups, w in ((1, (2, 3, 2, 2)), (2, (2, 3, 2, 1))):
            layer = Layer(ConvGeometry((3, 1), (3, 0, 0, 0), groups), (1, 1, 4, 2), w, None)
            add_convolution(bench, layer)
            add_input_gradient(bench, layer)
            add_weight_gradient(bench, layer)
        check(bench)
