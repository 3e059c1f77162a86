"""The restricted pickle reader: it reads arrays, and executes nothing whatever a file asks for."""

import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcunet_files import network, zipped

from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidModel
from tiny_pipelines.frontends import import_bytes, restricted_pickle
from tiny_pipelines.frontends.restricted_pickle import PickledArray, load_pickle

MARKER = "executed"
COMMAND = f"touch {MARKER}"


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def short(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def call(module, name, *arguments):
    """GLOBAL, a tuple of texts, REDUCE."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"tR"


# Each of these touches MARKER when the pickle module loads it.
LIVE = {
    "global": b"\x80\x02" + call("os", "system", COMMAND) + b".",
    "posix": b"\x80\x02" + call("posix", "system", COMMAND) + b".",
    "stack_global": b"\x80\x04"
    + short("os")
    + short("system")
    + b"\x93"
    + short(COMMAND)
    + b"\x85R.",
    "eval": b"\x80\x02" + call("builtins", "eval", f"open('{MARKER}', 'w').close()") + b".",
    "exec": b"\x80\x02" + call("builtins", "exec", f"open('{MARKER}', 'w').close()") + b".",
    "python2_name": b"\x80\x02"
    + call("__builtin__", "eval", f"open('{MARKER}', 'w').close()")
    + b".",
    "nested_reduce": b"\x80\x02cbuiltins\ngetattr\n("
    + call("builtins", "__import__", "os")
    + text("system")
    + b"tR("
    + text(COMMAND)
    + b"tR.",
    "dotted_name": b"\x80\x04"
    + short("os")
    + short("path.os.system")
    + b"\x93"
    + short(COMMAND)
    + b"\x85R.",
    "inst": b"(" + text(COMMAND) + b"ios\nsystem\n.",
    "obj": b"(cos\nsystem\n" + text(COMMAND) + b"o.",
    "in_array_state": b"\x80\x02}" + text("weight") + call("os", "system", COMMAND) + b"s.",
    "after_allowed_names": b"\x80\x02"
    + call("_codecs", "encode", "x", "latin1")
    + call("os", "system", COMMAND)
    + b"\x86.",
}

# The four allowed names, asked for what no array needs; and data that is not an array.
REFUSED = {
    "codec_with_side_effects": call("_codecs", "encode", "x", "zlib_codec") + b".",
    "codec_default": call("_codecs", "encode", "x") + b".",
    "object_elements": b"cnumpy\ndtype\n(" + text("O8") + b"\x89\x88tR.",
    "void_elements": b"cnumpy\ndtype\n(" + text("V8") + b"\x89\x88tR.",
    "structured_elements": b"cnumpy\ndtype\n(" + text("i4,i4") + b"\x89\x88tR.",
    "array_of_other_type": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\nK\x00\x85NtR.",
    "array_called": b"cnumpy\nndarray\n(K\x01\x85tR.",
    "other_numpy_name": call("numpy", "load", "x") + b".",
    "attribute_of_array": call("numpy", "ndarray.tofile", "x") + b".",
    "long_name": b"c" + b"a" * 5000 + b"\nb\n.",
    "reduce_of_text": text("os.system") + b"(" + text("x") + b"tR.",
    "build_of_dict": b"}}b.",
    "build_of_name": b"cnumpy\ndtype\n}b.",
    "persistent_id": text("storage") + b"Q.",
    "newobj": b"\x80\x02csubprocess\nPopen\n" + text(COMMAND) + b"\x85\x81.",
    "newobj_ex": b"\x80\x04"
    + short("os")
    + short("system")
    + b"\x93"
    + short(COMMAND)
    + b"\x85}\x92.",
    "build_with_setattr": b"\x80\x02cnumpy\nndarray\n}" + text("__class__") + b"Nsb.",
    "text_literal": b"S'os.system'\n.",
    "integer_literal": b"I__import__('os')\n.",
    "byte_array": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"abc.",
    "outside_buffer": b"\x80\x05\x97.",
    "oversized_memo": b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "newobj_of_text": b"\x80\x02" + text("x") + b")\x81.",
    "extension": b"\x82\x01.",
    "set": b"\x80\x04\x8f.",
    "dict_key": b"}K\x01K\x02s.",
    "no_value": b".",
    "underflow": b"\x85.",
    "below_mark": b"K\x01(\x85.",
    "no_mark": b"K\x01t.",
    "left_over": b"K\x01K\x02.",
    "left_over_mark": b"K\x01(K\x02.",
    "unknown_memo": b"h\x07.",
    "odd_items": b"}(K\x01u.",
    "append_to_none": b"NK\x01a.",
    "trailing_bytes": b"N.N.",
    "no_stop": b"N",
    "empty": b"",
    "unknown_opcode": b"\xff.",
    "oversized_text": b"X\xff\xff\xff\xff" + b"abc.",
    "oversized_text8": b"\x8d" + b"\xff" * 8 + b"abc.",
    "oversized_bytes": b"B\xff\xff\xff\xffabc.",
    "oversized_long": b"\x8b\xff\xff\xff\x7fabc.",
    "negative_long": b"\x8b\xff\xff\xff\xffabc.",
    "oversized_decimal": b"L" + b"9" * 10_000 + b"L\n.",
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pickled_array_state(shape, code="i4", order="<", raw=b"\0" * 16, fortran=b"\x89"):
    """The opcodes of an array with any, also inconsistent, state."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85"
        + call("_codecs", "encode", "b", "latin1")
        + b"tR(K\x01"
        + shape
        + b"cnumpy\ndtype\n("
        + text(code)
        + b"\x89\x88tR(K\x03"
        + text(order)
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + fortran
        + b"B"
        + struct.pack("<I", len(raw))
        + raw
        + b"tb."
    )


@pytest.mark.parametrize("name", LIVE)
def test_a_hostile_pickle_is_refused_and_executes_nothing(name):
    with pytest.raises(InvalidModel, match=r"bad\.pkl: byte \d+: "):
        load_pickle(LIVE[name], "bad.pkl")
    assert not os.path.exists(MARKER)


@pytest.mark.parametrize("name", [*LIVE, *REFUSED])
def test_a_hostile_pickle_in_a_model_file_is_refused_and_executes_nothing(name):
    data = zipped({**LIVE, **REFUSED}[name])
    with new_context(), pytest.raises(InvalidModel, match=r"^bad\.pkl: "):
        import_bytes(data, "bad.pkl")
    assert os.listdir() == []


@pytest.mark.parametrize("name", LIVE)
def test_the_hostile_pickles_are_live(name):
    """The control: the pickle module does execute them, so refusing them means something."""
    pickle.loads(LIVE[name])
    assert os.path.exists(MARKER)


@pytest.mark.parametrize("name", REFUSED)
def test_whatever_is_not_plain_data_is_one_short_line(name):
    with pytest.raises(InvalidModel) as caught:
        load_pickle(REFUSED[name], "bad.pkl")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "state",
    [
        pickled_array_state(b"K\x05\x85"),
        pickled_array_state(b"J\xff\xff\xff\xff\x85"),
        pickled_array_state(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x87"),
        pickled_array_state(b"(" + b"K\x01" * 40 + b"t"),
        pickled_array_state(b"\x88\x85"),
        pickled_array_state(b"]"),
        pickled_array_state(b"K\x04\x85", order="?"),
        pickled_array_state(b"K\x04\x85", code="S4"),
        pickled_array_state(b"K\x04\x85", raw=b""),
    ],
)
def test_an_inconsistent_array_is_refused(state):
    with pytest.raises(InvalidModel):
        load_pickle(state, "bad.pkl")


def test_the_array_opcodes_of_the_tests_are_well_formed():
    loaded = load_pickle(pickled_array_state(b"K\x04\x85"), "good.pkl")
    np.testing.assert_array_equal(loaded.array, np.zeros(4, np.int32))


def test_memo_bomb_stays_small():
    """Lists of lists of lists: 10^30 leaves if expanded, 300 references as read."""
    bomb = b"(]q\x00"
    for index in range(30):
        bomb += b"](" + (b"h" + bytes([index])) * 10 + b"eq" + bytes([index + 1])
    loaded = load_pickle(bomb + b"t.", "bomb.pkl")
    assert len(loaded) == 31
    assert all(item is loaded[29] for item in loaded[30])


def test_nesting_and_length_are_bounded(monkeypatch):
    monkeypatch.setattr(restricted_pickle, "MAX_OPCODES", 10_000)
    for bomb in (
        b"N" + b"\x85" * 20_000 + b".",
        b"(" * 20_000,
        b"]" * 20_000 + b"a" * 19_999 + b".",
    ):
        with pytest.raises(InvalidModel, match="more than 10000 opcodes"):
            load_pickle(bomb, "bomb.pkl")


def test_deep_nesting_within_the_limit_is_harmless():
    load_pickle(b"N" + b"\x85" * 200_000 + b".", "deep.pkl")
    with pytest.raises(InvalidModel, match="key of a dict"):
        load_pickle(b"}N" + b"\x85" * 200_000 + b"Ns.", "deep.pkl")


def test_repeated_contents_are_counted(monkeypatch):
    """One text in the file, encoded again and again by a few bytes each."""
    monkeypatch.setattr(restricted_pickle, "MAX_BYTES", 100_000)
    again = b"c_codecs\nencode\n(h\x00h\x01tR"
    bomb = b"(" + text("x" * 50_000) + b"q\x00" + text("latin1") + b"q\x01" + again * 100 + b"t."
    with pytest.raises(InvalidModel, match="the arrays take more than"):
        load_pickle(bomb, "bomb.pkl")


def test_a_file_over_the_size_limit_is_refused(monkeypatch):
    monkeypatch.setattr(restricted_pickle, "MAX_BYTES", 100)
    with pytest.raises(InvalidModel, match="at most 100 are read"):
        load_pickle(b"N" * 101, "big.pkl")


ARRAYS = [
    np.arange(24, dtype=dtype).reshape(2, 3, 4)
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "float32", "float64")
] + [
    np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    np.arange(6, dtype=">i4"),
    np.arange(12, dtype=np.float32)[::3],
    np.zeros((0, 3), np.int8) + 0,
    np.array(7, np.int16),
]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_come_back_as_they_were_written(protocol):
    arrays = [array for array in ARRAYS if array.size or protocol > 2]
    loaded = load_pickle(pickle.dumps(arrays, protocol), "arrays.pkl")
    for original, read in zip(arrays, loaded, strict=True):
        assert isinstance(read, PickledArray)
        assert read.array.dtype == original.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read.array, original)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_values_come_back_as_they_were_written(protocol):
    value = {
        "a": [1, -1, 300, 70_000, -(2**40), 1.5, None, True, False, "é", (), (1,), (1, 2, 3, 4)]
    }
    shared = ["once"]
    value["b"], value["c"] = shared, shared
    loaded = load_pickle(pickle.dumps(value, protocol), "plain.pkl")
    assert loaded == value
    assert loaded["b"] is loaded["c"]


VALID = pickle.dumps(network(), protocol=2)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(VALID) - 1), st.binary(min_size=0, max_size=4), st.booleans())
def test_a_damaged_pickle_is_read_or_refused_never_a_crash(position, patch, truncate):
    damaged = VALID[:position] + patch + (b"" if truncate else VALID[position + len(patch) :])
    try:
        load_pickle(damaged, "damaged.pkl")
    except InvalidModel as error:
        assert "\n" not in str(error)
