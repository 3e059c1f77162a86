"""Data sets that are not `.npz` files: folders of images, and pairs from Python.

A folder holds `train/CLASS/*.png` and `test/CLASS/*.png`, or `CLASS/*.png` alone, of which every
fifth image of a class (in order of the file names) becomes the test split. Labels are the classes
in alphabetical order. Reading images needs Pillow: `pip install 'tiny-training-compiler[images]'`.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.datasets import DataSet, InvalidData, Split, load_dataset

Array = NDArray[Any]
Pairs = list[tuple[Path, int]]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp")
_TEST_EVERY = 5
_MOST_PIXELS = 1 << 25
_TRAIN, _TEST = "train", "test"


def open_dataset(path: Path, size: tuple[int, int] | None = None) -> DataSet:
    """The data set in an `.npz` file or a folder; images of a folder are made `size` (H, W).

    Without `size` they must all be of one size. Raises `InvalidData`, `InvalidOption`.
    """
    return load_image_folder(path, size) if path.is_dir() else load_dataset(path)


def dataset_of(
    train: Iterable[tuple[Array, int]],
    test: Iterable[tuple[Array, int]],
    name: str = "data",
    layout: str | None = None,
) -> DataSet:
    """A data set of (sample, label) pairs: any iterables, read once.

    Samples are arrays as in `.npz` files, all of one shape and type: uint8 images [H, W] or
    [H, W, C], float values in the model's units, or int8, with their channels where `layout` (of
    `preprocessing.LAYOUTS`) says, or their shape. Raises `InvalidData`.
    """
    splits = [_split(list(pairs), f"{name}: {part}") for part, pairs in
              ((_TRAIN, train), (_TEST, test))]  # fmt: skip
    if splits[0].samples.dtype != splits[1].samples.dtype:
        raise InvalidData("training and test samples are of different types", name)
    classes = int(max(split.labels.max() for split in splits)) + 1
    return DataSet(splits[0], splits[1], classes, name, layout)


def _split(pairs: list[tuple[Array, int]], name: str) -> Split:
    if not pairs:
        raise InvalidData("has no samples", name)
    samples = [np.asarray(sample) for sample, _ in pairs]
    kinds = {(sample.shape, sample.dtype) for sample in samples}
    if len(kinds) > 1:
        (first, _), (second, _) = sorted(kinds, key=str)[:2]
        raise InvalidData(f"samples differ: {list(first)} and {list(second)}", name)
    if str(samples[0].dtype) not in ("uint8", "int8") and samples[0].dtype.kind != "f":
        raise InvalidData(f"expected uint8, int8 or float samples, got {samples[0].dtype}", name)
    labels = np.array([int(label) for _, label in pairs], np.int64)
    if labels.min() < 0:
        raise InvalidData(f"holds the negative label {labels.min()}", name)
    return Split(np.stack(samples), labels)


def load_image_folder(path: Path, size: tuple[int, int] | None = None) -> DataSet:
    """The images under `path`, read as RGB and made `size` (H, W) where it is given.

    Raises `InvalidData` for a folder without classes or images, or an image that cannot be read;
    `InvalidOption` without Pillow.
    """
    parted = (path / _TRAIN).is_dir() and (path / _TEST).is_dir()
    names = _classes(path / _TRAIN if parted else path)
    if parted:
        unknown = sorted(set(_classes(path / _TEST)) - set(names))
        if unknown:
            raise InvalidData(f"has no class {unknown[0]} to train", str(path / _TRAIN))
        train, test = (_listed(path / part, names) for part in (_TRAIN, _TEST))
    else:
        whole = [_listed(path, [name], label) for label, name in enumerate(names)]
        train = [p for pairs in whole for i, p in enumerate(pairs) if (i + 1) % _TEST_EVERY]
        test = [p for pairs in whole for i, p in enumerate(pairs) if not (i + 1) % _TEST_EVERY]
    opener = _pillow()
    loaded = [
        [(_read(opener, file, size), label) for file, label in pairs] for pairs in (train, test)
    ]
    return dataset_of(loaded[0], loaded[1], str(path))


def _classes(path: Path) -> list[str]:
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise InvalidData("expected one folder for each class", str(path))
    return names


def _listed(path: Path, names: list[str], first: int = 0) -> Pairs:
    """(file, label) of every image of the classes `names`, labelled from `first` on."""
    found: Pairs = []
    for label, name in enumerate(names, start=first):
        folder = path / name
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        found += [(file, label) for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    return found


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        message = "image folders need Pillow: pip install 'tiny-training-compiler[images]'"
        raise InvalidOption(message) from None
    return Image


def _unreadable(opener: Any) -> tuple[type[Exception], ...]:
    """What Pillow raises for files that are damaged, or far larger than they look."""
    bombs = (opener.DecompressionBombError, opener.DecompressionBombWarning)
    plain = (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError, TypeError)
    return (*plain, *bombs, KeyError, IndexError, NotImplementedError, struct.error)


def _read(opener: Any, file: Path, size: tuple[int, int] | None) -> Array:
    """The uint8 image [H, W, 3] in a file."""
    try:
        with opener.open(file) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            rgb = image.convert("RGB")
            if size is not None and rgb.size != (size[1], size[0]):
                rgb = rgb.resize((size[1], size[0]), opener.Resampling.BILINEAR)
            return np.asarray(rgb, np.uint8)
    except _unreadable(opener) as error:
        reason = str(error).split("\n")[0]
        raise InvalidData(f"is not a readable image: {reason}", str(file)) from error
