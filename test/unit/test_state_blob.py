"""The saved state: C and Python agree byte for byte; what is damaged or foreign changes nothing."""

import ctypes
import dataclasses
import importlib.resources
import struct
import zlib

import numpy as np
import pytest

from tiny_dialect.types import NUMPY_TYPES
from tiny_targets.schedule import STATE, Buffer, Schedule
from tiny_targets.state_layout import (
    HEADER_BYTES,
    InvalidState,
    blob_bytes,
    decode_state,
    encode_state,
    pieces,
)
from tiny_targets.toolchain import host_library

OK, TRUNCATED, NO_BLOB, OTHER_MODEL, CORRUPT, READ_FAILED, CHANGED, NOT_FINITE = range(8)
HASH = 0x0123456789ABCDEF

# Odd sizes and gaps, and symbols in another order than their places.
STATE_BUFFERS = (
    Buffer("stem.weight", STATE, 0, (3, 1, 1, 5), "i8"),
    Buffer("stem.bias", STATE, 16, (3,), "i32"),
    Buffer("block.weight", STATE, 32, (7, 3), "i16"),
    Buffer("head.bias", STATE, 76, (2,), "f32"),
)
STATE_BYTES = 96

# All single-bit flips and all lengths in one call: 0, or where a damaged blob was let through.
LOOPS = """
uint32_t accepted_flip(const tiny_state_layout_t *layout, uint8_t *blob, uint32_t size) {
    for (uint32_t bit = 0; bit < 8 * size; bit++) {
        blob[bit / 8] ^= (uint8_t)(1u << bit % 8);
        tiny_blob_status status = tiny_blob_check(layout, tiny_read_memory, blob, size);
        blob[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (status == TINY_BLOB_OK) return bit + 1;
    }
    return 0;
}
uint32_t accepted_length(const tiny_state_layout_t *layout, uint8_t *blob, uint32_t size) {
    for (uint32_t length = 0; length < size; length++)
        if (tiny_blob_check(layout, tiny_read_memory, blob, length) == TINY_BLOB_OK)
            return length + 1;
    return 0;
}
"""


class Piece(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint32), ("bytes", ctypes.c_uint32), ("float", ctypes.c_uint32))


class Layout(ctypes.Structure):
    _fields_ = (
        ("pieces", ctypes.POINTER(Piece)),
        ("count", ctypes.c_uint32),
        ("payload", ctypes.c_uint32),
        ("hash", ctypes.c_uint32 * 2),
    )


class Blob(ctypes.Structure):
    _fields_ = (
        ("layout", ctypes.POINTER(Layout)),
        ("state", ctypes.c_void_p),
        ("header", ctypes.c_uint8 * HEADER_BYTES),
    )


READ = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32
)


@pytest.fixture(scope="module")
def library():
    """The C code as it runs on a device, compiled for this machine."""
    folder = importlib.resources.files("tiny_targets") / "runtime"
    source = (folder / "tiny_state.c").read_text().replace('#include "tiny_state.h"', "")
    return host_library((folder / "tiny_state.h").read_text() + source + LOOPS)


def schedule_of(buffers, model=HASH):
    return Schedule("small", {}, 0, 0, STATE_BYTES, tuple(buffers), model_hash=model)


def layout_of(schedule):
    rows = [Piece(b.offset, b.bytes, b.element == "f32") for b in pieces(schedule)]
    words = (schedule.model_hash & 0xFFFFFFFF, schedule.model_hash >> 32)
    return Layout(
        (Piece * len(rows))(*rows),
        len(rows),
        blob_bytes(schedule) - HEADER_BYTES,
        (ctypes.c_uint32 * 2)(*words),
    )


def random_state(seed=0, size=STATE_BYTES, buffers=STATE_BUFFERS):
    state = bytearray(np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes())
    for buffer in buffers:
        if buffer.element == "f32":
            values = np.linspace(-2, 3, buffer.bytes // 4, dtype="<f4")
            state[buffer.offset : buffer.offset + buffer.bytes] = values.tobytes()
    return bytes(state)


def values_of(schedule, state):
    values = {}
    for buffer in schedule.state:
        data = state[buffer.offset : buffer.offset + buffer.bytes]
        values[buffer.name] = np.frombuffer(data, NUMPY_TYPES[buffer.element]).reshape(buffer.shape)
    return values


def saved(library, layout, state, chunk):
    """The blob of `state`, read in chunks of `chunk` bytes."""
    memory = ctypes.create_string_buffer(state, len(state))
    blob = Blob()
    assert library.tiny_blob_open(ctypes.byref(blob), ctypes.byref(layout), memory) == OK
    size = library.tiny_blob_bytes(ctypes.byref(layout))
    out = ctypes.create_string_buffer(size)
    for offset in range(0, size, chunk):
        count = min(chunk, size - offset)
        assert (
            library.tiny_blob_read(ctypes.byref(blob), offset, ctypes.byref(out, offset), count)
            == 0
        )
    assert library.tiny_blob_read(ctypes.byref(blob), size - 1, out, 2) == 1
    return out.raw


def restored(library, layout, state, source, size):
    """(status, state afterwards) of a restore from bytes, or from a Python reader."""
    memory = ctypes.create_string_buffer(state, len(state))
    if callable(source):
        read, data = READ(source), None
    else:
        read, data = library.tiny_read_memory, ctypes.create_string_buffer(source, len(source))
    status = library.tiny_blob_restore(ctypes.byref(layout), memory, read, data, size)
    return status, memory.raw


@pytest.fixture
def schedule():
    return schedule_of(STATE_BUFFERS)


@pytest.mark.parametrize("chunk", [1, 3, 16, 24, 25, 64, 1000])
def test_blob_is_the_same_in_c_and_python_in_any_pieces(library, schedule, chunk):
    state = random_state()
    wanted = encode_state(schedule, values_of(schedule, state))
    assert saved(library, layout_of(schedule), state, chunk) == wanted
    assert len(wanted) == 24 + 15 + 12 + 42 + 8


def test_header_is_the_documented_one(schedule):
    blob = encode_state(schedule, values_of(schedule, random_state()))
    assert blob[:4] == b"TNYS"
    assert struct.unpack_from("<HHQI", blob, 4) == (1, 24, HASH, len(blob) - 24)
    assert struct.unpack_from("<I", blob, 20)[0] == zlib.crc32(blob[:20] + blob[24:])


def test_restore_writes_the_parameters_and_nothing_between(library, schedule):
    state, other = random_state(1), random_state(2)
    blob = saved(library, layout_of(schedule), state, 64)
    status, after = restored(library, layout_of(schedule), other, blob + b"more", len(blob) + 4)
    assert status == OK
    covered = {i for b in STATE_BUFFERS for i in range(b.offset, b.offset + b.bytes)}
    for i in range(STATE_BYTES):
        assert after[i] == (state if i in covered else other)[i]
    for name, value in decode_state(schedule, blob).items():
        np.testing.assert_array_equal(value, values_of(schedule, state)[name])


def test_every_flipped_bit_is_refused_and_changes_nothing(library, schedule):
    layout, untouched = layout_of(schedule), random_state(3)
    blob = bytearray(saved(library, layout, random_state(), 64))
    for bit in range(8 * len(blob)):
        blob[bit // 8] ^= 1 << bit % 8
        status, after = restored(library, layout, untouched, bytes(blob), len(blob))
        assert status in (NO_BLOB, OTHER_MODEL, CORRUPT), bit
        assert after == untouched, bit
        with pytest.raises(InvalidState):
            decode_state(schedule, bytes(blob))
        blob[bit // 8] ^= 1 << bit % 8
    assert restored(library, layout, untouched, bytes(blob), len(blob))[0] == OK


def test_every_truncation_is_refused_and_changes_nothing(library, schedule):
    layout, untouched = layout_of(schedule), random_state(3)
    blob = saved(library, layout, random_state(), 64)
    for length in range(len(blob)):
        status, after = restored(library, layout, untouched, blob[:length], length)
        assert (status, after) == (TRUNCATED, untouched), length
        # Torn: the rest of the slot is erased flash, or what was there before.
        for rest in (b"\xff", b"\x00"):
            torn = blob[:length] + rest * (len(blob) - length)
            status, after = restored(library, layout, untouched, torn, len(torn))
            if torn != blob:
                assert status in (NO_BLOB, OTHER_MODEL, CORRUPT), length
                assert after == untouched, length
        with pytest.raises(InvalidState, match="has 101 bytes"):
            decode_state(schedule, blob[:length])


def test_flips_and_truncations_of_a_blob_of_real_size(library):
    buffers = [Buffer(f"p{i}", STATE, 1024 * i, (512,), "i16") for i in range(8)]
    schedule = dataclasses.replace(schedule_of(buffers), state_bytes=8192)
    layout = layout_of(schedule)
    blob = saved(library, layout, random_state(5, 8192, buffers), 256)
    memory = ctypes.create_string_buffer(blob, len(blob))
    assert (
        library.tiny_blob_check(ctypes.byref(layout), library.tiny_read_memory, memory, len(blob))
        == OK
    )
    assert library.accepted_flip(ctypes.byref(layout), memory, len(blob)) == 0
    assert library.accepted_length(ctypes.byref(layout), memory, len(blob)) == 0
    assert memory.raw == blob


def test_two_halves_of_different_states_are_refused(library, schedule):
    layout, untouched = layout_of(schedule), random_state(3)
    old, new = (saved(library, layout, random_state(seed), 64) for seed in (1, 2))
    for cut in range(25, len(old) - 8):
        status, after = restored(library, layout, untouched, new[:cut] + old[cut:], len(old))
        assert (status, after) == (CORRUPT, untouched), cut


@pytest.mark.parametrize("bit", [0, 31, 32, 63])
def test_another_models_state_is_refused(library, schedule, bit):
    other = schedule_of(STATE_BUFFERS, HASH ^ 1 << bit)
    blob = saved(library, layout_of(other), random_state(), 64)
    untouched = random_state(3)
    assert restored(library, layout_of(schedule), untouched, blob, len(blob)) == (
        OTHER_MODEL,
        untouched,
    )
    with pytest.raises(InvalidState, match="saved by another model"):
        decode_state(schedule, blob)


def test_failing_and_changing_sources_are_reported(library, schedule):
    layout, untouched = layout_of(schedule), random_state(3)
    blob = saved(library, layout, random_state(), 64)
    calls = []

    def reader(fail_at, change_at):
        def read(_, offset, to, count):
            calls.append(offset)
            data = bytearray(blob[offset : offset + count])
            if len(calls) - 1 == change_at:
                data[0] ^= 1
            ctypes.memmove(to, bytes(data), count)
            return len(calls) - 1 == fail_at

        return read

    total = 1 + 2 * len(STATE_BUFFERS)
    for call in range(total):
        second = call > len(STATE_BUFFERS)
        calls.clear()
        status, after = restored(library, layout, untouched, reader(call, None), len(blob))
        assert status == (CHANGED if second else READ_FAILED)
        assert second or after == untouched
        calls.clear()
        status, after = restored(library, layout, untouched, reader(None, call), len(blob))
        assert status == (CHANGED if second else CORRUPT if call else NO_BLOB)
        assert second or after == untouched


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_diverged_state_is_not_saved(library, schedule, value):
    state = bytearray(random_state())
    state[80:84] = np.array([value], "<f4").tobytes()
    memory = ctypes.create_string_buffer(bytes(state), len(state))
    layout = layout_of(schedule)
    status = library.tiny_blob_open(ctypes.byref(Blob()), ctypes.byref(layout), memory)
    assert status == NOT_FINITE


def test_encoding_asks_for_every_parameter_in_its_type(schedule):
    values = values_of(schedule, random_state())
    with pytest.raises(InvalidState, match=r"stem\.bias: expects 3 int32, got nothing"):
        encode_state(schedule, {name: v for name, v in values.items() if name != "stem.bias"})
    with pytest.raises(InvalidState, match="expects 3 int32, got 3 float32"):
        encode_state(schedule, {**values, "stem.bias": np.zeros(3, np.float32)})
