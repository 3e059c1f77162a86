"""lit: every `.mlir` and `.test` file under test/{dialect,passes,pipelines,targets} is one test.

Run with `lit test`. RUN lines use %tiny-opt and the other commands, %python, FileCheck (the
`filecheck` package), %examples (examples/scripting), %digits (the shipped network), and %zoo where
the feature `zoo` is available.
"""

# `config` and `lit_config` are given by lit, which executes this file.
# pyright: reportUndefinedVariable=false
# ruff: noqa: F821

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import lit.formats
import lit.util

COMMANDS = (
    "tiny-import",
    "tiny-opt",
    "tiny-iree-compile",
    "tiny-compile",
    "tiny-bench",
    "tiny-run",
    "tiny-powertest",
    "tiny-fuzz",
    "tiny-train",
    "tiny-accuracy",
    "tiny-search",
    "tiny-report",
)
FORWARDED = ("HOME", "TMPDIR", "TINY_DATA", "TINY_MLIR_BINDINGS")
SECONDS_PER_TEST = 300

repository = Path(__file__).resolve().parents[1]
scripts = Path(sys.executable).parent


def script(name: str) -> str:
    """A console script; that beside this interpreter first, so no virtualenv need be active."""
    found = shutil.which(name, path=f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        lit_config.fatal(f"no command '{name}'; pip install -e '.[test]'")
    return found


config.name = "tiny"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["unit", "property", "Inputs"]
config.test_source_root = str(Path(__file__).parent)
config.test_exec_root = str(repository / "build" / "lit")

config.substitutions += [(rf"%{name}\b", script(name)) for name in COMMANDS]
config.substitutions += [
    (rf"^{name}\b|(?<=[ |]){name}\b", script(name)) for name in ("iree-compile", "iree-run-module")
]
config.substitutions += [(r"%python\b", sys.executable), (r"\bFileCheck\b", script("filecheck"))]
config.substitutions += [
    (r"%examples\b", str(repository / "examples" / "scripting")),
    (r"%digits\b", str(repository / "examples" / "digits" / "digits.mlirbc")),
]
config.environment.update({k: os.environ[k] for k in FORWARDED if k in os.environ})

zoo = Path(os.environ.get("TINY_DATA") or repository.parent / "shared" / "data")
if (zoo / "models").is_dir():
    config.available_features.add("zoo")
    config.substitutions.append((r"%zoo\b", str(zoo)))

if all(importlib.util.find_spec(name) for name in ("tflite", "flatbuffers", "onnx")):
    config.available_features.add("oracles")

supported, _reason = lit.util.killProcessAndChildrenIsSupported()
if supported:
    config.maxIndividualTestTime = SECONDS_PER_TEST
