"""Small random networks with a residual, as strategies, and what tests of passes ask of them."""

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st

from tiny_passes.graph import body, functions
from tiny_passes.registry import run_pipeline
from tiny_passes.update_scheme import UpdateScheme
from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.frontends.head import replace_head
from tiny_pipelines.frontends.layers import (
    INPUT,
    AddLayer,
    ConvLayer,
    GlobalAveragePoolLayer,
    Network,
    Quantization,
)

CLASSES = 3
STAGES = "tiny-prune-backward,tiny-rescale-gradients,tiny-fuse-updates,tiny-extract-inference"
# The drawn seed makes a network: shrinking it takes minutes and explains nothing.
QUICK = settings(max_examples=12, deadline=None, phases=[Phase.reuse, Phase.generate])


class Draft:
    """Layer records in the making, with random weights and plausible scales."""

    def __init__(self, rng, input_shape):
        self.rng = rng
        self.layers = []
        self.quantization = {INPUT: Quantization(0.02, int(rng.integers(-20, 20)))}
        self.input_shape = input_shape

    def conv(self, name, x, inputs, outputs, kernel=(1, 1), groups=1, strides=(1, 1)):
        rng = self.rng
        weight = rng.integers(-128, 128, (outputs, *kernel, inputs // groups)).astype(np.int8)
        scales = rng.uniform(0.002, 0.01, outputs)
        top, left = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
        self.quantization[name] = Quantization(float(rng.uniform(0.01, 0.05)), -10)
        self.layers.append(
            ConvLayer(
                name,
                (x,),
                self.quantization[x],
                weight,
                scales,
                rng.integers(-300, 300, outputs).astype(np.int32),
                self.quantization[name],
                strides,
                (top, left, kernel[0] - 1 - top, kernel[1] - 1 - left),
                groups,
            )
        )
        return name

    def add(self, name, a, b):
        self.quantization[name] = Quantization(0.04, 5)
        pair = (self.quantization[a], self.quantization[b])
        self.layers.append(AddLayer(name, (a, b), pair, self.quantization[name]))
        return name

    def network(self, features):
        pooled = "pool"
        self.layers.append(GlobalAveragePoolLayer(pooled, (self.layers[-1].name,)))
        self.quantization[pooled] = self.quantization[self.layers[-2].name]
        self.conv("classifier", pooled, features, 2)
        quantized_input = self.quantization[INPUT]
        layers = tuple(self.layers)
        return Network("draft", "draft", self.input_shape, quantized_input, layers, "classifier")


@st.composite
def networks(draw):
    """A residual block, depthwise (multiplier 1 or 2) and grouped, then one more convolution."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    height, width = draw(st.tuples(st.integers(1, 6), st.integers(2, 6)))
    kernels = st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 3, 5]))
    inputs, channels = draw(st.integers(1, 4)), draw(st.sampled_from([2, 3, 4, 6]))
    multiplier, features = draw(st.integers(1, 2)), draw(st.integers(1, 7))
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    draft = Draft(rng, (1, height, width, inputs))
    strides = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    stem = draft.conv("stem", INPUT, inputs, channels, draw(kernels), 1, strides)
    inner = channels * multiplier
    depthwise = draft.conv("depthwise", stem, channels, inner, draw(kernels), channels)
    grouped = draft.conv("grouped", depthwise, inner, channels, draw(kernels), groups)
    total = draft.add("sum", stem, grouped)
    draft.conv("last", total, channels, features, draw(kernels))
    return draft.network(features)


NAMES = ("stem", "depthwise", "grouped", "last")
RATIOS = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0])
SCHEMES = st.builds(
    lambda biases, weights: UpdateScheme("drawn", biases, weights),
    st.integers(0, len(NAMES)),
    st.dictionaries(st.sampled_from(NAMES), RATIOS),
)
STORAGE = st.sampled_from(["int16", "float32", "int8"])


def differentiated(network):
    module = emit(network)
    replace_head(module, CLASSES, seed=1)
    forward = module.operation.clone().opview
    run_pipeline(module, "tiny-differentiate")
    return module, forward


def step_of(module):
    return functions(module)["train_step"]


def sample(network, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, network.input_shape).astype(np.int8)


def arguments(network, rate):
    return [sample(network), np.int32(1), np.float32(rate)]


def trained_symbols(function):
    return {
        op.symbol.value: op
        for op in body(function)
        if op.operation.name == "tiny.parameter" and "trained" in op.attributes
    }
