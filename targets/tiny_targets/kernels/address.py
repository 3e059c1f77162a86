"""Addresses: bytes behind a pointer, and loops that walk pointers to an end.

    x = address_of(nest.read(op.x))
    x, total = walk(x + size, (x, nest.number(0)), lambda x, t: (x + 1, t + x.load("i8")))

Memrefs give one element at a time and keep an index register; a pointer gives whole words, pairs of
words with an immediate offset, and a loop whose only counter is an address that is needed anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tiny_dialect.bindings import ir, load
from tiny_targets.kernels.nest import Buffer
from tiny_targets.kernels.scalar import Index, Scalar, integer_type

_arith = load("dialects.arith")
_llvm = load("dialects.llvm")
_memref = load("dialects.memref")
_scf = load("dialects.scf")

_NO_FLAGS = 0
_INBOUNDS = 3
_DIFFERENT = 1
_HALF_WORD_BITS = 32

ELEMENT_BYTES = {"i8": 1, "i16": 2, "i32": 4, "f32": 4}


def _pointer_type() -> Any:
    return ir.Type.parse("!llvm.ptr")


class Address:
    """A byte address; `address + n` is `n` bytes further."""

    __slots__ = ("_base", "_offset")

    def __init__(self, base: Any, offset: int = 0) -> None:
        self._base, self._offset = base, offset

    @property
    def value(self) -> Any:
        """The SSA pointer."""
        if not self._offset:
            return self._base
        return self._element(self._base, [], [self._offset])

    @staticmethod
    def _element(base: Any, dynamic: list[Any], constants: list[int]) -> Any:
        flags = ir.IntegerAttr.get(integer_type(32), _INBOUNDS if not dynamic else _NO_FLAGS)
        return _llvm.getelementptr(
            _pointer_type(), base, dynamic, constants, integer_type(8), flags
        )

    def __add__(self, offset: Index) -> Address:
        if isinstance(offset, int):
            return Address(self._base, self._offset + offset)
        marker = -(2**31)  # LLVM's kDynamicIndex: the offset is an operand.
        moved = self._element(self.value, [offset.as_integer().value], [marker])
        return Address(moved)

    def settled(self) -> Address:
        """The same, opaque to the optimizer, at no cost: what follows counts from here.

        Loops inside others are else rewritten to count from far outside, and run out of registers.
        """
        return Address(_llvm.inline_asm(_pointer_type(), [self.value], "", "=r,0"))

    def as_integer(self) -> Scalar:
        """The address as `i32`."""
        return Scalar(_llvm.ptrtoint(integer_type(32), self.value))

    def load(self, element: str, *, volatile: bool = False) -> Scalar:
        """The `element` here (`i8 i16 i32 i64 f32`), sign-extended to `i32` where narrower.

        A volatile load is never merged with a neighbour: the word may lie at any address where the
        core serves those.
        """
        loaded = _llvm.load(_type(element), self.value, volatile_=volatile or None)
        if element in ("i8", "i16"):
            return Scalar(_arith.extsi(integer_type(32), loaded))
        return Scalar(loaded)

    def load_byte(self) -> Scalar:
        """The byte here, zero-extended to `i32`."""
        loaded = _llvm.load(integer_type(8), self.value)
        return Scalar(_arith.extui(integer_type(32), loaded))

    def store(self, scalar: Scalar, element: str, *, volatile: bool = False) -> None:
        """Store the low bits of `scalar` as `element`."""
        value, type_ = scalar.value, _type(element)
        if value.type != type_:
            value = _arith.trunci(type_, value)
        _llvm.store(value, self.value, volatile_=volatile or None)


def _type(element: str) -> Any:
    return ir.F32Type.get() if element == "f32" else integer_type(int(element[1:]))


ANY_SIZE = (1,)
"""The shape of an argument that is only used as an address: calls of any size share the kernel."""


def address_of(buffer: Buffer) -> Address:
    """Where a kernel argument starts."""
    index = _memref.extract_aligned_pointer_as_index(buffer.argument)
    number = _arith.index_cast(integer_type(32), index)
    return Address(_llvm.inttoptr(_pointer_type(), number))


Carried = Any
"""An `Address` or a `Scalar`."""


def walk(
    end: Carried, carried: Sequence[Carried], body: Callable[..., Sequence[Carried]]
) -> tuple[Any, ...]:
    """Do `carried = body(*carried)` while `carried[0]` differs from `end`, of the same type.

    The body runs at least once. Returns what is carried at the end.
    """
    values = [item.value for item in carried]
    types = [value.type for value in values]
    stop = end.value
    loop = _scf.WhileOp(types, values)
    place = [ir.Location.unknown()] * len(types)
    before = loop.regions[0].blocks.append(*types, arg_locs=place)
    after = loop.regions[1].blocks.append(*types, arg_locs=place)
    with ir.InsertionPoint(before):
        following = body(*(_wrap(argument) for argument in before.arguments))
        results = [item.value for item in following]
        predicate = ir.IntegerAttr.get(integer_type(64), _DIFFERENT)
        _scf.condition(_llvm.icmp(predicate, results[0], stop), results)
    with ir.InsertionPoint(after):
        _scf.yield_(list(after.arguments))
    return tuple(_wrap(result) for result in loop.results)


def _wrap(value: Any) -> Any:
    return Address(value) if str(value.type) == "!llvm.ptr" else Scalar(value)


class Elements:
    """Elements of memory by their address, with the indexing of a `Buffer`."""

    def __init__(self, element: str) -> None:
        self.element = element

    def __getitem__(self, place: Address) -> Scalar:
        return place.load(self.element)

    def __setitem__(self, place: Address, scalar: Scalar) -> None:
        place.store(scalar, self.element)
