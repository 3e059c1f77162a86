"""Give every value an address in one static arena, and every trained parameter one in the state.

Before:  %y, %m = "tiny.conv2d"(%x, %w, %b) {...}
         %r = "tiny.add"(%y, %x) {...}                                   %y and %x die here
After:   %y, %m = "tiny.conv2d"(%x, %w, %b) {tiny.offsets = array<i64: 1024, 2048>, ...}
         %r = "tiny.add"(%y, %x) {tiny.offsets = array<i64: 1024>, ...}  in place over %y

Program order is execution order and stays, unless a search is asked for. Function attributes:
`tiny.arena_bytes`, `tiny.arena_lower_bound_bytes` (bytes live at the worst step of this order, in
whole words; where a result takes the storage of an operand the two count once), `tiny.arena_peak`
(that step's op and layer), `tiny.argument_offsets`, `tiny.state_bytes`. Trained parameters get
`tiny.state_offset`, in the order of @train_step; other functions use the same places, by symbol.
Each function has its own arena; all start at the same base, because functions do not run at the
same time.

With `search=cp-sat` (the extra `search`) order and offsets are chosen together, so the ops may
move, and `tiny.arena_proven_bound_bytes` is what every order and every plan needs at least.

Cost: a second or two for several hundred buffers; with `search=cp-sat` up to `seconds` a function,
none where the default plan is proven optimal. The ops are not changed otherwise.
"""

from dataclasses import dataclass
from typing import Any, Literal

from tiny_dialect.attributes import integer, integers, string
from tiny_dialect.errors import InvalidOption
from tiny_passes.graph import TRAIN_STEP, functions, is_trained
from tiny_passes.liveness import GRANULE_BYTES, FunctionGraph, read_function, whole_words
from tiny_passes.offset_search import ArenaPlan, plan_offsets
from tiny_passes.registry import PassError, register_pass
from tiny_passes.reorder import apply_order
from tiny_passes.streamed import RING_ROWS, is_streamed, mark_streamed, ring_rows

Search = Literal["greedy", "cp-sat"]

_ALIGNMENTS = (4, 8, 16)
_SECONDS = 60.0


@register_pass("tiny-plan-memory", anchor="builtin.module")
def plan_memory(
    module: Any,
    *,
    in_place: bool = True,
    alignment: int = GRANULE_BYTES,
    search: Search = "greedy",
    seconds: float = _SECONDS,
) -> None:
    """Plan every function of `module`; every offset is a multiple of `alignment` (4, 8 or 16).

    `search=cp-sat` looks for at most `seconds` a function for the best order and offsets.
    Raises `InvalidOption` for another alignment and without OR-Tools, `PassError` where two
    functions disagree about a trained parameter or an update precedes another use of its parameter.
    """
    if alignment not in _ALIGNMENTS:
        raise InvalidOption(f"tiny-plan-memory: alignment {alignment} is not one of {_ALIGNMENTS}")
    known = [function for function in functions(module).values() if not function.is_external]
    known.sort(key=lambda function: function.name.value != TRAIN_STEP)
    sources = [read_function(function) for function in known]
    state = plan_state(sources)
    for function, source in zip(known, sources, strict=True):
        if search == "cp-sat":
            plan = _searched(function, source, in_place, alignment, seconds)
        else:
            graph = source.graph
            plan = plan_offsets(graph, graph.source_order, in_place=in_place, alignment=alignment)
        _write_offsets(source, plan)
        _write_totals(function, source, plan, state)


def _searched(
    function: Any, source: FunctionGraph, in_place: bool, alignment: int, seconds: float
) -> ArenaPlan:
    """The plan of the best order, which the ops of the function are put in."""
    # OR-Tools is optional.
    from tiny_passes.exact_plan import search_plan

    found = search_plan(source.graph, in_place=in_place, alignment=alignment, seconds=seconds)
    if found.order != source.graph.source_order:
        apply_order(source, found.order)
    function.attributes["tiny.arena_proven_bound_bytes"] = integer(found.bound_bytes)
    return found.plan


@dataclass(frozen=True)
class StatePlan:
    """Where each trained parameter lies in the state region, by symbol, in bytes."""

    offsets: dict[str, int]
    state_bytes: int


def plan_state(sources: list[FunctionGraph]) -> StatePlan:
    """Consecutive places for the trained parameters, in order of their first function."""
    offsets: dict[str, int] = {}
    known: dict[str, Any] = {}
    state_bytes = 0
    for parameter in (parameter for source in sources for parameter in source.parameters):
        if not is_trained(parameter):
            continue
        symbol, kind = parameter.attributes["symbol"].value, parameter.result.type
        if symbol not in known:
            known[symbol], offsets[symbol] = kind, state_bytes
            state_bytes += whole_words(parameter.result)
        elif known[symbol] != kind:
            raise PassError(parameter, f"{symbol} is {kind} here and {known[symbol]} elsewhere")
    return StatePlan(offsets, state_bytes)


def _write_offsets(source: FunctionGraph, plan: ArenaPlan) -> None:
    for index, op in enumerate(source.ops[1:], start=1):
        writes = source.graph.steps[index].writes
        if writes:
            op.attributes["tiny.offsets"] = integers([plan.offsets[buffer] for buffer in writes])
        if index in plan.scratch_offsets:
            op.attributes["tiny.scratch_offset"] = integer(plan.scratch_offsets[index])


def _write_totals(function: Any, source: FunctionGraph, plan: ArenaPlan, state: StatePlan) -> None:
    arguments = [plan.offsets[buffer] for buffer in source.graph.steps[0].writes]
    function.attributes["tiny.argument_offsets"] = integers(arguments)
    for value in function.regions[0].blocks[0].arguments:
        if is_streamed(value):
            mark_streamed(function, **{RING_ROWS: ring_rows(value)})
    function.attributes["tiny.arena_bytes"] = integer(plan.arena_bytes)
    function.attributes["tiny.arena_lower_bound_bytes"] = integer(plan.bound_bytes)
    function.attributes["tiny.arena_peak"] = string(source.graph.steps[plan.peak_step].name)
    function.attributes["tiny.state_bytes"] = integer(state.state_bytes)
    function.attributes["tiny.stage"] = string("planned")
    for parameter in source.parameters:
        if is_trained(parameter):
            offset = state.offsets[parameter.attributes["symbol"].value]
            parameter.attributes["tiny.state_offset"] = integer(offset)
