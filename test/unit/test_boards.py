"""Targets and boards: shipped records, lookup by name, a user's own file."""

import json

import pytest

from tiny_dialect.errors import InvalidOption
from tiny_targets.boards import board_names, find_board, from_record, generic_board, read_boards
from tiny_targets.target import TARGETS, find_target

RECORD = {
    "name": "mine",
    "target": "cortex-m4",
    "flash": {"base": "0x08000000", "kib": 512},
    "sram": {"base": "0x20000000", "kib": 64},
}


def test_published_figures():
    sizes = {
        name: (board.sram.size // 1024, board.flash.size // 1024, board.target.name)
        for name in board_names()
        if (board := find_board(name))
    }
    assert sizes["stm32f746"] == (320, 1024, "cortex-m7")
    assert sizes["stm32f407"] == (128, 1024, "cortex-m4")
    assert sizes["nrf52840"] == (256, 1024, "cortex-m4")
    assert sizes["esp32-c3"] == (384, 4096, "rv32imc")
    assert sizes["esp32-p4"][2] == "rv32imafc"


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_every_target_has_a_generic_board_of_256_kib(target):
    board = generic_board(target)
    assert board.target == target
    assert (board.sram.size, board.flash.size) == (256 * 1024, 1024 * 1024)


def test_a_board_may_have_several_regions_of_sram():
    pieces = [{"base": "0x20000000", "kib": 64}, {"base": "0x10000000", "kib": 8}]
    board = from_record({**RECORD, "sram": pieces}, "here")
    assert board.sram_bytes == 72 * 1024
    assert [region.base for region in board.sram_regions] == [0x20000000, 0x10000000]
    assert from_record(board.to_record(), "again") == board
    assert find_board("stm32l476").sram_bytes == 128 * 1024
    with pytest.raises(InvalidOption, match="do not overlap"):
        from_record({**RECORD, "sram": [pieces[0], pieces[0]]}, "here")
    with pytest.raises(InvalidOption, match="a region or a list"):
        from_record({**RECORD, "sram": []}, "here")


def test_features_tell_the_cores_apart():
    assert find_target("cortex-m7").has("dsp")
    assert not find_target("rv32imafc").has("dsp")
    assert find_target("rv32imafc").hard_float
    assert not find_target("rv32imc").hard_float


def test_every_board_names_the_source_of_its_figures():
    assert all(find_board(name).source for name in board_names())


@pytest.mark.parametrize(
    ("find", "name", "hint"),
    [(find_target, "cortex-m77", "cortex-m7"), (find_board, "stm32f747", "stm32f746")],
)
def test_unknown_name_lists_the_known_and_the_closest(find, name, hint):
    with pytest.raises(InvalidOption, match=rf"'{name}'; did you mean {hint}\? \(known: .*{hint}"):
        find(name)


def test_board_of_another_core_is_refused():
    with pytest.raises(InvalidOption, match="nrf52840 has a cortex-m4, not a rv32imc"):
        find_board("nrf52840", find_target("rv32imc"))


def test_user_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(RECORD))
    board = find_board(str(path))
    assert (board.name, board.sram.size, board.constants) == ("mine", 65536, board.flash)
    assert from_record(board.to_record(), "again") == board


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sram": None}, r'mine: sram: expects \{"base"'),
        ({"sram": {"base": "0x20000001", "kib": 64}}, "4 KiB pages"),
        ({"flash": {"base": "0xFFFFF000", "kib": 64}}, "within 32 bits"),
        ({"ram": 1}, "unknown fields ram"),
        ({"target": "cortex-m0"}, "unknown target 'cortex-m0'"),
        ({"target": 7}, "to be strings"),
    ],
)
def test_bad_record_names_file_and_field(tmp_path, change, reason):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(RECORD | change))
    with pytest.raises(InvalidOption, match=reason):
        read_boards(path)


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "not JSON"), ("[]", "a board or a list"), ("[1]", "a JSON object")]
)
def test_bad_file(tmp_path, text, reason):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=reason):
        read_boards(path)
    with pytest.raises(InvalidOption, match="No such file"):
        read_boards(tmp_path / "none.json")
