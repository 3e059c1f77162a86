"""The one place that chooses the distribution of the MLIR Python bindings.

`mlir` (LLVM's own wheels) is preferred where it carries Python-defined dialects; otherwise the
bindings inside the `torch-mlir` wheel are used. `TINY_MLIR_BINDINGS=mlir|torch_mlir` chooses
explicitly.
"""

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

_CHOICES = ("mlir", "torch_mlir")
_VARIABLE = "TINY_MLIR_BINDINGS"


def _has_python_dialects(package: str) -> bool:
    if importlib.util.find_spec(package) is None:
        return False
    try:
        return importlib.util.find_spec(f"{package}.dialects.ext") is not None
    except ModuleNotFoundError:
        return False


def _choose() -> str:
    wanted = os.environ.get(_VARIABLE)
    if wanted is not None and wanted not in _CHOICES:
        raise ImportError(f"{_VARIABLE}={wanted!r}: choose one of {', '.join(_CHOICES)}")
    for package in (wanted,) if wanted else _CHOICES:
        if _has_python_dialects(package):
            return package
    raise ImportError(
        "no MLIR bindings with Python-defined dialects; pip install 'torch-mlir>=20261001'"
    )


PACKAGE = _choose()


def load(submodule: str) -> Any:
    """Import `submodule` (`"ir"`, `"dialects.linalg"`, ...) of the chosen bindings."""
    return importlib.import_module(f"{PACKAGE}.{submodule}")


def without_module(namespace: str) -> None:
    """Say that the ops of a dialect are declared elsewhere than in a module of the bindings.

    Before they wrap an op, the bindings import the module of its dialect, and remember success
    alone: without this, every op that is looked at costs a failed import.
    """
    name = f"{PACKAGE}.dialects.{namespace}"
    sys.modules.setdefault(name, ModuleType(name))


# The bindings are untyped; `Any` says so to the type checker.
ir: Any = load("ir")
ext: Any = load("dialects.ext")
