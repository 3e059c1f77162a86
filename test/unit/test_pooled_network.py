"""A network of everything that importers may put between convolutions, trained on both cores.

Pads, pools, means, rescalings and reshapes, odd channels, not square, and one in one dimension.
"""

import json

import numpy as np
import pytest
from test_slice import compiled, ran

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, to_bytecode
from tiny_passes.graph import find_function
from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.frontends.layers import (
    AddLayer,
    ConvLayer,
    MeanLayer,
    Network,
    PadLayer,
    PoolLayer,
    Quantization,
    RequantizeLayer,
    ReshapeLayer,
)
from tiny_pipelines.training import TrainingOptions, build_training_step

X, A, B = Quantization(0.02, -3), Quantization(0.05, -20), Quantization(0.06, 5)


def conv(rng, name, source, ins, outs, shape, **options):
    return ConvLayer(
        name=name,
        inputs=(source,),
        input_quantization=ins,
        weight=rng.integers(-127, 128, shape).astype(np.int8),
        weight_scales=rng.uniform(0.002, 0.01, shape[0]),
        bias=rng.integers(-200, 200, shape[0]).astype(np.int32),
        output_quantization=outs,
        **options,
    )


def image_network():
    """9 by 7 by 3: every kind of layer, with a gradient through each."""
    rng = np.random.default_rng(0)
    layers = (
        conv(rng, "stem", "input", X, A, (5, 3, 3, 3), pads=(1, 1, 1, 1)),
        PadLayer("pad", ("stem",), (1, 0, 0, 1)),
        PoolLayer("max", ("pad",), "max", (3, 3), (2, 2), (1, 1, 1, 1)),
        conv(rng, "middle", "max", A, A, (5, 1, 1, 5)),
        PoolLayer("smooth", ("middle",), "average", (2, 2)),
        conv(rng, "side", "smooth", A, B, (5, 1, 1, 5)),
        RequantizeLayer("scaled", ("smooth",), B, (-100, 100)),
        AddLayer("sum", ("side", "scaled"), (B, B), B),
        MeanLayer("columns", ("sum",), (2,), Quantization(0.04, 3)),
        ReshapeLayer("flat", ("columns",), (1, 1, 1, 20)),
        conv(rng, "classifier", "flat", Quantization(0.04, 3), A, (4, 1, 1, 20)),
    )
    return Network("pooled", "pooled", (1, 9, 7, 3), X, layers, "classifier")


def signal_network():
    """A window of 40 samples of 3 sensors; the mean over all of it."""
    rng = np.random.default_rng(1)
    layers = (
        conv(rng, "stem", "input", X, A, (6, 1, 5, 3), strides=(1, 2), pads=(0, 2, 0, 2)),
        PoolLayer("max", ("stem",), "max", (1, 2), (1, 2)),
        conv(rng, "body", "max", A, B, (7, 1, 3, 6)),
        MeanLayer("mean", ("body",), (1, 2), A),
        conv(rng, "classifier", "mean", A, B, (4, 1, 1, 7)),
    )
    return Network("signal", "signal", (1, 1, 40, 3), X, layers, "classifier")


NETWORKS = {"image": image_network, "signal": signal_network}


def model_file(name, folder):
    with new_context():
        path = folder / f"{name}.mlirbc"
        path.write_bytes(to_bytecode(emit(NETWORKS[name]())))
    return path


def data_file(name, folder):
    shape = NETWORKS[name]().input_shape
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (8, *shape[1:])).astype(np.int8)
    np.savez(folder / "data.npz", x=x, y=rng.integers(0, 3, 8))
    return folder / "data.npz"


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "name, target, gradients",
    [
        ("image", "cortex-m7", "int16"),
        ("image", "rv32imafc", "float32"),
        slow("image", "cortex-m7", "float32"),
        slow("image", "rv32imafc", "int16"),
        slow("image", "rv32imc", "int16"),
        slow("signal", "cortex-m4", "int16"),
        slow("signal", "cortex-m7", "float32"),
        ("signal", "rv32imafc", "int16"),
    ],
)
def test_trains_on_the_core_as_the_semantics_say(name, target, gradients, tmp_path, capsys):
    model, data, folder = model_file(name, tmp_path), data_file(name, tmp_path), tmp_path / "out"
    options = ("--target", target, "--scheme", "full", "--classes", "3", "--gradients", gradients)
    compiled(model, folder, capsys, *options)
    result = ran(folder, data, capsys, "--steps", "2", "--check", "--poison")
    assert result["check"]["passed"], json.dumps(result["check"])


def op_names(module, function):
    return {op.operation.name for op in find_function(module, function).body.blocks[0]}


@pytest.mark.parametrize("name", NETWORKS)
def test_inference_keeps_nothing_for_the_gradients(name):
    with new_context(), ir.Location.unknown():
        module = build_training_step(emit(NETWORKS[name]()), TrainingOptions("full"))
        infer, step = (find_function(module, f) for f in ("infer", "train_step"))
        for function, results in ((infer, 1), (step, 2)):
            pools = [op for op in function.body.blocks[0] if op.operation.name == "tiny.max_pool2d"]
            assert pools and all(len(op.results) == results for op in pools)
        assert "tiny.integer_pool2d_grad" in op_names(module, "train_step")


def test_a_mean_between_equal_scales_needs_no_mask():
    from tiny_pipelines.frontends.layers import LinearLayer

    rng = np.random.default_rng(0)
    layers = (
        conv(rng, "stem", "input", X, A, (5, 1, 1, 3)),
        MeanLayer("columns", ("stem",), (2,), A),
        MeanLayer("rows", ("columns",), (1,), A),
        LinearLayer("head", ("rows",), np.ones((2, 5), np.float32), np.zeros(2, np.float32)),
    )
    network = Network("means", "means", (1, 4, 6, 3), X, layers, "head")
    with new_context(), ir.Location.unknown():
        module = build_training_step(emit(network), TrainingOptions("full"))
        block = find_function(module, "train_step").body.blocks[0]
        assert all(len(op.results) == 1 for op in block if op.operation.name == "tiny.mean")
        # Both means only spread one gradient a channel: no op of their own is left.
        assert "tiny.integer_pool2d_grad" not in op_names(module, "train_step")


def test_an_average_of_different_counts_has_no_integer_form():
    from tiny_passes.registry import PassError

    rng = np.random.default_rng(0)
    layers = (
        conv(rng, "stem", "input", X, A, (5, 1, 1, 3)),
        PoolLayer("smooth", ("stem",), "average", (2, 2), (1, 1), (1, 0, 0, 0)),
        conv(rng, "classifier", "smooth", A, B, (4, 4, 5, 5)),
    )
    network = Network("border", "border", (1, 4, 6, 3), X, layers, "classifier")
    with new_context(), ir.Location.unknown():
        with pytest.raises(PassError, match="averages 2 to 4 values at its border"):
            build_training_step(emit(network), TrainingOptions("full", gradients="int16"))
        build_training_step(emit(network), TrainingOptions("full", gradients="float32"))
