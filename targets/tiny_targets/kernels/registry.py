"""The table from op class to kernel builder.

    @register_kernel(Dequantize)
    def dequantize(nest, op, target): ...

A builder declares the kernel's arguments on `nest` and emits the loops; `build_call` closes it.
"""

from collections.abc import Callable
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import place_of
from tiny_dialect.errors import InvalidModel
from tiny_passes.graph import layer_of
from tiny_targets.kernels.kernel import KernelCall
from tiny_targets.kernels.nest import Nest

Builder = Callable[[Nest, Any, Any], None]

_BUILDERS: dict[str, Builder] = {}


def register_kernel(op_class: Any) -> Callable[[Builder], Builder]:
    """Decorator: make `builder(nest, op, target)` the kernel of `op_class`, replacing any other."""

    def register(builder: Builder) -> Builder:
        _BUILDERS[op_class.OPERATION_NAME] = builder
        return builder

    return register


def has_kernel(op: Any) -> bool:
    """True where `build_call` knows the op."""
    return op.operation.name in _BUILDERS


def build_call(op: Any, target: Any) -> KernelCall:
    """The kernel of one op for `target` and the values it is called with.

    Raises `InvalidModel` for an op without a kernel.
    """
    operation = op.operation
    builder = _BUILDERS.get(operation.name)
    if builder is None:
        place = layer_of(operation) or place_of(operation.location)
        raise InvalidModel(f"no kernel for '{operation.name}'; add one by register_kernel", place)
    name = operation.name.rpartition(".")[2]
    with operation.context, ir.Location.unknown(), Nest(name) as nest:
        builder(nest, operation.opview, target)
        return nest.call()
