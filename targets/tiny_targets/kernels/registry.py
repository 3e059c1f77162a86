"""The table from op class to kernel builder.

    @register_kernel(Dequantize)
    def dequantize(nest, op, target): ...

A builder declares the kernel's arguments on `nest` and emits the loops; `build_call` closes it.

    @register_kernel(Conv2D, traversals=("rows",))

promises that the kernel keeps that order where an op asks for it by `tiny.traversal`: the plan may
then let it overwrite what it has read (`tiny_passes.overwriting`). An op that asks for an order
which its kernel does not promise is refused.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import place_of
from tiny_dialect.errors import InvalidModel
from tiny_passes.graph import layer_of
from tiny_passes.overwriting import traversal_of
from tiny_targets.kernels.kernel import KernelCall
from tiny_targets.kernels.nest import Nest

Builder = Callable[[Nest, Any, Any], None]

_BUILDERS: dict[str, Builder] = {}
_TRAVERSALS: dict[str, frozenset[str]] = {}


def register_kernel(
    op_class: Any, *, traversals: Sequence[str] = ()
) -> Callable[[Builder], Builder]:
    """Decorator: make `builder(nest, op, target)` the kernel of `op_class`, replacing any other.

    `traversals` are the orders that it keeps where an op asks for one.
    """

    def register(builder: Builder) -> Builder:
        _BUILDERS[op_class.OPERATION_NAME] = builder
        _TRAVERSALS[op_class.OPERATION_NAME] = frozenset(traversals)
        return builder

    return register


def has_kernel(op: Any) -> bool:
    """True where `build_call` knows the op."""
    return op.operation.name in _BUILDERS


def build_call(op: Any, target: Any) -> KernelCall:
    """The kernel of one op for `target` and the values it is called with.

    Raises `InvalidModel` for an op without a kernel, or whose kernel cannot keep the order it asks
    for.
    """
    operation = op.operation
    builder = _BUILDERS.get(operation.name)
    place = layer_of(operation) or place_of(operation.location)
    if builder is None:
        raise InvalidModel(f"no kernel for '{operation.name}'; add one by register_kernel", place)
    asked = traversal_of(operation)
    if asked and asked not in _TRAVERSALS[operation.name]:
        raise InvalidModel(f"the kernel of '{operation.name}' cannot traverse in {asked}", place)
    name = operation.name.rpartition(".")[2]
    with operation.context, ir.Location.unknown(), Nest(name) as nest:
        builder(nest, operation.opview, target)
        return nest.call()
