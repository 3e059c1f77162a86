"""Many random ops in one function, for the host path against the NumPy meaning.

Compiling is the cost, so each module holds many: one function, one result or one piece of state an
op.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tiny_dialect import ops, types
from tiny_dialect.attributes import dense, integer, integers, string
from tiny_dialect.bindings import ir, load
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


def stored_values(rng: Any, shape: tuple[int, ...], element: str) -> Any:
    """Values of every size that the storage holds, its extremes included."""
    if element == "f32":
        return rng.normal(size=shape).astype(np.float32)
    info = np.iinfo({"i8": np.int8, "i16": np.int16, "i32": np.int32}[element])
    values = rng.integers(info.min, info.max + 1, shape).astype(info.dtype)
    values[rng.random(shape) < 0.2] = rng.choice([info.min, info.max])
    return values
