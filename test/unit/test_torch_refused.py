"""PyTorch networks and `.pt2` files that are refused: by name and place, and without a call."""

import json
import random
import sys
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from test_torch_import import IMAGE, SIGNAL, Call, chain, normal, saved  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from tiny_dialect.dialect import new_context  # noqa: E402
from tiny_dialect.errors import InvalidModel, InvalidOption, TinyError  # noqa: E402
from tiny_pipelines.cli import tiny_import  # noqa: E402
from tiny_pipelines.datasets import InvalidData  # noqa: E402
from tiny_pipelines.frontends import import_bytes, import_model, import_torch  # noqa: E402


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = chain(nn.Conv2d(3, 4, 1), nn.Hardswish())

    def forward(self, x):
        return self.features(x).sigmoid()


def twice(x):
    flat = x.flatten(1)
    functional.relu_(x)
    return flat + flat


def dilated():
    return nn.Conv2d(3, 4, 2, dilation=2)


LINE = r"test_torch_refused\.py:\d+"
MODULES = {
    "operator": (
        Named,
        r"^m:node hardswish \(aten\.hardswish\.default, features\.1, " + LINE + r"\): is not "
        r"supported; supported are adaptive_avg_pool1d, ",
    ),
    "function": (
        lambda: Call(lambda x: torch.tanh(x)),
        r"^m:node tanh \(aten\.tanh\.default, test_torch_import\.py:\d+\): is not supported",
    ),
    "tuple": (lambda: Call(lambda x: x.split(1, 1)[0]), r"node \w+ \(aten\.\w+\.\w+, .*not supp"),
    "dilation": (dilated, r"conv2d.*has dilation \[2, 2\]"),
    "transposed convolution": (
        lambda: nn.ConvTranspose2d(3, 4, 2),
        r"node conv_transpose2d \(aten\.conv_transpose2d\.input",
    ),
    "divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), "has divisor_override"),
    "different windows": (lambda: nn.AdaptiveAvgPool2d(2), r"pools \[7, 5\] to \[2, 2\]"),
    "activations multiplied": (lambda: Call(lambda x: x * x), "mul.*multiplies two activations or"),
    "divided by an activation": (lambda: Call(lambda x: 2 / x.abs()), "abs.*is not supported"),
    "map added": (
        lambda: Call(lambda x: x + torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])),
        r"has a constant of shape \[5\] for \[1, 3, 7, 5\]; expected one number, or one a channel",
    ),
    "divided by zero": (
        lambda: Call(lambda x: x / 0.0),
        "not finite|divides by an activation or b",
    ),
    "multiple added": (lambda: Call(lambda x: torch.add(x, x, alpha=2)), "adds a multiple"),
    "wide border": (
        lambda: Call(lambda x: functional.pad(x, (2000, 0))),
        r"pads by \[2000, 0\]; expected at most 1024",
    ),
    "reflected border": (
        lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        "pads by something other than zeros",
    ),
    "clamp above zero": (lambda: Call(lambda x: x.clamp(1, 2)), r"clamps to \[1.0, 2.0\]"),
    "softmax in the middle": (
        lambda: Call(lambda x: functional.relu(x.flatten(1).softmax(1))),
        "a softmax or sigmoid, which is only allowed at the end",
    ),
    "in place through a view": (lambda: Call(twice), "changes x in place, which is also read"),
    "whole mean": (lambda: Call(lambda x: x.mean()), "is a mean over all axes"),
    "not finite": (
        lambda: chain(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), Call(lambda x: x + x)),
        "not finite",
    ),
    "nothing computed": (lambda: nn.Identity(), "computes nothing"),
    "two results": (lambda: Call(lambda x: (x, x + x)), "has 2 outputs; expected one$"),
    "raises": (lambda: Call(lambda x: x.nonsense()), r"^m: torch\.export\.export: .*nonsense"),
}


@pytest.mark.parametrize("name", MODULES)
def test_module_is_refused_by_name_and_place(name):
    make, message = MODULES[name]
    module = make()
    if name == "not finite":
        with torch.no_grad():
            module[0].weight *= 1e30
            module[1].weight *= 1e30
    with new_context(), pytest.raises(InvalidModel, match=message) as caught:
        import_torch(module, normal(2, *IMAGE), "m")
    assert "\n" not in str(caught.value)


def test_training_mode_is_refused():
    for module in (
        chain(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
        chain(nn.Conv2d(3, 4, 1), nn.Dropout()),
    ):
        program = torch.export.export(module.train(), (torch.zeros(2, *IMAGE),))
        with new_context(), pytest.raises(InvalidModel, match=r"module\.eval\(\)|batch"):
            import_torch(program, normal(2, *IMAGE), "m")


def test_batches_of_a_fixed_size_are_refused():
    program = torch.export.export(nn.Conv2d(3, 4, 1), (torch.zeros(2, *IMAGE),))
    with new_context(), pytest.raises(InvalidModel, match=r"shape \[2, 3, 7, 5\]; expected \[1"):
        import_torch(program, normal(2, *IMAGE), "m")


@pytest.mark.parametrize(
    "samples, message",
    [
        (np.zeros((2, *SIGNAL), np.uint8), "samples are uint8; expected the float values"),
        (np.zeros((0, *SIGNAL), np.float32), "have shape"),
        (np.full((2, *SIGNAL), np.nan, np.float32), "not all finite"),
        (np.full((2, *SIGNAL), 1e39), "not all finite in float32"),
    ],
)
def test_unfit_samples_are_refused(samples, message):
    with new_context(), pytest.raises(InvalidData, match=message):
        import_torch(nn.Conv1d(3, 4, 1), samples, "m")


def test_other_objects_are_refused():
    with new_context(), pytest.raises(InvalidOption, match=r"nn\.Module or an Exported"):
        import_torch(print, normal(2, *SIGNAL), "m")


# Files.


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """(folder with m.pt2 and set.npz, contents of the file by name)."""
    folder = tmp_path_factory.mktemp("pt2")
    module = chain(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(76, 5))
    saved(module, normal(1, *SIGNAL), folder / "m.pt2")
    np.savez(folder / "set.npz", x=normal(4, *SIGNAL))
    with zipfile.ZipFile(folder / "m.pt2") as file:
        return folder, {name: file.read(name) for name in file.namelist()}


def rebuilt(folder, contents):
    with zipfile.ZipFile(folder / "changed.pt2", "w") as file:
        for name, data in contents.items():
            file.writestr(name, data)
    return folder / "changed.pt2"


def import_file(folder, path):
    with new_context():
        return str(import_model(path, calibration=folder / "set.npz"))


def test_sample_inputs_are_never_opened(archive):
    folder, contents = archive
    contents = {n: b"not a pickle" if "sample_inputs" in n else d for n, d in contents.items()}
    assert "tiny.conv2d" in import_file(folder, rebuilt(folder, contents))


def changed_json(contents, part, change):
    (name,) = (name for name in contents if name.endswith(part))
    entry = json.loads(contents[name])
    change(entry)
    return {**contents, name: json.dumps(entry).encode()}


def first_node(model):
    return model["graph_module"]["graph"]["nodes"][0]


def set_target(target):
    return "models/m.json", lambda model: first_node(model).update(target=target)


def pickled(config):
    config["config"]["0.weight"]["use_pickle"] = True


def beyond(config):
    config["config"]["0.weight"]["tensor_meta"]["strides"][0]["as_int"] = 1000


def code_as_name(model):
    first_node(model)["outputs"][0]["as_tensor"]["name"] = "x = __import__('os').system('true') #"


FILES = {
    "pickled weight": ("weights_config.json", pickled, "pickles '0.weight', and unpickling may"),
    "beyond its bytes": ("weights_config.json", beyond, "a tensor reaches beyond its bytes"),
    "system": (*set_target("torch.os.system"), r"\(torch\.os\.system.*\): is not supported"),
    "hub": (*set_target("torch.hub.load"), "is not supported"),
    "another operator": (*set_target("torch.ops.aten.from_file.default"), "is not supported"),
    "private": (*set_target("torch.ops.aten.__class__.mro"), "is not supported"),
    "code as a name": ("models/m.json", code_as_name, "by something other than an identifier"),
    "no graph": ("models/m.json", lambda model: model.clear(), "damaged .pt2 file: models/m.json"),
}


@pytest.mark.parametrize("name", FILES)
def test_changed_file_is_refused(archive, name):
    folder, contents = archive
    contents = {n.replace("models/model.json", "models/m.json"): d for n, d in contents.items()}
    part, change, message = FILES[name]
    path = rebuilt(folder, changed_json(contents, part, change))
    with pytest.raises(InvalidModel, match=message) as caught:
        import_file(folder, path)
    assert "\n" not in str(caught.value)


def test_earlier_layout_is_refused(archive):
    folder, _ = archive
    path = rebuilt(folder, {"serialized_exported_program.json": b"{}", "version": b"8.5"})
    with pytest.raises(InvalidModel, match="layout of an earlier PyTorch, which pickles"):
        import_file(folder, path)
    named = {name: data for name, data in archive[1].items() if "weights_config" not in name}
    with pytest.raises(InvalidModel, match="an earlier PyTorch pickled its weights; save it again"):
        import_file(folder, rebuilt(folder, named))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_mutated_parts_are_refused_in_one_line_or_valid(archive, seed):
    """Bytes changed inside the parts of the archive, so that its checksums hold."""
    folder, contents = archive
    rng = random.Random(seed)
    name = rng.choice([n for n in contents if "sample" not in n])
    data = bytearray(contents[name])
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(3)
        if kind == 0 and place < len(data):
            data[place] = rng.choice(b'0123456789"{}[],-e')
        elif kind == 1:
            del data[place : place + rng.randrange(1, 9)]
        else:
            data[place:place] = rng.choice([b"9", b"-", b"1e400", b"null", b"[]"])
    path = rebuilt(folder, {**contents, name: bytes(data)})
    with new_context():
        try:
            import_bytes(path.read_bytes(), "damaged", calibration=folder / "set.npz")
        except TinyError as error:
            assert "\n" not in str(error)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_mutated_archive_is_refused_in_one_line_or_valid(archive, seed):
    folder, _ = archive
    rng = random.Random(seed)
    data = bytearray((folder / "m.pt2").read_bytes())
    for _ in range(rng.choice([1, 4, 16])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.2:
        del data[rng.randrange(4, len(data)) :]
    with new_context():
        try:
            import_bytes(bytes(data), "damaged", calibration=folder / "set.npz")
        except TinyError as error:
            assert "\n" not in str(error)


def refused_line(capsys, *arguments):
    assert tiny_import.main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err.strip()


def test_command_says_what_is_missing(archive, capsys, tmp_path, monkeypatch, repository):
    folder, _ = archive
    out = tmp_path / "m.mlirbc"
    model, samples = folder / "m.pt2", folder / "set.npz"
    line = refused_line(capsys, model, "-o", out)
    assert line.endswith("tiny-import MODEL --calibrate SET.npz -o MODEL.mlirbc")
    np.savez(tmp_path / "other.npz", x=normal(4, 3, 20))
    line = refused_line(capsys, model, "--calibrate", tmp_path / "other.npz", "-o", out)
    assert "samples have shape [3, 20]; the model takes [3, 21]" in line
    np.savez(tmp_path / "names.npz", a=normal(4, 3), b=normal(4, 3))
    line = refused_line(capsys, model, "--calibrate", tmp_path / "names.npz", "-o", out)
    assert "expected an array of samples called calibration, samples, " in line
    shipped = repository / "examples" / "digits" / "digits.mlirbc"
    line = refused_line(capsys, shipped, "--calibrate", samples, "-o", out)
    assert "only a PyTorch .pt2 model takes --calibrate" in line
    monkeypatch.setitem(sys.modules, "torch", None)
    line = refused_line(capsys, model, "--calibrate", samples, "-o", out)
    assert line.endswith("needs PyTorch: pip install 'tiny-training-compiler[torch]'")
    assert not out.exists()
