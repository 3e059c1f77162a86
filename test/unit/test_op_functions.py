"""Every op has a meaning, a host form and a kernel: tables that follow from the ops."""

from types import ModuleType

import pytest

from tiny_dialect import ops
from tiny_dialect.op_functions import OP_NAMES, functions_of_ops
from tiny_dialect.semantics import backward, forward, interpreter
from tiny_passes.lower_to_linalg import RULES, UPDATE_RULES

# A parameter is state or a constant, a fused block is inlined, a yield ends its region.
STRUCTURE = {"tiny.parameter", "tiny.fused_block", "tiny.yield"}


def test_the_ops_are_those_of_the_dialect():
    classes = [getattr(ops, name) for name in ops.__all__]
    assert set(OP_NAMES) == {c.OPERATION_NAME for c in classes if hasattr(c, "OPERATION_NAME")}
    assert len(OP_NAMES) > 45 and all(name.startswith("tiny.") for name in OP_NAMES)


def test_every_op_has_a_meaning_and_a_host_form():
    assert set(interpreter._MEANING) == set(OP_NAMES) - {"tiny.yield"}
    assert set(RULES) | set(UPDATE_RULES) == set(OP_NAMES) - STRUCTURE
    assert not set(RULES) & set(UPDATE_RULES)


def test_every_op_has_a_kernel():
    from tiny_targets import kernels  # registers them all
    from tiny_targets.kernels import registry

    assert kernels.build_call is registry.build_call
    missing = set(OP_NAMES) - set(registry._BUILDERS)
    assert missing == {"tiny.parameter", "tiny.yield"}


def test_a_table_holds_what_its_modules_define():
    found = functions_of_ops(forward)
    assert found["tiny.conv2d"] is forward.conv2d
    assert all(function.__module__ == forward.__name__ for function in found.values())
    twice = ModuleType("twice")
    twice.conv2d = lambda op: op
    twice.conv2d.__module__ = "twice"
    with pytest.raises(ValueError, match=r"twice and .*forward define tiny\.conv2d"):
        functions_of_ops(forward, backward, twice)
