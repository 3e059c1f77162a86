"""Tables of one function an op, found by the op's name.

A module that has a function `conv2d` so says what it does for `tiny.conv2d`; there is no list of
names to keep.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from tiny_dialect import ops

OP_NAMES: tuple[str, ...] = tuple(
    getattr(ops, name).OPERATION_NAME
    for name in ops.__all__
    if hasattr(getattr(ops, name), "OPERATION_NAME")
)
"""Of all ops of the dialect, in the order of their classes' names: `tiny.add`."""

_PREFIX = "tiny."


def functions_of_ops(*modules: ModuleType) -> dict[str, Callable[..., Any]]:
    """`tiny.NAME` → the function `NAME` that one of `modules` defines, for each op that has one.

    What a module only imports is not its own. Raises `ValueError` where two modules define one op.
    """
    found: dict[str, Callable[..., Any]] = {}
    for module in modules:
        for name in OP_NAMES:
            function = getattr(module, name.removeprefix(_PREFIX), None)
            if not callable(function) or function.__module__ != module.__name__:
                continue
            if name in found:
                raise ValueError(f"{module.__name__} and {found[name].__module__} define {name}")
            found[name] = function
    return found
