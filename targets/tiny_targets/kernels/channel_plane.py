"""One channel of an image at a time, copied to scratch memory before it is overwritten."""

from typing import Any, Protocol

from tiny_targets.kernels.nest import Nest, image_shape
from tiny_targets.kernels.scalar import Index, Scalar


class Image(Protocol):
    """What is read by row, column and channel."""

    def __getitem__(self, indices: tuple[Index, Index, Index]) -> Scalar: ...


class ChannelPlane:
    """The channel of an image that was copied last, read like the image."""

    def __init__(self, nest: Nest, value: Any, offset: int = 0) -> None:
        """An image argument of the kernel; the copy lies `offset` bytes into its scratch memory."""
        self._nest = nest
        self._height, self._width, channels = image_shape(value)
        self._image = nest.read(value, (self._height, self._width, channels))
        element = self._image.element
        self._plane = nest.scratch((self._height, self._width), element, offset)

    def copy(self, channel: Index) -> None:
        """Copy a channel: from here on it is the one that is read."""
        for row in self._nest.loop(self._height):
            for column in self._nest.loop(self._width):
                self._plane[row, column] = self._image[row, column, channel]

    def __getitem__(self, indices: tuple[Index, Index, Index]) -> Scalar:
        row, column, _ = indices
        return self._plane[row, column]
