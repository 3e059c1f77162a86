"""How a random layer chooses its output scale: from what a calibration input makes of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.layers import FULL_RANGE, Quantization

Array = NDArray[np.int64]

_MAX_FACTOR = 2.0**29
_MIN_SCALE, MAX_SCALE = 1e-30, 1e30


def output_quantization(
    real: NDArray[np.float64],
    spread: float,
    zero_point: int,
    largest: float,
    limit: float = MAX_SCALE,
) -> Quantization:
    """The quantization in which `real` has the standard deviation `spread`.

    `largest` is the largest scale that is divided by the output's; the quotient stays within Q31.
    No scale is above `limit`.
    """
    deviation = float(np.std(real)) or largest
    scale = max(deviation / spread, largest / _MAX_FACTOR)
    # Rounded to float32, as converters write it.
    return Quantization(float(np.float32(np.clip(scale, _MIN_SCALE, limit))), zero_point)


def quantized(
    real: NDArray[Any], quantization: Quantization, clamp: tuple[int, int] = FULL_RANGE
) -> Array:
    """Real values in units of `quantization`, rounded and clamped."""
    return clamped(real / quantization.scale + quantization.zero_point, clamp)


def clamped(values: NDArray[Any], clamp: tuple[int, int] = FULL_RANGE) -> Array:
    """Values in units of their quantization, rounded and clamped."""
    return np.clip(np.rint(values), *clamp).astype(np.int64)
