"""PyTorch networks, quantized on import: close to the float network, layer by layer."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")

import torch_networks  # noqa: E402
from test_slice import compiled, ran  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from tiny_dialect.dialect import new_context  # noqa: E402
from tiny_dialect.semantics import run  # noqa: E402
from tiny_dialect.types import quantization, shape_of  # noqa: E402
from tiny_passes.graph import find_function  # noqa: E402
from tiny_pipelines.cli import tiny_import  # noqa: E402
from tiny_pipelines.frontends import format_of, import_model, import_torch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CHANNELS_LAST = (
    "linear of each row",
    "rows scaled",
    "channels last in the module",
    "time first in the module",
)


def quantized_results(module, x, channels_first=True):
    """(real results, their scale) of the imported network on float samples."""
    function = find_function(module, "infer")
    argument = function.regions[0].blocks[0].arguments[0]
    scale, zero = quantization(argument)
    scale_y, zero_y = quantization(function.type.results[0])
    channels_last = np.moveaxis(x, 1, -1) if channels_first and x.ndim > 2 else x
    integers = np.clip(np.rint(channels_last / scale) + zero, -128, 127).astype(np.int8)
    shape = shape_of(argument)
    results = [run(function, [sample.reshape(shape)])[0] for sample in integers]
    real = (np.concatenate(results).astype(np.float64) - zero_y) * scale_y
    return real, scale_y


class Call(nn.Module):
    """A function as a module, with other modules that it may use."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x, *self.parts)


def randomized(module):
    """Batch norms as after training: no statistic is 0 or 1."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.3, 3)
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.uniform_(part.bias, -1, 1)
    return module.eval()


def chain(*parts):
    return nn.Sequential(*parts)


IMAGE, SIGNAL, FLAT = (3, 7, 5), (3, 21), (11,)
CASES = {
    "conv": (lambda: nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0)), IMAGE),
    "conv without bias": (lambda: nn.Conv2d(3, 5, 1, bias=False), IMAGE),
    "conv same, even kernel": (lambda: nn.Conv2d(3, 5, (4, 3), padding="same"), IMAGE),
    "conv in groups": (lambda: nn.Conv2d(3, 6, 3, groups=3, padding=1), IMAGE),
    "conv in one dimension": (lambda: nn.Conv1d(3, 4, 5, stride=2, padding=2), SIGNAL),
    "conv1d valid": (lambda: nn.Conv1d(3, 4, 5, padding="valid"), SIGNAL),
    "conv norm relu": (lambda: chain(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()), IMAGE),
    "conv1d norm": (lambda: chain(nn.Conv1d(3, 6, 3, bias=False), nn.BatchNorm1d(6)), SIGNAL),
    "norm alone": (lambda: nn.BatchNorm2d(3), IMAGE),
    "norm alone, one dimension": (lambda: nn.BatchNorm1d(3), SIGNAL),
    "relu, then norm": (
        lambda: chain(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.BatchNorm2d(6)),
        IMAGE,
    ),
    "linear norm": (lambda: chain(nn.Linear(11, 5), nn.BatchNorm1d(5), nn.ReLU6()), FLAT),
    "norm of a vector": (lambda: nn.BatchNorm1d(11), FLAT),
    "input normalized": (
        lambda: Call(
            lambda x, c: c((x - torch.tensor([0.5, 0.4, -0.2])[:, None, None]) / 0.25),
            nn.Conv2d(3, 6, 3),
        ),
        IMAGE,
    ),
    "scaled by numbers": (
        lambda: Call(lambda x, c: 1 - functional.relu(0.5 * c(x) + 0.25), nn.Conv1d(3, 5, 3)),
        SIGNAL,
    ),
    "scaled, then norm": (
        lambda: chain(Call(lambda x, c: c(x).mul_(-3.0), nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6)),
        IMAGE,
    ),
    "rows scaled": (
        lambda: Call(lambda x, f: f(x) * torch.tensor([0.5, -2.0, 1.0, 0.0]), nn.Linear(21, 4)),
        SIGNAL,
    ),
    "linear of each row": (lambda: nn.Linear(21, 4), SIGNAL),
    "channels last in the module": (
        lambda: Call(lambda x, c: c(x.permute(0, 3, 1, 2)), nn.Conv2d(5, 4, 3)),
        IMAGE,
    ),
    "time first in the module": (
        lambda: Call(lambda x, c: c(x.transpose(1, 2)), nn.Conv1d(21, 4, 2)),
        SIGNAL,
    ),
    "conv relu6 in place": (lambda: chain(nn.Conv2d(3, 6, 1), nn.ReLU6(inplace=True)), IMAGE),
    "hardtanh": (lambda: chain(nn.Conv2d(3, 6, 1), nn.Hardtanh(-0.4, 0.3)), IMAGE),
    "clamp alone": (lambda: Call(lambda x: x.clamp(-0.7, 1.1)), IMAGE),
    "clamp below": (lambda: Call(lambda x: x.clamp_min(-0.5)), IMAGE),
    "max pool": (lambda: nn.MaxPool2d(3, stride=2, padding=1), IMAGE),
    "max pool, strides of the kernel": (lambda: nn.MaxPool2d((3, 2)), IMAGE),
    "max pool, windows not whole": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (3, 8, 7)),
    "average pool, windows not whole": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), (3, 8, 7)),
    "average pool in one dimension, not whole": (
        lambda: nn.AvgPool1d(4, 3, ceil_mode=True, count_include_pad=False),
        SIGNAL,
    ),
    "max pool in one dimension": (lambda: nn.MaxPool1d(3, padding=1), SIGNAL),
    "average pool": (lambda: nn.AvgPool2d(2), IMAGE),
    "average pool with its pads": (lambda: nn.AvgPool2d(3, 2, 1), IMAGE),
    "average pool without": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    "average pool of all": (lambda: nn.AvgPool2d((7, 5)), IMAGE),
    "average pool in one dimension": (lambda: nn.AvgPool1d(4, 3), SIGNAL),
    "global average pool": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive average pool": (lambda: nn.AdaptiveAvgPool2d((2, 3)), (4, 6, 9)),
    "adaptive in one dimension": (lambda: nn.AdaptiveAvgPool1d(7), SIGNAL),
    "mean": (lambda: Call(lambda x: x.mean([2, 3])), IMAGE),
    "mean over one axis": (lambda: Call(lambda x: x.mean(-1, keepdim=True)), IMAGE),
    "flatten linear": (lambda: chain(nn.Flatten(), nn.Linear(105, 6)), IMAGE),
    "view linear": (
        lambda: Call(lambda x, f: f(x.view(x.size(0), -1)), nn.Linear(63, 6)),
        SIGNAL,
    ),
    "pooled, squeezed": (
        lambda: Call(
            lambda x, f: f(functional.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(-1)),
            nn.Linear(3, 4),
        ),
        IMAGE,
    ),
    "rows to a signal": (
        lambda: Call(lambda x, f: f(x.unsqueeze(2)).squeeze(2), nn.Conv2d(3, 4, (1, 3))),
        SIGNAL,
    ),
    "pad": (
        lambda: Call(lambda x, c: c(functional.pad(x, (1, 0, 2, 1))), nn.Conv2d(3, 4, 3)),
        IMAGE,
    ),
    "residual": (
        lambda: Call(lambda x, c: functional.relu(x + c(x)), nn.Conv2d(3, 3, 3, padding=1)),
        IMAGE,
    ),
    "in place, read again": (
        lambda: Call(lambda x, c: (y := c(x), functional.relu_(y), y + x)[-1], nn.Conv2d(3, 3, 1)),
        IMAGE,
    ),
    "softmax behind": (lambda: chain(nn.Flatten(), nn.Linear(63, 6), nn.Softmax(1)), SIGNAL),
    "dead channels": (lambda: dead_channels(), IMAGE),
}


def dead_channels():
    conv = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        conv.weight[1], conv.bias[1] = 0, 0
        conv.weight[2] *= 1e-12
        conv.bias[2] = 1.5
    return conv


def signal_to_noise(want, got):
    return 10 * np.log10((want**2).mean() / max(((want - got) ** 2).mean(), 1e-30))


@pytest.mark.parametrize("name", CASES)
def test_layer_is_close_to_float(name):
    make, shape = CASES[name]
    module, x = randomized(make()), normal(24, *shape)
    with torch.no_grad():
        want = module(torch.from_numpy(x)).numpy()
    with new_context():
        got, _ = quantized_results(import_torch(module, x), x, name not in CHANNELS_LAST)
    if want.ndim > 2 and name not in ("linear of each row", "rows scaled"):
        got = np.moveaxis(got, -1, 1)
    got = got.reshape(want.shape)
    if "softmax" in name:
        got = np.exp(got) / np.exp(got).sum(1, keepdims=True)
    # An average keeps the scale of its input, which is coarse for what is left of noise.
    assert signal_to_noise(want, got) > (29 if "average" in name else 33)


# Whole networks.


@pytest.fixture(scope="module")
def signal_network():
    """(trained float network, data)."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y, x_test, y_test = torch_networks.digits()
    return torch_networks.train(torch_networks.SignalNetwork(), x, y, 12), (x, y, x_test, y_test)


def accuracy(logits, labels):
    return float((logits.reshape(len(labels), -1).argmax(1) == labels).mean())


def test_signal_network_keeps_its_accuracy(signal_network):
    network, (x, _, x_test, y_test) = signal_network
    want = torch_networks.logits(network, x_test)
    with new_context():
        module = import_torch(network, x[:200], "signal")
        function = find_function(module, "infer")
        assert shape_of(function.type.inputs[0]) == (1, 1, 8, 8)
        got, _ = quantized_results(module, x_test)
    assert accuracy(want, y_test) > 0.95
    assert accuracy(got, y_test) >= accuracy(want, y_test) - 0.01
    assert signal_to_noise(want, got.reshape(want.shape)) > 35


@pytest.mark.parametrize(
    "scheme, updates",
    [("classifier-only", 2), pytest.param("full", 106, marks=pytest.mark.slow)],
)
def test_mobilenet_imports_and_compiles_to_a_training_step(scheme, updates):
    from tiny_pipelines.training import TrainingOptions, build_training_step

    network, x = torch_networks.MobileNetV2().eval(), normal(4, 3, 32, 32)
    with new_context():
        module = import_torch(network, x, "mobilenet_v2", classes=3)
        assert 'layer = "features.1.conv.0.0"' in str(module)
        build_training_step(module, TrainingOptions(scheme))
        step = find_function(module, "train_step")
        names = [op.operation.name for op in step.regions[0].blocks[0]]
    # A weight and a bias of each of 52 convolutions and of the fresh classifier.
    assert sum(name.endswith("_update") for name in names) == updates


def saved(module, x, path, **options):
    torch.export.save(torch.export.export(module.eval(), (torch.from_numpy(x),), **options), path)
    return path


def test_file_gives_what_the_module_gives(signal_network, tmp_path):
    network, (x, *_) = signal_network
    fixed = saved(network, x[:1], tmp_path / "fixed.pt2")
    batch = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    dynamic = saved(network, x[:2], tmp_path / "dynamic.pt2", **batch)
    assert format_of(fixed.read_bytes(), "m") == "pt2"
    np.savez(tmp_path / "set.npz", x=x[:20])
    with new_context():
        texts = [str(import_torch(network, x[:20], "fixed"))]
        texts += [str(import_model(p, calibration=tmp_path / "set.npz")) for p in (fixed, dynamic)]
    assert texts[0] == texts[1] == texts[2].replace('"dynamic"', '"fixed"')
    assert not network.training


def test_module_stays_in_its_mode():
    network = torch_networks.SignalNetwork().train()
    network.norm.eval()
    with new_context():
        import_torch(network, normal(2, 8, 8))
    assert network.training and network.body[1].training and not network.norm.training


@pytest.mark.parametrize("target, gradients", [("cortex-m4", "int16")])
def test_trains_on_the_core_as_the_semantics_say(
    signal_network, target, gradients, tmp_path, capsys
):
    network, (x, y, *_) = signal_network
    model = saved(network, x[:1], tmp_path / "signal.pt2")
    np.savez(tmp_path / "set.npz", x=x[:50])
    arguments = [str(model), "--calibrate", str(tmp_path / "set.npz")]
    output = tmp_path / "signal.mlirbc"
    assert tiny_import.main([*arguments, "--classes", "3", "-o", str(output)]) == 0
    few = y < 3
    layout = np.array("channels_last")  # 8 channels of 8 values: either order would fit
    np.savez(tmp_path / "data.npz", x=np.moveaxis(x[few], 1, -1), y=y[few], layout=layout)
    options = ("--target", target, "--scheme", "full", "--gradients", gradients)
    compiled(output, tmp_path / "out", capsys, *options)
    result = ran(tmp_path / "out", tmp_path / "data.npz", capsys, "--steps", "2", "--check")
    assert result["check"]["device"]["integers"] > 1000
    assert result["check"]["passed"], json.dumps(result["check"])


# The same network through ONNX, in the QDQ form that ONNX Runtime's own quantizer writes.


class Samples:
    """A calibration set as ONNX Runtime reads it."""

    def __init__(self, x):
        self.rest = iter(x)

    def get_next(self):
        sample = next(self.rest, None)
        return None if sample is None else {"x": sample[None]}


def qdq(network, x, folder):
    """The QDQ ONNX file of a float network."""
    quantization_tool = pytest.importorskip("onnxruntime.quantization")
    plain, path = folder / "float.onnx", folder / "qdq.onnx"
    torch.onnx.export(
        network, torch.from_numpy(x[:1]), plain, dynamo=False, input_names=["x"], opset_version=17
    )
    quantization_tool.quantize_static(
        plain, path, Samples(x), per_channel=True,
        quant_format=quantization_tool.QuantFormat.QDQ,
        activation_type=quantization_tool.QuantType.QUInt8,
        weight_type=quantization_tool.QuantType.QInt8,
    )  # fmt: skip
    return path


def against_onnx_runtime(path, x_test):
    """(differences in units of the result, ONNX Runtime's results) of a QDQ file."""
    from test_onnx_import import session

    oracle = session(path.read_bytes())
    want = np.concatenate([oracle.run(None, {"x": sample[None]})[0] for sample in x_test])
    with new_context():
        got, scale = quantized_results(import_model(path), x_test)
    return np.rint(np.abs(got.reshape(want.shape) - want) / scale), want


@pytest.mark.filterwarnings("ignore")
def test_qdq_of_the_same_network_equals_onnx_runtime(signal_network, tmp_path):
    pytest.importorskip("onnx", reason="needs the onnx package: pip install -e '.[onnx]'")
    network, (x, _, x_test, _) = signal_network
    units, _ = against_onnx_runtime(qdq(network, x[:100], tmp_path), x_test)
    # At most one unit a layer, which the layers behind may pass on.
    assert units.max() <= 1 and (units > 0).mean() < 0.01, (units.max(), (units > 0).mean())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mobilenet_keeps_its_accuracy(tmp_path):
    pytest.importorskip("onnx", reason="needs the onnx package: pip install -e '.[onnx]'")
    images = torch_networks.digits()
    x, x_test = (torch_networks.enlarged(part) for part in images[::2])
    network = torch_networks.train(torch_networks.MobileNetV2(), x, images[1], 14, batch=32)
    want = torch_networks.logits(network, x_test)
    with new_context():
        module = import_torch(network, x[:128], "mobilenet_v2")
        assert str(module).count('"tiny.conv2d"') == 53
        assert str(module).count('"tiny.add"') == 10
        got, _ = quantized_results(module, x_test)
    got = got.reshape(want.shape)
    assert accuracy(want, images[3]) > 0.85
    assert accuracy(got, images[3]) >= accuracy(want, images[3]) - 0.01
    # The file of ONNX Runtime's quantizer: equal to its runtime, and no closer to float than ours.
    units, theirs = against_onnx_runtime(qdq(network, x[:128], tmp_path), x_test[:40])
    assert units.max() <= 1 and (units > 0).mean() < 0.01, (units.max(), (units > 0).mean())
    ours = signal_to_noise(want[:40], got[:40])
    assert ours > signal_to_noise(want[:40], theirs) - 2
