"""The files of a package, from an image, its kernels and its golden vectors.

Before:  a linked image for a board
After:   path → bytes of a folder that CMake, Arduino, PlatformIO and Zephyr can build: C99 sources,
         one archive of kernels, examples, golden vectors, and a manifest that names and hashes all

Equal inputs and tool versions give equal bytes. Nothing depends on a folder, a date or a host.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib import metadata, resources
from typing import Any

from tiny_targets.boards import Board
from tiny_targets.c_api import C_TYPES, result_of
from tiny_targets.c_source import c_name, render_constants, render_portable
from tiny_targets.codegen import CompiledKernels
from tiny_targets.firmware import MANIFEST, Image, entry_point, runtime_text
from tiny_targets.package.golden import Golden
from tiny_targets.package.object_file import for_package, unique_query
from tiny_targets.provenance import TOOLS, Origin, provenance
from tiny_targets.state_layout import blob_bytes
from tiny_targets.toolchain import archive

RUNTIME_SOURCES = ("tiny_runtime.c", "tiny_state.c", "tiny_store.c", "tiny_guard.c")
RUNTIME_HEADERS = ("tiny_runtime.h", "tiny_state.h", "tiny_store.h", "tiny_guard.h")
FORMAT = 1
_COPIED = (
    "CMakeLists.txt",
    "README.md",
    "cmake/gcc.cmake",
    "examples/bare_metal/CMakeLists.txt",
    "examples/bare_metal/entry.c",
    "examples/self_test/self_test.c",
    "examples/sketch/sketch.ino",
    "library.json",
    "library.properties",
    "link_kernels.py.in",
    "zephyr/CMakeLists.txt",
    "zephyr/Kconfig",
    "zephyr/module.yml",
)
_TRAINING_ONLY = ("examples/learn/learn.c",)
# A script of another program's language, which no linter of this project should read.
_SCRIPT = ".in"
_FIELD = re.compile(r"@(\w+)@")


def package_files(
    image: Image, compiled: CompiledKernels, golden: Golden, origin: Origin
) -> dict[str, bytes]:
    """Path in the package → its bytes."""
    schedule = image.schedule
    name = c_name(schedule.model)
    query = unique_query(compiled.object_file)
    constants = f"{name}_constants"
    source = render_portable(schedule, constants, query)
    kernels = archive({f"{name}_kernels.o": for_package(compiled.object_file, query)})
    target = image.board.target.name
    files = {
        f"src/{name}.h": source.header.encode(),
        f"src/{name}.c": source.source.encode(),
        f"src/{constants}.c": render_constants(schedule, constants).encode(),
        **{f"src/{n}": runtime_text(n).encode() for n in (*RUNTIME_HEADERS, *RUNTIME_SOURCES)},
        f"src/{target}/lib{name}_kernels.a": kernels,
        **{f"golden/{n}": data for n, data in golden.files(name).items()},
        "examples/bare_metal/start.c": runtime_text("start.c").encode(),
        "examples/bare_metal/board.ld": image.linker_script.encode(),
        **_templates(image, golden, name),
    }
    files = dict(sorted(files.items()))
    manifest = _manifest(image, golden, origin, files)
    return {**files, MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()}


@cache
def _template(path: str) -> str:
    return (resources.files("tiny_targets.package") / "templates" / path).read_text()


def _fill(text: str, fields: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda match: fields[match[1]], text)


def _templates(image: Image, golden: Golden, name: str) -> dict[str, bytes]:
    fields = _fields(image, golden, name)
    paths = (*_COPIED, *(_TRAINING_ONLY if _trains(image) else ()))
    filled = {path: _fill(_template(path), fields).encode() for path in paths}
    return {path.removesuffix(_SCRIPT): text for path, text in filled.items()}


def _trains(image: Image) -> bool:
    return "train_step" in image.schedule.functions


def _fields(image: Image, golden: Golden, name: str) -> dict[str, str]:
    """What stands for `@field@` in the templates."""
    board, schedule, sizes = image.board, image.schedule, image.sizes
    sources = [f"src/{name}.c", f"src/{name}_constants.c", *(f"src/{n}" for n in RUNTIME_SOURCES)]
    headers = [f"src/{name}.h", *(f"src/{n}" for n in RUNTIME_HEADERS)]
    purpose = "learns on the device" if _trains(image) else "inference only"
    fields = {
        "name": name,
        "NAME": name.upper(),
        "model": name,
        "version": metadata.version(TOOLS[0]),
        "sentence": f"The network {name}, int8; {purpose}",
        "board": board.name,
        "target": board.target.name,
        "description": board.target.description,
        "gnu_prefix": board.target.gnu_prefix,
        "gnu_flags": " ".join(board.target.gnu_flags),
        "entry": entry_point(board),
        "sources": " ".join(sources),
        "headers": " ".join(headers),
        "examples": "self_test learn" if _trains(image) else "self_test",
        "zephyr_depends": _zephyr_depends(image),
        "arena_place": _place(board, ".arena"),
        "state_place": _place(board, ".state"),
        "arena": str(schedule.arena_bytes),
        "state": str(schedule.state_bytes),
        "blob": str(blob_bytes(schedule)) if schedule.state else "0",
        "stack": str(golden.stack_bytes),
        "flash": str(sizes.flash),
    }
    return {**fields, **_program_fields(image, fields)}


def _place(board: Board, section: str) -> str:
    """Where SRAM is in pieces, what the linker script needs to fill them one by one."""
    return f', section("{section}")' if board.more_sram else ""


def _zephyr_depends(image: Image) -> str:
    target = image.board.target
    if target.isa == "riscv":
        return "depends on RISCV"
    return f"depends on CPU_{target.name.upper().replace('-', '_')} && FPU"


def _program_fields(image: Image, fields: Mapping[str, str]) -> dict[str, str]:
    """The parts of the example programs that depend on whether the model learns."""
    infer = image.schedule.functions["infer"]
    made = {"logits_type": C_TYPES[result_of(infer, "logits").element]}
    if not _trains(image):
        memory, numbers, training, calls, loop = "", "", "", "", "infer"
    else:
        memory = "static uint8_t blob[@NAME@_BLOB_BYTES];\n"
        numbers = "   3 losses   4 saved state   5 restore"
        training = _template("self_test_training.c")
        calls = "".join(
            f"    if (wrong_{check}()) return {number};\n"
            for number, check in ((3, "losses"), (4, "state"), (5, "restore"))
        )
        loop = "train"
    parts = {
        "self_test_memory": memory,
        "self_test_numbers": numbers,
        "self_test_training": training,
        "self_test_calls": calls,
        "sketch_loop": _template(f"sketch_{loop}{'_rows' if infer.stream else ''}.txt"),
        "sketch_sample": _template("sketch_rows.txt" if infer.stream else "sketch_sample.txt"),
    }
    return made | {key: _fill(text, {**fields, **made}) for key, text in parts.items()}


def _manifest(
    image: Image, golden: Golden, origin: Origin, files: Mapping[str, bytes]
) -> dict[str, Any]:
    schedule = image.schedule
    return {
        "format": FORMAT,
        "name": c_name(schedule.model),
        "model_hash": f"{schedule.model_hash:016x}",
        "board": image.board.to_record(),
        "bytes": {
            "arena": schedule.arena_bytes,
            "state": schedule.state_bytes,
            "saved_state": blob_bytes(schedule) if schedule.state else 0,
            "stack_used": golden.stack_bytes,
            "stack_bounds": image.stack_bounds,
        },
        "image": asdict(image.sizes),
        **provenance(origin, files),
    }
