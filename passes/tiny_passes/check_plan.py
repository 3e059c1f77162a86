"""Check a planned module against its own ops, without trusting the passes that planned it.

Before:  a module with the attributes of tiny-plan-memory
After:   the same module; or an error at the first op whose plan would corrupt a value

Independent by design: it shares no code with `liveness`, `reorder`, `order_search`, `plan_memory`
and `offset_search`, and works the other way round. It walks the ops in program order with a list of
who holds which bytes of the arena, as the device would fill it, and refuses every write over a
holder that is still to be read. What holds afterwards, for each function:

- every argument, result and scratch has an address inside the arena, a multiple of four;
- a write touches no byte of a value that is read here or later, except that the first result of an
  op may lie over an operand that is read here for the last time, where `check_overlap` finds that
  nothing is overwritten before it has been read;
- results and scratch of one op are disjoint, and so are the arguments;
- the ring of a streamed input keeps each row until it has been read (`check_stream`);
- an update writes a trained parameter, and no later op uses that;
- trained parameters lie in the state region, disjoint, a symbol in the same place everywhere;
- the stated lower bound is at most what the worst op of this plan uses, and at least what that op
  would use, scratch aside, if every allowed replacement were made.
"""

from dataclasses import dataclass
from typing import Any

from tiny_dialect.attributes import to_list
from tiny_dialect.bindings import ir
from tiny_dialect.types import storage_bytes
from tiny_passes.check_overlap import is_safe_overlap, most_common_bytes
from tiny_passes.check_stream import streamed_bytes
from tiny_passes.registry import PassError, register_pass

_WORD_BYTES = 4
_PARAMETER = "tiny.parameter"


@register_pass("tiny-check-plan", anchor="builtin.module")
def check_plan(module: Any) -> None:
    """Raise `PassError` at the first op of `module` whose planned addresses are not safe."""
    region = _StateRegion()
    for function in module.body.operations:
        if function.operation.name == "func.func" and not function.is_external:
            _ArenaWalk(function).check()
            region.check(function)


@dataclass(frozen=True)
class _Holder:
    """The bytes [start, end) of the arena with what they hold, read last by the op `last_read`."""

    what: str
    start: int
    end: int
    last_read: int
    value: Any = None

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def words(self) -> int:
        """The whole words that the bytes take."""
        return -(-self.size // _WORD_BYTES)

    def meets(self, other: "_Holder") -> bool:
        return self.start < other.end and other.start < self.end


class _ArenaWalk:
    """Fills the arena op by op, as the device would."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.arguments = list(function.regions[0].blocks[0].arguments)
        self.ops = list(function.regions[0].blocks[0].operations)
        self.arena_bytes = _stated_bytes(function, "tiny.arena_bytes")
        self.last_read: dict[Any, int] = {}
        for place, op in enumerate(self.ops):
            for value in op.operands:
                self.last_read[value] = place
        self.holders: list[_Holder] = []
        self.used_bytes = 0
        self.needed_bytes = 0

    def check(self) -> None:
        """Raise `PassError` at the first unsafe address of the function."""
        self._write(self.function, -1, self._arguments())
        for place, op in enumerate(self.ops):
            if op.operation.name != _PARAMETER:
                self._write(op, place, self._results(op, place))
        self._check_bound()
        _check_updates(self.ops)

    def _check_bound(self) -> None:
        stated = _stated_bytes(self.function, "tiny.arena_lower_bound_bytes")
        if not self.needed_bytes <= stated <= self.used_bytes:
            raise PassError(
                self.function,
                f"states a lower bound of {stated} bytes; the worst op needs {self.needed_bytes} "
                f"and uses {self.used_bytes}",
            )

    def _arguments(self) -> list[_Holder]:
        name = "tiny.argument_offsets"
        offsets = _offsets(self.function, name, len(self.arguments))
        return [
            self._holder(
                self.function,
                f"argument {number}",
                offset,
                value,
                -1,
                streamed_bytes(self.function, number),
            )
            for number, (value, offset) in enumerate(zip(self.arguments, offsets, strict=True))
        ]

    def _results(self, op: Any, place: int) -> list[_Holder]:
        """What `op` writes: its results and, without a value, its scratch."""
        written = []
        if len(op.results):
            offsets = _offsets(op, "tiny.offsets", len(op.results))
            for number, (value, offset) in enumerate(zip(op.results, offsets, strict=True)):
                what = f"result {number} of {_title(op)}"
                written.append(self._holder(op, what, offset, value, place))
        if "tiny.scratch_bytes" in op.attributes:
            size = _stated_bytes(op, "tiny.scratch_bytes")
            start = _stated_bytes(op, "tiny.scratch_offset")
            if size < 0:
                raise PassError(op, f"states {size} bytes of scratch memory")
            scratch = _Holder(f"scratch of {_title(op)}", start, start + size, place)
            self._check_range(op, scratch)
            written.append(scratch)
        return written

    def _holder(
        self, op: Any, what: str, start: int, value: Any, place: int, size: int | None = None
    ) -> _Holder:
        last_read = self.last_read.get(value, place)
        end = start + (_size(op, what, value) if size is None else size)
        holder = _Holder(what, start, end, last_read, value)
        self._check_range(op, holder)
        return holder

    def _check_range(self, op: Any, holder: _Holder) -> None:
        if holder.start % _WORD_BYTES:
            raise PassError(op, f"{holder.what} at {holder.start} is not aligned to {_WORD_BYTES}")
        if holder.start < 0 or holder.end > self.arena_bytes:
            raise PassError(
                op,
                f"{holder.what} at [{holder.start}, {holder.end}) is outside the arena of "
                f"{self.arena_bytes} bytes",
            )

    def _write(self, op: Any, place: int, written: list[_Holder]) -> None:
        """Let `op` take the bytes of `written`; refuse bytes that are in use."""
        in_use = [holder for holder in self.holders if holder.last_read >= place]
        for number, new in enumerate(written):
            for old in in_use:
                if new.meets(old) and not _may_replace(op, place, new, old):
                    raise PassError(op, f"{new.what} overwrites {old.what}, which is still needed")
            for other in written[:number]:
                if new.meets(other):
                    raise PassError(op, f"{new.what} overlaps {other.what}")
        self.holders = [*in_use, *written]
        self._count(op, place, written[:1], in_use)

    def _count(self, op: Any, place: int, first: list[_Holder], in_use: list[_Holder]) -> None:
        """Note what is in use at `op`: as planned, and if its first result replaced an operand."""
        # Scratch may have grown into bytes that are free anyway: only values must have a place.
        total = sum(h.words for h in self.holders if h.value is not None) * _WORD_BYTES
        if place >= 0 and first and len(op.results):
            dying = {holder.value for holder in in_use if holder.last_read == place}
            read = [number for number, value in enumerate(op.operands) if value in dying]
            total -= max((most_common_bytes(op, number) for number in read), default=0)
        self.used_bytes = max(self.used_bytes, _covered(self.holders))
        self.needed_bytes = max(self.needed_bytes, total)


def _may_replace(op: Any, place: int, new: _Holder, old: _Holder) -> bool:
    """True where `new` is result 0 of `op`, safely over an operand that is read here last."""
    if new.value is None or old.value is None or not len(op.results):
        return False
    if new.value != op.results[0] or old.last_read != place:
        return False
    read_as = [number for number, value in enumerate(op.operands) if value == old.value]
    distance = old.start - new.start
    return bool(read_as) and all(is_safe_overlap(op, number, distance) for number in read_as)


def _covered(holders: list[_Holder]) -> int:
    """The bytes that `holders` occupy together, in whole words."""
    covered, reached = 0, 0
    for holder in sorted(holders, key=lambda holder: holder.start):
        end = holder.start + holder.words * _WORD_BYTES
        covered += max(0, end - max(reached, holder.start))
        reached = max(reached, end)
    return covered


def _check_updates(ops: list[Any]) -> None:
    """Every update writes a trained parameter that no later op uses."""
    updated: dict[Any, Any] = {}
    for op in ops:
        for number, value in enumerate(op.operands):
            if value in updated:
                raise PassError(op, f"reads a parameter after {_title(updated[value])} wrote it")
            if number == 0 and _is_update(op) and not _is_trained(value):
                raise PassError(op, "writes what is not a trained parameter")
        if _is_update(op):
            updated[op.operands[0]] = op


class _StateRegion:
    """The trained parameters of all functions."""

    def __init__(self) -> None:
        self.state_bytes: int | None = None
        self.places: dict[str, tuple[int, int]] = {}
        self.types: dict[str, Any] = {}
        self.frozen: set[str] = set()

    def check(self, function: Any) -> None:
        """Raise `PassError` at a parameter whose place is unsafe or differs between functions."""
        stated = _stated_bytes(function, "tiny.state_bytes")
        if self.state_bytes not in (None, stated):
            raise PassError(
                function, f"states {stated} bytes of state, another function {self.state_bytes}"
            )
        self.state_bytes = stated
        seen: set[str] = set()
        for op in function.regions[0].blocks[0].operations:
            if op.operation.name == _PARAMETER:
                symbol = op.attributes["symbol"].value
                if symbol in seen:
                    raise PassError(op, f"{symbol} occurs twice in one function")
                seen.add(symbol)
                self._check_parameter(op, symbol)

    def _check_parameter(self, op: Any, symbol: str) -> None:
        trained = "trained" in op.attributes
        if symbol in (self.frozen if trained else self.places):
            raise PassError(op, f"{symbol} is trained in one function and frozen in another")
        if not trained:
            self.frozen.add(symbol)
            if "tiny.state_offset" in op.attributes:
                raise PassError(op, f"{symbol} is frozen, but has a place in the state region")
            return
        start = _stated_bytes(op, "tiny.state_offset")
        end = start + storage_bytes(op.results[0])
        self._check_place(op, symbol, start, end)
        if self.places.setdefault(symbol, (start, end)) != (start, end):
            raise PassError(op, f"{symbol} lies at {start} here and elsewhere in another function")
        if self.types.setdefault(symbol, op.results[0].type) != op.results[0].type:
            raise PassError(op, f"{symbol} has another type in another function")

    def _check_place(self, op: Any, symbol: str, start: int, end: int) -> None:
        if start % _WORD_BYTES:
            raise PassError(op, f"{symbol} at {start} of the state is not aligned to {_WORD_BYTES}")
        if start < 0 or end > (self.state_bytes or 0):
            raise PassError(
                op, f"{symbol} at [{start}, {end}) is outside the state of {self.state_bytes} bytes"
            )
        for other, (other_start, other_end) in self.places.items():
            if other != symbol and start < other_end and other_start < end:
                raise PassError(op, f"{symbol} overlaps {other} in the state region")


def _size(op: Any, what: str, value: Any) -> int:
    try:
        return storage_bytes(value)
    except (AttributeError, KeyError) as error:
        raise PassError(op, f"{what} has type {value.type}, which has no storage size") from error


def _is_update(op: Any) -> bool:
    return op.operation.name.startswith("tiny.") and len(op.results) == 0


def _is_trained(value: Any) -> bool:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.operation.name != _PARAMETER:
        return False
    return "trained" in owner.attributes


def _title(op: Any) -> str:
    """`tiny.conv2d (blocks.3.depthwise)`."""
    layer = f" ({op.attributes['layer'].value})" if "layer" in op.attributes else ""
    return f"{op.operation.name}{layer}"


def _stated_bytes(op: Any, name: str) -> int:
    if name not in op.attributes:
        raise PassError(op, f"has no {name}")
    attribute = op.attributes[name]
    if not isinstance(attribute, ir.IntegerAttr):
        raise PassError(op, f"expects {name} to be an integer, got {attribute}")
    return attribute.value


def _offsets(op: Any, name: str, number: int) -> list[int]:
    if name not in op.attributes:
        raise PassError(op, f"has no {name}")
    try:
        offsets = to_list(op.attributes[name])
    except TypeError as error:
        raise PassError(op, f"{name}: {error}") from error
    if len(offsets) != number:
        raise PassError(op, f"expects {number} {name}, got {len(offsets)}")
    return offsets
