"""Small files in the MCUNet format, written for the importer tests."""

import io
import pickle
import zipfile

import numpy as np

from tiny_pipelines.fuzzing.mcunet_writer import convolution as conv


def network(seed=0):
    """Every feature of the format: non-square, both residuals, odd channels, a feature mix."""
    rng = np.random.default_rng(seed)
    size = (5, 4)
    identity = {
        "pointwise1": conv(rng, (3, 7), (size, size), scales=(0.07, 0.03)),
        "depthwise": conv(rng, (7, 7), (size, size), (5, 3), depthwise=True, scales=(0.03, 0.04)),
        "pointwise2": conv(rng, (7, 3), (size, size), scales=(0.04, 0.09)),
        "residual": {
            "in_channel": 3,
            "in_shape": size,
            "params": {"x_scale": 0.07, "x_zero": 3, "y_scale": 0.08, "y_zero": 3},
        },
        "se": None,
    }
    skip = conv(rng, (3, 5), (size, (3, 2)), stride=2, scales=(0.08, 0.06))
    skip["params"] |= {"out_scale": 0.11, "out_zero": 3}
    projected = {
        "pointwise1": None,
        "depthwise": None,
        "pointwise2": conv(rng, (3, 5), (size, (3, 2)), (3, 3), stride=2, scales=(0.08, 0.05)),
        "residual": skip,
    }
    classifier = conv(rng, (6, 4), (1, 1), scales=(0.12, 0.13))
    for key in ("in_shape", "out_shape", "depthwise", "act"):
        del classifier[key]
    return {
        "first_conv": conv(rng, (2, 3), ((9, 7), size), (3, 3), stride=2, scales=(0.05, 0.07)),
        "blocks": [identity, projected],
        "feature_mix": conv(rng, (5, 6), ((3, 2), (3, 2)), scales=(0.11, 0.12)),
        "classifier": classifier,
    }


def zipped(data, name="archive/data.pkl"):
    """A zip as `torch.save` writes it, with `data` as its pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def model_file(contents=None):
    """The bytes of a `.pkl` file of `contents` (default: `network()`)."""
    return zipped(pickle.dumps(network() if contents is None else contents, protocol=2))
