"""A small planned network with what real ones have: odd channels, non-square, residual, head."""

from typing import Any

import numpy as np

from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.frontends.layers import (
    AddLayer,
    ConvLayer,
    GlobalAveragePoolLayer,
    LinearLayer,
    Network,
    Quantization,
)
from tiny_pipelines.training import TrainingOptions, build_training_step

INPUT_SHAPE = (1, 9, 7, 3)
CLASSES = 4
_X, _A, _B = Quantization(0.02, -3), Quantization(0.05, -20), Quantization(0.06, 5)


def _conv(rng: Any, name: str, source: str, ins: Any, outs: Any, shape: Any, **options: Any) -> Any:
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


def build(seed: int = 0) -> Any:
    """The module at the `model` stage, in the current context."""
    rng = np.random.default_rng(seed)
    same = {"pads": (1, 1, 1, 1)}
    layers = (
        _conv(rng, "stem", "input", _X, _A, (5, 3, 3, 3), strides=(2, 2), **same),
        _conv(rng, "depthwise", "stem", _A, _A, (5, 3, 3, 1), groups=5, **same),
        _conv(rng, "project", "depthwise", _A, _B, (5, 1, 1, 5)),
        AddLayer("residual", ("stem", "project"), (_A, _B), _B),
        GlobalAveragePoolLayer("pool", ("residual",)),
        LinearLayer(
            "head",
            ("pool",),
            rng.normal(size=(CLASSES, 5)).astype(np.float32),
            np.zeros(CLASSES, np.float32),
        ),
    )
    return emit(Network("small", "small", INPUT_SHAPE, _X, layers, "head"))


def planned(scheme: str = "full", seed: int = 0, gradients: str | None = None) -> Any:
    """The module at the `planned` stage, `@train_step` and `@infer`."""
    return build_training_step(build(seed), TrainingOptions(scheme, gradients=gradients))


def sample(seed: int) -> Any:
    """One input."""
    return np.random.default_rng(seed).integers(-128, 128, INPUT_SHAPE).astype(np.int8)
