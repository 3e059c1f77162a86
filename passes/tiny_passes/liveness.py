"""Which arena buffers a function needs, and from when to when: the model that order and plan share.

A `StepGraph` is plain data: buffers with sizes, steps that read and write them, and what must come
before what. `read_function` makes it from IR; nothing else here knows MLIR. An order is a tuple of
all step indices. Step 0 is the entry, which writes the arguments; the last step is the return.

What is a buffer: a function argument (of a streamed one its ring of rows), and every op result but
a parameter's (frozen parameters lie in flash, trained ones in the state region). A buffer lives
from the step that writes it to the last step that reads it, both included; returned values
therefore live to the end.

What comes before what: producers before users, every other use of a parameter before its update,
and the loss before the first update, so that a device can refuse a step before it changed anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.ops import Parameter
from tiny_dialect.types import NUMPY_TYPES, element_name, storage_bytes
from tiny_passes.graph import body, layer_of, parameters
from tiny_passes.overwriting import Overwriting, granted, possible
from tiny_passes.registry import PassError
from tiny_passes.streamed import is_streamed, ring_rows, row_bytes

GRANULE_BYTES = 4
"""Sizes are counted in whole words, because every offset is a multiple of four."""

Order = tuple[int, ...]


@dataclass(frozen=True)
class Buffer:
    """A piece of the arena. `size_bytes` is a multiple of `GRANULE_BYTES`."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Sharing:
    """The buffer `result` may start `distance` bytes before `operand`, if `operand` dies there."""

    result: int
    operand: int
    distance: int = 0


@dataclass(frozen=True)
class Step:
    """One op, by the indices of the buffers it touches and of the steps that must precede it."""

    name: str
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    sharings: tuple[Sharing, ...] = ()
    scratch_bytes: int = 0
    is_update: bool = False


@dataclass(frozen=True)
class Lifetime:
    """The positions in an order of the first and the last step at which a buffer is live."""

    first: int
    last: int

    def overlaps(self, other: "Lifetime") -> bool:
        """True where both are live at one step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class StepGraph:
    """The buffers and steps of one function. `steps[0]` is the entry, `steps[-1]` the return.

    The steps are listed in a valid order: `after` names earlier steps only.
    """

    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]

    @property
    def source_order(self) -> Order:
        """The order in which the function is written."""
        return tuple(range(len(self.steps)))

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """The steps that read each buffer."""
        readers: list[list[int]] = [[] for _ in self.buffers]
        for index, step in enumerate(self.steps):
            for buffer in step.reads:
                readers[buffer].append(index)
        return tuple(tuple(steps) for steps in readers)

    def size(self, buffers: Iterable[int]) -> int:
        """The bytes of `buffers` together."""
        return sum(self.buffers[buffer].size_bytes for buffer in buffers)


@dataclass(frozen=True)
class FunctionGraph:
    """A function's graph with the IR behind it.

    `ops[i]` is the op of step i (None for the entry), `values[j]` the value in buffer j, and
    `parameters` are the `tiny.parameter` ops, which are no steps.
    """

    graph: StepGraph
    ops: tuple[Any, ...]
    values: tuple[Any, ...]
    parameters: tuple[Any, ...]


def lifetimes(graph: StepGraph, order: Order) -> tuple[Lifetime, ...]:
    """When each buffer is live, in positions of `order`."""
    position = {step: place for place, step in enumerate(order)}
    last = [max((position[step] for step in steps), default=0) for steps in graph.readers]
    first = [0] * len(graph.buffers)
    for index, step in enumerate(graph.steps):
        for buffer in step.writes:
            first[buffer] = position[index]
    return tuple(Lifetime(begin, max(begin, end)) for begin, end in zip(first, last, strict=True))


def choose_sharings(graph: StepGraph, order: Order) -> tuple[Sharing, ...]:
    """The results that take storage of a dying operand: of two that die, where it saves more.

    Each operand and each result is shared at most once, so the sharings form chains.
    """
    lives = lifetimes(graph, order)
    chosen: list[Sharing] = []
    for place, index in enumerate(order):
        taken: set[int] = set()
        most_first = sorted(graph.steps[index].sharings, key=lambda s: -saved_bytes(graph, s))
        for sharing in most_first:
            dies = lives[sharing.operand].last == place
            saves = saved_bytes(graph, sharing) > 0
            if dies and saves and not taken & {sharing.result, sharing.operand}:
                taken |= {sharing.result, sharing.operand}
                chosen.append(sharing)
    return tuple(chosen)


def saved_bytes(graph: StepGraph, sharing: Sharing) -> int:
    """The bytes that the result and the operand have in common if they overlap."""
    result, operand = graph.buffers[sharing.result], graph.buffers[sharing.operand]
    return max(0, min(result.size_bytes - sharing.distance, operand.size_bytes))


def live_bytes(graph: StepGraph, order: Order, sharings: Sequence[Sharing] = ()) -> tuple[int, ...]:
    """Bytes that each step of `order` needs at once: live buffers and scratch, shared ones once."""
    change = [0] * (len(order) + 1)
    for buffer, lifetime in zip(graph.buffers, lifetimes(graph, order), strict=True):
        change[lifetime.first] += buffer.size_bytes
        change[lifetime.last + 1] -= buffer.size_bytes
    shared = {sharing.result: saved_bytes(graph, sharing) for sharing in sharings}
    needed, live = [], 0
    for place, index in enumerate(order):
        live += change[place]
        step = graph.steps[index]
        saved = sum(shared.get(buffer, 0) for buffer in step.writes)
        needed.append(live + step.scratch_bytes - saved)
    return tuple(needed)


def peak_bytes(graph: StepGraph, order: Order, *, in_place: bool = True) -> int:
    """The largest of `live_bytes`: no plan of this order and these sharings is smaller."""
    sharings = choose_sharings(graph, order) if in_place else ()
    return max(live_bytes(graph, order, sharings))


def is_valid(graph: StepGraph, order: Order) -> bool:
    """True where `order` holds every step once and each after the steps it must follow."""
    if sorted(order) != list(graph.source_order):
        return False
    position = {step: place for place, step in enumerate(order)}
    return all(
        position[before] < position[index]
        for index, step in enumerate(graph.steps)
        for before in step.after
    )


def read_function(function: Any, *, row_overlap: bool = False) -> FunctionGraph:
    """The graph of a `func.func` of one block.

    With `row_overlap` every op may overwrite what its best traversal allows, whether it has been
    given that traversal or not.
    Raises `PassError` where an update does not follow every other use of its parameter, and for a
    value that is not a tensor of known size.
    """
    block = function.regions[0].blocks[0]
    named = parameters(function)
    ops = tuple(op for op in body(function) if not isinstance(op, Parameter))
    step_of = {op.operation: index for index, op in enumerate(ops, start=1)}
    values = (*block.arguments, *(result for op in ops for result in op.results))
    buffer_of = {value: index for index, value in enumerate(values)}
    before_update = _steps_before_updates(named, step_of)
    loss = _loss_step(ops, step_of)
    steps = [Step("entry", writes=tuple(range(len(block.arguments))))]
    for index, op in enumerate(ops[:-1], start=1):
        producers = {step_of.get(operand.owner, 0) for operand in op.operands}
        needed = {0, *producers, *before_update.get(index, ())}
        if is_update(op) and loss < index:
            needed.add(loss)
        after = tuple(sorted(needed))
        steps.append(_step(op, buffer_of, after, row_overlap))
    steps.append(_step(ops[-1], buffer_of, tuple(range(len(ops))), row_overlap))
    _require_sizes(function, values)
    buffers = tuple(Buffer(_value_name(value), _arena_bytes(value)) for value in values)
    graph = StepGraph(buffers, tuple(steps))
    return FunctionGraph(graph, (None, *ops), values, tuple(named.values()))


def _require_sizes(function: Any, values: Sequence[Any]) -> None:
    for value in values:
        if not has_storage(value):
            place = value.owner if hasattr(value, "result_number") else function
            raise PassError(place, f"has a value of type {value.type}, which has no storage size")


def has_storage(value: Any) -> bool:
    """True for tensors of static shape whose element type the dialect stores."""
    if not isinstance(value.type, ir.RankedTensorType) or not value.type.has_static_shape:
        return False
    return element_name(value) in NUMPY_TYPES


def _steps_before_updates(
    named: dict[str, Any], step_of: dict[Any, int]
) -> dict[int, tuple[int, ...]]:
    """For each update, the steps that still need its parameter as it was."""
    before: dict[int, tuple[int, ...]] = {}
    for symbol, parameter in named.items():
        uses = list(parameter.result.uses)
        for use in uses:
            if not is_update(use.owner) or use.operand_number != 0:
                continue
            update = step_of[use.owner.operation]
            others = {step_of[other.owner.operation] for other in uses} - {update}
            if any(step > update for step in others):
                raise PassError(use.owner, f"updates {symbol} before its last other use")
            before[update] = tuple(others)
    return before


def label_steps(function: Any) -> set[int]:
    """The steps of `@train_step(x, label, ...)` that depend on the label: loss, backward, updates.

    Empty for a function of another signature.
    """
    arguments = list(function.regions[0].blocks[0].arguments)
    if len(arguments) < 2 or str(arguments[1].type) != "tensor<i32>":
        return set()
    ops = [op for op in body(function) if not isinstance(op, Parameter)]
    derived, found = {arguments[1]}, set[int]()
    for index, op in enumerate(ops[:-1], start=1):
        if any(operand in derived for operand in op.operands):
            found.add(index)
            derived |= set(op.results)
    return found


def _loss_step(ops: Sequence[Any], step_of: dict[Any, int]) -> int:
    """The step that computes the loss, a scalar returned first; 0 where there is none."""
    returned = list(ops[-1].operands)
    if not returned or str(returned[0].type) != "tensor<f32>":
        return 0
    return step_of.get(returned[0].owner, 0)


def is_update(op: Any) -> bool:
    """True for ops that write the parameter in their first operand and have no result."""
    return op.operation.name.startswith("tiny.") and len(op.results) == 0


def _title(op: Any) -> str:
    """The op's name with its layer, for messages: `tiny.conv2d (blocks.3.depthwise)`."""
    layer = layer_of(op)
    return f"{op.operation.name} ({layer})" if layer else op.operation.name


def _step(op: Any, buffer_of: dict[Any, int], after: tuple[int, ...], row_overlap: bool) -> Step:
    reads = dict.fromkeys(buffer_of[value] for value in op.operands if value in buffer_of)
    writes = tuple(buffer_of[result] for result in op.results)
    scratch = (
        op.attributes["tiny.scratch_bytes"].value if "tiny.scratch_bytes" in op.attributes else 0
    )
    overwriting = granted(op)
    if row_overlap and not overwriting.distances:
        overwriting = possible(op)
        scratch = max(scratch, overwriting.scratch_bytes)
    return Step(
        _title(op),
        tuple(reads),
        writes,
        after,
        tuple(_sharings(op, overwriting, buffer_of)),
        round_up(scratch, GRANULE_BYTES),
        is_update(op),
    )


def _sharings(op: Any, overwriting: Overwriting, buffer_of: dict[Any, int]) -> Iterable[Sharing]:
    """One sharing an operand; a value that is read as two operands keeps the larger distance."""
    distances: dict[int, int] = {}
    for number, distance in overwriting.distances.items():
        if (buffer := buffer_of.get(op.operands[number])) is not None:
            distances[buffer] = max(distance, distances.get(buffer, 0))
    result = buffer_of[op.results[0]] if distances else 0
    return [Sharing(result, operand, distance) for operand, distance in distances.items()]


def _value_name(value: Any) -> str:
    number = value.arg_number if hasattr(value, "arg_number") else value.result_number
    owner = "argument" if hasattr(value, "arg_number") else f"{_title(value.owner)} result"
    return f"{owner} {number}"


def round_up(size_bytes: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `size_bytes`."""
    return -(-size_bytes // multiple) * multiple


def _arena_bytes(value: Any) -> int:
    """What a value takes of the arena: all of it, or the ring of a streamed input."""
    if is_streamed(value):
        return round_up(ring_rows(value) * row_bytes(value), GRANULE_BYTES)
    return whole_words(value)


def whole_words(value: Any) -> int:
    """The storage of a value in bytes, a multiple of `GRANULE_BYTES`."""
    return round_up(storage_bytes(value), GRANULE_BYTES)
