"""A pass for the tests: give every function a name."""

from tiny_dialect.bindings import ir
from tiny_passes.registry import register_pass


@register_pass("rename-functions", anchor="func.func")
def rename_functions(function, *, to: str) -> None:
    """Rename the function."""
    function.operation.attributes["sym_name"] = ir.StringAttr.get(to)
