"""Every gradient rule, and whole differentiated networks, against finite differences.

The differences are those of the float-relaxed forward pass in float64, along random directions; the
gradients are the backward ops that the rules build, evaluated by the NumPy semantics.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_dialect.attributes import dense, integer, integers, string
from tiny_dialect.bindings import ir, load
from tiny_dialect.dialect import new_context
from tiny_dialect.ops import (
    Add,
    ApplyUpdate,
    Conv2D,
    Dequantize,
    GlobalAveragePool,
    Linear,
    Parameter,
    SoftmaxCrossEntropy,
    SoftmaxCrossEntropyGrad,
)
from tiny_dialect.ops.convolution import ConvGeometry
from tiny_dialect.semantics import run
from tiny_dialect.semantics.relaxed import Relaxation, relax, residual
from tiny_dialect.types import numpy_type, quantization, quantized, shape_of, tensor
from tiny_passes.gradient_rules import needs_mask, rule_of
from tiny_passes.graph import find_function, with_mask
from tiny_passes.registry import run_pipeline

func = load("dialects.func")

RELATIVE, ABSOLUTE = 1e-4, 1e-9
# Small enough to cross no clamp; a bias counts in sums, which are larger than weights.
STEPS = {"int8": 1e-5, "int32": 1e-2, "float32": 1e-5}


@dataclass(frozen=True)
class Convolution:
    """A random convolution: geometry, sizes, quantization."""

    geometry: ConvGeometry
    kernel: tuple[int, int]
    inputs: int
    outputs: int
    zero: int
    clamp: tuple[int, int]

    def least_size(self):
        """The smallest input that fills the kernel once."""
        top, left, bottom, right = self.geometry.pads
        return (
            max(1, self.kernel[0] - top - bottom),
            max(1, self.kernel[1] - left - right),
        )


@st.composite
def convolutions(draw, inputs=None, same=False):
    """Kernels 1, 3, 5, 7 a side; strides 1 to 3; plain, grouped, depthwise, depth multipliers."""
    inputs = inputs or draw(st.integers(1, 6))
    divisors = [d for d in range(1, inputs + 1) if inputs % d == 0]
    groups = draw(st.sampled_from(divisors))
    outputs = inputs if same else groups * draw(st.integers(1, 3))
    kernel = draw(st.tuples(*[st.sampled_from([1, 3, 5, 7])] * 2))
    halves = (kernel[0] // 2, kernel[1] // 2)
    any_pads = st.tuples(*[st.integers(0, 3)] * 4)
    pads = halves + halves if same else draw(st.one_of(st.just(halves + halves), any_pads))
    strides = (1, 1) if same else draw(st.tuples(*[st.integers(1, 3)] * 2))
    clamp = draw(st.sampled_from([(-128, 127), (-128, 100), (-40, 90)]))
    zero = draw(st.integers(-128, 127))
    return Convolution(ConvGeometry(strides, pads, groups), kernel, inputs, outputs, zero, clamp)


def weight_scales(rng, convolution, scale_x, scale_y):
    """Per-channel scales that spread the outputs over the int8 range and beyond."""
    fan_in = np.prod(convolution.kernel) * convolution.inputs / convolution.geometry.groups
    spread = 60.0 / (74 * 74 * np.sqrt(fan_in))
    return spread * rng.uniform(0.3, 3.0, convolution.outputs) * scale_y / scale_x


def random_array(rng, value):
    """A random array of a value's type: full int8, biases comparable to the sums, small floats."""
    shape, dtype = shape_of(value), numpy_type(value)
    if dtype == np.int8:
        return rng.integers(-128, 128, shape, dtype=np.int8)
    if dtype == np.int32:
        return rng.integers(-20000, 20000, shape, dtype=np.int32)
    return rng.normal(size=shape).astype(np.float32)


def convolution_op(convolution, x, w, bias, scale_y, scales):
    shape = convolution.geometry.output_shape(shape_of(x), shape_of(w))
    return Conv2D(
        x,
        w,
        bias,
        quantized(shape, scale_y, convolution.zero),
        dense(scales),
        strides=integers(convolution.geometry.strides),
        pads=integers(convolution.geometry.pads),
        groups=integer(convolution.geometry.groups),
        clamp=integers(convolution.clamp),
    )


def weight_shape(convolution):
    return (
        convolution.outputs,
        *convolution.kernel,
        convolution.inputs // convolution.geometry.groups,
    )


def function_of(types, build, name):
    """A module of one function; its results are what `build` makes of its arguments."""
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        func.FuncOp.from_py_func(*types, name=name)(lambda *operands: build(*operands))
    return module, find_function(module, name)


def apply_rule(function):
    """Make a function of one op return the gradients of its operands; (op, gradient argument)."""
    block = function.regions[0].blocks[0]
    op, returned = list(block)
    if needs_mask(op):
        op = with_mask(op)
    g = block.add_argument(tensor(shape_of(op.results[0]), "f32"), ir.Location.unknown())
    with ir.InsertionPoint(returned):
        results = rule_of(op)(op, g, [True] * len(op.operands))
        func.ReturnOp(results)
    returned.operation.erase()
    inputs = [argument.type for argument in block.arguments]
    signature = ir.FunctionType.get(inputs, [result.type for result in results])
    function.attributes["function_type"] = ir.TypeAttr.get(signature)
    return op, g


def check_direction(value_at, base, gradient, rng):
    """`value_at` changes around `base` along a random direction as `gradient` says."""
    assert gradient.shape == base.shape and gradient.dtype == np.float32
    step = STEPS[base.dtype.name]
    direction = rng.uniform(-1.0, 1.0, base.shape)
    above, below = value_at(base + step * direction), value_at(base - step * direction)
    slope = (above - below) / (2 * step)
    products = gradient.astype(np.float64) * direction
    assert abs(slope - products.sum()) <= RELATIVE * np.abs(products).sum() + ABSOLUTE


def check_rule(types, build, seed, arrays=None):
    """The rule of the op that `build` makes, for each operand, at a random point or at `arrays`."""
    rng = np.random.default_rng(seed)
    module, function = function_of(types, lambda *v: build(*v).results[0], "rule")
    op, g = apply_rule(function)
    assert module.operation.verify()
    arrays = arrays or [random_array(rng, operand) for operand in op.operands]
    upstream = random_array(rng, g)
    constant = residual(op, arrays)
    for index, gradient in enumerate(run(function, [*arrays, upstream])):

        def value_at(moved, index=index):
            operands = [*arrays[:index], moved, *arrays[index + 1 :]]
            return float(((relax(op, operands) + constant) * upstream).sum())

        check_direction(value_at, arrays[index], gradient, rng)


SEEDS = st.integers(0, 2**20)
SCALES = st.floats(0.01, 4.0)
ZEROS = st.integers(-128, 127)


@given(convolutions(), st.data())
@settings(max_examples=80, deadline=None)
def test_convolution_rule(convolution, data):
    least = convolution.least_size()
    size = tuple(data.draw(st.integers(low, low + 5)) for low in least)
    scale_x, scale_y, seed = data.draw(st.tuples(SCALES, SCALES, SEEDS))
    scales = weight_scales(np.random.default_rng(seed), convolution, scale_x, scale_y)
    with new_context(), ir.Location.unknown():
        types = [
            quantized((1, *size, convolution.inputs), scale_x, data.draw(ZEROS)),
            tensor(weight_shape(convolution), "i8"),
            tensor((convolution.outputs,), "i32"),
        ]
        check_rule(types, lambda *v: convolution_op(convolution, *v, scale_y, scales), seed)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    st.tuples(*[st.tuples(st.floats(0.1, 2.0), ZEROS)] * 3),
    st.sampled_from([(-128, 127), (-100, 60)]),
    SEEDS,
)
@settings(max_examples=40, deadline=None)
def test_add_rule(size, quantizations, clamp, seed):
    with new_context(), ir.Location.unknown():
        a, b, y = (quantized((1, *size), *each) for each in quantizations)
        check_rule([a, b], lambda p, q: Add(p, q, y, clamp=integers(clamp)), seed)


@given(st.tuples(*[st.integers(1, 6)] * 3), SCALES, ZEROS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_pool_and_dequantize_rules(size, scale, zero, seed):
    with new_context(), ir.Location.unknown():
        x = quantized((1, *size), scale, zero)
        pooled = quantized((1, 1, 1, size[2]), scale, zero)
        check_rule([x], lambda v: GlobalAveragePool(v, pooled), seed)
        check_rule([x], lambda v: Dequantize(v, tensor((1, *size), "f32")), seed)


@given(st.tuples(*[st.integers(1, 4)] * 3), st.integers(1, 7), SEEDS)
@settings(max_examples=25, deadline=None)
def test_linear_rule(size, classes, seed):
    with new_context(), ir.Location.unknown():
        shapes = [(1, *size), (classes, int(np.prod(size))), (classes,)]
        y = tensor((1, classes), "f32")
        check_rule([tensor(s, "f32") for s in shapes], lambda *v: Linear(*v, y), seed)


@given(st.sampled_from([(1, 2), (1, 9), (1, 1, 1, 5)]), st.floats(0.1, 20.0), SEEDS)
@settings(max_examples=25, deadline=None)
def test_loss_gradient(shape, spread, seed):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=shape) * spread).astype(np.float32)
    label = np.array(rng.integers(shape[-1]), np.int32)
    with new_context(), ir.Location.unknown():
        build = lambda x, y: (  # noqa: E731
            SoftmaxCrossEntropy(x, y, tensor((), "f32")).loss,
            SoftmaxCrossEntropyGrad(x, y, x.type).gx,
        )
        _module, step = function_of([tensor(shape, "f32"), tensor((), "i32")], build, "loss")
        loss = next(iter(step.regions[0].blocks[0]))
        gradient = run(step, [logits, label])[1]
        value_at = lambda moved: float(relax(loss, [moved, label]))  # noqa: E731
        check_direction(value_at, logits, gradient, rng)


class NetworkBuilder:
    """Builds `@infer` from random layers; parameters are random, scales keep values in range."""

    def __init__(self, rng):
        self.rng = rng
        self.count = 0

    def parameter(self, shape, element, spread=1.0):
        self.count += 1
        kind = tensor(shape, element)
        array = random_array(self.rng, kind)
        if element == "f32":
            array *= np.float32(spread)
        return Parameter(kind, string(f"p{self.count}"), dense(array)).result

    def convolution(self, x, convolution):
        w = self.parameter(weight_shape(convolution), "i8")
        bias = self.parameter((convolution.outputs,), "i32")
        scale_y = float(self.rng.uniform(0.01, 0.05))
        scales = weight_scales(self.rng, convolution, quantization(x)[0], scale_y)
        return convolution_op(convolution, x, w, bias, scale_y, scales).y

    def add(self, a, b):
        y = quantized(shape_of(a), float(self.rng.uniform(0.01, 0.05)), 3)
        return Add(a, b, y).y

    def pool(self, x):
        return GlobalAveragePool(x, quantized((1, 1, 1, shape_of(x)[3]), *quantization(x))).y

    def head(self, x, classes):
        features = int(np.prod(shape_of(x)))
        real = Dequantize(x, tensor(shape_of(x), "f32")).y
        w = self.parameter((classes, features), "f32", 1.0 / np.sqrt(features))
        bias = self.parameter((classes,), "f32")
        return Linear(real, w, bias, tensor((1, classes), "f32")).y


@dataclass(frozen=True)
class Network:
    """A stem, residual blocks (each adds its input `uses` times, or itself to itself), a head."""

    stem: Convolution
    blocks: tuple[tuple[Convolution, int], ...]
    pooled: bool
    quantized_logits: bool

    def build(self, x, rng):
        builder = NetworkBuilder(rng)
        y = builder.convolution(x, self.stem)
        for convolution, uses in self.blocks:
            total = builder.convolution(y, convolution)
            for _ in range(uses):
                total = builder.add(total, y)
            y = builder.add(total, total) if uses == 0 else total
        if self.pooled:
            y = builder.pool(y)
        return y if self.quantized_logits else builder.head(y, 3)


@st.composite
def networks(draw):
    stem = draw(convolutions())
    block = st.tuples(convolutions(inputs=stem.outputs, same=True), st.integers(0, 2))
    blocks = draw(st.lists(block, max_size=2))
    quantized_logits = draw(st.booleans())
    pooled = quantized_logits or draw(st.booleans())
    return Network(stem, tuple(blocks), pooled, quantized_logits)


def gradients_of_updates(step, arguments):
    """The gradient array of every `apply_update`, by the symbol that it updates."""
    arrays = {}

    def observe(op, results):
        arrays.update(zip(op.results, (result.copy() for result in results), strict=True))

    run(step, arguments, observe=observe)
    updates = [op for op in step.regions[0].blocks[0] if isinstance(op, ApplyUpdate)]
    symbols = [op.parameter.owner.attributes["symbol"].value for op in updates]
    return {symbol: arrays[op.gradient] for symbol, op in zip(symbols, updates, strict=True)}


@given(networks(), st.tuples(*[st.integers(0, 4)] * 2), ZEROS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_differentiated_network(network, extra, zero, seed):
    rng = np.random.default_rng(seed)
    least = network.stem.least_size()
    size = (least[0] + extra[0], least[1] + extra[1])
    with new_context(), ir.Location.unknown():
        x = quantized((1, *size, network.stem.inputs), 0.02, zero)
        module, _ = function_of([x], lambda v: network.build(v, rng), "infer")
        run_pipeline(module, "tiny-differentiate")
        step = find_function(module, "train_step")
        label = np.array(rng.integers(shape_of(step.type.results[1])[-1]), np.int32)
        arguments = [random_array(rng, x), label, np.array(0, np.float32)]
        relaxation = Relaxation(step, arguments)
        loss, _ = run(step, arguments)
        assert relaxation.loss({}) == pytest.approx(float(loss), rel=1e-5, abs=1e-6)
        gradients = gradients_of_updates(step, arguments)
        assert gradients.keys() == relaxation.parameters.keys()
        for symbol, gradient in gradients.items():
            value_at = lambda moved, symbol=symbol: relaxation.loss({symbol: moved})  # noqa: E731
            check_direction(value_at, relaxation.parameters[symbol], gradient, rng)
