"""Pools as ONNX and PyTorch have them: `ceil_mode`, and averages in which the pads count."""

from dataclasses import dataclass

from tiny_pipelines.frontends.builder import NetworkBuilder
from tiny_pipelines.frontends.values import NO_PADS, Pads, Pair, Value


@dataclass(frozen=True)
class PoolWindow:
    """Where a pool looks; `beyond` is the room behind the pads that `ceil_mode` adds."""

    kernel: Pair
    strides: Pair
    pads: Pads
    beyond: Pads = NO_PADS

    @property
    def whole_pads(self) -> Pads:
        """The pads with that room."""
        top, left, bottom, right = self.pads
        return top, left, bottom + self.beyond[2], right + self.beyond[3]


def pool_window(
    x: Value, kernel: Pair, strides: Pair, pads: Pads, ceil_mode: bool = False
) -> PoolWindow:
    """The window of a pool of the image `x`."""
    if not ceil_mode:
        return PoolWindow(kernel, strides, pads)
    below, behind = (
        _ceil_padding(x.shape[1 + i], kernel[i], strides[i], (pads[i], pads[i + 2])) for i in (0, 1)
    )
    return PoolWindow(kernel, strides, pads, (0, 0, below, behind))


def _ceil_padding(size: int, kernel: int, stride: int, pads: Pair) -> int:
    """The room behind an axis for a last window that is not whole.

    It counts where it begins before the end of the axis; the pads in front are part of the axis.
    """
    room = pads[0] + size
    last = -(-(room + pads[1] - kernel) // stride) * stride
    return max(last + kernel - room - pads[1], 0) if last < room else 0


def max_pool(build: NetworkBuilder, x: Value, window: PoolWindow) -> Value:
    """The maximum over each window of an image."""
    return build.pool(x, "max", window.kernel, window.strides, window.whole_pads)


def average_pool(build: NetworkBuilder, x: Value, window: PoolWindow, pads_count: bool) -> Value:
    """The average over each window of an image; the room of `ceil_mode` never counts."""
    if not pads_count:
        return build.pool(x, "average", window.kernel, window.strides, window.whole_pads)
    x = build.plain(build.pad(x, window.pads)) if any(window.pads) else x
    return build.pool(x, "average", window.kernel, window.strides, window.beyond)
