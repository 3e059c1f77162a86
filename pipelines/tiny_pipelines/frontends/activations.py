"""Clamps of activation functions, and the SAME padding: facts that several formats share."""

import math

from tiny_pipelines.frontends.layers import FULL_RANGE, Quantization

RELU = (0.0, math.inf)
RELU6 = (0.0, 6.0)
RELU_N1_TO_1 = (-1.0, 1.0)


def quantized_clamp(bounds: tuple[float, float], quantization: Quantization) -> tuple[int, int]:
    """The int8 clamp of real `bounds`: `zero + round(bound / scale)`, half away from zero."""
    low, high = FULL_RANGE
    if not 0 < quantization.scale < math.inf:
        return FULL_RANGE  # the emitter refuses such a scale, with its place
    limits: list[int] = []
    for bound in bounds:
        units = bound / quantization.scale
        if abs(units) > 512:
            limits.append(low if units < 0 else high)
            continue
        rounded = math.floor(abs(units) + 0.5)
        value = quantization.zero_point + (rounded if units >= 0 else -rounded)
        limits.append(min(max(value, low), high))
    return limits[0], limits[1]


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """(before, after) such that an axis has `ceil(size / stride)` outputs; the rest goes behind."""
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2
