"""Damaged files of every format: a fixed campaign, old defects, and that the watch finds new ones.

`fuzz_cases/FORMAT_WHAT.bin` are minimised inputs that once broke a promise.
"""

import io
import os
import random
import socket
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiny_dialect.errors import InvalidModel, InvalidOption, TinyError
from tiny_pipelines import npz_file
from tiny_pipelines.cli import tiny_fuzz
from tiny_pipelines.datasets import InvalidData, load_dataset
from tiny_pipelines.fuzzing.campaign import Limits, minimise, replay, run_campaign
from tiny_pipelines.fuzzing.formats import FORMATS, Format, damaged
from tiny_pipelines.fuzzing.mutations import damage_bytes
from tiny_pipelines.fuzzing.readers import Broken
from tiny_pipelines.fuzzing.worker import REFUSED, VALID

CASES = sorted((Path(__file__).parent / "fuzz_cases").glob("*.bin"))
QUICK = 220


def test_there_are_cases_of_old_defects():
    formats = {case.name.split("_")[0] for case in CASES}
    assert formats >= {"npz", "scheme", "board", "bytecode", "pt2"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_old_defects_stay_refused_in_one_line(case, tmp_path):
    chosen = FORMATS[case.name.split("_")[0]]
    with pytest.raises(TinyError) as caught:
        chosen.read(case.read_bytes(), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", FORMATS)
def test_undamaged_files_are_valid(name, tmp_path):
    chosen = FORMATS[name]
    if not chosen.available:
        pytest.skip(f"needs {chosen.needs}")
    assert chosen.seeds() == chosen.seeds()
    for seed in chosen.seeds():
        chosen.read(seed, tmp_path)


SIGNALLING_NAN = bytes.fromhex("0100807f")


def places_of_scales(data):
    """Where four bytes are a float32 of the size that scales have."""
    found = []
    for start in range(len(data) - 3):
        (value,) = np.frombuffer(data[start : start + 4], "<f4")
        if 1e-3 < value < 0.1:
            found.append(start)
    return found[:: 1 + len(found) // 40]


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_a_signalling_nan_as_a_scale_is_refused_without_a_warning(name, tmp_path):
    """NumPy warns where it is widened; a warning is an error here, and a second line for users."""
    chosen, refused = FORMATS[name], []
    data = chosen.seeds()[0]
    for start in places_of_scales(data):
        try:
            chosen.read(data[:start] + SIGNALLING_NAN + data[start + 4 :], tmp_path)
        except TinyError as error:
            refused.append(str(error))
    assert sum("nan" in line or "finite" in line for line in refused) > 5


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_repeatable_and_does_something(name):
    chosen = FORMATS[name]
    if not chosen.available:
        pytest.skip(f"needs {chosen.needs}")
    seeds = chosen.seeds()
    made = [damaged(chosen, seeds, 3, index) for index in range(20)]
    assert made == [damaged(chosen, seeds, 3, index) for index in range(20)]
    assert len(set(made) - set(seeds)) > 10


def test_a_few_hundred_damaged_files_are_read_or_refused(tmp_path):
    reported = []
    campaign = run_campaign(11, Limits(60, QUICK), tmp_path, reported.append)
    assert reported == []
    assert campaign.inputs >= QUICK / 2
    for counts in campaign.counts.values():
        assert set(counts) <= {VALID, REFUSED}
        assert counts[REFUSED] > 0
    assert sum(counts[VALID] for counts in campaign.counts.values()) > 0
    assert list(tmp_path.iterdir()) == []


# Readers that break each promise where the file holds a 7.


def one_seed():
    return [b"\x00\x01\x02\x03"]


def raises(data, folder):
    if 7 in data:
        raise ZeroDivisionError("seven")


def dies(data, folder):
    if 7 in data:
        os.abort()


def hangs(data, folder):
    while 7 in data:
        pass


def writes(data, folder):
    if 7 in data:
        try:
            (folder.parent / "elsewhere").write_text("escaped")
        except Exception:
            raise InvalidModel("hidden") from None


def links(data, folder):
    if 7 in data:
        (folder / "link").symlink_to(folder.parent)
        (folder / "link" / "elsewhere").write_text("escaped")


def executes(data, folder):
    if 7 in data:
        subprocess.run([sys.executable, "-c", ""], check=True)


def calls(data, folder):
    if 7 in data:
        socket.getaddrinfo("localhost", 80)


def grows(data, folder):
    if 7 in data:
        kept = np.ones(560 << 20, np.uint8)
        raise InvalidModel(f"{kept[0]}")


def says_too_much(data, folder):
    if 7 in data:
        error = InvalidModel("one")
        error.args = ("one\ntwo",)
        raise error


def breaks(data, folder):
    if 7 in data:
        raise Broken("changed")


PLANTED = {
    raises: "traceback ZeroDivisionError",
    dies: "death",
    writes: "violation",
    links: "violation",
    executes: "violation",
    calls: "violation",
    grows: "memory",
    says_too_much: "message",
    breaks: "promise",
}


@pytest.mark.parametrize("reader", PLANTED, ids=lambda reader: reader.__name__)
def test_the_watch_notices(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    planted = Format("planted", one_seed, damage_bytes, reader)
    assert replay(planted, b"\x07").kind == PLANTED[reader]
    assert replay(planted, b"\x06").outcome == VALID
    assert list(tmp_path.iterdir()) == []


def test_a_hang_is_believed_the_second_time_and_the_rest_still_read(tmp_path, monkeypatch):
    from tiny_pipelines.fuzzing import campaign as module

    monkeypatch.setattr(module, "HANG_SECONDS", 0.7)
    planted = Format("planted", one_seed, always_seven_then_not, hangs)
    campaign = run_campaign(0, Limits(60, 6, [planted]), tmp_path, lambda _: None)
    assert campaign.counts["planted"] == {"failed": 1, VALID: 5}
    assert campaign.restarts == 2
    assert [found.verdict.kind for found in campaign.found.values()] == ["hang"]


def always_seven_then_not(rng, data, others):
    """The first input of seed 0, and no other, has a 7."""
    first = random.Random("0/planted/0")
    first.choice(others)
    return b"\x07" if rng.getstate() == first.getstate() else b"\x06"


def test_a_failure_is_written_minimised_and_can_be_replayed(tmp_path):
    planted = Format("planted", one_seed, seven_in_the_middle, raises)
    reported = []
    campaign = run_campaign(0, Limits(60, 5, [planted]), tmp_path, reported.append)
    (found,) = campaign.found.values()
    assert found.times == 5
    assert found.file.read_bytes() == b"\x07"
    assert "planted input 0 of seed 0: traceback ZeroDivisionError: seven" in reported[0]
    assert str(found.file) in reported[1]
    assert minimise(replace(found, data=b"\x01\x07"), 10) == b"\x07"


def seven_in_the_middle(rng, data, others):
    return rng.randbytes(20) + b"\x07" + rng.randbytes(20)


def test_command_line(tmp_path, capsys):
    command = ["--format", "scheme", "--format", "blob", "-o", str(tmp_path)]
    assert tiny_fuzz.main([*command, "--count", "20", "--seed", "5"]) == 0
    assert "20 files of seed 5" in capsys.readouterr().out
    assert tiny_fuzz.main(["--format", "coff"]) == 1
    assert "choose from tflite, onnx" in capsys.readouterr().err
    case = next(case for case in CASES if case.name.startswith("scheme"))
    assert tiny_fuzz.main([str(case), "--format", "scheme", "--json"]) == 0
    assert '"refused"' in capsys.readouterr().out
    assert tiny_fuzz.main([str(case)]) == 1
    assert "a FILE needs one --format" in capsys.readouterr().err


def zip_of(arrays, level=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", level) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, array)
    return buffer.getvalue()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_file, "UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "bomb.npz"
    path.write_bytes(zip_of({"x": np.zeros((2, 1024, 1024), np.uint8), "y": np.arange(2)}))
    assert path.stat().st_size < 4000
    with pytest.raises(InvalidData, match=r"unpacks \d+ bytes to 2 arrays of \d+ bytes; at most"):
        load_dataset(path)
    path.write_bytes(zip_of({"x": np.zeros((2, 512, 512), np.uint8), "y": np.arange(2)}))
    assert len(load_dataset(path).train) == 1


def test_an_array_that_says_it_is_huge_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2, 10**7, 10**7)}
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + b"abc")
    (tmp_path / "huge.npz").write_bytes(buffer.getvalue())
    with pytest.raises(InvalidData, match="is not a readable"):
        load_dataset(tmp_path / "huge.npz")


def test_text_of_characters_that_do_not_exist_is_refused(tmp_path):
    text = np.array([0x61, 0x200061], np.uint32).view("<U1")
    (tmp_path / "text.npz").write_bytes(zip_of({"record": text}))
    with pytest.raises(npz_file.UnreadableArrays, match="characters that do not exist"):
        npz_file.read_npz(tmp_path / "text.npz")


def test_nested_json_is_refused(tmp_path):
    from tiny_passes.update_scheme import read_scheme
    from tiny_targets.boards import read_boards

    path = tmp_path / "deep.json"
    path.write_bytes(b"[" * 200_000)
    for reader in (read_scheme, read_boards):
        with pytest.raises(InvalidOption, match="nested too deeply"):
            reader(path)
    path.write_bytes(b"[" + b" " * (1 << 20) + b"]")
    for reader in (read_scheme, read_boards):
        with pytest.raises(InvalidOption, match="more than 1048576 bytes"):
            reader(path)
