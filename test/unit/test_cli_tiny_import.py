"""`tiny-import` from the command line: formats, heads, and bad files that leave nothing behind."""

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcunet_files import model_file, network, zipped

from tiny_pipelines.cli.tiny_import import main

COMMAND = Path(sys.executable).with_name("tiny-import")
MARKER = "executed"


class Hostile:
    """Pickles to a call of `function`, which would touch MARKER."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def with_scales(value):
    contents = network()
    contents["first_conv"]["params"]["w_scales"][1] = value
    return model_file(contents)


def hostile_weight(payload):
    """A real model in which one weight is a payload."""
    contents = network()
    contents["blocks"][0]["depthwise"]["params"]["weight"] = payload
    return contents


BAD_FILES = {
    "missing": None,
    "empty": b"",
    "truncated_zip": model_file()[:1000],
    "truncated_pickle": zipped(pickle.dumps(network(), 2)[:2000]),
    "corrupt_zip": model_file().replace(b"in_channel", b"IN_CHANNEL", 1),
    "wrong_magic": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "nan_scale": with_scales(np.nan),
    "zero_scale": with_scales(0.0),
    "malformed_text": b"func.func @infer(%x: tensor<1x",
    "invalid_text": b'func.func @infer() { %0 = "tiny.nothing"() : () -> i32 return }',
    "no_model": b"module {}",
    "truncated_bytecode": b"ML\xefR\x0dMLIR",
    "hostile_system": zipped(pickle.dumps(Hostile(os.system, f"touch {MARKER}"), 2)),
    "hostile_system_4": zipped(pickle.dumps(Hostile(os.system, f"touch {MARKER}"), 4)),
    "hostile_eval": zipped(pickle.dumps(Hostile(eval, f"open('{MARKER}', 'w').close()"), 2)),
    "hostile_weight": model_file(hostile_weight(Hostile(os.system, f"touch {MARKER}"))),
    "hostile_object_array": model_file(
        hostile_weight(np.array([Hostile(os.system, f"touch {MARKER}")], dtype=object))
    ),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model():
    Path("small.pkl").write_bytes(model_file())
    return "small.pkl"


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("output", ["out.mlir", "out.mlirbc", "-"])
def test_a_bad_file_is_one_line_status_1_and_no_output(name, output, capfd):
    if BAD_FILES[name] is not None:
        Path("bad.pkl").write_bytes(BAD_FILES[name])
    assert main(["bad.pkl", "-o", output, "--classes", "3"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("tiny-import: bad.pkl")
    assert err.count("\n") == 1
    assert os.listdir() == ([] if BAD_FILES[name] is None else ["bad.pkl"])


def test_the_hostile_files_would_act_if_they_were_unpickled():
    for name in ("hostile_system", "hostile_eval", "hostile_weight", "hostile_object_array"):
        import zipfile

        with zipfile.ZipFile(io.BytesIO(BAD_FILES[name])) as archive:
            pickle.loads(archive.read("archive/data.pkl"))
        Path(MARKER).unlink()


def test_a_failure_keeps_an_existing_output(capfd):
    Path("out.mlir").write_text("precious")
    Path("bad.pkl").write_bytes(BAD_FILES["nan_scale"])
    assert main(["bad.pkl", "-o", "out.mlir"]) == 1
    assert Path("out.mlir").read_text() == "precious"
    assert "channel 1" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "1"], "a head of 1 classes; expected 2 to"),
        (["--classes", "many"], "invalid int value: 'many'"),
        (["--classes", "3", "--seed", "-1"], "seed -1; expected 0 or more"),
        (["--json"], "add -o FILE"),
        (["-o", "no/such/folder.mlir"], "does not exist"),
    ],
)
def test_a_wrong_option_is_one_line_status_1_and_no_output(arguments, message, model, capfd):
    assert main([model, *arguments]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert os.listdir() == [model]


def test_the_name_of_the_output_chooses_text_or_bytecode(model):
    assert main([model, "-o", "a.mlirbc"]) == 0
    assert main(["a.mlirbc", "-o", "b.mlir"]) == 0
    assert main([model, "-o", "c.mlir"]) == 0
    assert Path("a.mlirbc").read_bytes().startswith(b"ML\xefR")
    assert Path("b.mlir").read_text() == Path("c.mlir").read_text()


def test_json_describes_the_output(model, capfd):
    assert main([model, "-o", "a.mlirbc", "--classes", "3", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    digest = hashlib.sha256(Path("a.mlirbc").read_bytes()).hexdigest()
    assert record == {
        "model": "small",
        "input_shape": [1, 9, 7, 2],
        "classes": 3,
        "layers": 11,
        "operations": 29,
        "parameters": 16,
        "parameter_bytes": record["parameter_bytes"],
        "output": "a.mlirbc",
        "output_bytes": Path("a.mlirbc").stat().st_size,
        "output_sha256": digest,
    }
    frozen = 54 + 21 + 105 + 21 + 135 + 15 + 30
    assert record["parameter_bytes"] == frozen + 4 * (3 + 7 + 7 + 3 + 5 + 5 + 6) + 4 * (3 * 6 + 3)


def test_the_same_file_and_seed_give_the_same_bytes_wherever_the_file_lies(model):
    Path("folder").mkdir()
    Path("folder/small.pkl").write_bytes(model_file())
    for source, output in ((model, "a.mlirbc"), ("folder/small.pkl", "b.mlirbc")):
        assert main([source, "-o", output, "--classes", "3", "--seed", "5"]) == 0
    assert Path("a.mlirbc").read_bytes() == Path("b.mlirbc").read_bytes()


def test_the_installed_command_reads_stdin_and_writes_stdout(model):
    done = subprocess.run([COMMAND, "-"], input=model_file(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert main([model, "-o", "a.mlir"]) == 0
    from_file = Path("a.mlir").read_bytes()
    assert done.stdout.replace(b'"<stdin>"', b'"small"') == from_file


def test_the_installed_command_fails_with_one_line_and_no_traceback():
    Path("bad.pkl").write_bytes(BAD_FILES["hostile_system"])
    done = subprocess.run([COMMAND, "bad.pkl", "-o", "out"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tiny-import: bad.pkl: byte ")
    assert done.stderr.count("\n") == 1
    assert os.listdir() == ["bad.pkl"]


def test_a_reader_that_leaves_early_is_no_error_message(model):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([COMMAND, model, "--classes", "3000"], **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
