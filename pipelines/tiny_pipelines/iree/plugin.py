"""`tiny` modules for iree-compile: detect them, run a tiny pipeline, hand the rest to IREE.

    tiny module --chosen pipeline--> --tiny-lower-to-linalg--> bytecode --IREE, with hooks--> .vmfb

A module without `tiny` ops is IREE's own business and reaches it as it came.
"""

import re
from collections.abc import Sequence
from typing import Any

from tiny_dialect.errors import InvalidModel
from tiny_pipelines.iree.compiler import (
    PHASES,
    compile_bytecode,
    contains_dialect,
    holds_dialect,
    require_phase,
)
from tiny_pipelines.iree.hooks import Hook, by_stage, run_hooks

DIALECT = "tiny"
LOWERING = "tiny-lower-to-linalg"
_LOOKS_TINY = re.compile(rb'"tiny\.\w+"\s*\(')
# Sums in the order they are written, so that host floats do not depend on the vector width.
_TINY_FLAGS = {"--iree-llvmcpu-reassociate-fp-reductions": "false"}


def lower_source(source: bytes, name: str, pipeline: str = "") -> bytes | None:
    """Bytecode in upstream dialects of a module with `tiny` ops; None where it holds none.

    `source` is MLIR text or bytecode. What is `tiny` after `pipeline` is lowered to linalg. Raises
    `InvalidModel` at the place where a module that holds `tiny` ops does not parse or verify, and
    `PassError` where a pass fails.
    """
    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context, parse_module

    with new_context():
        try:
            module = parse_module(source, name)
        except (InvalidModel, ir.MLIRError):
            if _holds_tiny(source):
                raise
            return None
        return lower_module(module, pipeline) if contains_dialect(module, DIALECT) else None


def lower_module(module: Any, pipeline: str = "") -> bytes:
    """As `lower_source`, of a parsed module, which is changed in place."""
    import tiny_pipelines.training  # noqa: F401  (names the compiler's own pipelines)
    from tiny_dialect.dialect import to_bytecode
    from tiny_passes.registry import run_pipeline

    if pipeline:
        run_pipeline(module, pipeline)
    if contains_dialect(module, DIALECT):
        run_pipeline(module, LOWERING)
    return to_bytecode(module)


def _holds_tiny(source: bytes) -> bool:
    """Whether a module that does not parse here is a tiny one, and its error the user's to mend."""
    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context, parse_module

    with new_context() as context:
        context.allow_unregistered_dialects = True
        try:
            return contains_dialect(parse_module(source, "module"), DIALECT)
        except (InvalidModel, ir.MLIRError):
            pass
    # Either IREE's own dialects, whose syntax only IREE reads, or an invalid module. Then nothing
    # will be compiled, and what is left to decide is whose error is the helpful one.
    found = holds_dialect(source, DIALECT)
    return bool(_LOOKS_TINY.search(source)) if found is None else found


def with_tiny_flags(flags: Sequence[str]) -> list[str]:
    """`flags`, and those for `tiny` modules which the user has not set."""
    given = {flag.partition("=")[0] for flag in flags}
    return [*flags, *(f"{k}={v}" for k, v in _TINY_FLAGS.items() if k not in given)]


def compile(
    module: Any,
    flags: Sequence[str] = (),
    hooks: Sequence[Hook] = (),
    *,
    pipeline: str = "",
    name: str = "module.mlir",
) -> bytes:
    """What `tiny-iree-compile` writes, in process: a `.vmfb`, or bytecode after a phase.

    `module` is text or bytecode, or a parsed module of a `tiny` context, which is left as it is.
    `flags` are iree-compile's; of those that belong to the command only `--compile-from=PHASE` and
    `--compile-to=PHASE` are taken here. Raises `TinyError`s: `InvalidModel`, `PassError`,
    `InvalidOption`, `HostCompilationError`.
    """
    source = _source_of(module)
    phases = {"--compile-from": PHASES[0], "--compile-to": PHASES[-1]}
    session_flags = []
    for flag in flags:
        key, _, value = flag.partition("=")
        if key in phases:
            phases[key] = require_phase(value)
        else:
            session_flags.append(flag)
    lowered = lower_source(source, name, pipeline)
    if lowered is not None:
        source, session_flags = lowered, with_tiny_flags(session_flags)
    start, end = phases["--compile-from"], phases["--compile-to"]
    for stop, group in by_stage(hooks, start, end):
        source = compile_bytecode(
            source, session_flags, compile_from=start, compile_to=stop, name=name
        )
        source, start = run_hooks(source, group), stop
    return compile_bytecode(source, session_flags, compile_from=start, compile_to=end, name=name)


def _source_of(module: Any) -> bytes:
    if isinstance(module, bytes):
        return module
    if isinstance(module, str):
        return module.encode("utf-8")
    from tiny_dialect.dialect import to_bytecode

    return to_bytecode(module)
