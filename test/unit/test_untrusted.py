"""Modules from elsewhere are read in a child first: what ends or holds up MLIR is one line."""

import os
import time

import psutil
import pytest

from tiny_dialect import untrusted
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context, parse_module, to_bytecode
from tiny_dialect.errors import InvalidModel
from tiny_dialect.untrusted import rehearse

ENDS = r"hostile: ends the reader of MLIR; it is damaged, nested too deeply or expands"
DEEP = 100_000


def chain_of(length, uses):
    """Attributes, each of which holds the one before `uses` times: long when printed."""
    lines = ["#a0 = [1]"]
    for index in range(1, length):
        lines.append(f"#a{index} = [{', '.join([f'#a{index - 1}'] * uses)}]")
    return "\n".join([*lines, f"module attributes {{x.a = #a{length - 1}}} {{}}"]).encode()


HOSTILE = {
    "attributes": b"module attributes {x.a = " + b"[" * DEEP + b"]" * DEEP + b"} {}",
    "types": b"func.func private @f(" + b"tuple<" * DEEP + b"i1" + b">" * DEEP + b")",
    "regions": b"module {" * DEEP + b"}" * DEEP,
    "expressions": b"#m = affine_map<(d0) -> (" + b"-" * 5 * DEEP + b"d0)>",
    "chain": chain_of(DEEP, 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_deep_nesting_is_refused(name):
    with new_context(), pytest.raises(InvalidModel, match=ENDS):
        parse_module(HOSTILE[name], "hostile")


def test_attributes_that_print_without_bound_are_refused(monkeypatch):
    monkeypatch.setattr(untrusted, "CPU_SECONDS", 1)
    with new_context(), pytest.raises(InvalidModel, match=r"hostile: (takes more|ends the reader)"):
        parse_module(chain_of(60, 2), "hostile")


def test_what_the_child_says_is_what_the_parent_says():
    with new_context(), pytest.raises(InvalidModel, match=r"m\.mlir:2:1: .*nobody\.knows") as one:
        parse_module(b"\nnobody.knows", "m.mlir")
    assert one.value.where == "m.mlir:2:1"


@pytest.mark.parametrize(
    "text",
    [
        r'module attributes {a.b = ["x", {c = "\C3\28"}]} {}',
        r'module attributes {a.b = "\\\FF"} {}',
        r'func.func @"\FE"() { return }',
    ],
)
def test_bytes_that_are_no_text_are_refused(text):
    """MLIR keeps any bytes in a string; Python cannot read those."""
    with new_context() as context:
        with pytest.raises(InvalidModel, match="hostile: holds a name or string that is"):
            parse_module(text.encode(), "hostile")
        module = ir.Module.parse(text, context)
        with pytest.raises(InvalidModel, match="not UTF-8"):
            parse_module(to_bytecode(module), "hostile")


def test_letters_of_any_kind_are_read():
    with new_context():
        found = parse_module('module attributes {a.b = "ü\\\\FF日本"} {}'.encode(), "good")
        assert found.operation.attributes["a.b"].value == "ü\\FF日本"


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (os.abort, ENDS),
        (lambda: os.kill(os.getpid(), 11), ENDS),
        (lambda: bytearray(8 << 30), ENDS),
        (lambda: [None for _ in iter(int, 1)], "hostile: (takes more than 1 s|ends the reader)"),
    ],
    ids=["abort", "segfault", "memory", "time"],
)
def test_a_child_that_dies_is_an_invalid_model(monkeypatch, work, message):
    monkeypatch.setattr(untrusted, "CPU_SECONDS", 1)
    with pytest.raises(InvalidModel, match=message):
        rehearse(work, "hostile", 10)


def test_a_child_that_waits_is_killed(monkeypatch):
    monkeypatch.setattr(untrusted, "CPU_SECONDS", 1)
    monkeypatch.setattr(untrusted, "_WALL_FACTOR", 0.2)
    before = time.monotonic()
    with pytest.raises(InvalidModel, match="takes more than 1 s to read"):
        rehearse(lambda: time.sleep(100), "hostile", 10)
    assert time.monotonic() - before < 10


def test_defects_of_the_program_are_left_for_the_parent_to_meet():
    rehearse(lambda: 1 // 0, "defect", 10)


def test_the_child_changes_nothing_here_and_costs_little(tmp_path):
    kept = []
    rehearse(lambda: kept.append(1), "x", 10)
    assert kept == []
    with new_context():
        data = to_bytecode(parse_module(b"module {}", "m"))
        before = time.process_time()
        for _ in range(10):
            parse_module(data, "m")
        assert time.process_time() - before < 10 * 0.05
    assert not [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE]
