"""SRAM in pieces: what goes where, and an image that runs there."""

import dataclasses

import pytest

from tiny_dialect.dialect import new_context, read_module
from tiny_dialect.errors import DoesNotFit
from tiny_pipelines.firmware import build_firmware
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import Region, generic_board
from tiny_targets.emulate import Emulator
from tiny_targets.sram_layout import choose_layout, single_region
from tiny_targets.target import find_target

KIB = 1024
BOARD = generic_board(find_target("cortex-m4"))


def board(*kib):
    regions = [Region(0x20000000 + index * 0x100000, size * KIB) for index, size in enumerate(kib)]
    return dataclasses.replace(BOARD, sram=regions[0], more_sram=tuple(regions[1:]))


def regions(sizes, *kib):
    found = choose_layout(board(*kib), {name: size * KIB for name, size in sizes.items()})
    return found and [list(held) for held in found.regions]


SIZES = {"program": 2, "state": 40, "arena": 50}


@pytest.mark.parametrize(
    ("kib", "expected"),
    [
        ((96, 32), [["program", "state", "arena"], []]),
        ((91, 8), [["state", "arena"], ["program"]]),
        ((60, 48), [["program", "arena"], ["state"]]),
        ((48, 60), [["program", "state"], ["arena"]]),
        ((50, 40, 4), [["arena"], ["state"], ["program"]]),
        ((48, 48), None),
    ],
)
def test_few_regions_are_used_and_the_first_ones_first(kib, expected):
    assert regions(SIZES, *kib) == expected


def test_one_region_holds_everything_in_the_usual_order():
    assert single_region(BOARD).regions == (("program", "state", "arena"),)
    assert single_region(board(1, 1)).regions == (("program", "state", "arena"), ())


@pytest.fixture(scope="module")
def digits(repository):
    def build(board):
        folder = repository / "examples" / "digits"
        with new_context():
            module = read_module(folder / "digits.mlirbc")
            options = TrainingOptions(str(folder / "sparse.json"))
            return build_firmware(module, options, board).image

    return build


def test_an_image_in_two_pieces_learns_as_one_in_one_piece(digits):
    import numpy as np

    whole, pieces = digits(BOARD), digits(board(8, 12))
    assert whole.sizes == pieces.sizes
    x = np.arange(whole.schedule.functions["train_step"].arguments[0].bytes, dtype=np.uint8)
    runs = []
    for image in (whole, pieces):
        emulator = Emulator(image)
        steps = [emulator.train_step(x.view(np.int8), 3, 0.01) for _ in range(3)]
        state = [emulator.read_state(one.name).tobytes() for one in image.schedule.state]
        runs.append(([(loss, logits.tobytes()) for loss, logits in steps], state))
    assert runs[0] == runs[1]


def test_what_cannot_be_cut_is_named(digits):
    with pytest.raises(DoesNotFit, match=r"do not join: neither arena .* nor trainable"):
        digits(board(*[4] * 5))
