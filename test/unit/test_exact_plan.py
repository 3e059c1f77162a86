"""Order and addresses together: never worse than the default search, proven where it says so."""

import sys

import pytest

from tiny_dialect.errors import InvalidOption
from tiny_passes.exact_plan import search_plan
from tiny_passes.liveness import Buffer, Sharing, Step, StepGraph, is_valid
from tiny_passes.offset_eviction import Tenant, pack_below
from tiny_passes.offset_search import plan_offsets

cp_sat = pytest.importorskip("ortools.sat.python.cp_model", reason="needs the extra `search`")


def graph(sizes, steps):
    return StepGraph(tuple(Buffer(str(n), size) for n, size in enumerate(sizes)), tuple(steps))


def forked():
    """Two branches that are joined; the source order holds both wide tensors at once."""
    return graph(
        [16, 400, 400, 16, 16, 16],
        [
            Step("entry", writes=(0,)),
            Step("a", (0,), (1,), (0,)),
            Step("b", (0,), (2,), (0,)),
            Step("narrow a", (1,), (3,), (1,)),
            Step("narrow b", (2,), (4,), (2,)),
            Step("join", (3, 4), (5,), (3, 4)),
            Step("return", (5,), (), (0, 1, 2, 3, 4, 5)),
        ],
    )


def test_it_orders_and_places_at_once():
    assert plan_offsets(forked(), forked().source_order).arena_bytes > 800
    found = search_plan(forked(), seconds=20)
    assert is_valid(forked(), found.order)
    assert found.plan.arena_bytes == found.bound_bytes == 432
    assert found.is_optimal


def test_a_result_takes_the_place_of_an_operand_that_dies():
    chain = graph(
        [100, 100, 40],
        [
            Step("entry", writes=(0,)),
            Step("over", (0,), (1,), (0,), (Sharing(1, 0, 20),)),
            Step("scratch", (1,), (2,), (1,), (), 60),
            Step("return", (2,), (), (0, 1, 2)),
        ],
    )
    found = search_plan(chain, seconds=20)
    assert found.is_optimal and found.plan.arena_bytes == 200
    assert search_plan(chain, in_place=False, seconds=20).plan.arena_bytes == 200
    aligned = search_plan(chain, alignment=16, seconds=20).plan
    assert all(offset % 16 == 0 for offset in aligned.offsets)


def test_without_or_tools_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    with pytest.raises(InvalidOption, match=r"pip install 'tiny-training-compiler\[search\]'"):
        search_plan(forked(), seconds=1)
    with pytest.raises(InvalidOption, match="positive number of seconds"):
        search_plan(forked(), seconds=0)
    with pytest.raises(InvalidOption, match="got nan"):
        search_plan(forked(), seconds=float("nan"))


def test_eviction_packs_what_placing_in_order_does_not():
    def tenant(size, first, last, *neighbours):
        return Tenant(size, first, last, first, size, neighbours, ())

    # Lives: 0 [0,1], 1 [1,2], 2 [2,3]; the first and the last never meet.
    tenants = [tenant(8, 0, 1, 1), tenant(4, 1, 2, 0, 2), tenant(8, 2, 3, 1)]
    addresses = pack_below(tenants, 12, 4, rounds=50)
    assert addresses is not None
    for one, other in ((0, 1), (1, 2)):
        ends = addresses[one] + tenants[one].size, addresses[other] + tenants[other].size
        assert ends[0] <= addresses[other] or ends[1] <= addresses[one]
    assert pack_below(tenants, 8, 4, rounds=50) is None
