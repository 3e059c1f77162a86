"""MobileNetV2 0.35 from PyTorch on photos: trained, imported by command, run compiled in int8.

`pytest -s` prints both accuracies.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: make oracles")

import torch_networks  # noqa: E402

from tiny_dialect.dialect import new_context  # noqa: E402
from tiny_passes.graph import find_function  # noqa: E402
from tiny_pipelines.cli import tiny_import  # noqa: E402
from tiny_pipelines.datasets import load_dataset, preprocessing_of  # noqa: E402
from tiny_pipelines.frontends import import_model  # noqa: E402
from tiny_pipelines.host_loading import load_host  # noqa: E402

EPOCHS = 30
CALIBRATION = 200


def real(images):
    """uint8 photos [N, 32, 32, 3] as the network takes them: -1 to 1, channels first."""
    return np.ascontiguousarray(np.moveaxis(images.astype(np.float32) / 127.5 - 1, -1, 1))


def share(logits, labels):
    return float((logits.reshape(len(labels), -1).argmax(1) == labels).mean())


@pytest.mark.slow
def test_int8_is_within_a_point_of_float_on_photos(zoo, tmp_path, capsys):
    photos = zoo / "images" / "cifar10_32.npz"
    data = load_dataset(photos)
    x, x_test = real(data.train.samples), real(data.test.samples)
    labels = data.test.labels
    torch.set_num_threads(1)
    network = torch_networks.train_on_photos(x, data.train.labels, EPOCHS)
    as_float = share(torch_networks.logits(network, x_test), labels)

    program = torch.export.export(network, (torch.from_numpy(x[:1]),))
    torch.export.save(program, tmp_path / "photos.pt2")
    np.savez(tmp_path / "set.npz", x=x[:CALIBRATION])
    output = tmp_path / "photos.mlirbc"
    arguments = [tmp_path / "photos.pt2", "--calibrate", tmp_path / "set.npz", "-o", output]
    assert tiny_import.main([str(argument) for argument in arguments]) == 0
    with new_context():
        module = import_model(output)
        # Photos as they are stored: the model says how a pixel becomes its input.
        prepared = preprocessing_of(find_function(module, "infer"))
        compiled = load_host(module)
        logits = [compiled.infer(prepared.apply(photo)) for photo in data.test.samples]
    as_int8 = share(np.concatenate(logits), labels)
    with capsys.disabled():
        print(
            f"\nMobileNetV2 0.35 on {len(labels)} photos: float {as_float:.1%}, int8 {as_int8:.1%}"
        )
    assert as_float > 0.5
    assert as_int8 >= as_float - 0.01
