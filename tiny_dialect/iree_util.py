"""The one op of IREE's `util` dialect that lowered modules hold.

IREE's own bindings and these never meet, so the op is declared here under IREE's name; a module
handed over in text or bytecode carries the name, and IREE takes it as its own.
"""

# pyright: reportInvalidTypeForm=false

from typing import Any

from tiny_dialect.bindings import ext, without_module


class Util(ext.Dialect, name="util"):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
    """IREE's dialect of program state and optimization hints, as far as this project writes it."""


without_module("util")


class OptimizationBarrier(Util.Operation, name="optimization_barrier"):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
    """The operand itself, of which the compiler may assume nothing."""

    value: ext.Operand[Any]
    result: ext.Result[Any]
