"""The sparse-update passes on random networks: what they keep, remove and change."""

import numpy as np
from draft_networks import (
    NAMES,
    QUICK,
    SCHEMES,
    STAGES,
    STORAGE,
    arguments,
    differentiated,
    networks,
    sample,
    step_of,
    trained_symbols,
)
from hypothesis import given
from hypothesis import strategies as st

from tiny_dialect.attributes import to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.ops.convolution import trained_axis
from tiny_dialect.semantics.interpreter import initial_state, run
from tiny_passes.graph import body, functions, is_used, producer, users
from tiny_passes.prune_backward import UPDATES, updated_symbol, updates_of
from tiny_passes.registry import run_pipeline
from tiny_passes.select_updates import apply_scheme
from tiny_passes.update_scheme import UpdateScheme, chosen_count
from tiny_pipelines.frontends.layers import (
    ConvLayer,
)


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
