"""Data sets: what is read, what is refused with which words, and the preprocessing to int8."""

import numpy as np
import pytest

from tiny_pipelines.datasets import (
    InvalidData,
    Preprocessing,
    fit_channels,
    load_dataset,
    resize_bilinear,
    shuffled,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (10, 4, 5, 3)).astype(np.uint8)
LABELS = np.arange(10) % 4


def saved(tmp_path, **arrays):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("train_x", "train_labels", "test_x", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
    ],
)
def test_splits_by_any_usual_name(tmp_path, names):
    arrays = dict(zip(names, (IMAGES, LABELS, IMAGES[:3], LABELS[:3, None]), strict=True))
    data = load_dataset(saved(tmp_path, note=np.array("text"), **arrays))
    assert (len(data.train), len(data.test), data.classes) == (10, 3, 4)
    np.testing.assert_array_equal(data.test.samples, IMAGES[:3])
    assert data.test.labels.shape == (3,)


def test_one_pair_is_split_at_the_last_fifth(tmp_path):
    data = load_dataset(saved(tmp_path, x=IMAGES, y=LABELS))
    assert (len(data.train), len(data.test)) == (8, 2)
    np.testing.assert_array_equal(data.test.samples, IMAGES[8:])
    assert len(data.train.limited(3)) == 3 and len(data.train.limited(None)) == 8


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"a": IMAGES}, "it holds a$"),
        ({"x": IMAGES}, "one array of samples and one of labels"),
        ({"train_images": IMAGES, "train_labels": LABELS}, "no test_images"),
        ({"x": IMAGES.astype(np.int32), "y": LABELS}, "uint8, int8 or float samples, got int32"),
        ({"x": IMAGES[0, 0], "y": LABELS[:4]}, "expected images"),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "expected samples"),
        ({"x": np.full((4, 3), np.nan, np.float32), "y": LABELS[:4]}, "NaN"),
        ({"x": IMAGES, "y": LABELS.astype(float)}, "integer labels"),
        ({"x": IMAGES, "y": LABELS[:9]}, "expected 10 labels"),
        ({"x": IMAGES, "y": np.eye(10, dtype=int)}, "one for each sample"),
        ({"x": IMAGES, "y": LABELS - 1}, "negative label -1"),
        ({"x": IMAGES[:1], "y": LABELS[:1]}, "at least two samples"),
        ({"x": np.array([{}] * 4), "y": LABELS[:4]}, "not a readable .npz"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays, complaint):
    path = saved(tmp_path, **arrays)
    with pytest.raises(InvalidData, match=complaint) as raised:
        load_dataset(path)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no archive at all"])
def test_files_that_are_no_archive(tmp_path, content):
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=r"not a readable \.npz"):
        load_dataset(path)
    with pytest.raises(InvalidData, match="No such file"):
        load_dataset(tmp_path / "missing.npz")


def test_a_cut_or_damaged_archive(tmp_path):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, x=IMAGES, y=LABELS)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + bytes(60) + whole[260:]):
        path.write_bytes(damaged)
        with pytest.raises(InvalidData, match=r"not a readable \.npz"):
            load_dataset(path)


def test_a_single_array_and_a_label_too_many(tmp_path):
    path = tmp_path / "one.npy"
    np.save(path, IMAGES)
    with pytest.raises(InvalidData, match="single array"):
        load_dataset(path)
    data = load_dataset(saved(tmp_path, x=IMAGES, y=LABELS))
    data.require_classes(4)
    with pytest.raises(InvalidData, match="has label 3, but the model has 3 classes"):
        data.require_classes(3)


def naive_bilinear(image, height, width):
    """One pixel at a time, in float64."""
    out = np.zeros((height, width, image.shape[2]))
    for y, x in np.ndindex(height, width):
        v = max((y + 0.5) * image.shape[0] / height - 0.5, 0)
        u = max((x + 0.5) * image.shape[1] / width - 0.5, 0)
        top, left = int(v), int(u)
        bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
        a, b = v - top, u - left
        out[y, x] = (
            image[top, left] * (1 - a) * (1 - b)
            + image[top, right] * (1 - a) * b
            + image[bottom, left] * a * (1 - b)
            + image[bottom, right] * a * b
        )
    return out


@pytest.mark.parametrize("size", [(4, 5), (8, 10), (16, 20), (7, 3), (1, 1), (9, 4)])
def test_resize_is_bilinear_with_half_pixel_centres(size):
    image = IMAGES[0]
    expected = naive_bilinear(image.astype(float), *size)
    got = resize_bilinear(image, *size)
    assert got.dtype == np.uint8 and got.shape == (*size, 3)
    assert np.abs(got - expected).max() <= 0.5 + 1e-4


def test_channels_are_fitted():
    grey = IMAGES[0, :, :, 0]
    np.testing.assert_array_equal(fit_channels(grey, 3), np.stack([grey] * 3, axis=2))
    alpha = np.concatenate([IMAGES[0], IMAGES[0, :, :, :1]], axis=2)
    np.testing.assert_array_equal(fit_channels(alpha, 3), IMAGES[0])
    white = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_array_equal(fit_channels(white, 1), white[:, :, :1])
    with pytest.raises(InvalidData, match="5 channels, the model takes 3"):
        fit_channels(np.zeros((2, 2, 5), np.uint8), 3)


@pytest.mark.parametrize("rule", ["int8 value = uint8 pixel - 128, RGB", ""])
def test_the_usual_input_is_pixel_minus_128(rule):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    model = Preprocessing(16, 16, 1, 1 / 127.5, 0, rule)
    got = model.apply(every)
    assert got.shape == (1, 16, 16, 1) and got.dtype == np.int8
    np.testing.assert_array_equal(got.ravel(), np.arange(256) - 128)


def test_pixels_follow_the_input_quantization():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    got = Preprocessing(16, 16, 1, 0.02, -5).apply(every).ravel()
    real = np.arange(256) / 127.5 - 1
    np.testing.assert_allclose(got, real / 0.02 - 5, atol=0.5 + 1e-9)


def test_values_that_are_no_pixels():
    signal = Preprocessing(1, 6, 2, 0.5, 10)
    real = RNG.normal(size=(6, 2)).astype(np.float32) * 100
    expected = np.clip(np.rint(real / 0.5) + 10, -128, 127)
    np.testing.assert_array_equal(signal.apply(real)[0, 0], expected)
    stored = RNG.integers(-128, 128, (1, 6, 2)).astype(np.int8)
    np.testing.assert_array_equal(signal.apply(stored)[0], stored)
    with pytest.raises(InvalidData, match=r"\[5, 2\] do not fit the model's \[1, 1, 6, 2\]"):
        signal.apply(real[:5])


def test_every_epoch_is_a_new_seeded_order():
    orders = list(shuffled(20, 3, epochs=2))
    assert sorted(orders[:20]) == sorted(orders[20:]) == list(range(20))
    assert orders[:20] != orders[20:]
    assert orders == list(shuffled(20, 3, epochs=2))
    assert orders != list(shuffled(20, 4, epochs=2))
