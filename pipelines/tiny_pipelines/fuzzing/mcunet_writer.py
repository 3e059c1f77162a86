"""Writes convolutions as an MCUNet `.pkl` holds them, with random weights: for seeds and tests."""

from typing import Any

import numpy as np

Record = dict[str, Any]


def convolution(
    rng: np.random.Generator,
    channels: tuple[int, int],
    shapes: tuple[Any, Any],
    kernel: tuple[int, int] = (1, 1),
    stride: int = 1,
    depthwise: bool = False,
    *,
    scales: tuple[float, float] = (0.05, 0.07),
) -> Record:
    """A convolution's record: `channels`, `shapes` and `scales` are those of input and output.

    A shape is (H, W), or an int for a square.
    """
    groups = channels[0] if depthwise else 1
    weight_shape = (channels[1], channels[0] // groups, *kernel)
    return {
        "in_channel": channels[0],
        "in_shape": shapes[0],
        "out_channel": channels[1],
        "out_shape": shapes[1],
        "kernel_size": kernel,
        "stride": stride,
        "groups": groups,
        "depthwise": depthwise,
        "act": None,
        "params": {
            "weight": rng.integers(-127, 128, weight_shape).astype(np.int8),
            "bias": rng.integers(-500, 500, channels[1]).astype(np.int32),
            "w_scales": rng.uniform(0.001, 0.01, channels[1]).astype(np.float32),
            "x_scale": scales[0],
            "x_zero": 3,
            "y_scale": scales[1],
            "y_zero": 3,
        },
    }
