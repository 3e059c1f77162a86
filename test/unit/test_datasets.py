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
        (
            {"x": IMAGES, "y": LABELS.astype(np.uint64) + np.uint64(1 << 63)},
            "label 9223372036854775811, at",
        ),
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
    with pytest.raises(InvalidData, match=r"not a readable \.npz") as raised:
        load_dataset(path)
    assert "pickle" not in str(raised.value)
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
    with pytest.raises(
        InvalidData, match="has label 3, but the model has 3 classes, labels 0 to 2; "
    ):
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
    huge = np.full((6, 2), [1.7e308, -1.7e308])
    np.testing.assert_array_equal(signal.apply(huge)[0, 0], np.tile([127, -128], (6, 1)))
    stored = RNG.integers(-128, 128, (1, 6, 2)).astype(np.int8)
    np.testing.assert_array_equal(signal.apply(stored)[0], stored)
    with pytest.raises(InvalidData, match=r"\[5, 2\] do not fit the model's \[1, 1, 6, 2\]"):
        signal.apply(real[:5])


# Channels last, of a model that takes [1, 4, 5, 3], and a signal of [1, 1, 6, 2].
IMAGE = np.arange(60, dtype=np.int8).reshape(4, 5, 3)
SIGNAL = np.arange(12, dtype=np.int8).reshape(6, 2)


@pytest.mark.parametrize("kind", [np.int8, np.float32])
@pytest.mark.parametrize(
    ("model", "whole", "stored"),
    [
        ((4, 5, 3), IMAGE, IMAGE),
        ((4, 5, 3), IMAGE, IMAGE[None]),
        ((4, 5, 3), IMAGE, IMAGE.transpose(2, 0, 1)),
        ((4, 5, 3), IMAGE, IMAGE.transpose(2, 0, 1)[None]),
        ((1, 6, 2), SIGNAL[None], SIGNAL),
        ((1, 6, 2), SIGNAL[None], SIGNAL.T),
        ((1, 6, 2), SIGNAL[None], SIGNAL.T[:, None]),
        ((6, 1, 2), SIGNAL[:, None], SIGNAL.T),
        ((4, 5, 1), IMAGE[..., :1], IMAGE[None, ..., 0]),
        ((4, 5, 1), IMAGE[..., :1], IMAGE[..., 0].ravel()),
        ((1, 1, 12), SIGNAL.reshape(1, 1, 12), SIGNAL.reshape(12, 1, 1)),
        # As many samples as channels: only the axis of length 1 tells.
        ((1, 3, 3), IMAGE[:1, :3], IMAGE[:1, :3]),
        ((1, 3, 3), IMAGE[:1, :3], IMAGE[:1, :3].transpose(2, 0, 1)),
    ],
)
def test_channels_first_are_moved_where_the_shape_tells(kind, model, whole, stored):
    taken = Preprocessing(*model, 1.0, 0).apply(stored.astype(kind))
    np.testing.assert_array_equal(taken[0], whole)
    assert taken.flags.c_contiguous


@pytest.mark.parametrize(
    ("model", "shape"),
    [((3, 3, 3), (3, 3, 3)), ((1, 3, 3), (3, 3)), ((4, 5, 3), (60,))],
)
def test_a_shape_that_fits_in_two_ways_needs_a_layout(model, shape):
    values = np.arange(np.prod(model), dtype=np.int8).reshape(shape)
    last = Preprocessing(*model, 1.0, 0, layout="channels_last").apply(values)
    np.testing.assert_array_equal(last[0], values.reshape(model))
    first = Preprocessing(*model, 1.0, 0, layout="channels_first")
    with pytest.raises(InvalidData, match="with channels first as well as last; add an array"):
        Preprocessing(*model, 1.0, 0).apply(values)
    moved = values.reshape(model[2], *model[:2]).transpose(1, 2, 0)
    np.testing.assert_array_equal(first.apply(values)[0], moved)


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (5, 4)), (3, (3, 5, 4)), (3, (5, 4, 3)), (3, (20, 3)), (1, (2, 10))]
)
def test_other_axes_are_refused(channels, shape):
    with pytest.raises(InvalidData, match="do not fit the model's"):
        Preprocessing(4, 5, channels, 1.0, 0).apply(np.zeros(shape, np.float32))


def test_a_layout_that_the_shape_contradicts():
    model = Preprocessing(4, 5, 3, 1.0, 0, layout="channels_first")
    with pytest.raises(InvalidData, match=r"\[1, 4, 5, 3\] with channels first;"):
        model.apply(IMAGE)


def test_images_with_channels_first():
    model = Preprocessing(4, 5, 3, 1 / 127.5, 0)
    expected = model.apply(IMAGES[0])
    np.testing.assert_array_equal(model.apply(IMAGES[0].transpose(2, 0, 1)), expected)
    # Rows of three pixels are rows where the last axis can be channels.
    odd = IMAGES[0, :3]
    np.testing.assert_array_equal(model.apply(odd)[0, 0], expected[0, 0])
    first = Preprocessing(4, 5, 3, 1 / 127.5, 0, layout="channels_first")
    assert (first.apply(odd) != model.apply(odd)).any()
    grey = Preprocessing(4, 5, 1, 1 / 127.5, 0)
    plane = IMAGES[0, :, :, 0]
    np.testing.assert_array_equal(grey.apply(plane[None]), grey.apply(plane))


def test_a_data_set_says_its_layout(tmp_path):
    cubes = np.zeros((10, 3, 3, 3), np.float32)
    assert load_dataset(saved(tmp_path, x=cubes, y=LABELS)).layout is None
    data = load_dataset(saved(tmp_path, x=cubes, y=LABELS, layout=np.array("channels_first")))
    assert data.layout == "channels_first"
    for wrong in (np.array("NCHW"), np.array(3), np.array(["channels_first"] * 2)):
        path = saved(tmp_path, x=cubes, y=LABELS, layout=wrong)
        with pytest.raises(InvalidData, match=r"npz:layout: expected channels_last or channels_f"):
            load_dataset(path)


def test_samples_that_do_not_fit_name_their_file(tmp_path):
    from tiny_dialect.dialect import new_context, parse_module
    from tiny_passes.graph import find_function

    text = (
        "func.func @infer(%x: tensor<1x3x3x3x!quant.uniform<i8:f32, 0.5:3>>)"
        " -> tensor<1x3x3x3x!quant.uniform<i8:f32, 0.5:3>> {"
        " return %x : tensor<1x3x3x3x!quant.uniform<i8:f32, 0.5:3>> }"
    )
    cubes = np.arange(270, dtype=np.float32).reshape(10, 3, 3, 3) % 50
    path = saved(tmp_path, x=cubes, y=LABELS)
    with new_context():
        module = parse_module(text.encode(), "cube.mlir")
        function = find_function(module, "infer")
        with pytest.raises(InvalidData, match=r"set\.npz: samples of shape \[3, 3, 3\] fit"):
            load_dataset(path).preprocessing_for(function)
        layout = np.array("channels_first")
        data = load_dataset(saved(tmp_path, x=cubes, y=LABELS, layout=layout))
        got = data.preprocessing_for(function).apply(cubes[0])
    expected = np.clip(cubes[0].transpose(1, 2, 0) / 0.5 + 3, -128, 127)
    np.testing.assert_array_equal(got[0], expected)


def test_every_epoch_is_a_new_seeded_order():
    orders = list(shuffled(20, 3, epochs=2))
    assert sorted(orders[:20]) == sorted(orders[20:]) == list(range(20))
    assert orders[:20] != orders[20:]
    assert orders == list(shuffled(20, 3, epochs=2))
    assert orders != list(shuffled(20, 4, epochs=2))
