"""Fuse chains of convolutions where a tensor between them makes the peak; rows of it live in a ring.

Before:  %e, %m = "tiny.conv2d"(%x, %w0, %b0) ...         expanded: the largest tensor of the block
         %d = "tiny.conv2d"(%e, %w1, %b1) ...             depthwise
         %p = "tiny.conv2d"(%d, %w2, %b2) ...
         %y = "tiny.add"(%p, %x) ...
After:   %y, %m = "tiny.fused_block"(%x, %w0, %b0, ...) ({ ... }) {tiny.scratch_bytes = ...}

A chain is found by its uses alone: every tensor inside feeds the next op of the chain and otherwise
only ops that copy some of its channels; those copies and the clamp masks are all that outlives the
fused op. Any kernel, stride, padding and groups will do, and an addition may end the chain.

Which chains: those without which the lowest peak cannot be reached, and no others, because a small
hidden tensor costs nothing. For the best order of the function each possible segment is priced at
the bytes that its step would need; the lowest peak is the dearest step that must stay, or the
dearest segment of the best partition. Then the fewest ops are fused that keep within it. @infer is
fused where it would need more than @train_step does. Integer results do not change.

Cost: one order search a function, and a quadratic walk over each chain.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tiny_dialect.attributes import integer, string
from tiny_dialect.bindings import ir
from tiny_dialect.ops import Add, Conv2D, GatherChannels
from tiny_dialect.ops.fused import MAX_RESULTS, create_fused_block, create_yield
from tiny_dialect.types import is_quantized
from tiny_passes.graph import TRAIN_STEP, body, functions, layer_of, users
from tiny_passes.liveness import FunctionGraph, Order, lifetimes, read_function, round_up
from tiny_passes.liveness import choose_sharings, live_bytes
from tiny_passes.order_search import find_order
from tiny_passes.registry import register_pass
from tiny_passes.row_schedule import Chain, scratch_bytes

_MAX_BUFFERS = 32
"""What one dispatch takes."""

_TABLES = {"tiny.conv2d": 2, "tiny.add": 1, "tiny.gather_channels": 1}
"""Buffers that a kernel needs for an op besides its operands and results."""


@register_pass("tiny-fuse-blocks", anchor="builtin.module")
def fuse_blocks(module: Any, *, all: bool = False) -> None:
    """Fuse in every function of `module`; with `all` every chain, whether it makes the peak or not."""
    known = [function for function in functions(module).values() if not function.is_external]
    known.sort(key=lambda function: function.name.value != TRAIN_STEP)
    peak = 0
    for function in known:
        costs = _Costs(function)
        runs = find_runs(function)
        peak = max(peak, costs.floor(runs), *(costs.lowest_peak(run) for run in runs), 0)
        limit = -1 if all else peak
        segments = [segment for run in runs for segment in costs.partition(run, limit)]
        for segment in segments:
            if len(segment) > 1:
                fuse(chain_in(segment))


def find_runs(function: Any) -> list[list[Any]]:
    """The longest chains: each op hands its first result to the next and to gathers only."""
    place = {op.operation: number for number, op in enumerate(body(function))}
    following = {}
    for op in body(function):
        if isinstance(op, Conv2D):
            consumer = _consumer(op, place)
            if consumer is not None:
                following[op.operation] = consumer
    continued = {op.operation for op in following.values()}
    runs = []
    for op in body(function):
        if op.operation in following and op.operation not in continued:
            run = [op]
            while run[-1].operation in following:
                run.append(following[run[-1].operation])
            runs.append(run)
    return runs


def _consumer(conv: Any, place: dict[Any, int]) -> Any | None:
    """The op that may follow `conv` in a chain; None where another op needs its output."""
    chained = [user for user in users(conv.y) if not isinstance(user, GatherChannels)]
    if len(chained) != 1:
        return None
    (consumer,) = chained
    if isinstance(consumer, Conv2D):
        return consumer if consumer.x == conv.y else None
    return consumer if isinstance(consumer, Add) else None


def chain_in(segment: Sequence[Any]) -> Chain:
    """The chain of consecutive ops of a run, with the gathers of its hidden tensors."""
    addition = segment[-1] if isinstance(segment[-1], Add) else None
    convolutions = tuple(segment[:-1] if addition is not None else segment)
    hidden = [op.results[0] for op in segment[:-1]]
    gathers = [user for value in hidden for user in users(value) if user not in segment]
    return Chain(convolutions, addition, tuple(gathers))


def _operands(chain: Chain) -> list[Any]:
    """What the chain reads from outside: activations, then parameters, in order of use."""
    inside = {result for op in _ops(chain) for result in op.results}
    read = dict.fromkeys(v for op in _ops(chain) for v in op.operands if v not in inside)
    return sorted(read, key=lambda value: not is_quantized(value))


def _ops(chain: Chain) -> Iterator[Any]:
    yield from chain.convolutions
    if chain.addition is not None:
        yield chain.addition
    yield from chain.gathers


def _results(chain: Chain) -> list[Any]:
    """The chain's output, then every other value inside that an op outside reads."""
    ops = {op.operation for op in _ops(chain)}
    outside = [
        result
        for op in _ops(chain)
        for result in op.results
        if any(use.owner.operation not in ops for use in result.uses)
    ]
    return [chain.output, *(value for value in outside if value != chain.output)]


def _is_legal(chain: Chain, place: dict[Any, int]) -> bool:
    """True where the chain can run at the place of its last op, in one dispatch."""
    if not chain.convolutions:
        return False
    hidden = {conv.results[0] for conv in chain.convolutions}
    if chain.addition is not None and chain.residual in hidden:
        return False
    last = place[(chain.addition or chain.convolutions[-1]).operation]
    ops = {op.operation for op in _ops(chain)}
    results = _results(chain)
    for value in results:
        for use in value.uses:
            if use.owner.operation not in ops and place[use.owner.operation] < last:
                return False
    if any(value.owner in ops for value in _operands(chain)):
        return False
    return _buffers(chain) <= _MAX_BUFFERS and len(results) <= MAX_RESULTS


def _buffers(chain: Chain) -> int:
    """What the fused kernel binds: operands, results, rings and tables."""
    tables = sum(
        _TABLES[op.operation.name] + ("trained_channels" in op.attributes) for op in _ops(chain)
    )
    rings = len(chain.convolutions) - 1
    return len(_operands(chain)) + len(_results(chain)) + rings + tables


def fuse(chain: Chain) -> Any:
    """Replace the ops of `chain` by one `tiny.fused_block` at the place of the last; returns it."""
    operands, results = _operands(chain), _results(chain)
    last = chain.addition or chain.convolutions[-1]
    block = create_fused_block(
        operands,
        [value.type for value in results],
        loc=last.location,
        ip=ir.InsertionPoint(last.operation),
    )
    if layer := _layer(chain):
        block.attributes["layer"] = string(layer)
    block.attributes["tiny.scratch_bytes"] = integer(scratch_bytes(chain))
    inner = block.regions[0].blocks[0]
    values = dict(zip(operands, inner.arguments, strict=True))
    ops = _in_chain_order(chain)
    with ir.InsertionPoint(inner):
        for op in ops:
            copy = op.operation.clone()
            for number, operand in enumerate(op.operands):
                copy.operands[number] = values[operand]
            values.update(zip(op.results, copy.results, strict=True))
        create_yield([values[value] for value in results], loc=last.location)
    for old, new in zip(results, block.results, strict=True):
        old.replace_all_uses_with(new)
    for op in reversed(ops):
        op.operation.erase()
    return block


def _in_chain_order(chain: Chain) -> list[Any]:
    """The ops of the chain, each gather behind what it reads from."""
    ops: list[Any] = []
    for conv in chain.convolutions:
        ops.append(conv)
        ops += [gather for gather in chain.gathers if gather.x == conv.y]
    return ops if chain.addition is None else [*ops, chain.addition]


def _layer(chain: Chain) -> str:
    """The block that all layers of the chain belong to, or the first and the last layer."""
    names = [layer_of(op) for op in _in_chain_order(chain)]
    blocks = {name.rpartition(".")[0] for name in names}
    common = blocks.pop() if len(blocks) == 1 else ""
    return common or "..".join(dict.fromkeys(name for name in (names[0], names[-1]) if name))


class _Costs:
    """Bytes that the steps of a function need in its best order, fused and as they are."""

    def __init__(self, function: Any) -> None:
        self._source: FunctionGraph = read_function(function)
        self._graph = self._source.graph
        self._order: Order = find_order(self._graph).order
        self._needs = live_bytes(
            self._graph, self._order, choose_sharings(self._graph, self._order)
        )
        self._lives = lifetimes(self._graph, self._order)
        self._place = {
            self._source.ops[step].operation: place
            for place, step in enumerate(self._order)
            if self._source.ops[step] is not None
        }
        self._buffer = {value: number for number, value in enumerate(self._source.values)}

    @cached_property
    def _sizes(self) -> list[int]:
        return [buffer.size_bytes for buffer in self._graph.buffers]

    def floor(self, runs: Sequence[Sequence[Any]]) -> int:
        """What the ops outside `runs` need."""
        inside = {self._place[op.operation] for run in runs for op in run}
        return max(need for place, need in enumerate(self._needs) if place not in inside)

    def need(self, segment: Sequence[Any]) -> int | None:
        """The bytes that `segment` needs as one op; None where it cannot be one."""
        if len(segment) == 1:
            return self._needs[self._place[segment[0].operation]]
        chain = chain_in(segment)
        if not _is_legal(chain, self._place):
            return None
        place = self._place[segment[-1].operation]
        hidden = {self._buffer[r] for op in _ops(chain) for r in op.results}
        touched = {self._buffer[value] for value in _results(chain)}
        touched |= {self._buffer[v] for v in _operands(chain) if v in self._buffer}
        across = {
            number
            for number, life in enumerate(self._lives)
            if life.first <= place <= life.last and number not in hidden
        }
        scratch = round_up(scratch_bytes(chain), 4)
        return sum(self._sizes[number] for number in across | touched) + scratch

    def lowest_peak(self, run: Sequence[Any]) -> int:
        """The dearest segment of the best partition of `run`."""
        best = [0]
        for end in range(1, len(run) + 1):
            reached = [
                max(best[start], need)
                for start in range(end)
                if (need := self.need(run[start:end])) is not None
            ]
            best.append(min(reached))
        return best[-1]

    def partition(self, run: Sequence[Any], limit: int) -> list[list[Any]]:
        """The segments that need at most `limit` bytes with the fewest ops fused.

        With a negative limit the fewest segments, whatever they need.
        """
        best: list[tuple[tuple[int, int], list[list[Any]]]] = [((0, 0), [])]
        for end in range(1, len(run) + 1):
            reached = []
            for start in range(end):
                segment = list(run[start:end])
                need = self.need(segment)
                if need is None or best[start] is None or 0 <= limit < need:
                    continue
                (cost, peak), segments = best[start]
                fused = 1 if limit < 0 else (len(segment) if len(segment) > 1 else 0)
                reached.append(((cost + fused, max(peak, need)), [*segments, segment]))
            best.append(min(reached, key=lambda entry: entry[0], default=None))
        return best[-1][1]
