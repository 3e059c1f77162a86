"""`tiny_pipelines.iree.compile`, the library twin of `tiny-iree-compile`."""

from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from tiny_dialect.dialect import new_context, parse_module, to_bytecode
from tiny_dialect.errors import InvalidModel, InvalidOption
from tiny_dialect.semantics import run
from tiny_pipelines import iree
from tiny_pipelines.host import HostModel
from tiny_pipelines.iree import hooks as hooks_module

INPUTS = Path(__file__).parents[1] / "pipelines" / "iree" / "Inputs"
NETWORK = (INPUTS / "network.mlir").read_bytes()
PLAIN = (INPUTS / "plain.mlir").read_bytes()
CPU = tuple((INPUTS / "cpu.flags").read_text("utf-8").split())


def test_compiled_network_equals_the_semantics() -> None:
    model = HostModel(iree.compile(NETWORK, CPU))
    images = np.random.default_rng(0).integers(-128, 128, (8, 1, 2, 3, 1)).astype(np.int8)
    with new_context():
        module = parse_module(NETWORK, "network.mlir")
        for x in images:
            expected = run(module.body.operations[0], [x])[0]
            # Two products and a bias a logit: fused multiply-add may change the last bits.
            np.testing.assert_allclose(model.infer(x), expected, rtol=1e-6, atol=1e-6)


def test_text_bytecode_and_module_give_the_same_bytes() -> None:
    with new_context():
        module = parse_module(NETWORK, "module.mlir")
        before = to_bytecode(module)
        compiled = iree.compile(module, CPU)
        assert to_bytecode(module) == before, "the caller's module was changed"
    assert iree.compile(before, CPU) == compiled
    assert iree.compile(NETWORK.decode("utf-8"), CPU) == compiled


def test_phases_chain() -> None:
    flow = iree.compile(NETWORK, (*CPU, "--compile-to=flow"))
    assert flow.startswith(b"ML\xefR")
    in_order = "--iree-llvmcpu-reassociate-fp-reductions=false"
    rest = iree.compile(flow, (*CPU, in_order, "--compile-from=flow"))
    assert rest == iree.compile(NETWORK, CPU)


def test_hooks_see_iree_modules_in_the_order_of_phases() -> None:
    seen = []

    def see(module: object) -> None:
        seen.append(str(module).count("linalg.generic"))

    late, early = iree.Hook("flow", see, "late"), iree.Hook("abi", see, "early")
    assert iree.compile(NETWORK, CPU, (late, early)) == iree.compile(NETWORK, CPU)
    assert len(seen) == 2
    assert min(seen) > 0


def test_plain_module_is_left_to_iree() -> None:
    assert iree.compile(PLAIN, CPU) == iree.compile_bytecode(PLAIN, CPU, name="module.mlir")


def test_hooks_of_packages_come_from_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(group: str) -> list[EntryPoint]:
        assert group == "tiny_pipelines.iree_hooks"
        return [EntryPoint(phase, "hooks:mark", group) for phase in ("hal", "flow")]

    monkeypatch.syspath_prepend(str(INPUTS))
    monkeypatch.setattr(hooks_module, "entry_points", offered)
    found = hooks_module.installed_hooks()
    assert [(hook.phase, hook.after, hook.name) for hook in found] == [
        ("flow", "dispatch-creation", "hooks:mark"),
        ("hal", "executable-targets", "hooks:mark"),
    ]


@pytest.mark.parametrize(
    ("source", "flags", "error", "message"),
    [
        (NETWORK.replace(b"groups = 1", b"groups = 3"), CPU, InvalidModel, "module.mlir:4:"),
        (b"func.func @f() { oops }", CPU, iree.HostCompilationError, "oops"),
        (NETWORK, ("--compile-to=nowhere",), InvalidOption, "no phase nowhere"),
        (NETWORK, ("--no-such-flag",), InvalidOption, "no-such-flag"),
        (NETWORK, (), iree.HostCompilationError, "target"),
    ],
)
def test_errors_are_located(
    source: bytes, flags: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        iree.compile(source, flags)
