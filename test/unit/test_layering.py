"""The layers import only downwards, and each foreign library only where it belongs.

tiny_dialect <- tiny_passes <- tiny_targets <- tiny_pipelines
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Import package -> its folder, lowest layer first.
LAYERS = {
    "tiny_dialect": "tiny_dialect",
    "tiny_passes": "passes/tiny_passes",
    "tiny_targets": "targets/tiny_targets",
    "tiny_pipelines": "pipelines/tiny_pipelines",
}

# Module prefix -> the only files that may import it.
OWNERS = {
    "iree.compiler": (
        "targets/tiny_targets/codegen.py",
        "pipelines/tiny_pipelines/iree/compiler.py",
    ),
    "iree.runtime": ("pipelines/tiny_pipelines/host.py",),
    "unicorn": ("targets/tiny_targets/machine.py",),
    "mlir": ("tiny_dialect/bindings.py",),
    "torch_mlir": ("tiny_dialect/bindings.py",),
}


def _called_name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _literal_import(call: ast.Call) -> Iterator[str]:
    """The module of `importlib.import_module("...")` and `__import__("...")`."""
    if _called_name(call) in ("import_module", "__import__") and call.args:
        argument = call.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in `source`, in functions too; relative ones are skipped."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, module) for module in _literal_import(node))


def _is_within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def _reason(layer: str, path: str, module: str) -> str | None:
    """Why the file `path` of `layer` may not import `module`, or None where it may."""
    order = list(LAYERS)
    package = module.split(".")[0]
    if package in LAYERS and order.index(package) > order.index(layer):
        return f"{layer} may not import {package}"
    for prefix, owners in OWNERS.items():
        if _is_within(module, prefix) and path not in owners:
            return f"only {', '.join(owners)} may import {prefix}"
    foreign = package not in sys.stdlib_module_names and package not in ("numpy", *LAYERS, *OWNERS)
    if layer == "tiny_dialect" and foreign:
        return f"tiny_dialect may import NumPy and the MLIR bindings, not {package}"
    return None


def violations(layer: str, path: str, source: str) -> list[str]:
    """One line for every import in `source` that breaks the layering."""
    found = []
    for line, module in imported_modules(source):
        reason = _reason(layer, path, module)
        if reason is not None:
            found.append(f"{path}:{line}: imports {module}: {reason}")
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_imports_only_downwards(layer: str) -> None:
    files = sorted((ROOT / LAYERS[layer]).rglob("*.py"))
    assert files, f"no sources of {layer}"
    found = []
    for file in files:
        found += violations(layer, file.relative_to(ROOT).as_posix(), file.read_text("utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("layer", "path", "planted"),
    [
        ("tiny_dialect", "tiny_dialect/types.py", "import tiny_passes.registry"),
        ("tiny_dialect", "tiny_dialect/types.py", "import scipy"),
        ("tiny_passes", "passes/tiny_passes/reorder.py", "from tiny_targets import boards"),
        ("tiny_passes", "passes/tiny_passes/reorder.py", "from torch_mlir import ir"),
        ("tiny_targets", "targets/tiny_targets/boards.py", "import tiny_pipelines"),
        ("tiny_targets", "targets/tiny_targets/boards.py", "from iree import compiler"),
        ("tiny_targets", "targets/tiny_targets/codegen.py", "import iree.runtime as rt"),
        ("tiny_pipelines", "pipelines/tiny_pipelines/host.py", "import iree.compiler.ir"),
        ("tiny_pipelines", "pipelines/tiny_pipelines/host.py", "def run():\n    import unicorn"),
        ("tiny_pipelines", "pipelines/tiny_pipelines/host.py", "import_module('mlir.ir')"),
    ],
)
def test_planted_violation_is_found(layer: str, path: str, planted: str) -> None:
    allowed = "import numpy as np\nfrom tiny_dialect.bindings import ir\n"
    assert violations(layer, path, allowed) == []
    assert len(violations(layer, path, allowed + planted)) == 1
