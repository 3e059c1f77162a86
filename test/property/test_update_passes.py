"""The sparse-update passes on random networks: what they keep, remove and change."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.ops.convolution import trained_axis
from tiny_dialect.semantics.convolution import stored_weight
from tiny_dialect.semantics.interpreter import initial_state, run
from tiny_dialect.types import quantization
from tiny_passes.graph import body, functions, is_used, producer, users
from tiny_passes.prune_backward import UPDATES, updated_symbol, updates_of
from tiny_passes.registry import PassError, run_pipeline
from tiny_passes.select_updates import apply_scheme, chosen_channels
from tiny_passes.update_scheme import UpdateScheme, chosen_count
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


@given(networks(), SCHEMES, STORAGE)
@QUICK
def test_forward_results_survive_every_pass(network, scheme, storage):
    with new_context(), ir.Location.unknown():
        module, forward = differentiated(network)
        [expected] = run(functions(forward)["infer"], [sample(network)])
        loss, before = run(step_of(module), arguments(network, 0.1))
        np.testing.assert_array_equal(before, expected)
        apply_scheme(step_of(module), scheme, storage)
        module.operation.verify()
        for text in STAGES.split(","):
            run_pipeline(module, text)
            now = run(step_of(module), arguments(network, 0.1))
            np.testing.assert_array_equal(now[0], loss)
            np.testing.assert_array_equal(now[1], expected)
        infer = functions(module)["infer"]
        np.testing.assert_array_equal(run(infer, [sample(network)])[0], expected)
        assert all(len(op.results) == 1 for op in body(infer)[:-1])
        assert not [op for op in body(infer) if op.operation.name == "tiny.gather_channels"]


@given(networks(), SCHEMES)
@QUICK
def test_chosen_weights_move_as_in_the_full_update(network, scheme):
    """Sparse gradients are the chosen slices of the dense ones; everything else stays."""
    with new_context(), ir.Location.unknown():
        dense, _ = differentiated(network)
        sparse, _ = differentiated(network)
        apply_scheme(step_of(dense), UpdateScheme("full", None, {"all": 1.0}), "float32")
        apply_scheme(step_of(sparse), scheme, "float32")
        run_pipeline(sparse, "tiny-prune-backward")
        full_state, state = initial_state(step_of(dense)), initial_state(step_of(sparse))
        assert {symbol.removesuffix(".trained") for symbol in state} <= set(full_state)
        slices = trained_slices(step_of(sparse))
        # Weights that have moved: whoever reads the frozen values in their place is found out.
        for symbol, (axis, channels) in slices.items():
            state[symbol] = -state[symbol]
            index = (slice(None),) * axis + (channels,)
            full_state[symbol.removesuffix(".trained")][index] = state[symbol]
        losses = [
            run(step_of(module), arguments(network, 0.5), values)[0]
            for module, values in ((dense, full_state), (sparse, state))
        ]
        assert losses[0] == losses[1]
        for symbol, value in state.items():
            whole = full_state[symbol.removesuffix(".trained")]
            if symbol in slices:
                whole = whole.take(slices[symbol][1], slices[symbol][0])
            np.testing.assert_allclose(value, whole, rtol=1e-5, atol=1e-6)


def trained_slices(step):
    """Axis and channels of the whole weight, by the symbol of each partly trained one."""
    convs = [op for op in body(step) if op.operation.name == "tiny.conv2d"]
    return {
        producer(op.trained).symbol.value: (
            trained_axis(op.groups.value, tuple(op.w.type.shape)),
            to_list(op.attributes["trained_channels"]),
        )
        for op in convs
        if op.trained is not None
    }


@given(networks(), SCHEMES, STORAGE)
@QUICK
def test_a_scheme_trains_what_it_says_and_nothing_else(network, scheme, storage):
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(network)
        apply_scheme(step_of(module), scheme, storage)
        run_pipeline(module, "tiny-prune-backward")
        expected = {"classifier.weight": "f32", "classifier.bias": "f32"}
        expected |= {f"{name}.bias": "i32" for name in NAMES[len(NAMES) - scheme.biases :]}
        convs = {layer.name: layer for layer in network.layers if isinstance(layer, ConvLayer)}
        element = {"int16": "i16", "float32": "f32", "int8": "i8"}[storage]
        for name, ratio in scheme.weights.items():
            weight = convs[name].weight
            count = weight.shape[trained_axis(convs[name].groups, weight.shape)]
            part = ".trained" if chosen_count(count, ratio) < count else ""
            expected[f"{name}.weight{part}"] = element
        trained = trained_symbols(step_of(module))
        got = {symbol: str(op.result.type.element_type) for symbol, op in trained.items()}
        assert got == expected
        assert {updated_symbol(op) for op in updates_of(step_of(module))} == set(expected)


@given(networks(), SCHEMES, STORAGE)
@QUICK
def test_nothing_unused_is_left_and_backward_stops_at_the_earliest_layer(network, scheme, storage):
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(network)
        apply_scheme(step_of(module), scheme, storage)
        run_pipeline(module, "tiny-prune-backward")
        ops = body(step_of(module))[:-1]
        assert all(is_used(op) for op in ops if op.operation.name not in UPDATES)
        assert all(list(op.results[1].uses) for op in ops if len(op.results) == 2)
        selection = scheme.resolve(NAMES)
        earliest = min([*selection.biases, *selection.weights, len(NAMES)])
        through = [
            op.attributes["layer"].value
            for op in ops
            if op.operation.name == "tiny.conv2d_input_grad"
        ]
        # The residual skips `depthwise` and `grouped`, not the convolutions behind the stem.
        assert sorted(through) == sorted(NAMES[earliest + 1 :])


@given(networks(), SCHEMES, STORAGE, st.booleans())
@QUICK
def test_fused_updates_write_what_the_separate_ones_write(network, scheme, storage, qas):
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(network)
        apply_scheme(step_of(module), scheme, storage)
        rescale = f"tiny-rescale-gradients{{qas={str(qas).lower()}}}"
        run_pipeline(module, f"tiny-prune-backward,{rescale}")
        separate, fused = initial_state(step_of(module)), initial_state(step_of(module))
        run(step_of(module), arguments(network, 1e-4), separate)
        run_pipeline(module, "tiny-fuse-updates")
        run(step_of(module), arguments(network, 1e-4), fused)
        for symbol, value in separate.items():
            # The one difference: a product of constants rounded to float32.
            exact = 0 if value.dtype == np.float32 else 1
            moved = np.abs(value.astype(np.float64)).max()
            np.testing.assert_allclose(fused[symbol], value, rtol=2e-6, atol=exact + 1e-6 * moved)
        assert_fused(step_of(module))


def assert_fused(step):
    ops = body(step)
    names = [op.operation.name for op in ops]
    for gone in ("conv2d_weight_grad", "linear_weight_grad", "bias_grad", "apply_update"):
        assert f"tiny.{gone}" not in names
    order = {op.operation: index for index, op in enumerate(ops)}
    for update in updates_of(step):
        place = order[update.operation]
        others = [op for op in users(update.operands[0]) if op != update]
        assert all(order[op.operation] < place for op in others)
        # As early as possible: the op in front is the last reader, or produced the gradient.
        operands = [producer(value) for value in update.operands if producer(value) is not None]
        waits = {order[op.operation] for op in [*others, *operands]}
        between = ops[max(waits) + 1 : place]
        later = [op for op in between if op.operation.name not in UPDATES]
        assert len(later) == 0


@given(networks(), SCHEMES, st.booleans())
@QUICK
def test_factors_are_those_of_the_paper(network, scheme, powers_of_two):
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(network)
        apply_scheme(step_of(module), scheme)
        option = f"{{powers_of_two={str(powers_of_two).lower()}}}"
        run_pipeline(module, f"tiny-rescale-gradients{option}")
        convs = {layer.name: layer for layer in network.layers if isinstance(layer, ConvLayer)}
        forward = {
            op.attributes["layer"].value: op
            for op in body(step_of(module))
            if op.operation.name == "tiny.conv2d"
        }
        for update in updates_of(step_of(module)):
            name, kind = updated_symbol(update).split(".")[:2]
            factors = to_array(update.factors).astype(np.float64)
            if name == "classifier":
                np.testing.assert_array_equal(factors, 1)
                continue
            scales = convs[name].weight_scales
            if kind == "bias":
                scales = scales * quantization(forward[name].x)[0]
            elif len(factors) < len(scales):
                scales = scales[to_list(forward[name].attributes["trained_channels"])]
            bound = np.sqrt(2) * (1 + 1e-6) if powers_of_two else 1 + 1e-6
            ratio = factors * scales**2
            assert ((1 / bound <= ratio) & (ratio <= bound)).all()
            if powers_of_two:
                np.testing.assert_array_equal(np.frexp(factors)[0], 0.5)


@given(networks(), st.sampled_from(NAMES), RATIOS)
@QUICK
def test_the_largest_channels_are_chosen(network, name, ratio):
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(network)
        conv = next(
            op
            for op in body(step_of(module))
            if op.operation.name == "tiny.conv2d" and op.attributes["layer"].value == name
        )
        record = next(layer for layer in network.layers if layer.name == name)
        real = record.weight * record.weight_scales[:, None, None, None]
        axis = trained_axis(record.groups, record.weight.shape)
        norms = [np.linalg.norm(real.take(c, axis)) for c in range(real.shape[axis])]
        chosen = chosen_channels(conv, ratio)
        assert chosen == sorted(set(chosen))
        assert len(chosen) == max(1, int(len(norms) * ratio + 1e-9))
        left = [norm for channel, norm in enumerate(norms) if channel not in chosen]
        assert not left or min(norms[c] for c in chosen) >= max(left) * (1 - 1e-12)


def small_network(weights, scales):
    """One 1x1 convolution with the given weights [O, I] and scales, a pool and the classifier."""
    outputs, inputs = np.shape(weights)
    draft = Draft(np.random.default_rng(0), (1, 2, 3, inputs))
    draft.conv("only", INPUT, inputs, outputs)
    record = draft.layers[0]
    object.__setattr__(record, "weight", np.array(weights, np.int8).reshape(outputs, 1, 1, inputs))
    object.__setattr__(record, "weight_scales", np.array(scales, np.float64))
    return draft.network(outputs)


def test_equal_channels_are_chosen_by_index_and_scales_count():
    with new_context(), ir.Location.unknown():
        # Column norms: 50 * 0.01, 30 * 0.02 (twice), so the raw values would choose column 0.
        module, _ = differentiated(small_network([[50, 0, 0], [0, 30, 30]], [0.01, 0.02]))
        conv = next(op for op in body(step_of(module)) if op.operation.name == "tiny.conv2d")
        assert chosen_channels(conv, 0.34) == [1]
        assert chosen_channels(conv, 0.67) == [1, 2]


def test_masters_start_in_the_middle_of_their_bucket():
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(small_network([[-128, 0, 127]], [0.01]))
        apply_scheme(step_of(module), UpdateScheme("one", 0, {"only": 1.0}))
        value = initial_state(step_of(module))["only.weight"]
        np.testing.assert_array_equal(value.reshape(-1), [-32640, 128, 32640])
        np.testing.assert_array_equal(stored_weight(value).reshape(-1), [-128, 0, 127])


def test_dead_channels_are_frozen_and_large_factors_capped():
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(small_network([[1], [2], [3]], [5e-8, 2e-7, 0.01]))
        apply_scheme(step_of(module), UpdateScheme("one", 1, {"only": 1.0}))
        for options, limit in (("", 2.0**40), ("{cap=1000000}", 1e6), ("{qas=false}", 1.0)):
            run_pipeline(module, f"tiny-rescale-gradients{options}")
            factors = {updated_symbol(op): op.factors for op in updates_of(step_of(module))}
            weight, bias = (to_array(factors[f"only.{kind}"]) for kind in ("weight", "bias"))
            assert weight[0] == bias[0] == 0
            assert weight[1] == bias[1] == np.float32(limit)
            assert weight[2] == pytest.approx(min(1e4, limit))
        run_pipeline(module, "tiny-rescale-gradients{cap=1000000 powers-of-two}")
        factors = {updated_symbol(op): op.factors for op in updates_of(step_of(module))}
        assert to_array(factors["only.weight"]).tolist() == [0, 2**19, 2**13]


def shared_weight_step():
    """Two convolutions, `only` and `twin`, of one weight."""
    draft = Draft(np.random.default_rng(3), (1, 2, 3, 2))
    draft.conv("only", INPUT, 2, 2)
    draft.conv("twin", "only", 2, 2)
    network = draft.network(2)
    module = emit(network)
    first, second, _ = [
        op for op in body(functions(module)["infer"]) if op.operation.name == "tiny.conv2d"
    ]
    second.operands[1] = first.w
    second.attributes["weight_scales"] = first.weight_scales
    replace_head(module, CLASSES, seed=1)
    run_pipeline(module, "tiny-differentiate")
    return network, module


def test_a_shared_weight_is_trained_whole():
    with new_context(), ir.Location.unknown():
        network, module = shared_weight_step()
        apply_scheme(step_of(module), UpdateScheme("whole", 2, {"only": 1.0}))
        run_pipeline(module, "tiny-prune-backward,tiny-rescale-gradients")
        separate, fused = initial_state(step_of(module)), initial_state(step_of(module))
        run(step_of(module), arguments(network, 1e-4), separate)
        run_pipeline(module, "tiny-fuse-updates")
        run(step_of(module), arguments(network, 1e-4), fused)
        # The sum of two gradients has no fused form.
        left = [
            op for op in updates_of(step_of(module)) if op.operation.name == "tiny.apply_update"
        ]
        assert [updated_symbol(op) for op in left] == ["only.weight"]
        for symbol, value in separate.items():
            np.testing.assert_allclose(fused[symbol], value, rtol=2e-6, atol=1)


def test_a_shared_weight_is_not_trained_in_part():
    with new_context(), ir.Location.unknown():
        _, module = shared_weight_step()
        with pytest.raises(PassError, match=r"only.*shared by several convolutions"):
            apply_scheme(step_of(module), UpdateScheme("half", 0, {"only": 0.5}))


def test_keep_names_the_only_updates():
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(small_network([[3, 1]], [0.01]))
        run_pipeline(module, "tiny-prune-backward{keep=classifier.bias}")
        assert set(trained_symbols(step_of(module))) == {"classifier.bias"}
        assert [updated_symbol(op) for op in updates_of(step_of(module))] == ["classifier.bias"]
        names = {op.operation.name for op in body(step_of(module))}
        assert "tiny.linear_input_grad" not in names
        with pytest.raises(PassError, match="the step updates classifier"):
            run_pipeline(module, "tiny-prune-backward{keep=only.weight}")


def test_the_pass_reads_its_scheme_from_a_file(tmp_path):
    path = Path(tmp_path) / "scheme.json"
    path.write_text(json.dumps({"name": "file", "biases": 0, "weights": {"only": 1}}))
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(small_network([[3, 1]], [0.01]))
        run_pipeline(module, f"tiny-select-updates{{scheme={path} update=float32}}")
        trained = trained_symbols(step_of(module))
        assert set(trained) == {"only.weight", "classifier.weight", "classifier.bias"}
        assert str(trained["only.weight"].result.type.element_type) == "f32"
        with pytest.raises(PassError, match="has no update of only"):
            apply_scheme(step_of(module), UpdateScheme("again", 1))


def test_inference_is_extracted_once():
    with new_context(), ir.Location.unknown():
        module, _ = differentiated(small_network([[3, 1]], [0.01]))
        run_pipeline(module, "tiny-extract-inference")
        with pytest.raises(PassError, match="already has @infer"):
            run_pipeline(module, "tiny-extract-inference")
        infer = functions(module)["infer"]
        assert infer.attributes["tiny.model"].value == "draft"
        step, found = trained_symbols(step_of(module)), trained_symbols(infer)
        assert set(step) == set(found)
        assert all(step[s].value == found[s].value for s in step)
