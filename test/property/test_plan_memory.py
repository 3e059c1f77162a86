"""Planned functions run on a byte arena give what plain interpretation gives; any order does.

The arena starts as garbage. An op finds garbage in its scratch and, unless it is elementwise and
replaces an operand, where its results go; only then are its operands read. So any address that is
shared wrongly shows.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from random_step import RandomStep

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.semantics import evaluate_op, initial_state, run
from tiny_dialect.types import element_name, numpy_type, shape_of, storage_bytes
from tiny_passes.registry import run_pipeline

ELEMENTWISE = ("tiny.add", "tiny.add_gradients", "tiny.scale_gradient")
SEEDS = st.integers(0, 10**9)
SIZES = st.integers(1, 40)


class Arena:
    """The memory of one call: values by address, masks packed to bits."""

    def __init__(self, function, seed):
        self.numbers = np.random.default_rng(seed)
        self.data = self.numbers.bytes(function.attributes["tiny.arena_bytes"].value)
        self.data = np.frombuffer(self.data, np.uint8).copy()

    def spoil(self, start, size):
        self.data[start : start + size] = self.numbers.integers(0, 256, size)

    def write(self, value, start, array):
        if element_name(value) == "i1":
            array = np.packbits(array, axis=-1, bitorder="little")
        stored = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        assert stored.size == storage_bytes(value)
        self.data[start : start + stored.size] = stored

    def read(self, value, start):
        stored = self.data[start : start + storage_bytes(value)].copy()
        shape = shape_of(value)
        if element_name(value) == "i1":
            bits = stored.reshape(*shape[:-1], -1)
            return np.unpackbits(bits, axis=-1, count=shape[-1], bitorder="little").astype(bool)
        return stored.view(numpy_type(value)).reshape(shape)


def run_in_arena(function, arguments, state, seed):
    """The returned arrays of a planned function; `state` by symbol is updated in place."""
    arena = Arena(function, seed)
    block = function.regions[0].blocks[0]
    address = dict(zip(block.arguments, function.attributes["tiny.argument_offsets"], strict=True))
    for value, array in zip(block.arguments, arguments, strict=True):
        arena.write(value, address[value], array)
    parameters = {}
    for op in block:
        if op.operation.name == "tiny.parameter":
            symbol = op.attributes["symbol"].value
            parameters[op.result] = state[symbol] if symbol in state else evaluate_op(op, [])[0]
            continue
        if op.operation.name == "func.return":
            return [arena.read(value, address[value]) for value in op.operands]
        starts = list(op.attributes["tiny.offsets"]) if len(op.results) else []
        replaced = {address[value] for value in op.operands if value in address}
        for value, start in zip(op.results, starts, strict=True):
            address[value] = start
            if start not in replaced or op.operation.name not in ELEMENTWISE:
                arena.spoil(start, storage_bytes(value))
        if "tiny.scratch_bytes" in op.attributes:
            scratch = op.attributes["tiny.scratch_offset"].value
            arena.spoil(scratch, op.attributes["tiny.scratch_bytes"].value)
        operands = [
            parameters[value] if value in parameters else arena.read(value, address[value])
            for value in op.operands
        ]
        for value, array in zip(op.results, evaluate_op(op, operands), strict=True):
            arena.write(value, address[value], array)
    raise AssertionError("no return")


def same(one, other):
    return [(a.shape, a.tobytes()) for a in one] == [(b.shape, b.tobytes()) for b in other]


def run_plain(function, arguments):
    state = initial_state(function)
    return run(function, arguments, state), state


@settings(max_examples=40, deadline=None)
@given(SEEDS, SIZES, st.booleans(), st.sampled_from((4, 16)), st.booleans())
def test_arena_gives_what_interpretation_gives(seed, size, in_place, alignment, reordered):
    with new_context(), ir.Location.unknown():
        step = RandomStep(seed, size)
        expected, state = run_plain(step.function, step.arguments)
        reorder = "tiny-reorder," if reordered else ""
        options = f"in_place={str(in_place).lower()} alignment={alignment}"
        run_pipeline(step.module, f"{reorder}tiny-plan-memory{{{options}}},tiny-check-plan")
        mine = initial_state(step.function)
        assert same(run_in_arena(step.function, step.arguments, mine, seed), expected)
        assert list(mine) == list(initial_state(step.function))
        assert same([mine[symbol] for symbol in state], list(state.values()))


@settings(max_examples=25, deadline=None)
@given(SEEDS, SIZES)
def test_reordering_changes_no_result_and_never_costs(seed, size):
    with new_context(), ir.Location.unknown():
        step = RandomStep(seed, size)
        expected, state = run_plain(step.function, step.arguments)
        run_pipeline(step.module, "tiny-plan-memory")
        before = step.function.attributes["tiny.arena_lower_bound_bytes"].value
        run_pipeline(step.module, "tiny-reorder,tiny-plan-memory")
        assert step.function.attributes["tiny.arena_lower_bound_bytes"].value <= before
        results, reached = run_plain(step.function, step.arguments)
        assert same(results, expected)
        assert same([reached[symbol] for symbol in state], list(state.values()))
