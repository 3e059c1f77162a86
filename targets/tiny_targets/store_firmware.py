"""A test program around a compiled image: the model with a store of what it learns, in flash.

Made from the folder of `tiny-compile`, its sources and kernels, and linked anew. The flash driver
in it talks to a small controller that `store_emulator` puts on the bus; what is read is read from
flash itself.
"""

from dataclasses import replace
from pathlib import Path

from tiny_dialect.errors import DoesNotFit, InvalidOption, TinyError
from tiny_targets.boards import Board, Programming
from tiny_targets.c_source import c_name
from tiny_targets.firmware import (
    MANIFEST,
    Image,
    entry_point,
    load_image,
    measure,
    runtime_text,
)
from tiny_targets.manifest_reader import read_manifest
from tiny_targets.toolchain import compile_object, link

CONTROLLER = 0x5FFF0000
"""Address of the controller: words for command, offset, address of the data, bytes, status."""
ERASE, PROGRAM = 1, 2
REFUSED = 100
"""Added to a status of the model, where it is the model that refuses."""

_RUNTIME = ("start", "tiny_runtime", "tiny_state", "tiny_store")
_PROGRAM = """\
#include "device.c"
#include "tiny_store.h"

static volatile uint32_t *const controller = (volatile uint32_t *)0x{controller:08x}u;

static int flash_command(uint32_t command, uint32_t offset, const void *data, uint32_t bytes) {{
    controller[1] = offset;
    controller[2] = (uint32_t)(uintptr_t)data;
    controller[3] = bytes;
    controller[0] = command;
    return (int)controller[4];
}}

static int flash_read(void *device, uint32_t offset, void *to, uint32_t bytes) {{
    tiny_copy(to, (const uint8_t *)device + offset, bytes);
    return 0;
}}

static int flash_erase(void *device, uint32_t offset) {{
    (void)device;
    return flash_command({erase}u, offset, NULL, 0);
}}

static int flash_program(void *device, uint32_t offset, const void *from, uint32_t bytes) {{
    (void)device;
    return flash_command({program}u, offset, from, bytes);
}}

static const tiny_flash_t flash = {{flash_read, flash_erase, flash_program, (void *)0x{region:08x}u,
    {page_bytes}u, {page_count}u, {program_bytes}u, 0x{erased:02x}u}};
static const uint32_t model_hash[2] = {upper}_MODEL_HASH;
static tiny_store_t store;

int device_store_open(void);
int device_store_open(void) {{
    int status = (int)tiny_store_open(&store, &flash, model_hash, {upper}_BLOB_BYTES);
    if (status) return status;
    status = (int){prefix}_restore_from(&model, tiny_store_read, &store, {upper}_BLOB_BYTES);
    return status ? {refused} + status : 0;
}}

int device_store_commit(void);
int device_store_commit(void) {{
    tiny_blob_t blob;
    int status = (int){prefix}_open(&model, &blob);
    if (status) return {refused} + status;
    return (int)tiny_store_commit(&store, tiny_blob_read, &blob);
}}
"""


def programming_of(board: Board) -> Programming:
    """How the flash of `board` is programmed; raises `InvalidOption` where its record has none."""
    if board.programming is None:
        raise InvalidOption(
            "the board's record lacks `programming` (page_bytes, program_bytes, erased, endurance)",
            board.name,
        )
    return board.programming


def region_base(board: Board, page_count: int) -> int:
    """The address of the store's region: the last pages of flash."""
    return board.flash.end - page_count * programming_of(board).page_bytes


def build_store_firmware(folder: Path, page_count: int) -> Image:
    """The image of a folder of `tiny-compile` with a store in the last `page_count` pages of flash.

    Raises `TinyError` where the folder lacks a file or one is damaged, and `DoesNotFit` where code
    and store do not fit the flash together.
    """
    image = load_image(folder)
    if "train_step" not in image.schedule.functions:
        raise InvalidOption("the image only infers, it has nothing to store", str(folder))
    board, prefix = image.board, c_name(image.schedule.model)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    missing = {"device.c", "kernels.o", "firmware.ld", f"{prefix}.c"} - set(files)
    if missing:
        raise TinyError(f"lacks {', '.join(sorted(missing))}; run tiny-compile again", str(folder))
    manifest = read_manifest(folder / MANIFEST, ())
    for name in sorted(set(files) & set(manifest.outputs)):
        manifest.require_described(folder / name, files[name])
    for name in ("tiny_store.h", "tiny_state.h", "tiny_runtime.h"):
        files[name] = runtime_text(name).encode()
    own = {name: data for name, data in files.items() if name.endswith((".h", ".c", ".bin"))}
    sources = {
        "device": _program_text(board, prefix, page_count),
        "model": files[f"{prefix}.c"].decode(),
        **{name: runtime_text(f"{name}.c") for name in _RUNTIME},
    }
    objects = {
        f"{name}.o": compile_object(board.target, text, files=own) for name, text in sources.items()
    }
    objects["kernels.o"] = files["kernels.o"]
    elf = link(board.target, objects, files["firmware.ld"].decode(), entry_point(board))
    made = replace(image, elf=elf, sizes=measure(elf, image.sizes.stack))
    room = board.flash.size - page_count * programming_of(board).page_bytes
    if made.sizes.flash > room:
        raise DoesNotFit(
            f"code and constants take {made.sizes.flash} bytes of flash, the store leaves {room}; "
            f"choose a larger board than {board.name}"
        )
    return made


def _program_text(board: Board, prefix: str, page_count: int) -> str:
    programming = programming_of(board)
    return _PROGRAM.format(
        controller=CONTROLLER,
        erase=ERASE,
        program=PROGRAM,
        refused=REFUSED,
        region=region_base(board, page_count),
        page_count=page_count,
        page_bytes=programming.page_bytes,
        program_bytes=programming.program_bytes,
        erased=programming.erased,
        prefix=prefix,
        upper=prefix.upper(),
    )
