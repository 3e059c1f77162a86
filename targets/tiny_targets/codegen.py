"""Turn kernels into machine code: one `hal.executable.source`, one export a kernel, through IREE.

The only file here that knows IREE. Kernels arrive as upstream MLIR text; each body is moved into an
exported function whose arguments are the bindings of a dispatch. Two forms come out: a static
object with one section a function for the firmware's link, and an embedded ELF that `resolve`
places at a flash address.
"""

import ctypes
import os
import re
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_dialect.errors import TinyError
from tiny_targets.cache import cached, digest
from tiny_targets.kernels.kernel import Kernel
from tiny_targets.target import Target

LIBRARY = "kernels"
QUERY_SYMBOL = f"{LIBRARY}_library_query"
STACK_LIMIT = "2kib"

_COMMON_FLAGS = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-debug-symbols=false",
    "--iree-hal-executable-debug-level=0",
    "--iree-llvmcpu-reassociate-fp-reductions=false",
    f"--iree-llvmcpu-stack-allocation-limit={STACK_LIMIT}",
)
_HARMLESS = "Resolution of CPU to CPU-features is not implemented"
_STANDARD_ERROR_LOCK = threading.Lock()


class CodegenError(TinyError):
    """A kernel that does not compile; the place is the kernel's name."""


@dataclass(frozen=True)
class CompiledKernels:
    """The machine code of a set of kernels for one target."""

    target: Target
    ordinals: dict[str, int]
    """Kernel name → index into the library's export table."""
    object_file: bytes
    """Relocatable; its one global symbol is `kernels_library_query`."""
    embedded_elf: bytes | None = None
    """Position independent up to relative relocations, see `resolve` in `embedded.py`."""


def compile_kernels(
    kernels: Sequence[Kernel], target: Target, *, embedded: bool = False
) -> CompiledKernels:
    """Machine code of `kernels`, deduplicated by name, in the order of first occurrence.

    With `embedded` the embedded ELF besides. Raises `CodegenError` naming the kernel at fault.
    """
    unique = list({kernel.name: kernel for kernel in kernels}.values())
    object_file = _cached_build(unique, target, static=True)
    elf = _cached_build(unique, target, static=False) if embedded else None
    ordinals = {kernel.name: index for index, kernel in enumerate(unique)}
    return CompiledKernels(target, ordinals, object_file, elf)


def _cached_build(kernels: Sequence[Kernel], target: Target, *, static: bool) -> bytes:
    from iree.compiler import version

    # This file says what goes around the kernels, so it is part of the key.
    wrapping = Path(__file__).read_text()
    flags = (wrapping, *_COMMON_FLAGS, *target.iree_flags, f"static={static}")
    texts = [
        part
        for kernel in kernels
        for part in (kernel.name, kernel.text, *kernel.accesses, str(kernel.steps))
    ]
    key = digest(version.VERSION, str(len(flags)), *flags, *texts)
    return cached("kernels", key, lambda: _build(kernels, target, static=static))


def _build(kernels: Sequence[Kernel], target: Target, *, static: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        if not static:
            return _compile(kernels, [*target.iree_flags, *_embedded_flags(Path(folder))])
        path = Path(folder) / "kernels.o"
        flags = [
            "--iree-llvmcpu-link-embedded=false",
            "--iree-llvmcpu-link-static",
            f"--iree-llvmcpu-static-library-output-path={path}",
        ]
        _compile(kernels, [*target.iree_flags, *flags])
        return path.read_bytes()


def _embedded_flags(folder: Path) -> list[str]:
    """Flags of an embedded ELF whose segments lie side by side: flash has no 64 KB pages."""
    from iree.compiler import _mlir_libs

    linker = Path(str(_mlir_libs.__file__)).parent / "iree-lld"
    wrapper = folder / "linker"
    layout = "-z max-page-size=4 -z norelro -z noseparate-code"
    wrapper.write_text(f'#!/bin/sh\nexec "{linker}" "$@" {layout}\n')
    wrapper.chmod(0o755)
    return ["--iree-llvmcpu-link-embedded=true", f"--iree-llvmcpu-embedded-linker-path={wrapper}"]


def _compile(kernels: Sequence[Kernel], flags: Sequence[str]) -> bytes:
    """The HAL executable of `kernels`; for static output a name only, the object is in its file."""
    ir = _ir()
    from iree.compiler.api import Output, Session
    from iree.compiler.api.ctypes_dl import PipelineType

    diagnostics: list[Any] = []

    def collect(diagnostic: Any) -> bool:
        if _HARMLESS not in diagnostic.message:
            diagnostics.append((str(diagnostic.location), diagnostic.message))
        return True

    session = Session()
    session.set_flags(*_COMMON_FLAGS, *flags)
    with _quiet_standard_error() as printed, session.context as context, ir.Location.unknown():
        context.attach_diagnostic_handler(collect)
        module = _executable(kernels)
        invocation = session.invocation()
        invocation.import_module(module.operation)
        if not invocation.execute(PipelineType.IREE_COMPILER_PIPELINE_HAL_EXECUTABLE):
            raise _failure(kernels, diagnostics, printed())
        output = Output.open_membuffer()
        _write_executable(invocation, output)
        return bytes(output.map_memory())


def _ir() -> Any:
    """IREE's own MLIR bindings; only text and bytes pass between them and the project's."""
    from iree.compiler import ir

    return ir


def _write_executable(invocation: Any, output: Any) -> None:
    """The one entry point of the compiler's C interface that its Python layer does not wrap."""
    from iree.compiler.api import ctypes_dl

    library: Any = ctypes_dl._dylib  # pyright: ignore[reportPrivateUsage]
    function = library.ireeCompilerInvocationOutputHALExecutable
    function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]
    error = function(invocation._inv_p, output._output_p)
    ctypes_dl._handle_error(error)  # pyright: ignore[reportPrivateUsage]


def _failure(
    kernels: Sequence[Kernel], diagnostics: Sequence[tuple[str, str]], printed: str
) -> CodegenError:
    """The error of a failed compilation: the kernel at fault and the reason."""
    text = "\n".join(f"{place} {message}" for place, message in diagnostics) + "\n" + printed
    culprit = next((k.name for k in kernels if re.search(rf"\b{re.escape(k.name)}\b", text)), "")
    undefined = re.search(r"undefined symbol: (\S+)", printed)
    if undefined:
        return CodegenError(
            f"needs {undefined[1]}, which an embedded executable cannot link", culprit
        )
    message = diagnostics[0][1].splitlines()[0] if diagnostics else printed.strip().split("\n")[0]
    return CodegenError(message or "compilation failed", culprit)


@contextmanager
def _quiet_standard_error() -> Generator[Any]:
    """Hold back what native code prints; the value yields it, for the error message."""
    sys.stderr.flush()
    with _STANDARD_ERROR_LOCK, tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)

        def printed() -> str:
            file.seek(0)
            lines = file.read().decode(errors="replace").splitlines()
            return "\n".join(line for line in lines if _HARMLESS not in line)

        try:
            yield printed
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _executable(kernels: Sequence[Kernel]) -> Any:
    """The module of one executable with one export for each of `kernels`, bodies in place."""
    ir = _ir()

    parsed = [_parse(kernel) for kernel in kernels]
    shells = []
    exports = []
    for ordinal, (kernel, (_, function)) in enumerate(zip(kernels, parsed, strict=True)):
        types = [str(argument.type) for argument in function.regions[0].blocks[0].arguments]
        exports.append(_export(kernel, ordinal))
        shells.append(_shell(kernel, types))
    text = (
        f"hal.executable.source public @{LIBRARY} {{\n{''.join(exports)}"
        f"builtin.module {{\n{''.join(shells)}}}\n}}\n"
    )
    module = ir.Module.parse(text)
    source = module.body.operations[0]
    inner = next(op for op in source.regions[0].blocks[0] if op.operation.name == "builtin.module")
    shell_functions = list(inner.operation.regions[0].blocks[0].operations)
    for (_, function), shell in zip(parsed, shell_functions, strict=True):
        _move_body(function, shell)
    return module


def _parse(kernel: Kernel) -> tuple[Any, Any]:
    """(the parsed module, its one function); the kernel's name is the file in every location."""
    ir = _ir()

    try:
        owner = ir.Operation.parse(kernel.text, source_name=kernel.name).operation
    except ir.MLIRError as error:
        first = error.error_diagnostics[0] if error.error_diagnostics else None
        place = str(first.location)[4:-1].replace('"', "") if first else kernel.name
        raise CodegenError(first.message if first else str(error), place) from error
    functions = (
        [owner] if owner.name == "func.func" else list(owner.regions[0].blocks[0].operations)
    )
    function = functions[0].operation
    if len(functions) != 1 or ir.StringAttr(function.attributes["sym_name"]).value != kernel.name:
        raise CodegenError("expects exactly one function of the kernel's own name", kernel.name)
    blocks = list(function.regions[0].blocks)
    if len(blocks) != 1 or len(blocks[0].arguments) != len(kernel.accesses):
        raise CodegenError(
            f"expects one block and {len(kernel.accesses)} arguments, one an access", kernel.name
        )
    return owner, function


def _layout(kernel: Kernel) -> str:
    flags = {"read": ", ReadOnly", "write": "", "read_write": ""}
    bindings = ", ".join(
        f"#hal.pipeline.binding<storage_buffer{flags[access]}>"
        for access in kernel.accesses
        if access in flags
    )
    return f"#hal.pipeline.layout<bindings = [{bindings}]>"


def _export(kernel: Kernel, ordinal: int) -> str:
    return (
        f"hal.executable.export public @{kernel.name} ordinal({ordinal}) layout({_layout(kernel)}) "
        "count(%device: !hal.device) -> (index, index, index) {\n"
        f"  %steps = arith.constant {kernel.steps} : index\n  %c1 = arith.constant 1 : index\n"
        "  hal.return %steps, %c1, %c1 : index, index, index\n}\n"
    )


def _shell(kernel: Kernel, types: Sequence[str]) -> str:
    """The exported function without its body: one subspan an argument; a step is a workgroup."""
    layout = _layout(kernel)
    arguments, binding = "", 0
    for i, (type_, access) in enumerate(zip(types, kernel.accesses, strict=True)):
        if access == "step":
            arguments += f"  %{i} = hal.interface.workgroup.id[0] : {type_}\n"
            continue
        arguments += (
            f"  %{i} = hal.interface.binding.subspan layout({layout}) binding({binding}) "
            f"alignment(4) offset(%c0) : {type_}\n"
        )
        binding += 1
    attributes = (
        "translation_info = #iree_codegen.translation_info<pipeline = #iree_codegen.no_pipeline>"
    )
    return (
        f"func.func @{kernel.name}() attributes {{{attributes}}} {{\n"
        f'  %c0 = arith.constant 0 : index\n{arguments}  return\n}} loc("{kernel.name}")\n'
    )


def _move_body(function: Any, shell: Any) -> None:
    """Move the ops of `function` into `shell`, arguments replaced by what `_shell` put there."""
    block = function.regions[0].blocks[0]
    *head, end = list(shell.operation.regions[0].blocks[0].operations)
    for argument, subspan in zip(list(block.arguments), head[1:], strict=True):
        argument.replace_all_uses_with(subspan.operation.results[0])
    for op in list(block.operations)[:-1]:
        op.operation.move_before(end.operation)
