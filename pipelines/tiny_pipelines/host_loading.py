"""Load a step on the host so that steps which differ only in what training starts from share code.

Before:  %w = "tiny.parameter"() {symbol = "head.weight", trained, value = dense<[0.3, ...]>}
After:   %w = "tiny.parameter"() {symbol = "head.weight", trained, value = dense<0.0>}

What the compiler sees holds zeros; the initial values are stored into the loaded module. Another
seed of a fresh head or of random rounding, or a checkpoint, then costs no compilation.
"""

from typing import Any

import numpy as np

from tiny_dialect.attributes import dense, to_array
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import to_bytecode
from tiny_dialect.semantics import initial_state
from tiny_passes.graph import body, functions
from tiny_pipelines.host import Array, HostModel


def trained_state(module: Any) -> dict[str, Array]:
    """The initial value of every trained parameter of all functions, by symbol."""
    state: dict[str, Array] = {}
    for function in functions(module).values():
        state |= initial_state(function)
    return state


def without_initial_values(module: Any) -> Any:
    """A copy of `module` whose trained parameters all start at zero."""
    with module.context, module.operation.location:
        copy = ir.Module.parse(to_bytecode(module))
        for function in functions(copy).values():
            for op in body(function):
                if op.operation.name == "tiny.parameter" and "trained" in op.attributes:
                    op.attributes["value"] = dense(np.zeros_like(to_array(op.attributes["value"])))
    return copy


def compiled_without_state(module: Any) -> bytes:
    """The host code of a scheduled module, which knows nothing of the initial values.

    Raises what `compile_host` raises.
    """
    from tiny_pipelines.iree import compile_host

    return compile_host(without_initial_values(module))


def load_host(module: Any, *, threads: int = 1) -> HostModel:
    """Compile a scheduled module, or find its code in the cache, and give it its initial state.

    Raises what `compile_host` raises.
    """
    code = compiled_without_state(module)
    return HostModel(code, threads=threads, initial=trained_state(module))
