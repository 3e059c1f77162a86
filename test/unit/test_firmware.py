"""Images: every byte accounted for, equal from any folder, refused where one does not fit."""

import dataclasses
import importlib.resources
import io
import json

import pytest
import small_network
from elftools.elf.elffile import ELFFile

from tiny_dialect.errors import DoesNotFit, InvalidOption, TinyError
from tiny_targets.boards import Region, find_board, generic_board
from tiny_targets.c_source import c_name, render
from tiny_targets.codegen import compile_kernels
from tiny_targets.firmware import build_image, load_image
from tiny_targets.schedule import build_schedule
from tiny_targets.target import TARGETS, find_target
from tiny_targets.toolchain import compile_object

M7 = find_target("cortex-m7")


@pytest.fixture(scope="module")
def planned():
    """(schedule, kernels) of the small network for the Cortex-M7."""
    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context

    with new_context(), ir.Location.unknown():
        schedule = build_schedule(small_network.planned(), M7)
    return schedule, compile_kernels(schedule.kernels, M7)


def symbols_of(elf):
    table = ELFFile(io.BytesIO(elf)).get_section_by_name(".symtab")
    return {symbol.name: symbol for symbol in table.iter_symbols()}


def test_sizes_account_for_all_of_sram_and_flash(planned):
    board = generic_board(M7)
    image = build_image(*planned, board)
    sizes, schedule = image.sizes, planned[0]
    assert sizes.arena == schedule.arena_bytes
    assert sizes.trainable == schedule.state_bytes
    assert len(schedule.constants) < sizes.weights < len(schedule.constants) + 32
    file = ELFFile(io.BytesIO(image.elf))
    held = [s for s in file.iter_sections() if s["sh_flags"] & 2]
    sram = sum(s["sh_size"] for s in held if s["sh_addr"] >= board.sram.base)
    flash = sum(s["sh_size"] for s in held if s["sh_addr"] < board.sram.base)
    assert sram <= sizes.sram < sram + 32
    assert flash <= sizes.flash < flash + 32
    assert sizes.data_bss < 64


def test_stack_lies_below_everything_else(planned):
    board = generic_board(M7)
    symbols = symbols_of(build_image(*planned, board, stack_bytes=1024).elf)
    assert symbols["__stack_bottom"]["st_value"] == board.sram.base
    assert symbols["__stack_top"]["st_value"] == board.sram.base + 1024
    state, arena = (symbols[name]["st_value"] for name in ("device_state", "device_arena"))
    assert arena > state >= board.sram.base + 1024


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_generated_sources_are_c99_and_cpp17(planned, target):
    schedule, _ = planned
    source = render(schedule)
    folder = importlib.resources.files("tiny_targets") / "runtime"
    files = {
        "tiny_runtime.h": (folder / "tiny_runtime.h").read_bytes(),
        "tiny_state.h": (folder / "tiny_state.h").read_bytes(),
        f"{source.prefix}.h": source.header.encode(),
        "constants.bin": schedule.constants,
    }
    runtime = [(folder / name).read_text() for name in ("tiny_runtime.c", "tiny_state.c")]
    for text in (source.source, *runtime):
        for suffix in (".c", ".cc"):
            assert compile_object(target, text, suffix, files)


@pytest.mark.parametrize(
    ("model", "name"),
    [("MCUNet-5fps", "mcunet_5fps"), ("5fps", "m5fps"), ("../x", "x"), ("", "model")],
)
def test_model_names_become_identifiers(model, name):
    assert c_name(model) == name


def test_sram_overflow_says_by_how_much_and_where(planned):
    board = dataclasses.replace(generic_board(M7), name="tiny", sram=Region(0x20000000, 4096))
    needed = planned[0].arena_bytes + planned[0].state_bytes + 8192
    reason = rf"{needed - 4096} bytes more than the 4.0 KiB of tiny.*peaks at \S+"
    with pytest.raises(DoesNotFit, match=reason):
        build_image(*planned, board, stack_bytes=8192)


def test_flash_overflow_says_by_how_much(planned, tmp_path):
    flash = Region(0x08000000, 4096)
    board = dataclasses.replace(generic_board(M7), flash=flash, constants=flash)
    with pytest.raises(DoesNotFit, match=r"of flash, \d+ bytes more than the 4.0 KiB"):
        build_image(*planned, board, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_kernels_and_stacks_are_refused(planned):
    with pytest.raises(
        InvalidOption, match=r"kernels for cortex-m7 do not run on esp32-c3, a rv32imc"
    ):
        build_image(*planned, find_board("esp32-c3"))
    with pytest.raises(InvalidOption, match="multiple of 16"):
        build_image(*planned, generic_board(M7), stack_bytes=100)


def test_image_is_the_same_from_any_folder(planned, tmp_path, monkeypatch):
    images = []
    for folder in ("a", "b/c"):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.setenv("TINY_CACHE", str(tmp_path / folder / "cache"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / folder))
        images.append(build_image(*planned, generic_board(M7), tmp_path / folder / "out").elf)
    assert images[0] == images[1]
    first, second = tmp_path / "a/out", tmp_path / "b/c/out"
    written = sorted(path.name for path in first.iterdir())
    assert written == sorted(path.name for path in second.iterdir())
    for name in written:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_written_image_loads_again(planned, tmp_path):
    image = build_image(*planned, find_board("stm32f746"), tmp_path)
    again = load_image(tmp_path)
    assert (again.elf, again.board, again.sizes) == (image.elf, image.board, image.sizes)
    assert again.schedule.functions == image.schedule.functions


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(TinyError, match="No such file"):
        load_image(tmp_path)
    (tmp_path / "firmware.elf").write_bytes(b"")
    for text in ("{", json.dumps({"board": 1}), "[]"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(TinyError, match="manifest"):
            load_image(tmp_path)
