"""Link a schedule and its kernels into an image for one board, and account for every byte of it.

SRAM from the bottom: stack, state, arena, data. An overflowing stack so leaves the SRAM and faults,
rather than corrupting what was learned; `sram_layout` divides them where SRAM is in pieces. Flash:
vectors, code, read-only data, constants.
"""

import io
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tiny_dialect.errors import DoesNotFit, InvalidModel, InvalidOption
from tiny_targets.boards import Board
from tiny_targets.c_source import CONSTANTS_FILE, CSource, render, render_device
from tiny_targets.codegen import CompiledKernels
from tiny_targets.image_stack import image_stack_bounds, require_stack
from tiny_targets.manifest_reader import read_manifest
from tiny_targets.provenance import Origin, provenance
from tiny_targets.schedule import Schedule
from tiny_targets.sram_layout import (
    ARENA,
    PROGRAM,
    STATE,
    SramLayout,
    choose_layout,
    single_region,
    sram_sections,
)
from tiny_targets.toolchain import compile_object, link

STACK_BYTES = 2048
MANIFEST = "manifest.json"
ELF_FILE = "firmware.elf"
_HEADERS = ("tiny_runtime.h", "tiny_state.h")
_RUNTIME = (*_HEADERS, "tiny_runtime.c", "tiny_state.c", "start.c")


@dataclass(frozen=True)
class Sizes:
    """Bytes of an image."""

    code: int
    rodata: int
    weights: int
    """Constants: frozen weights, tables, initial values."""
    arena: int
    trainable: int
    data_bss: int
    stack: int
    """Reserved; at most `Image.stack_bounds` of it is used."""

    @property
    def sram(self) -> int:
        """All of SRAM that is taken."""
        return self.arena + self.trainable + self.data_bss + self.stack

    @property
    def flash(self) -> int:
        """All of flash that is taken."""
        return self.code + self.rodata + self.weights


@dataclass(frozen=True)
class Image:
    """A linked program for a board, with what is needed to run and to read it."""

    elf: bytes
    schedule: Schedule
    board: Board
    sizes: Sizes
    linker_script: str = ""
    """What it was linked by; empty for an image that was read back."""
    stack_bounds: Mapping[str, int] = field(default_factory=dict)
    """Bytes of stack that `init` and each function need at most; none in an image read back."""


@cache
def runtime_text(name: str) -> str:
    """A file of the runtime in C."""
    return (resources.files("tiny_targets") / "runtime" / name).read_text()


def build_image(
    schedule: Schedule,
    compiled: CompiledKernels,
    board: Board,
    out_dir: Path | None = None,
    *,
    stack_bytes: int = STACK_BYTES,
    origin: Origin | None = None,
    companions: Mapping[str, bytes] | None = None,
) -> Image:
    """The image of `schedule` with its kernels for `board`; equal inputs give equal bytes.

    Into `out_dir`, where given, go the ELF, its manifest, the generated C, the runtime, the
    kernels' object, the constants and the `companions`; nothing is left there on failure. The
    manifest says what all that was made from (`origin`) and with. Raises `DoesNotFit` with the
    bytes missing, and where the stack can need more than `stack_bytes`.
    """
    if compiled.target != board.target:
        have, want = compiled.target.name, board.target.name
        raise InvalidOption(f"kernels for {have} do not run on {board.name}, a {want}")
    if stack_bytes <= 0 or stack_bytes % 16:
        raise InvalidOption(
            f"expects a stack of a positive multiple of 16 bytes, got {stack_bytes}"
        )
    _require_sram(schedule, board, schedule.arena_bytes + schedule.state_bytes + stack_bytes)
    source = render(schedule)
    objects = {
        "kernels.o": compiled.object_file,
        **_objects(schedule, source, board),
    }
    image = _linked(schedule, board, objects, stack_bytes)
    _require_flash(image)
    bounds = image_stack_bounds(image.elf, schedule, compiled.ordinals)
    require_stack(bounds, schedule, stack_bytes)
    image = replace(image, stack_bounds={name: one.bytes for name, one in bounds.items()})
    if out_dir is not None:
        files = {**_files(image, source, compiled), **(companions or {})}
        _write(out_dir, image, files, origin or Origin())
    return image


def _linked(schedule: Schedule, board: Board, objects: dict[str, bytes], stack_bytes: int) -> Image:
    """The image; where SRAM is in pieces it is linked again once all sizes are known."""
    first = single_region(board)
    image = _link(schedule, board, objects, stack_bytes, first)
    layout = _layout(schedule, board, image.sizes)
    return image if layout == first else _link(schedule, board, objects, stack_bytes, layout)


def _link(
    schedule: Schedule,
    board: Board,
    objects: dict[str, bytes],
    stack_bytes: int,
    layout: SramLayout,
) -> Image:
    script = linker_script(board, stack_bytes, layout)
    elf = link(board.target, objects, script, entry_point(board))
    return Image(elf, schedule, board, measure(elf, stack_bytes), script)


def _layout(schedule: Schedule, board: Board, sizes: Sizes) -> SramLayout:
    """Where everything fits; raises `DoesNotFit` where it does not."""
    _require_sram(schedule, board, sizes.sram)
    if not board.more_sram:
        return single_region(board)
    # Sections begin at multiples of 16.
    program = sizes.stack + sizes.data_bss
    needed = {PROGRAM: program, STATE: sizes.trainable, ARENA: sizes.arena}
    layout = choose_layout(board, {name: -(-size // 16) * 16 for name, size in needed.items()})
    if layout is None:
        regions = " and ".join(_kib(region.size) for region in board.sram_regions)
        raise DoesNotFit(
            f"needs {_kib(sizes.sram)} of SRAM; {board.name} has {regions}, which do not join: "
            f"neither arena {_kib(sizes.arena)} nor trainable {_kib(sizes.trainable)} can be cut; "
            "choose a smaller scheme, --stream-input, or a board with one region"
        )
    return layout


def entry_point(board: Board) -> str:
    """The symbol that the reset of `board` runs."""
    return "device_start" if board.target.isa == "arm" else "device_reset"


def _objects(schedule: Schedule, source: CSource, board: Board) -> dict[str, bytes]:
    headers = {name: runtime_text(name).encode() for name in _HEADERS}
    model_files = {
        **headers,
        f"{source.prefix}.h": source.header.encode(),
        CONSTANTS_FILE: schedule.constants,
    }
    device = render_device(schedule, source.prefix)
    target = board.target
    return {
        "start.o": compile_object(target, runtime_text("start.c")),
        "tiny_runtime.o": compile_object(target, runtime_text("tiny_runtime.c"), files=headers),
        "tiny_state.o": compile_object(target, runtime_text("tiny_state.c"), files=headers),
        "model.o": compile_object(target, source.source, files=model_files),
        "device.o": compile_object(target, device, files=model_files),
    }


def linker_script(board: Board, stack_bytes: int, layout: SramLayout | None = None) -> str:
    """The linker script; sizes are checked after the link, where the message can say more.

    Without a `layout` all of SRAM's contents are in its first region. Start-up code leaves
    `.persistent` alone.
    """
    flash, constants = board.flash, board.constants
    sram = sram_sections(board, layout or single_region(board), stack_bytes)
    constants_start = "" if constants == flash else f"  . = 0x{constants.base:08X};\n"
    return f"""\
SECTIONS {{
  . = 0x{flash.base:08X};
  .text : {{ KEEP(*(.vectors)) KEEP(*(.text.device_*)) *(.text .text.*) }}
  . = ALIGN(16);
{constants_start}\
  .rodata : {{
    *(.rodata .rodata.* .srodata .srodata.*)
    *(.data.rel.ro .data.rel.ro.*)
    . = ALIGN(16);
  }}
  .constants : {{ *(.constants) . = ALIGN(16); }}
  __data_load = .;
{sram}\
  /DISCARD/ : {{ *(.ARM.exidx*) *(.eh_frame*) *(.comment) *(.note*) }}
}}
"""


def measure(elf: bytes, stack_bytes: int) -> Sizes:
    """The sizes of a linked image, from its sections."""
    from elftools.elf.elffile import ELFFile

    file = ELFFile(io.BytesIO(elf))
    sizes = {section.name: int(section["sh_size"]) for section in file.iter_sections()}
    return Sizes(
        code=sizes.get(".text", 0),
        rodata=sizes.get(".rodata", 0) + sizes.get(".data", 0),
        weights=sizes.get(".constants", 0),
        arena=sizes.get(".arena", 0),
        trainable=sizes.get(".state", 0),
        data_bss=sizes.get(".data", 0) + sizes.get(".bss", 0),
        stack=stack_bytes,
    )


def _kib(size: int) -> str:
    return f"{size / 1024:.1f} KiB"


def _require_sram(schedule: Schedule, board: Board, needed: int) -> None:
    excess = needed - board.sram_bytes
    if excess <= 0:
        return
    peaks = {name: function.peak for name, function in schedule.functions.items() if function.peak}
    peak = peaks.get("train_step") or next(iter(peaks.values()), "")
    where = f", which peaks at {peak}" if peak else ""
    raise DoesNotFit(
        f"needs {_kib(needed)} of SRAM, {excess} bytes more than the {_kib(board.sram_bytes)} "
        f"of {board.name}: arena {_kib(schedule.arena_bytes)}{where}, trainable "
        f"{_kib(schedule.state_bytes)}; choose a smaller scheme, model or a larger board"
    )


def _require_flash(image: Image) -> None:
    # A second window shows the same flash again, so it adds no room.
    sizes, board = image.sizes, image.board
    excess = sizes.flash - min(board.flash.size, board.constants.size)
    if excess > 0:
        raise DoesNotFit(
            f"needs {_kib(sizes.flash)} of flash, {excess} bytes more than the "
            f"{_kib(board.flash.size)} of {board.name}: code {_kib(sizes.code)}, read-only data "
            f"{_kib(sizes.rodata)}, weights {_kib(sizes.weights)}; "
            "choose a smaller model or a larger board"
        )


def _files(image: Image, source: CSource, compiled: CompiledKernels) -> dict[str, bytes]:
    """All that goes into a folder, without the manifest."""
    device = render_device(image.schedule, source.prefix)
    files = {
        ELF_FILE: image.elf,
        f"{source.prefix}.h": source.header.encode(),
        f"{source.prefix}.c": source.source.encode(),
        "device.c": device.encode(),
        "firmware.ld": image.linker_script.encode(),
        "kernels.o": compiled.object_file,
        CONSTANTS_FILE: image.schedule.constants,
        **{name: runtime_text(name).encode() for name in _RUNTIME},
    }
    if compiled.embedded_elf is not None:
        files["kernels.elf"] = compiled.embedded_elf
    return files


def _write(folder: Path, image: Image, files: Mapping[str, bytes], origin: Origin) -> None:
    manifest = {
        "board": image.board.to_record(),
        "sizes": asdict(image.sizes),
        "stack_bounds": image.stack_bounds,
        "schedule": image.schedule.manifest(),
        **provenance(origin, files),
    }
    written = {**files, MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()}
    with _all_or_nothing(folder) as write:
        for name, data in written.items():
            write(folder / name, data)


@contextmanager
def _all_or_nothing(folder: Path) -> Generator[Any]:
    """Writing that takes back its files where one of them fails."""
    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        written.append(path)
        path.write_bytes(data)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield write
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise InvalidOption(error.strerror or str(error), str(error.filename or folder)) from error


def load_image(folder: Path) -> Image:
    """The image that `build_image` wrote to `folder`.

    Raises `InvalidModel` naming the file and the field where it is damaged or not one.
    """
    manifest = read_manifest(folder / MANIFEST, tuple(field.name for field in fields(Sizes)))
    path = folder / ELF_FILE
    try:
        elf = path.read_bytes()
    except OSError as error:
        raise InvalidModel(error.strerror or str(error), str(path)) from error
    manifest.require_described(path, elf)
    return Image(elf, manifest.schedule, manifest.board, Sizes(**manifest.sizes))
