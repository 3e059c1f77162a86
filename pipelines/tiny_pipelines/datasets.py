"""Data sets from `.npz` files.

Accepted: `train_images train_labels test_images test_labels` (also `train_x`, `x_train`, `train_y`,
... ), or one pair `images labels` / `x y`, whose last fifth becomes the test split. Samples are
[N, ...], each as `preprocessing` takes it: uint8 images, float values or int8. An optional array
`layout` says where float and int8 samples have their channels, `channels_last` or
`channels_first`, for shapes that fit in both ways. Nothing here unpickles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.npz_file import UnreadableArrays, read_npz
from tiny_pipelines.preprocessing import (
    LAYOUTS,
    InvalidData,
    Preprocessing,
    fit_channels,
    preprocessing_of,
    resize_bilinear,
)

__all__ = [
    "DataSet",
    "InvalidData",
    "Preprocessing",
    "Split",
    "fit_channels",
    "load_dataset",
    "preprocessing_of",
    "read_arrays",
    "resize_bilinear",
    "shuffled",
]

Array = NDArray[Any]

_TEST_FRACTION = 5
_SAMPLE_NAMES = ("images", "x", "data")
_LABEL_NAMES = ("labels", "y")
_LAYOUT_NAME = "layout"
_LARGEST_LABEL = (1 << 16) - 1


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
    """A training and a test split, and the number of classes (largest label + 1).

    `layout` is where samples have their channels, where that was said; one of `LAYOUTS`.
    """

    train: Split
    test: Split
    classes: int
    source: str
    layout: str | None = None

    def require_classes(self, classes: int) -> None:
        """Raise `InvalidData` if a label does not exist in a model of `classes` classes."""
        if self.classes > classes:
            raise InvalidData(
                f"has label {self.classes - 1}, but the model has {classes} classes, labels 0 to "
                f"{classes - 1}; import or compile it with --classes {self.classes}",
                self.source,
            )

    def preprocessing_for(self, function: Any) -> Preprocessing:
        """How these samples become the input of a function of the dialect.

        Raises `InvalidData` naming the file where they do not fit.
        """
        found = preprocessing_of(function, self.layout)
        for split in (self.train, self.test):
            try:
                found.apply(split.samples[0])
            except InvalidData as error:
                raise InvalidData(error.message, self.source) from error
        return found


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
    return DataSet(train, test, classes, source, _layout(arrays, source))


def _layout(arrays: dict[str, Array], source: str) -> str | None:
    """What the array `layout` says; None without one."""
    if _LAYOUT_NAME not in arrays:
        return None
    found = arrays[_LAYOUT_NAME]
    if found.dtype.kind != "U" or found.size != 1 or found.item() not in LAYOUTS:
        raise InvalidData(f"expected {' or '.join(LAYOUTS)}", f"{source}:{_LAYOUT_NAME}")
    return found.item()


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
    if labels.min() < 0:
        raise InvalidData(f"holds the negative label {labels.min()}", name)
    if labels.max() > _LARGEST_LABEL:
        raise InvalidData(f"holds the label {labels.max()}, at most {_LARGEST_LABEL}", name)
    return labels.reshape(-1).astype(np.int64)


def shuffled(count: int, seed: int, epochs: int | None = None) -> Iterator[int]:
    """Sample indices in a fresh seeded order each epoch; endless where `epochs` is None."""
    epoch = 0
    while epochs is None or epoch < epochs:
        yield from np.random.default_rng([seed, epoch]).permutation(count).tolist()
        epoch += 1
