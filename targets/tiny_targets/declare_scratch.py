"""Declare the scratch memory that the kernels of a target can use, before the arena is planned.

Before:  %y, %m = "tiny.conv2d"(%x, %w, %b) {...}
After:   %y, %m = "tiny.conv2d"(%x, %w, %b) {tiny.scratch_bytes = 3104, ...}

A kernel names useful amounts, from the least upwards. First every op gets the least; the arena that
this needs stays as it is. Then each op gets the largest amount that fits beside what is live at it.
Functions share the arena: what the dearest step of any of them needs is free in all others. Where
the plan turns out larger all the same, because free bytes are scattered, everyone gets less.

This is the one step before code generation that knows the hardware. Results do not change.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from tiny_dialect.attributes import integer
from tiny_passes.graph import functions
from tiny_passes.liveness import choose_sharings, live_bytes, read_function, round_up
from tiny_passes.offset_search import plan_offsets
from tiny_passes.registry import register_pass
from tiny_targets.kernels.scratch import SCRATCH_BYTES, ScratchWish, scratch_of, scratch_wish_of
from tiny_targets.target import find_target

_WORD = 4

_SHARES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.0)
"""Of the arena: how much is filled. The first is taken with which the arena does not grow."""


@register_pass("tiny-declare-scratch", anchor="builtin.module")
def declare_scratch(module: Any, *, target: str) -> None:
    """Declare scratch memory for the kernels of `target` in all functions of a scheduled module."""
    core = find_target(target)
    known = [function for function in functions(module).values() if not function.is_external]
    wishes = [list(_wishes(function, core)) for function in known]
    for wished in wishes:
        _grant(wished, 0)
    arena = max((_planned_bytes(function) for function in known), default=0)
    for function, wished in zip(known, wishes, strict=True):
        for share in _SHARES if wished else ():
            _grant(wished, int(share * arena))
            if _planned_bytes(function) <= arena:
                break


_Wish = tuple[Any, int, ScratchWish]
"""An op, the bytes that are live beside its scratch memory, and what it can use."""


def _grant(wishes: Iterable[_Wish], arena: int) -> None:
    """Give each op what an arena of `arena` bytes has left, and at least the least."""
    for op, live, wish in wishes:
        op.attributes[SCRATCH_BYTES] = integer(round_up(wish.within(arena - live), _WORD))


def _wishes(function: Any, core: Any) -> Iterator[_Wish]:
    """Every op whose kernel can use scratch memory."""
    source = read_function(function)
    graph = source.graph
    needed = live_bytes(graph, graph.source_order, choose_sharings(graph, graph.source_order))
    for op, live in zip(source.ops[1:], needed[1:], strict=True):
        wish = scratch_wish_of(op, core)
        if wish is not None:
            yield op, live - scratch_of(op), wish


def _planned_bytes(function: Any) -> int:
    graph = read_function(function).graph
    return plan_offsets(graph, graph.source_order).arena_bytes
