"""Pipeline texts, option coercion, running, and the errors of each."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from tiny_dialect.dialect import parse_module
from tiny_dialect.errors import InvalidOption
from tiny_passes import registry
from tiny_passes.catalogue import builtin_passes
from tiny_passes.pipeline_text import Element, coerce_options, parse_elements
from tiny_passes.registry import (
    PassError,
    find_pass,
    load_file,
    register_pass,
    register_pipeline,
    run_pipeline,
)

TEXT = b"""
func.func @first(%a: i32) -> i32 {
  return %a : i32
}
"""


@pytest.fixture
def module(context):
    return parse_module(TEXT, "first.mlir")


@pytest.fixture(autouse=True)
def own_passes(monkeypatch):
    """Passes and pipelines that a test registers are gone afterwards, the built-in ones stay."""
    for entry in builtin_passes():
        find_pass(entry.name)
    monkeypatch.setattr(registry, "PASSES", dict(registry.PASSES))
    monkeypatch.setattr(registry, "PIPELINES", dict(registry.PIPELINES))


def test_pipeline_text_parses_and_prints():
    text = "a{x=1 y={p,q}},func.func(b,c{z}(d)),e"
    elements = parse_elements(text)
    assert elements == (
        Element("a", "x=1 y={p,q}"),
        Element("func.func", None, (Element("b"), Element("c", "z", (Element("d"),)))),
        Element("e"),
    )
    assert ",".join(map(str, elements)) == text
    assert parse_elements(" a , func.func( b ) ") == parse_elements("a,func.func(b)")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "column 1: expected a pass name"),
        ("a,,b", "column 3: expected a pass name"),
        ("a{x", "unbalanced '{'"),
        ("a(" * 9000 + ")" * 9000, r"column 66: more than 32 '\(' within each other"),
        ("f(a", r"column 4: expected '\)'"),
        ("a)", r"column 2: unbalanced '\)'"),
        ("a b", "column 3: expected ',' or the end"),
    ],
)
def test_malformed_pipeline_text(text, complaint):
    with pytest.raises(InvalidOption, match=complaint):
        parse_elements(text)


def options_of_every_type(
    op: object,
    *,
    flag: bool = False,
    off: bool = True,
    count: int = 0,
    ratio: float | None = None,
    name: str = "",
    many: tuple[int, ...] = (),
    path: Path | None = None,
    kind: Literal["a", "b"] = "a",
) -> None:
    """Only its annotations matter."""


def test_options_are_coerced_by_annotation():
    text = "flag off=no count=-3 ratio=0.5 name='x y' many=1,2 path=/a/b kind=b"
    assert coerce_options(options_of_every_type, text, "pass") == {
        "flag": True,
        "off": False,
        "count": -3,
        "ratio": 0.5,
        "name": "x y",
        "many": (1, 2),
        "path": Path("/a/b"),
        "kind": "b",
    }
    assert coerce_options(options_of_every_type, None, "pass") == {}
    assert coerce_options(options_of_every_type, "many=", "pass") == {"many": ()}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("size=3", "pass p has no option 'size'; it has count, flag, kind"),
        ("count=1 count=2", "option 'count' is given twice"),
        ("count=1.5", "option 'count' is of type int, got '1.5'"),
        ("many=1,x", "option 'many' is of type int, got 'x'"),
        ("count", "option 'count' needs a value"),
        ("flag=perhaps", "option 'flag' is true or false, got 'perhaps'"),
        ("kind=c", "option 'kind' is one of a, b, got 'c'"),
        ("name='x", "No closing quotation"),
    ],
)
def test_wrong_options(text, complaint):
    with pytest.raises(InvalidOption, match=complaint):
        coerce_options(options_of_every_type, text, "pass p")


def test_a_required_option_is_asked_for():
    def needs(op: object, *, scheme: Path) -> None:
        """Only its annotations matter."""

    with pytest.raises(InvalidOption, match="pass p needs the option 'scheme'"):
        coerce_options(needs, "", "pass p")


def test_passes_run_in_order_and_are_observed(module):
    seen = []
    register_pass("tiny-f", anchor="func.func")(lambda op: seen.append(op.name.value))
    register_pass("tiny-m", anchor="builtin.module")(lambda op: seen.append("module"))
    register_pipeline("tiny-both", "tiny-m,func.func(cse,tiny-f)", "both")
    run_pipeline(
        module, "tiny-f,tiny-both", observer=lambda text, op, seconds: seen.append(f"after {text}")
    )
    after = ["after tiny-f", "module", "after tiny-m", "after func.func(cse)", "first"]
    assert seen == ["first", *after, "after tiny-f"]


def test_a_pipeline_may_take_options(module):
    seen = []

    def count(op: object, *, n: int) -> None:
        seen.append(n)

    def text(*, n: int = 7) -> str:
        return f"tiny-count{{n={n + 1}}}"

    register_pass("tiny-count", anchor="builtin.module")(count)
    register_pipeline("tiny-counted", text, "counts")
    run_pipeline(module, "tiny-counted,tiny-counted{n=1}")
    assert seen == [8, 2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tiny-unheard-of", "unknown pass tiny-unheard-of"),
        ("unheard-of", "'unheard-of' does not refer to a registered pass"),
        ("cse{x=1}", "no such option x"),
        ("func.func(tiny-m)", "runs on builtin.module, not inside func.func"),
        ("tiny-m(cse)", "takes options in {}, no nested passes"),
        ("scf.for(tiny-m)", "nest in func.func only, not in scf.for"),
        ("tiny-loop", "pipeline tiny-loop contains itself"),
        ("tiny-fixed{x=1}", "tiny-fixed has no option 'x'"),
    ],
)
def test_a_wrong_pipeline_fails_before_anything_runs(module, text, complaint):
    ran = []
    register_pass("tiny-m", anchor="builtin.module")(lambda op: ran.append(op))
    register_pipeline("tiny-loop", "tiny-m,tiny-loop", "for ever")
    register_pipeline("tiny-fixed", "tiny-m", "no options")
    with pytest.raises(InvalidOption, match=complaint):
        run_pipeline(module, f"tiny-m,{text}")
    assert not ran


def test_a_native_function_pass_nests_implicitly(module):
    run_pipeline(module, "affine-loop-tile")


def test_a_pass_error_names_place_and_pass(module):
    def refuse(function):
        raise PassError(function, "cannot")

    register_pass("tiny-refuse", anchor="func.func")(refuse)
    with pytest.raises(PassError, match=r"^first.mlir:2:1: tiny-refuse: cannot$"):
        run_pipeline(module, "tiny-refuse")


def test_a_failing_native_pass_is_located(module):
    with pytest.raises(PassError, match=r"^first.mlir:2:1: func.func\(inline\): 'func.func' op"):
        run_pipeline(module, "func.func(inline)")


def test_invalid_ir_is_refused_unless_told_otherwise(module):
    def drop_return(function):
        next(iter(function.entry_block)).operation.erase()

    register_pass("tiny-drop", anchor="func.func")(drop_return)
    run_pipeline(module, "tiny-drop", verify=False)
    module = parse_module(TEXT, "first.mlir")
    with pytest.raises(PassError, match="tiny-drop: left invalid IR: "):
        run_pipeline(module, "tiny-drop")


def test_a_pass_may_ask_for_one_function(module):
    seen = []
    register_pass("tiny-first", anchor="func.func", only="first")(seen.append)
    register_pass("tiny-other", anchor="func.func", only="other")(seen.append)
    run_pipeline(module, "tiny-first")
    assert len(seen) == 1
    with pytest.raises(PassError, match="tiny-other: needs a function @other"):
        run_pipeline(module, "tiny-other")


def test_wrong_registrations():
    with pytest.raises(ValueError, match=r"anchor 'scf.for'"):
        register_pass("tiny-x", anchor="scf.for")
    with pytest.raises(ValueError, match="`only` names a function"):
        register_pass("tiny-x", anchor="builtin.module", only="infer")
    assert find_pass("tiny-differentiate") is not None
    with pytest.raises(InvalidOption, match="tiny-differentiate is already registered"):
        register_pass("tiny-differentiate", anchor="builtin.module")(lambda op: None)


@pytest.mark.parametrize("text", ["import nothing_of_this_name", "def ("])
def test_a_file_that_cannot_be_loaded(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=r"mine.py: cannot be loaded: \w+Error: "):
        load_file(path)
    with pytest.raises(InvalidOption, match=r"none.py: not a readable Python file"):
        load_file(tmp_path / "none.py")


def test_a_file_may_be_loaded_twice(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from tiny_passes.registry import register_pass\n"
        "@register_pass('tiny-mine', anchor='builtin.module')\n"
        "def mine(module): pass\n"
    )
    load_file(path)
    load_file(path)
    assert find_pass("tiny-mine") is not None


def test_every_built_in_pass_is_found_by_its_name():
    entries = builtin_passes()
    assert "tiny-differentiate" in [entry.name for entry in entries]
    for entry in entries:
        found = find_pass(entry.name)
        assert found is not None, f"{entry.name} is not in the file of its name"
        assert found.anchor == entry.anchor
        assert entry.summary.endswith("."), f"{entry.name} has no one-sentence summary"


def test_help_imports_neither_mlir_nor_numpy():
    code = (
        "import sys, contextlib, os\n"
        "from tiny_pipelines.cli.tiny_opt import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "assert not {'numpy', 'mlir', 'torch_mlir'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
