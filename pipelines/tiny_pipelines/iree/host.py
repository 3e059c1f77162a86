"""From a tiny module to code for the host's CPU.

The default CPU is a fixed one, not the machine's own, so that the same module gives the same bits
on every machine of an architecture: `x86-64-v3` (AVX2 and FMA) on x86-64, `generic` elsewhere.
Integer results do not depend on the CPU at all; float sums do, in their last bits, because
fused multiply-add and the vector width change the rounding and order of sums.
"""

import platform
from importlib.metadata import version
from typing import Any

from tiny_dialect.dialect import to_bytecode
from tiny_pipelines.iree.compiler import HostCompilationError, compile_bytecode
from tiny_targets.cache import cached, digest

# Matrix products in tiled layouts: twice as fast, but IREE refuses a few shapes so.
_DATA_TILING = ("--iree-global-opt-data-tiling=true",)
_X86_NAMES = ("x86_64", "AMD64", "amd64")


def default_cpu() -> str:
    """The LLVM name of the CPU that host code is compiled for by default."""
    return "x86-64-v3" if platform.machine() in _X86_NAMES else "generic"


def _flags(cpu: str) -> list[str]:
    return [
        "--iree-hal-target-device=local",
        "--iree-hal-local-target-device-backends=llvm-cpu",
        f"--iree-llvmcpu-target-cpu={cpu}",
        "--iree-input-type=none",
        "--iree-llvmcpu-debug-symbols=false",
        "--iree-hal-executable-debug-level=0",
        "--iree-llvmcpu-reassociate-fp-reductions=false",
    ]


def compile_host(module: Any, *, cpu: str | None = None, flags: tuple[str, ...] = ()) -> bytes:
    """The IREE VM module (`.vmfb`) of a tiny module; the module itself is left as it is.

    What was compiled before comes from the cache (`tiny_targets.cache`). `cpu` is an LLVM CPU name,
    or `host` for this machine's; `flags` are further iree-compile flags.
    Raises `PassError` where the module cannot be lowered, `HostCompilationError` where IREE fails.
    """
    from tiny_dialect.bindings import ir
    from tiny_passes.registry import run_pipeline

    with module.context, module.operation.location:
        copy = ir.Module.parse(to_bytecode(module))
        run_pipeline(copy, "tiny-lower-to-linalg")
    all_flags = (*_flags(cpu or default_cpu()), *flags)
    bytecode = to_bytecode(copy)
    if cpu == "host":  # means another CPU on another machine, which may share the cache
        return _compile_tiled(bytecode, all_flags)
    key = digest(version("iree-base-compiler"), *all_flags, *_DATA_TILING, bytecode)
    return cached("host", key, lambda: _compile_tiled(bytecode, all_flags))


def _compile_tiled(bytecode: bytes, flags: tuple[str, ...]) -> bytes:
    """`compile_bytecode` with data tiling where IREE manages it, else without."""
    try:
        return compile_bytecode(bytecode, (*flags, *_DATA_TILING))
    except HostCompilationError:
        return compile_bytecode(bytecode, flags)
