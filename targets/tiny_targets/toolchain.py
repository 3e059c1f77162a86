"""C compiler and linker from PyPI alone (`ziglang` is clang and lld), and the float-ABI check.

Objects are cached by content. The compiler's runtime library (soft float, 64-bit helpers) is built
from source for the exact CPU and handed to the linker like any other object, so nothing is linked
unseen.
"""

import ctypes
import io
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from tiny_dialect.errors import TinyError
from tiny_targets.cache import cache_root, cached, digest
from tiny_targets.target import Target

_STANDARDS = {".c": "-std=c99", ".cc": "-std=c++17"}
_C_FLAGS = (
    "-Os",
    "-ffreestanding",
    "-fno-sanitize=undefined",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-g0",
)
_RUNTIME_FLAGS = (
    "-OReleaseSmall",
    "-fstrip",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-stack-check",
    "-fno-unwind-tables",
)
_RISCV_FLOAT_ABI = 0x6


class ToolchainError(TinyError):
    """A tool of the build failed; the message holds its first error."""


@cache
def _zig() -> Path:
    try:
        import ziglang
    except ModuleNotFoundError as error:
        raise ToolchainError(
            "no C compiler: pip install 'tiny-training-compiler[emulate]'"
        ) from error
    return Path(ziglang.__file__).parent / "zig"


def _run(arguments: Sequence[str | Path], folder: Path) -> None:
    root = cache_root() or folder
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(root / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(root / "zig"),
    }
    command = [str(_zig()), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        errors = [line for line in lines if "error" in line] or lines or ["no message"]
        raise ToolchainError(f"{arguments[0]} failed: {errors[0]}")


@cache
def _zig_version() -> str:
    return subprocess.run(
        [str(_zig()), "version"], capture_output=True, text=True, check=True
    ).stdout


def compile_object(
    target: Target, source: str, suffix: str = ".c", files: Mapping[str, bytes] | None = None
) -> bytes:
    """The object file of C99 (`suffix` `.c`) or C++17 (`.cc`) text.

    `files` are put beside it under their names (headers, data for `.incbin`). Raises
    `ToolchainError`.
    """
    files = files or {}
    parts = [_zig_version(), target.zig_target, target.zig_cpu, *_C_FLAGS, suffix, source]
    for name, data in sorted(files.items()):
        parts += [name, digest(data)]

    def produce() -> bytes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file_name, data in files.items():
                (folder / file_name).write_bytes(data)
            # Relative names keep the folder out of the object.
            (folder / f"source{suffix}").write_text(source)
            flags = ["-target", target.zig_target, f"-mcpu={target.zig_cpu}", *_C_FLAGS, "-I."]
            _run(
                ["cc", _STANDARDS[suffix], *flags, "-c", f"source{suffix}", "-o", "object.o"],
                folder,
            )
            return (folder / "object.o").read_bytes()

    return cached("objects", digest(*parts), produce)


def archive(objects: Mapping[str, bytes]) -> bytes:
    """A static library of `objects` (name → bytes) with a symbol index; no dates, no owners."""
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        for name, data in objects.items():
            (folder / name).write_bytes(data)
        _run(["ar", "rcsD", "--format=gnu", "library.a", *objects], folder)
        return (folder / "library.a").read_bytes()


def host_library(source: str) -> ctypes.CDLL:
    """C text compiled for the machine the compiler runs on, and loaded."""

    def produce() -> bytes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "source.c").write_text(source)
            _run(["cc", "-O2", "-shared", "-fPIC", "-g0", "source.c", "-o", "library.so"], folder)
            return (folder / "library.so").read_bytes()

    library = cached("host", digest(_zig_version(), platform.platform(), source), produce)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.so"
        path.write_bytes(library)
        return ctypes.CDLL(str(path))


def runtime_library(target: Target) -> bytes:
    """The compiler's runtime routines for `target`, relocatable, one section a function."""

    def produce() -> bytes:
        source = _zig().parent / "lib" / "compiler_rt.zig"
        with tempfile.TemporaryDirectory() as name:
            flags = ["-target", target.zig_target, f"-mcpu={target.zig_cpu}", *_RUNTIME_FLAGS]
            _run(["build-obj", source, *flags, "-femit-bin=compiler_rt.o"], Path(name))
            return (Path(name) / "compiler_rt.o").read_bytes()

    key = digest(_zig_version(), target.zig_target, target.zig_cpu, *_RUNTIME_FLAGS)
    return cached("compiler_rt", key, produce)


def link(target: Target, objects: Mapping[str, bytes], script: str, entry: str) -> bytes:
    """The ELF of `objects` (name → bytes) and the runtime library, unused sections dropped.

    Raises `ToolchainError` where a symbol is missing or an object has another float ABI.
    """
    inputs = {**objects, "compiler_rt.o": runtime_library(target)}
    for name, data in inputs.items():
        require_float_abi(target, name, data)
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        for name, data in inputs.items():
            (folder / name).write_bytes(data)
        (folder / "script.ld").write_text(script)
        flags = [
            "-m",
            target.linker_emulation,
            "--gc-sections",
            "-z",
            "max-page-size=4",
            "--build-id=none",
            "--strip-debug",
        ]
        _run(
            ["ld.lld", *flags, f"--entry={entry}", "-T", "script.ld", *inputs, "-o", "image.elf"],
            folder,
        )
        return (folder / "image.elf").read_bytes()


def require_float_abi(target: Target, name: str, data: bytes) -> None:
    """Raise `ToolchainError` where the object `data` passes floats otherwise than `target` does."""
    found = _arm_hard_float(data) if target.isa == "arm" else _riscv_hard_float(data)
    if found is not None and found != target.hard_float:
        kinds = {True: "hard", False: "soft"}
        raise ToolchainError(
            f"{name} uses the {kinds[found]}-float ABI, "
            f"{target.name} the {kinds[target.hard_float]}-float ABI"
        )


@lru_cache(maxsize=16)
def _arm_hard_float(data: bytes) -> bool | None:
    """Whether VFP registers carry arguments; None for objects without code attributes.

    Kept, because the runtime library is linked to every image and has thousands of sections.
    """
    from elftools.elf.elffile import ELFFile

    section: Any = ELFFile(io.BytesIO(data)).get_section_by_name(".ARM.attributes")
    if section is None:
        return None
    tags: dict[str, object] = {}
    for vendor in section.iter_subsections():
        for scope in vendor.iter_subsubsections():
            tags |= {attribute.tag: attribute.value for attribute in scope.iter_attributes()}
    # A missing FPU with the hard-float label is the silent-wrong combination.
    return bool(tags.get("TAG_ABI_VFP_ARGS")) and bool(tags.get("TAG_FP_ARCH"))


def _riscv_hard_float(data: bytes) -> bool:
    from elftools.elf.elffile import ELFFile

    return bool(ELFFile(io.BytesIO(data)).header["e_flags"] & _RISCV_FLOAT_ABI)
