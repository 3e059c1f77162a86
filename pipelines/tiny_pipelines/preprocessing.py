"""How a raw sample becomes the model's int8 input: axes, size, channels, quantization.

Samples of a model that takes [1, H, W, C] are

- uint8: images [H, W] or [H, W, C], resized and fitted to the model's channels;
- float: values in the model's real units, of exactly its input shape (any axes of length 1 aside);
- int8: quantized already, of exactly its input shape.

Channels are last. Channels first ([C, H, W], [C, L]) are moved where the shape allows no other
reading; a shape that allows both is refused unless the data set says its layout.

A uint8 pixel becomes `pixel - 128` where the model says so (`tiny.preprocess`), else
`clamp(round((pixel / 127.5 - 1) / scale) + zero)` with halves rounded down, which is the same for
the usual scale 1/127.5 and zero point 0.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import TinyError

Array = NDArray[Any]
Shape = tuple[int, ...]

CHANNELS_LAST, CHANNELS_FIRST = LAYOUTS = ("channels_last", "channels_first")
_SHIFT_RULE = "pixel - 128"
# Luma of ITU-R BT.601 in 1/256: integers, so the same everywhere.
_LUMA = np.array([77, 150, 29], np.int64)


class InvalidData(TinyError):
    """A data file that is unreadable or does not fit; `where` is the file and the array."""


@dataclass(frozen=True)
class Preprocessing:
    """How a raw sample becomes the int8 input [1, height, width, channels] of a model.

    `rule` is the model's `tiny.preprocess`, or empty; `layout` where the samples have their
    channels, one of `LAYOUTS`, or None to tell by the shape.
    """

    height: int
    width: int
    channels: int
    scale: float
    zero_point: int
    rule: str = ""
    layout: str | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The input shape, NHWC."""
        return (1, self.height, self.width, self.channels)

    def apply(self, sample: Array) -> NDArray[np.int8]:
        """The int8 input of one sample; raises `InvalidData` where it cannot fit."""
        if sample.dtype == np.uint8:
            image = fit_channels(self._image(sample), self.channels)
            return self._quantize_pixels(resize_bilinear(image, self.height, self.width))[None]
        values = channels_last(sample, self.shape[1:], self.layout)[None]
        if values.dtype == np.int8:
            return values
        with np.errstate(over="ignore"):  # an infinite number of steps is clipped as any other
            steps = np.rint(values.astype(np.float64) / self.scale) + self.zero_point
        return np.clip(steps, -128, 127).astype(np.int8)

    def _image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A uint8 image, its channels last; as it is where its last axis can be the channels."""
        if image.ndim != 3 or self.layout == CHANNELS_LAST:
            return image
        first, *_, last = (_has_channels(size, self.channels) for size in image.shape)
        moved = self.layout == CHANNELS_FIRST or (first and not last)
        return np.ascontiguousarray(np.moveaxis(image, 0, -1)) if moved else image

    def _quantize_pixels(self, image: NDArray[np.uint8]) -> NDArray[np.int8]:
        if _SHIFT_RULE in self.rule:
            return (image.astype(np.int16) - 128).astype(np.int8)
        # The table is exact in float64 but for halves, which a rounding error must not decide.
        real = (np.arange(256) - 127.5) / 127.5 / self.scale
        table = np.clip(np.ceil(np.round(real, 9) - 0.5) + self.zero_point, -128, 127)
        return table.astype(np.int8)[image]


def preprocessing_of(function: Any, layout: str | None = None) -> Preprocessing:
    """The preprocessing that the first argument of a function of the dialect asks for."""
    from tiny_dialect.types import quantization, shape_of

    argument = function.regions[0].blocks[0].arguments[0]
    _, height, width, channels = shape_of(argument)
    attributes = function.attributes
    rule = attributes["tiny.preprocess"].value if "tiny.preprocess" in attributes else ""
    return Preprocessing(height, width, channels, *quantization(argument), rule, layout)


def channels_last(sample: Array, shape: Shape, layout: str | None = None) -> Array:
    """A sample as `shape` [H, W, C]; without a `layout` its shape has to tell where channels are.

    Axes of length 1 may be missing, and all axes may be one. Raises `InvalidData` for a shape that
    does not fit, and for one that fits in two ways.
    """
    own = sample.shape
    # A tensor with one channel, or one pixel, is the same numbers in either layout.
    same = shape[-1] == 1 or prod(shape[:-1]) == 1
    fitting = [one for one in LAYOUTS if layout in (one, None) and _fits(own, shape, one)]
    if not fitting:
        stated = f" with {layout.replace('_', ' ')}" if layout else ""
        raise InvalidData(
            f"samples of shape {list(own)} do not fit the model's {[1, *shape]}{stated}; "
            "only uint8 images are resized"
        )
    exact = [one for one in fitting if _whole(own) == _stored(shape, one)]
    chosen = exact if len(exact) == 1 else fitting
    if len(chosen) > 1 and not same:
        raise InvalidData(
            f"samples of shape {list(own)} fit the model's {[1, *shape]} with channels first as "
            "well as last; add an array `layout` to the data set: "
            f"np.array({CHANNELS_LAST!r}) or np.array({CHANNELS_FIRST!r})"
        )
    stored = sample.reshape(_stored(shape, chosen[0]))
    return (
        stored if chosen[0] == CHANNELS_LAST else np.ascontiguousarray(np.moveaxis(stored, 0, -1))
    )


def _stored(shape: Shape, layout: str) -> Shape:
    """The axes of [H, W, C] as a layout orders them."""
    return shape if layout == CHANNELS_LAST else (*shape[-1:], *shape[:-1])


def _whole(shape: Shape) -> Shape:
    """A sample's shape without the axis of a batch of one."""
    return shape[1:] if len(shape) == 4 and shape[0] == 1 else shape


def _fits(own: Shape, shape: Shape, layout: str) -> bool:
    """True where the axes of a sample, those of length 1 aside, are the model's, or one for all."""
    found = [size for size in own if size != 1]
    expected = [size for size in _stored(shape, layout) if size != 1]
    return found in (expected, [prod(expected)] if expected else [])


def _has_channels(own: int, channels: int) -> bool:
    """True where `fit_channels` takes an image of `own` channels."""
    alpha = own in (2, 4) and own == channels + 1
    return alpha or own in (1, channels) or (channels == 1 and own in (3, 4))


def fit_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """[H, W, channels] of an [H, W] or [H, W, C] image.

    Grey is repeated, colour becomes luma, an alpha channel is dropped. Raises `InvalidData` for any
    other difference.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3:
        raise InvalidData(f"expected an image [H, W] or [H, W, C], got shape {list(image.shape)}")
    own = image.shape[2]
    if own in (2, 4) and own == channels + 1:
        return image[:, :, :channels]
    if own == channels:
        return image
    if own == 1:
        return np.repeat(image, channels, axis=2)
    if channels == 1 and own in (3, 4):
        return ((image[:, :, :3] @ _LUMA + 128) >> 8).astype(np.uint8)[:, :, None]
    raise InvalidData(f"images have {own} channels, the model takes {channels}")


def _positions(size: int, target: int) -> tuple[Array, Array, Array]:
    """(lower index, upper index, weight of the upper) for each target pixel, half-pixel centres."""
    centre = np.maximum((np.arange(target) + 0.5) * (size / target) - 0.5, 0)
    lower = np.minimum(centre.astype(np.int64), size - 1)
    upper = np.minimum(lower + 1, size - 1)
    return lower, upper, (centre - lower).astype(np.float32)


def resize_bilinear(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bilinear [height, width, C] of an [H, W, C] image.

    Half-pixel centres, edge repeated, no smoothing when shrinking, rounded half to even.
    """
    if image.shape[:2] == (height, width):
        return image
    lower, upper, weight = _positions(image.shape[0], height)
    rows = image.astype(np.float32)
    rows = rows[lower] + (rows[upper] - rows[lower]) * weight[:, None, None]
    lower, upper, weight = _positions(image.shape[1], width)
    pixels = rows[:, lower] + (rows[:, upper] - rows[:, lower]) * weight[None, :, None]
    return np.rint(pixels).astype(np.uint8)
