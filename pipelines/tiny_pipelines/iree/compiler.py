"""IREE's compiler in process, bytes in and bytes out; one phase or all of them.

IREE's objects and those of the project's MLIR bindings never meet: text or bytecode is handed
over. IREE's Python wrapper does not set phases and reports errors to the console only, so the
library's own functions are called for these.
"""

import contextlib
import ctypes
import functools
import io
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError

PHASES = (
    "start",
    "input",
    "abi",
    "preprocessing",
    "global-optimization",
    "dispatch-creation",
    "flow",
    "stream",
    "executable-sources",
    "executable-configurations",
    "executable-targets",
    "hal",
    "vm",
    "end",
)
"""The names of IREE's phases, in order; `start` is the module as it was parsed."""

_ERROR_SEVERITY = 2
_BYTECODE_MAGIC = b"ML\xefR"


class HostCompilationError(TinyError):
    """IREE refused a module; the message is its first error."""


def require_phase(name: str) -> str:
    """`name`, or `InvalidOption` with the list of phases."""
    if name not in PHASES:
        raise InvalidOption(f"IREE has no phase {name}; phases: {', '.join(PHASES)}")
    return name


def executable() -> Path:
    """The `iree-compile` program of the installed package, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("iree.compiler")
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        program = (
            Path(folder)
            / "_mlir_libs"
            / ("iree-compile.exe" if os.name == "nt" else "iree-compile")
        )
        if program.exists():
            return program
    raise InvalidOption("iree-base-compiler is not installed")


def compile_bytecode(
    source: bytes,
    flags: Sequence[str],
    *,
    compile_from: str = "start",
    compile_to: str = "end",
    name: str = "model.mlir",
) -> bytes:
    """The `.vmfb` of a module in upstream dialects, given as MLIR text or bytecode.

    `flags` are session flags of iree-compile. With `compile_to` an earlier phase, the result is the
    module after that phase as MLIR bytecode; with `compile_from`, `source` is such a module.
    Raises `HostCompilationError` with IREE's first error, at the place it names.
    """
    from iree.compiler import api

    if not source.startswith(_BYTECODE_MAGIC):
        source += b"\0"
    session = api.Session()
    _set_flags(session, flags)
    invocation = session.invocation()
    source_buffer = api.Source.wrap_buffer(session, source, buffer_name=name)
    output = api.Output.open_membuffer()
    try:
        with _errors_of(invocation, name) as fail:
            _set_phases(invocation, compile_from, compile_to)
            if not invocation.parse_source(source_buffer) or not invocation.execute():
                fail()
        if compile_to == "end":
            invocation.output_vm_bytecode(output)
        else:
            invocation.output_ir_bytecode(output)
        return bytes(output.map_memory())
    finally:
        output.close()
        source_buffer.close()
        invocation.close()
        session.close()


def _bindings() -> Any:
    """IREE's own Python bindings of MLIR, which know its dialects; they have no types."""
    from iree.compiler import ir

    return ir


def edit_module(bytecode: bytes, edit: Callable[[Any], Any], name: str = "module") -> bytes:
    """The module of an IREE phase after `edit(module)`, as bytecode.

    `edit` gets an `iree.compiler.ir.Module` in its own context, which is current, and changes it in
    place or returns another one. Raises `HostCompilationError` where the result does not verify.
    """
    ir = _bindings()
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(bytecode)
        changed = edit(module)
        module = module if changed is None else changed
        if not isinstance(module, ir.Module):
            raise InvalidOption(f"returned {type(module).__name__}, not a module or None", name)
        try:
            module.operation.verify()
        except ir.MLIRError as error:
            reason = error.error_diagnostics[0].message if error.error_diagnostics else str(error)
            raise HostCompilationError(f"left an invalid module: {reason}", name) from error
        buffer = io.BytesIO()
        module.operation.write_bytecode(buffer)
        return buffer.getvalue()


def holds_dialect(source: bytes, dialect: str) -> bool | None:
    """Whether `source` holds an op of `dialect`, known to IREE or not; None if IREE rejects it."""
    ir = _bindings()
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        try:
            if source.startswith(_BYTECODE_MAGIC):
                return contains_dialect(ir.Module.parse(source).operation, dialect)
            return contains_dialect(ir.Operation.parse(source.decode("utf-8")), dialect)
        except (ir.MLIRError, RuntimeError, UnicodeDecodeError):
            return None


def contains_dialect(operation: Any, dialect: str) -> bool:
    """True where `operation` is, or holds, an op of `dialect`; for the IR of either bindings."""
    if operation.operation.name.startswith(f"{dialect}."):
        return True
    return any(
        contains_dialect(child, dialect)
        for region in operation.operation.regions
        for block in region.blocks
        for child in block.operations
    )


def _set_flags(session: Any, flags: Sequence[str]) -> None:
    try:
        session.set_flags(*flags)
    except ValueError as error:
        raise InvalidOption(" ".join(str(error).split()), "iree-compile") from error


@functools.cache
def _library() -> Any:
    """The compiler library with the signatures that IREE's wrapper leaves out."""
    from iree.compiler.api import ctypes_dl

    library = ctypes_dl._dylib  # pyright: ignore[reportPrivateUsage]
    for setter in ("From", "To"):
        function = getattr(library, f"ireeCompilerInvocationSetCompile{setter}Phase")
        function.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        function.restype = None
    return library


def _set_phases(invocation: Any, compile_from: str, compile_to: str) -> None:
    library = _library()
    pointer = invocation._inv_p
    library.ireeCompilerInvocationSetCompileFromPhase(pointer, require_phase(compile_from).encode())
    library.ireeCompilerInvocationSetCompileToPhase(pointer, require_phase(compile_to).encode())


@contextlib.contextmanager
def _errors_of(invocation: Any, name: str) -> Generator[Callable[[], None]]:
    """Collects IREE's errors; the function it gives raises the first as `HostCompilationError`."""
    errors: list[str] = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)

    def receive(severity: int, text: int, size: int, _: Any) -> None:
        if severity == _ERROR_SEVERITY:
            errors.append(ctypes.string_at(text, size).decode("utf-8", "replace").split("\n")[0])

    def fail() -> None:
        raise HostCompilationError(
            errors[0] if errors else "no diagnostic", f"iree-compile: {name}"
        )

    callback = kind(receive)  # must outlive the calls that may report
    enable = _library().ireeCompilerInvocationEnableCallbackDiagnostics
    enable.argtypes = [ctypes.c_void_p, ctypes.c_int, kind, ctypes.c_void_p]
    enable.restype = None
    enable(invocation._inv_p, 0, callback, None)  # no flags, no user data
    yield fail
