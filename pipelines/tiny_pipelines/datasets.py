"""Data sets from `.npz` files, and how a raw sample becomes the model's int8 input.

Accepted: `train_images train_labels test_images test_labels` (also `train_x`, `x_train`, `train_y`,
... ), or one pair `images labels` / `x y`, whose last fifth becomes the test split. Samples are

- uint8: images [N, H, W] or [N, H, W, C], resized and fitted to the model's channels;
- float: values in the model's real units, of exactly its input shape (any axes of length 1 aside);
- int8: quantized already, of exactly its input shape.

A uint8 pixel becomes `pixel - 128` where the model says so (`tiny.preprocess`), else
`clamp(round((pixel / 127.5 - 1) / scale) + zero)` with halves rounded down, which is the same for
the usual scale 1/127.5 and zero point 0. Nothing here unpickles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.npz_file import UnreadableArrays, read_npz

Array = NDArray[Any]

_SHIFT_RULE = "pixel - 128"
_TEST_FRACTION = 5
_SAMPLE_NAMES = ("images", "x", "data")
_LABEL_NAMES = ("labels", "y")
# Luma of ITU-R BT.601 in 1/256: integers, so the same everywhere.
_LUMA = np.array([77, 150, 29], np.int64)


class InvalidData(TinyError):
    """A data file that is unreadable or does not fit; `where` is the file and the array."""


@dataclass(frozen=True)
class Split:
    """Samples [N, ...] and their labels [N] (int64)."""

    samples: Array
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def limited(self, count: int | None) -> "Split":
        """The first `count` samples; all of them for None."""
        if count is not None and count < 1:
            raise InvalidOption(f"expected a limit of at least 1, got {count}")
        return self if count is None else Split(self.samples[:count], self.labels[:count])


@dataclass(frozen=True)
class DataSet:
    """A training and a test split, and the number of classes (largest label + 1)."""

    train: Split
    test: Split
    classes: int
    source: str

    def require_classes(self, classes: int) -> None:
        """Raise `InvalidData` if a label does not exist in a model of `classes` classes."""
        if self.classes > classes:
            raise InvalidData(
                f"has label {self.classes - 1}, but the model has {classes} classes; "
                f"use --classes {self.classes}",
                self.source,
            )


@dataclass(frozen=True)
class Preprocessing:
    """How a raw sample becomes the int8 input [1, height, width, channels] of a model.

    `rule` is the model's `tiny.preprocess`, or empty.
    """

    height: int
    width: int
    channels: int
    scale: float
    zero_point: int
    rule: str = ""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The input shape, NHWC."""
        return (1, self.height, self.width, self.channels)

    def apply(self, sample: Array) -> NDArray[np.int8]:
        """The int8 input of one sample; raises `InvalidData` where it cannot fit."""
        if sample.dtype == np.uint8:
            image = fit_channels(sample, self.channels)
            return self._quantize_pixels(resize_bilinear(image, self.height, self.width))[None]
        if sample.size != np.prod(self.shape):
            raise InvalidData(
                f"samples of shape {list(sample.shape)} do not fit the model's "
                f"{list(self.shape)}; only uint8 images are resized"
            )
        if sample.dtype == np.int8:
            return sample.reshape(self.shape)
        steps = np.rint(sample.astype(np.float64) / self.scale) + self.zero_point
        return np.clip(steps, -128, 127).astype(np.int8).reshape(self.shape)

    def _quantize_pixels(self, image: NDArray[np.uint8]) -> NDArray[np.int8]:
        if _SHIFT_RULE in self.rule:
            return (image.astype(np.int16) - 128).astype(np.int8)
        # The table is exact in float64 but for halves, which a rounding error must not decide.
        real = (np.arange(256) - 127.5) / 127.5 / self.scale
        table = np.clip(np.ceil(np.round(real, 9) - 0.5) + self.zero_point, -128, 127)
        return table.astype(np.int8)[image]


def preprocessing_of(function: Any) -> Preprocessing:
    """The preprocessing that the first argument of a function of the dialect asks for."""
    from tiny_dialect.types import quantization, shape_of

    argument = function.regions[0].blocks[0].arguments[0]
    _, height, width, channels = shape_of(argument)
    attributes = function.attributes
    rule = attributes["tiny.preprocess"].value if "tiny.preprocess" in attributes else ""
    return Preprocessing(height, width, channels, *quantization(argument), rule)


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


def load_dataset(path: Path) -> DataSet:
    """The data set in an `.npz` file; raises `InvalidData` that names the array and the reason."""
    arrays = read_arrays(path)
    source = str(path)
    if (train := _pair(arrays, "train", source)) is not None:
        test = _pair(arrays, "test", source)
        if test is None:
            raise InvalidData("has a training split but no test_images and test_labels", source)
    elif (whole := _pair(arrays, "", source)) is not None:
        cut = len(whole) - max(len(whole) // _TEST_FRACTION, 1)
        if cut < 1:
            raise InvalidData("needs at least two samples to split off a test set", source)
        train = Split(whole.samples[:cut], whole.labels[:cut])
        test = Split(whole.samples[cut:], whole.labels[cut:])
    else:
        raise InvalidData(
            "expected arrays train_images, train_labels, test_images, test_labels, or x and y; "
            f"it holds {', '.join(arrays) or 'none'}",
            source,
        )
    if train.samples.dtype != test.samples.dtype:
        raise InvalidData(
            f"training samples are {train.samples.dtype}, test samples {test.samples.dtype}", source
        )
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    return DataSet(train, test, classes, source)


def read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an `.npz` file by name; `InvalidData` for one that is unreadable."""
    try:
        return read_npz(path)
    except OSError as error:
        raise InvalidData(error.strerror or str(error), str(path)) from error
    except UnreadableArrays as error:
        raise InvalidData(str(error), str(path)) from error


def _names(prefix: str, names: tuple[str, ...]) -> list[str]:
    if not prefix:
        return list(names)
    return [f"{prefix}_{name}" for name in names] + [f"{name}_{prefix}" for name in names]


def _pair(arrays: dict[str, Array], prefix: str, source: str) -> Split | None:
    """The samples and labels of one split; None where there are neither."""
    samples = [name for name in _names(prefix, _SAMPLE_NAMES) if name in arrays]
    labels = [name for name in _names(prefix, _LABEL_NAMES) if name in arrays]
    if not samples and not labels:
        return None
    if len(samples) != 1 or len(labels) != 1:
        found = ", ".join((*samples, *labels))
        what = f"the {prefix} split" if prefix else "the data"
        raise InvalidData(
            f"expected one array of samples and one of labels in {what}, got {found}", source
        )
    sample_name, label_name = samples[0], labels[0]
    _check_samples(arrays[sample_name], f"{source}:{sample_name}")
    flat = _checked_labels(arrays[label_name], len(arrays[sample_name]), f"{source}:{label_name}")
    return Split(arrays[sample_name], flat)


def _check_samples(samples: Array, name: str) -> None:
    if str(samples.dtype) not in ("uint8", "int8") and samples.dtype.kind != "f":
        raise InvalidData(f"expected uint8, int8 or float samples, got {samples.dtype}", name)
    if samples.ndim < 2 or samples.size == 0:
        raise InvalidData(f"expected samples [N, ...], got shape {list(samples.shape)}", name)
    if samples.dtype == np.uint8 and samples.ndim not in (3, 4):
        raise InvalidData(
            f"expected images [N, H, W] or [N, H, W, C], got {list(samples.shape)}", name
        )
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise InvalidData("holds NaN or infinity", name)


def _checked_labels(labels: Array, count: int, name: str) -> NDArray[np.int64]:
    """The labels as int64 [count]; a trailing axis of length 1 is dropped."""
    if labels.dtype.kind not in "iu":
        raise InvalidData(f"expected integer labels, got {labels.dtype}", name)
    if labels.shape not in ((count,), (count, 1)):
        raise InvalidData(
            f"expected {count} labels, one for each sample, got shape {list(labels.shape)}", name
        )
    flat = labels.reshape(-1).astype(np.int64)
    if flat.min() < 0:
        raise InvalidData(f"holds the negative label {flat.min()}", name)
    return flat


def shuffled(count: int, seed: int, epochs: int | None = None) -> Iterator[int]:
    """Sample indices in a fresh seeded order each epoch; endless where `epochs` is None."""
    epoch = 0
    while epochs is None or epoch < epochs:
        yield from np.random.default_rng([seed, epoch]).permutation(count).tolist()
        epoch += 1
