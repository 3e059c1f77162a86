"""The flash store in C: nothing lost, nothing mixed, on flash of every kind; and tests that bite.

The same C text runs compiled for the host on modelled flash, and compiled for two boards in the
emulator. Stores with one planted fault each show that the sweeps would find it.
"""

import json
from importlib import resources

import numpy as np
import pytest

from tiny_pipelines.cli import tiny_compile, tiny_powertest
from tiny_targets import host_store
from tiny_targets.boards import Programming
from tiny_targets.flash_model import FlashMisuse, FlashModel, PowerCut
from tiny_targets.host_store import (
    BAD_REGION,
    EMPTY,
    OK,
    TOO_SMALL,
    HostStore,
)
from tiny_targets.power_sweep import empty_region, sweep_cuts, sweep_flips, wear_out
from tiny_targets.target import TARGETS
from tiny_targets.toolchain import compile_object

MODEL = 0x0123456789ABCDEF
KINDS = [  # page, program width, erased value, payload bytes
    Programming(256, 1, 0xFF, 10_000),
    Programming(128, 4, 0xFF, 10_000),
    Programming(64, 8, 0xFF, 10_000),
    Programming(96, 32, 0xFF, 10_000),
    Programming(128, 64, 0xFF, 10_000),
    Programming(128, 4, 0x00, 10_000),
]


def payloads(count, size=150):
    rng = np.random.default_rng(size)
    return [rng.bytes(size) for _ in range(count)]


def small_flash(slots=2):
    return empty_region(KINDS[1], 150, slots)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("slots", [2, 3])
def test_every_cut_leaves_the_old_or_the_new_state(kind, slots):
    flash = empty_region(kind, 150, slots)
    counts = sweep_cuts(flash, payloads(slots + 2), MODEL)
    assert counts.passed, counts
    assert counts.cuts == 3 * sum(counts.steps) > 50
    assert counts.old and counts.new
    assert counts.old + counts.new == counts.cuts


def test_a_second_cut_while_recovering_loses_nothing():
    flash, (first, second, third) = small_flash(), payloads(3)
    assert HostStore(flash, MODEL, 150).commit(first) == OK
    before, found = flash.snapshot(), []
    for one in range(0, 60, 3):
        for two in range(1, 60, 4):
            flash.rewind(before)
            for step, tear, payload in ((one, 0, second), (two, 1, third)):
                store = HostStore(flash, MODEL, 150)
                flash.cut_power(step, tear)
                try:
                    store.commit(payload)
                except PowerCut:
                    flash.restore_power()
            found.append(HostStore(flash, MODEL, 150).read())
    assert set(found) <= {first, second, third} and len(found) == 300


def test_every_flipped_bit_is_found_and_the_other_slot_taken():
    for kind in KINDS:
        flash = empty_region(kind, 150)
        first, second = payloads(2)
        for payload in (first, second):
            assert HostStore(flash, MODEL, 150).commit(payload) == OK
        counts = sweep_flips(flash, MODEL, 150)
        assert counts.passed, (kind, counts)
        assert counts.flips >= 2 * 8 * (36 + 150)
    store = HostStore(flash, MODEL, 150)
    assert store.slot == 1
    flash.cells[store.slot_offset(1) + 60] ^= 4
    damaged = HostStore(flash, MODEL, 150)
    assert damaged.slot == 0 and damaged.read() == first
    assert damaged.sequence == 2, "what follows must be newer than what was damaged"


def test_wear_is_level_and_the_sequence_number_wraps():
    for slots in (2, 3, 5):
        counts = wear_out(small_flash(slots), MODEL, 150, 120)
        assert counts.passed, counts
        assert counts.slots == slots and counts.least >= 120 // slots


def test_a_slot_that_no_longer_programs_is_passed_over():
    class Worn(FlashModel):
        """Flash whose second slot keeps a bit."""

        def program(self, offset, data):
            super().program(offset, data)
            if 256 <= offset < 512:
                self.cells[offset] &= 0xFE

    flash = Worn(KINDS[1], 6)
    for number, payload in enumerate(payloads(4)):
        store = HostStore(flash, MODEL, 150)
        assert store.slot_count == 3
        assert store.commit(payload) == OK
        assert HostStore(flash, MODEL, 150).slot == (0, 2, 0, 2)[number]
        assert HostStore(flash, MODEL, 150).read() == payload


def test_a_flash_that_refuses_everything_is_reported_and_the_old_state_stays():
    flash, (first, second) = small_flash(), payloads(2)
    assert HostStore(flash, MODEL, 150).commit(first) == OK
    store = HostStore(flash, MODEL, 150)
    flash.region.program_bytes = 128  # nothing is aligned any more
    with pytest.raises(FlashMisuse, match="refused at"):
        store.commit(second)
    flash.region.program_bytes = 4
    assert HostStore(flash, MODEL, 150).read() == first


def test_a_slot_that_cannot_be_read_counts_as_damaged():
    """As on flash with error correction, where a torn word makes the read fail."""

    class Uncorrectable(FlashModel):
        bad = -1

        def read(self, offset, size):
            if offset <= self.bad < offset + size:
                raise PowerCut
            return super().read(offset, size)

    flash = Uncorrectable(KINDS[1], 4)
    first, second = payloads(2)
    for payload in (first, second):
        assert HostStore(flash, MODEL, 150).commit(payload) == OK
    for place in range(256, 256 + 36 + 150, 7):
        flash.bad = place
        assert HostStore(flash, MODEL, 150).read() == first


def test_another_model_finds_nothing_and_takes_over():
    flash, (first, second) = small_flash(), payloads(2)
    assert HostStore(flash, MODEL, 150).commit(first) == OK
    for other, size in ((MODEL ^ 1, 150), (MODEL ^ 1 << 63, 150), (MODEL, 149)):
        store = HostStore(flash, other, size)
        assert (store.status, store.slot, store.read()) == (EMPTY, None, None)
    store = HostStore(flash, MODEL ^ 1, 150)
    assert store.commit(second) == OK
    assert HostStore(flash, MODEL ^ 1, 150).read() == second


def test_regions_that_do_not_work_are_refused():
    assert HostStore(FlashModel(KINDS[1], 3), MODEL, 150).status == TOO_SMALL
    assert HostStore(FlashModel(KINDS[1], 3), MODEL, 150).commit(payloads(1)[0]) == TOO_SMALL
    for page, width in ((130, 4), (128, 3), (128, 128)):
        flash = FlashModel(KINDS[1], 8)
        flash.programming = Programming(page, width, 0xFF, 1)
        assert HostStore(flash, MODEL, 150).status == BAD_REGION
    for size in (0, 0xFFFFFFF0):
        assert HostStore(FlashModel(KINDS[1], 8), MODEL, size).status == BAD_REGION


def test_a_source_that_fails_leaves_the_old_state():
    flash, (first, _) = small_flash(), payloads(2)
    assert HostStore(flash, MODEL, 150).commit(first) == OK
    assert HostStore(flash, MODEL, 150).commit(b"too short") == host_store.SOURCE_FAILED
    assert HostStore(flash, MODEL, 150).read() == first


FAULTS = {
    "the header before the payload": (
        "    int status = program_payload(",
        "    if (program_header(store, slot, header)) return TINY_STORE_FLASH_FAILED;\n"
        "    int status = program_payload(",
    ),
    "a payload that nobody checks": ("    return crc == wanted;", "    return 1;"),
    "always the same slot": ("(before + choice) % store->slot_count", "0"),
    "no erase where the header is gone": (
        "    for (uint32_t page = 0; page < store->slot_pages; page++)\n        if (flash->erase",
        "    header_t unused;\n"
        "    for (uint32_t page = 0; page < store->slot_pages; page++)\n"
        "        if (read_header(store, slot, &unused) && flash->erase",
    ),
    "the oldest for the newest": ("return a - b - 1u < 0x7fffffffu;", "return b - a - 1u < 1u;"),
    "a header without a checksum": (
        "if (load_word(at + size - 4) != tiny_crc32(0, at, size - 4)) return 0;",
        "",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_sweeps_find_a_store_with_a_fault(monkeypatch, fault):
    right, wrong = FAULTS[fault]
    text = host_store._source()
    assert text.count(right) == 1
    monkeypatch.setattr(host_store, "_source", lambda: text.replace(right, wrong))
    host_store._library.cache_clear()
    try:
        assert not survives()
    finally:
        monkeypatch.undo()
        host_store._library.cache_clear()


def survives():
    """Whether sweeps of cuts and flips find nothing wrong."""
    try:
        flash = small_flash()
        cuts = sweep_cuts(flash, payloads(4), MODEL, stride=3)
        return cuts.passed and sweep_flips(flash, MODEL, 150, 3).passed
    except (FlashMisuse, AssertionError):
        return False


def test_a_sound_store_survives_the_same():
    assert survives()


def test_flash_model_keeps_the_rules():
    flash = FlashModel(KINDS[1], 2)
    flash.program(4, b"\x0f" * 8)
    with pytest.raises(FlashMisuse, match="programs 4 bytes, refused at 8 of"):
        flash.program(8, b"\x00" * 4)
    with pytest.raises(FlashMisuse, match="programs 3 bytes, refused at 12"):
        flash.program(12, b"abc")
    with pytest.raises(FlashMisuse, match="erases 128 bytes, refused at 64"):
        flash.erase(64)
    flash.erase(0)
    assert flash.wear == [1, 0] and flash.steps == 3
    flash.cut_power(1, 0)
    with pytest.raises(PowerCut):
        flash.program(0, b"\x00" * 12)
    torn = flash.cells[4:8].copy()
    assert not flash.cells[:4].any() and torn.any() and (torn != 0xFF).any()
    assert (flash.cells[8:12] == 0xFF).all()
    with pytest.raises(PowerCut):
        flash.read(0, 4)
    flash.restore_power()
    with pytest.raises(FlashMisuse, match="programs 4 bytes, refused at 4 "):
        flash.program(4, b"\x00" * 4)
    flash.cut_power(0, 0)
    with pytest.raises(PowerCut):
        flash.erase(0)
    flash.restore_power()
    with pytest.raises(FlashMisuse, match="programs 4 bytes, refused at 64"):
        flash.program(64, b"\x00" * 4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("suffix", [".c", ".cc"])
def test_store_is_c99_and_cpp17_on_every_core(target, suffix):
    folder = resources.files("tiny_targets") / "runtime"
    headers = {name: (folder / name).read_bytes() for name in ("tiny_state.h", "tiny_store.h")}
    source = (folder / "tiny_store.c").read_text()
    assert compile_object(TARGETS[target], source, suffix, files=headers)


def power_report(repository, folder, board, capsys, *options):
    """The report of tiny-powertest on the shipped model."""
    digits = repository / "examples" / "digits"
    compiled = ["--scheme", str(digits / "sparse.json"), "--gradients", "int16", "--board", board]
    assert tiny_compile.main([str(digits / "digits.mlirbc"), "-o", str(folder), *compiled]) == 0
    capsys.readouterr()
    status = tiny_powertest.main([str(folder), "--json", *options])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


@pytest.mark.parametrize("board", ["nrf52840", "esp32-p4"])
def test_shipped_model_survives_cuts_on_emulated_boards(repository, tmp_path, capsys, board):
    options = ["--stride", "601", "--emulated-stride", "401"]
    report = power_report(repository, tmp_path / "image", board, capsys, *options)
    for part in ("emulated", "host"):
        assert report[part]["cuts"] > 100
        assert report[part]["new"] >= 3 and report[part]["old"] > 50
    assert report["state_bytes"] > 7000


@pytest.mark.slow
@pytest.mark.parametrize("board", ["nrf52840", "stm32l476", "esp32-c3", "esp32-p4"])
def test_shipped_model_survives_every_cut(repository, tmp_path, capsys, board):
    report = power_report(repository, tmp_path / "image", board, capsys)
    steps = sum(report["host"]["steps"])
    assert report["emulated"]["cuts"] == steps + 6
    assert report["host"]["cuts"] == 3 * steps
    assert report["flips"]["flips"] > 2 * 8 * report["state_bytes"]


def test_folders_without_anything_to_store_are_refused(repository, tmp_path, capsys):
    digits = repository / "examples" / "digits" / "digits.mlirbc"
    folder = tmp_path / "image"
    options = ["--inference", "--target", "cortex-m4", "-o", str(folder)]
    assert tiny_compile.main([str(digits), *options]) == 0
    capsys.readouterr()
    assert tiny_powertest.main([str(folder)]) == 1
    assert "the image only infers, it has nothing to store" in capsys.readouterr().err
    assert tiny_powertest.main([str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err
    assert tiny_powertest.main([str(folder), "--commits", "1"]) == 1
    assert "--commits takes 2 to 1000" in capsys.readouterr().err
