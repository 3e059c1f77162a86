"""What is trained and how fast: factors, chosen channels, shared weights, named parameters."""

import json
from pathlib import Path

import numpy as np
import pytest
from draft_networks import (
    CLASSES,
    NAMES,
    QUICK,
    RATIOS,
    SCHEMES,
    Draft,
    arguments,
    differentiated,
    networks,
    step_of,
    trained_symbols,
)
from hypothesis import given
from hypothesis import strategies as st

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.ops.convolution import trained_axis
from tiny_dialect.semantics.convolution import stored_weight
from tiny_dialect.semantics.interpreter import initial_state, run
from tiny_dialect.types import quantization
from tiny_passes.graph import body, functions
from tiny_passes.prune_backward import updated_symbol, updates_of
from tiny_passes.registry import PassError, run_pipeline
from tiny_passes.select_updates import apply_scheme, chosen_channels
from tiny_passes.update_scheme import UpdateScheme
from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.frontends.head import replace_head
from tiny_pipelines.frontends.layers import (
    INPUT,
    ConvLayer,
)


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
