"""Chains of convolutions in a function that may become one op: found by their uses alone.

Every tensor inside a chain feeds the next op of the chain and otherwise only ops that copy some of
its channels. Those copies and the clamp masks are what outlives the fused op.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tiny_dialect.ops import Add, Conv2D, GatherChannels
from tiny_dialect.ops.fused import MAX_RESULTS
from tiny_dialect.types import is_quantized
from tiny_passes.graph import body, users
from tiny_passes.row_schedule import Chain

MAX_BUFFERS = 32
"""What one dispatch takes."""

_TABLES = {"tiny.conv2d": 2, "tiny.add": 1, "tiny.gather_channels": 1}
"""Buffers that a kernel needs for an op besides its operands and results."""


def find_runs(function: Any) -> list[list[Any]]:
    """The longest chains: each op hands its first result to the next and to gathers only.

    No op is in two of them: of two branches that an addition joins, the longer one has it.
    """
    place = {op.operation: number for number, op in enumerate(body(function))}
    runs: dict[Any, list[Any]] = {}
    ended: dict[Any, list[Any]] = {}
    for op in body(function):
        run = [*runs.pop(op.operation, []), op]
        following = _consumer(op, place) if isinstance(op, Conv2D) else None
        if following is None:
            ended[op.operation] = run
            continue
        other = runs.get(following.operation, [])
        longer, shorter = (other, run) if len(other) > len(run) else (run, other)
        runs[following.operation] = longer
        if shorter:
            ended[shorter[-1].operation] = shorter
    found = [run for run in ended.values() if len(run) > 1]
    return sorted(found, key=lambda run: place[run[0].operation])


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


def chain_operands(chain: Chain) -> list[Any]:
    """What the chain reads from outside: activations, then parameters, in order of use."""
    inside = {result for op in chain_ops(chain) for result in op.results}
    read = dict.fromkeys(v for op in chain_ops(chain) for v in op.operands if v not in inside)
    return sorted(read, key=lambda value: not is_quantized(value))


def chain_ops(chain: Chain) -> Iterator[Any]:
    """Every op of the chain, gathers last."""
    yield from chain.convolutions
    if chain.addition is not None:
        yield chain.addition
    yield from chain.gathers


def chain_results(chain: Chain) -> list[Any]:
    """The chain's output, then every other value inside that an op outside reads."""
    ops = {op.operation for op in chain_ops(chain)}
    outside = [
        result
        for op in chain_ops(chain)
        for result in op.results
        if any(use.owner.operation not in ops for use in result.uses)
    ]
    return [chain.output, *(value for value in outside if value != chain.output)]


def is_legal(chain: Chain, place: dict[Any, int]) -> bool:
    """True where the chain can run at the place of its last op, in one dispatch."""
    if not chain.convolutions:
        return False
    hidden = {conv.results[0] for conv in chain.convolutions}
    if chain.addition is not None and chain.residual in hidden:
        return False
    last = place[(chain.addition or chain.convolutions[-1]).operation]
    ops = {op.operation for op in chain_ops(chain)}
    results = chain_results(chain)
    for value in results:
        for use in value.uses:
            if use.owner.operation not in ops and place[use.owner.operation] < last:
                return False
    if any(value.owner in ops for value in chain_operands(chain)):
        return False
    return buffers_of(chain) <= MAX_BUFFERS and len(results) <= MAX_RESULTS


def buffers_of(chain: Chain) -> int:
    """What the plain fused kernel binds: operands, results, rings and tables."""
    ops = list(chain_ops(chain))
    tables = sum(_TABLES[op.operation.name] + ("trained_channels" in op.attributes) for op in ops)
    rings = len(chain.convolutions) - 1
    return len(chain_operands(chain)) + len(chain_results(chain)) + rings + tables
