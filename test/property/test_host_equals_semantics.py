"""The host path against the NumPy meaning: integers bit for bit, floats up to rounding of sums.

Compiling is the cost, so each module holds many random ops: one function, one result or one piece
of state an op.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tiny_dialect import ops, types
from tiny_dialect.attributes import dense, integer, integers, real, string
from tiny_dialect.bindings import ir, load
from tiny_dialect.dialect import new_context
from tiny_dialect.ops.convolution import ConvGeometry, trained_axis, trained_shape
from tiny_dialect.semantics import initial_state, run
from tiny_pipelines.host import HostModel
from tiny_pipelines.iree import compile_host

func = load("dialects.func")

EXTRA = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12)]
FLOAT_TOLERANCE = 3e-5  # of the largest value of a tensor: sums of at most some thousand terms


@dataclass
class Bench:
    """Collects independent ops of one function with their argument types and values."""

    rng: Any
    kinds: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    builders: list[Callable[[list[Any]], list[Any]]] = field(default_factory=list)
    parameters: int = 0

    def argument(self, kind: Any, value: Any) -> int:
        self.kinds.append(kind)
        self.values.append(value)
        return len(self.kinds) - 1

    def activation(self, shape: tuple[int, ...]) -> int:
        scale, zero = float(self.rng.uniform(0.01, 0.2)), int(self.rng.integers(-128, 128))
        value = self.rng.integers(-128, 128, shape).astype(np.int8)
        return self.argument(types.quantized(shape, scale, zero), value)

    def floats(self, shape: tuple[int, ...]) -> int:
        value = self.rng.normal(size=shape).astype(np.float32)
        return self.argument(types.tensor(shape, "f32"), value)

    def parameter(self, value: Any, trained: bool) -> Any:
        self.parameters += 1
        kind = ir.RankedTensorType(dense(value).type)
        op = ops.Parameter(kind, symbol=string(f"p{self.parameters}"), value=dense(value))
        if trained:
            op.operation.attributes["trained"] = ir.UnitAttr.get()
        return op.result

    def build(self) -> tuple[Any, Any]:
        """(module, function) of everything collected."""
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):

            @func.FuncOp.from_py_func(*self.kinds, name="bench")
            def bench(*arguments: Any) -> Any:
                results = []
                for builder in self.builders:
                    results.extend(builder(list(arguments)))
                return results

        module.operation.verify()
        return module, module.body.operations[0]


def weight_of(rng: Any, shape: tuple[int, ...], element: str) -> Any:
    """A random weight as it is stored in `element`."""
    if element == "f32":
        return rng.uniform(-140, 140, shape).astype(np.float32)
    if element == "i16":
        return rng.integers(-(2**15), 2**15, shape).astype(np.int16)
    return rng.integers(-128, 128, shape).astype(np.int8)


@dataclass(frozen=True)
class Layer:
    """A random convolution: geometry, shapes, and which channels are trained (None: no split)."""

    geometry: ConvGeometry
    x: tuple[int, ...]
    w: tuple[int, ...]
    channels: list[int] | None

    @property
    def y(self) -> tuple[int, ...]:
        return self.geometry.output_shape(self.x, self.w)

    def attributes(self) -> dict[str, Any]:
        return {
            "strides": integers(self.geometry.strides),
            "pads": integers(self.geometry.pads),
            "groups": integer(self.geometry.groups),
        }


def pair(rng: Any, choices: list[int]) -> tuple[int, int]:
    """Two numbers, for height and width."""
    return int(rng.choice(choices)), int(rng.choice(choices))


def random_layer(rng: Any) -> Layer:
    """Any kernel, stride, pads and groups; sometimes one-dimensional, sometimes partly trained."""
    kernel = pair(rng, [1, 1, 2, 3, 5, 7])
    if rng.random() < 0.4:
        kernel = (kernel[0], kernel[0])
    size = [int(rng.integers(k, k + 9)) for k in kernel]
    if rng.random() < 0.2:
        kernel, size = (1, kernel[1]), [1, size[1]]
    strides = pair(rng, [1, 1, 2, 3])
    top, left, bottom, right = (int(rng.integers(0, k + 1)) for k in (*kernel, *kernel))
    pads = (top, left, bottom, right)
    style = rng.choice(["dense", "pointwise", "depthwise", "multiplier", "grouped"])
    groups, inputs = 1, int(rng.integers(1, 12))
    outputs = int(rng.integers(1, 12))
    if style == "pointwise":
        kernel, strides, pads = (1, 1), (1, 1), (0, 0, 0, 0)
    elif style == "depthwise":
        groups, inputs = outputs, 1
    elif style == "multiplier":
        groups, inputs, outputs = 3, 1, 6
    elif style == "grouped":
        groups, inputs, outputs = 2, int(rng.integers(1, 5)), 2 * int(rng.integers(1, 5))
    w = (outputs, *kernel, inputs)
    channels = None
    limit = w[trained_axis(groups, w)]
    if rng.random() < 0.5:
        chosen = rng.choice(limit, int(rng.integers(1, limit + 1)), replace=False)
        channels = sorted(int(c) for c in chosen)
    geometry = ConvGeometry(strides, pads, groups)
    return Layer(geometry, (1, *size, groups * inputs), w, channels)


def split(
    bench: Bench, layer: Layer, elements: tuple[str, ...] = ("i8", "i16", "f32")
) -> tuple[Any, Any | None, dict[str, Any]]:
    """(weight, trained part, attributes) of a layer, as parameter ops."""
    element = str(bench.rng.choice(list(elements)))
    if layer.channels is None:
        w = bench.parameter(weight_of(bench.rng, layer.w, element), element != "i8")
        return w, None, {}
    w = bench.parameter(weight_of(bench.rng, layer.w, "i8"), False)
    shape = trained_shape(layer.geometry.groups, layer.w, len(layer.channels))
    part = bench.parameter(weight_of(bench.rng, shape, element), True)
    return w, part, {"trained_channels": integers(layer.channels)}


def add_convolution(bench: Bench, layer: Layer) -> None:
    rng = bench.rng
    x = bench.activation(layer.x)
    bias = rng.integers(-(2**20), 2**20, layer.y[3]).astype(np.int32)
    bias[rng.random(layer.y[3]) < 0.2] = rng.choice([-(2**31), 2**31 - 1])
    taps = int(np.prod(layer.w[1:]))
    scales = rng.uniform(0.1, 2, layer.y[3]) / (taps * 50.0)
    low, high = sorted(int(n) for n in rng.choice(np.arange(-128, 128), 2, replace=False))
    clamp = integers([low, high] if rng.random() < 0.3 else [-128, 127])
    out = types.quantized(layer.y, float(rng.uniform(0.005, 0.02)), int(rng.integers(-128, 128)))
    mask = types.tensor(layer.y, "i1") if rng.random() < 0.6 else None
    bias_trained = bool(rng.random() < 0.5)

    def build(arguments: list[Any]) -> list[Any]:
        w, part, extra = split(bench, layer)
        op = ops.Conv2D(
            arguments[x],
            w,
            bench.parameter(bias, bias_trained),
            out,
            weight_scales=dense(scales),
            trained=part,
            mask=mask,
            clamp=clamp,
            **layer.attributes(),
        )
        for name, attribute in extra.items():
            op.operation.attributes[name] = attribute
        return list(op.operation.results)

    bench.builders.append(build)


def add_input_gradient(bench: Bench, layer: Layer) -> None:
    g = bench.floats(layer.y)
    scales = bench.rng.uniform(1e-3, 1e-2, layer.y[3]).astype(np.float32)

    def build(arguments: list[Any]) -> list[Any]:
        w, part, extra = split(bench, layer)
        op = ops.Conv2DInputGrad(
            arguments[g],
            w,
            types.tensor(layer.x, "f32"),
            scales=dense(scales),
            trained=part,
            **layer.attributes(),
        )
        for name, attribute in extra.items():
            op.operation.attributes[name] = attribute
        return [op.gx]

    bench.builders.append(build)


def add_weight_gradient(bench: Bench, layer: Layer) -> None:
    x, g = bench.activation(layer.x), bench.floats(layer.y)
    factors = bench.rng.uniform(1e-3, 1e-2, layer.w[0]).astype(np.float32)

    def build(arguments: list[Any]) -> list[Any]:
        op = ops.Conv2DWeightGrad(
            arguments[x],
            arguments[g],
            types.tensor(layer.w, "f32"),
            scales=dense(factors),
            **layer.attributes(),
        )
        return [op.gw]

    bench.builders.append(build)


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


def assert_equal(got: list[Any], expected: list[Any]) -> None:
    """Integers and masks bit for bit, floats relative to the largest magnitude of the tensor."""
    assert len(got) == len(expected)
    for position, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.shape == b.shape, f"result {position}"
        if b.dtype == np.float32:
            bound = FLOAT_TOLERANCE * max(1.0, float(np.abs(b).max()))
            np.testing.assert_allclose(a, b, rtol=0, atol=bound, err_msg=f"result {position}")
        else:
            np.testing.assert_array_equal(a, b.astype(a.dtype), err_msg=f"result {position}")


def check(bench: Bench) -> None:
    module, function = bench.build()
    state = initial_state(function)
    model = HostModel(compile_host(module))
    for _ in range(2):
        expected = run(function, bench.values, state)
        assert_equal(model.call("bench", *bench.values), expected)
    compiled = model.state()
    assert set(compiled) == set(state)
    assert_equal([compiled[name] for name in state], list(state.values()))


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


def stored_values(rng: Any, shape: tuple[int, ...], element: str) -> Any:
    """Values of every size that the storage holds, its extremes included."""
    if element == "f32":
        return rng.normal(size=shape).astype(np.float32)
    info = np.iinfo({"i8": np.int8, "i16": np.int16, "i32": np.int32}[element])
    values = rng.integers(info.min, info.max + 1, shape).astype(info.dtype)
    values[rng.random(shape) < 0.2] = rng.choice([info.min, info.max])
    return values


def add_apply_update(bench: Bench, element: str, rate: int) -> None:
    """No sum is involved: integers agree bit for bit, floats up to one fused multiply-subtract."""
    rng = bench.rng
    shape = (int(rng.integers(1, 5)), 2, 3, 4)
    g = bench.floats(shape)
    gradient = bench.values[g]
    gradient *= np.float32(10.0) ** rng.integers(-6, 12, shape)
    if element != "f32":
        gradient.reshape(-1)[:6] = [0.0, np.nan, np.inf, -np.inf, 1e38, -1e38]
    initial = stored_values(rng, shape, element)
    factors = rng.uniform(0, 2, shape[0]).astype(np.float32)

    def build(v: list[Any]) -> list[Any]:
        ops.ApplyUpdate(bench.parameter(initial, True), v[g], v[rate], factors=dense(factors))
        return []

    bench.builders.append(build)


@pytest.mark.parametrize("seed", [0, *EXTRA])
def test_updates_of_stored_gradients_are_exact(seed: int) -> None:
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(seed))
        rate = bench.argument(types.tensor((), "f32"), np.array(0.0137, np.float32))
        for element in ("i8", "i16", "i32", "f32") * 2:
            add_apply_update(bench, element, rate)
        module, function = bench.build()
        state = initial_state(function)
        model = HostModel(compile_host(module))
        for _ in range(3):
            run(function, bench.values, state)
            model.call("bench", *bench.values)
            for name, value in model.state().items():
                tolerance = 3e-7 if value.dtype == np.float32 else 0
                np.testing.assert_allclose(value, state[name], rtol=tolerance, atol=tolerance)
        model.reset()
        for name, value in initial_state(function).items():
            np.testing.assert_array_equal(model.state()[name], value, err_msg=name)


def add_fused_updates(bench: Bench, layer: Layer, element: str, rate: int) -> None:
    rng = bench.rng
    x, g = bench.activation(layer.x), bench.floats(layer.y)
    features = int(np.prod(layer.x))
    flat = bench.floats((1, features))
    factors = rng.uniform(1e-3, 1e-1, layer.w[0]).astype(np.float32)
    initial = weight_of(rng, layer.w, element)
    bias = rng.integers(-(2**20), 2**20, layer.y[3]).astype(np.int32)
    head = stored_values(rng, (layer.y[3], features), "f32")
    head_g = bench.floats((1, layer.y[3]))

    def build(v: list[Any]) -> list[Any]:
        w, b, h = (bench.parameter(value, True) for value in (initial, bias, head))
        constants = dense(factors)
        ops.Conv2DWeightUpdate(w, v[x], v[g], v[rate], factors=constants, **layer.attributes())
        ops.BiasUpdate(b, v[g], v[rate], factors=dense(factors * np.float32(1e4)))
        ops.LinearWeightUpdate(h, v[flat], v[head_g], v[rate], factors=constants)
        return []

    bench.builders.append(build)


@pytest.mark.parametrize("seed", [0, *EXTRA])
def test_fused_updates_differ_by_sum_rounding_at_most(seed: int) -> None:
    with new_context(), ir.Location.unknown():
        bench = Bench(np.random.default_rng(100 + seed))
        rate = bench.argument(types.tensor((), "f32"), np.array(0.1, np.float32))
        for element in ("i16", "f32") * 3:
            add_fused_updates(bench, random_layer(bench.rng), element, rate)
        module, function = bench.build()
        state = initial_state(function)
        before = initial_state(function)
        model = HostModel(compile_host(module))
        run(function, bench.values, state)
        model.call("bench", *bench.values)
        moved = 0
        for name, value in model.state().items():
            expected = state[name]
            moved += bool((expected != before[name]).any())
            if value.dtype == np.float32:
                assert_equal([value], [expected])
            else:
                difference = np.abs(value.astype(np.int64) - expected)
                assert difference.max() <= 1, name
                assert (difference != 0).sum() <= 1 + 0.01 * difference.size, name
        assert moved > len(state) / 2, "the gradients are too small to show anything"


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
