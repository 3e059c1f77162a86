"""A tensor of a model file: the layer that computes it, as NHWC, and how the file sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import contains
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.frontends.layers import Quantization

Pads = tuple[int, int, int, int]
Pair = tuple[int, int]
Shape4 = tuple[int, int, int, int]

NO_PADS: Pads = (0, 0, 0, 0)
NHWC = (0, 1, 2, 3)
NCHW = (0, 3, 1, 2)
MAX_ELEMENTS = 2**28
"""Of one activation; far beyond any microcontroller, so a larger one is a damaged file."""


def as_float64(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers of a file in float64, NaN among them: the layer that gets one is refused later."""
    with np.errstate(invalid="ignore"):  # of a signalling NaN, which becomes a quiet one
        return numbers.astype(np.float64)


@dataclass(frozen=True)
class Value:
    """A tensor of the file: layer `name` computes it as NHWC `shape`.

    `order` lists the NHWC axes in the order of the file; `logical` is the file's shape, which those
    axes flatten to. `pads` are zeros around the image that no layer has added yet.
    """

    name: str
    shape: Shape4
    quantization: Quantization
    logical: tuple[int, ...]
    order: tuple[int, ...] = NHWC
    pads: Pads = NO_PADS

    @property
    def in_memory_order(self) -> bool:
        """True where the file's elements come in the order in which the layer stores them."""
        axes = [axis for axis in self.order if self.shape[axis] > 1]
        return axes == sorted(axes)

    def axes(self) -> list[int | None] | None:
        """The NHWC axis behind each axis of the file, None for one of size 1; None if reshaped."""
        waiting = [axis for axis in self.order if self.shape[axis] > 1]
        found: list[int | None] = []
        for size in self.logical:
            if size > 1 and (not waiting or self.shape[waiting[0]] != size):
                return None
            found.append(waiting.pop(0) if size > 1 else None)
        return None if waiting else found


def image_shape(logical: Sequence[int]) -> Shape4 | None:
    """NHWC of a shape with channels last: `[1, C]`, `[1, W, C]` or `[1, H, W, C]`."""
    if not 1 <= len(logical) <= 4 or (len(logical) > 1 and logical[0] != 1):
        return None
    inner = list(logical[1:]) if len(logical) > 1 else list(logical)
    height, width, channels = [1] * (3 - len(inner)) + inner
    return (1, height, width, channels)


def by_channel(x: Value, constant: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """`constant`, broadcast to the file's axes of `x`, as one number a channel; None if it is not.

    The axes of `x` are known.
    """
    axes = x.axes() or []
    sizes = (*[1] * (len(axes) - constant.ndim), *constant.shape)
    channels = x.shape[3]
    allowed = [(1, channels) if axis == 3 else (1,) for axis in axes]
    if len(sizes) != len(axes) or not all(map(contains, allowed, sizes)):
        return None
    return np.broadcast_to(constant.reshape(-1), channels)


def has_channels_on(x: Value, axis: int) -> bool:
    """True where `axis` of the file holds the channels of `x`, whose axes are known."""
    axes = x.axes() or []
    if axis >= len(axes):
        return False
    return axes[axis] == 3 or (x.shape[3] == 1 and x.logical[axis] == 1)
