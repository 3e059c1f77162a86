"""Hooks that the tests name."""

import sys

from iree.compiler import ir


def count_dispatches(module):
    """Say on stderr how many dispatches there are; changes nothing."""
    names = []

    def see(op):
        names.append(op.name)
        return ir.WalkResult.ADVANCE

    module.operation.walk(see)
    print("dispatches:", names.count("flow.dispatch.workgroups"), file=sys.stderr)


def mark(module):
    """Leave an attribute that the next phases keep."""
    module.operation.attributes["test.seen"] = ir.StringAttr.get("by mark")


def mark_again(module):
    """Append to what `mark` left."""
    seen = ir.StringAttr(module.operation.attributes["test.seen"]).value
    module.operation.attributes["test.seen"] = ir.StringAttr.get(f"{seen}, then again")


def replace(module):
    """Return another module, with one function."""
    return ir.Module.parse("util.func public @other() { util.return }")


def fail(module):
    """A mistake in a user's hook."""
    raise KeyError("no such op")


def wrong(module):
    """Not a module."""
    return 3


def invalid(module):
    """Leaves a module that does not verify: a function without its terminator."""
    function = next(iter(module.body.operations[0].regions[0].blocks), None)
    for op in module.body.operations:
        for region in op.regions:
            for block in region.blocks:
                list(block.operations)[-1].erase()
                return
    assert function is None


text = "not a function"
