"""The input of a package: how a real value becomes one, and rows that arrive one by one."""

import re

import pytest
from package_program import Program, build, headers_of
from test_package import ARDUINO, digits, example_text

from tiny_dialect.dialect import new_context, read_module
from tiny_passes.graph import find_function
from tiny_pipelines.cli import tiny_compile
from tiny_pipelines.datasets import preprocessing_of
from tiny_targets.boards import find_board
from tiny_targets.toolchain import compile_object


@pytest.fixture(scope="module")
def package(repository, tmp_path_factory):
    """The folder of the shipped network's package, whose input arrives whole."""
    folder = tmp_path_factory.mktemp("whole") / "digits"
    command = digits(repository, "--board", "stm32f746", "-o", str(folder))
    assert tiny_compile.main(command) == 0
    return folder


QUANTIZE = """
#include "digits.h"
typedef char whole[DIGITS_INPUT_BYTES
    == DIGITS_INPUT_HEIGHT * DIGITS_INPUT_WIDTH * DIGITS_INPUT_CHANNELS ? 1 : -1];
int8_t quantized(float real) {
    float value = real / DIGITS_INPUT_SCALE + (float)DIGITS_INPUT_ZERO_POINT;
    value += value < 0 ? -0.5f : 0.5f;
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}
"""


@pytest.mark.parametrize("suffix", [".c", ".cc"])
def test_the_header_says_how_a_real_value_becomes_an_input(package, repository, suffix):
    with new_context():
        module = read_module(repository / "examples" / "digits" / "digits.mlirbc")
        model = preprocessing_of(find_function(module, "infer"))
    header = (package / "src" / "digits.h").read_text()
    macros = dict(re.findall(r"#define DIGITS_INPUT_(\w+) \(?([-\w.]+)\)?$", header, re.MULTILINE))
    assert float(macros["SCALE"].removesuffix("f")) == model.scale
    assert int(macros["ZERO_POINT"]) == model.zero_point
    sides = tuple(int(macros[n].removesuffix("u")) for n in ("HEIGHT", "WIDTH", "CHANNELS"))
    assert sides == (model.height, model.width, model.channels)
    target = find_board("stm32f746").target
    assert compile_object(target, QUANTIZE, suffix, headers_of(package))


def streamed_package(repository, folder, *options):
    """The package of the command line, with its input row by row."""
    model = str(repository / "examples" / "digits" / "digits.mlirbc")
    command = [model, *options, "--package", "--stream-input", "--board", "stm32f746"]
    assert tiny_compile.main([*command, "-o", str(folder)]) == 0
    assert "DIGITS_INPUT_ROW_BYTES" in (folder / "src" / "digits.h").read_text()
    sketch = (folder / "examples" / "sketch" / "sketch.ino").read_text()
    source = f'#include "Arduino.h"\n{sketch}'.replace("<digits.h>", '"digits.h"')
    headers = {**headers_of(folder), "Arduino.h": ARDUINO}
    assert compile_object(find_board("stm32f746").target, source, ".cc", headers)
    return folder


def test_a_streamed_input_gives_the_same_package_results(package, repository, tmp_path):
    """Rows that arrive one by one: another interface, the same vectors and saved state."""
    scheme = repository / "examples" / "digits" / "sparse.json"
    streamed = streamed_package(repository, tmp_path / "digits", "--scheme", str(scheme))
    for name in ("inputs.bin", "logits.bin", "losses.bin", "state.bin"):
        golden = (streamed / "golden" / name).read_bytes()
        assert golden == (package / "golden" / name).read_bytes()
    for example_name in ("self_test", "learn"):
        elf = build(streamed, "stm32f746", example_text(streamed, example_name))
        program = Program(elf, "stm32f746")
        assert program.run() == 0
    assert program.read("kept")[4:] == (streamed / "golden" / "state.bin").read_bytes()


def test_a_streamed_package_can_be_inference_only(repository, tmp_path):
    streamed = streamed_package(repository, tmp_path / "digits", "--inference")
    command = digits(repository, "--inference", "--board", "stm32f746")
    assert tiny_compile.main([*command, "-o", str(tmp_path / "whole")]) == 0
    logits = (streamed / "golden" / "logits.bin").read_bytes()
    assert logits == (tmp_path / "whole" / "golden" / "logits.bin").read_bytes()
    elf = build(streamed, "stm32f746", example_text(streamed, "self_test"))
    assert Program(elf, "stm32f746").run() == 0
