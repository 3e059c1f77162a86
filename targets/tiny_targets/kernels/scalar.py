"""Scalars of a kernel under construction: SSA values with Python's operators.

Arithmetic happens in `i32`, `i64`, `f32` or `index`; a Python number takes the type of the other
operand, and two Python numbers stay Python numbers, so static index arithmetic stays out of the IR.
Floats are never re-associated: no fast-math flag is set. A back end may still fuse a product and
the sum it feeds into one multiply-add where the core has it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from tiny_dialect.bindings import ir, load

_arith = load("dialects.arith")

Operand: TypeAlias = "Scalar | int | float"

_SIGNED = {"<": 2, "<=": 3, ">": 4, ">=": 5, "==": 0}
_ORDERED = {"<": 4, "<=": 5, ">": 2, ">=": 3, "==": 1}


def constant(number: int | float, type_: Any) -> Any:
    """`arith.constant number : type_` at the top of the enclosing function, once for each value."""
    block = ir.InsertionPoint.current.block
    while block.owner.operation.name != "func.func":
        block = block.owner.operation.block
    is_float = isinstance(type_, ir.F32Type)
    attribute = ir.FloatAttr.get(type_, number) if is_float else ir.IntegerAttr.get(type_, number)
    first = None
    for op in block.operations:
        if op.operation.name != "arith.constant":
            first = op
            break
        if op.operation.attributes["value"] == attribute:
            return op.operation.results[0]
    place = ir.InsertionPoint(first) if first is not None else ir.InsertionPoint(block)
    return _arith.constant(type_, attribute, ip=place)


def integer_type(bits: int) -> Any:
    """The signless integer type of `bits` bits."""
    return ir.IntegerType.get_signless(bits)


class Scalar:
    """One SSA value of type `index`, `i1`, `i32`, `i64` or `f32`."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def is_float(self) -> bool:
        """True for `f32`."""
        return isinstance(self.value.type, ir.F32Type)

    def like(self, other: Operand) -> Scalar:
        """`other` as a scalar of this type; a Python number becomes a constant."""
        if isinstance(other, Scalar):
            return other
        return Scalar(constant(other, self.value.type))

    def __add__(self, other: Operand) -> Scalar:
        return self if other == 0 and not self.is_float else self._binary("add", other)

    def __radd__(self, other: Operand) -> Scalar:
        return self if other == 0 and not self.is_float else self.like(other)._binary("add", self)

    def __sub__(self, other: Operand) -> Scalar:
        return self if other == 0 and not self.is_float else self._binary("sub", other)

    def __rsub__(self, other: Operand) -> Scalar:
        return self.like(other)._binary("sub", self)

    def __mul__(self, other: Operand) -> Scalar:
        return self if other == 1 else self._binary("mul", other)

    def __rmul__(self, other: Operand) -> Scalar:
        return self * other

    def __truediv__(self, other: Operand) -> Scalar:
        return Scalar(_arith.divf(self.value, self.like(other).value))

    def __floordiv__(self, other: Operand) -> Scalar:
        """Unsigned division; both operands are non-negative."""
        return self if other == 1 else Scalar(_arith.divui(self.value, self.like(other).value))

    def __mod__(self, other: Operand) -> Scalar:
        """Unsigned remainder; both operands are non-negative."""
        return Scalar(_arith.remui(self.value, self.like(other).value))

    def __and__(self, other: Operand) -> Scalar:
        return Scalar(_arith.andi(self.value, self.like(other).value))

    def __or__(self, other: Operand) -> Scalar:
        return Scalar(_arith.ori(self.value, self.like(other).value))

    def __xor__(self, other: Operand) -> Scalar:
        return Scalar(_arith.xori(self.value, self.like(other).value))

    def __lshift__(self, other: Operand) -> Scalar:
        return Scalar(_arith.shli(self.value, self.like(other).value))

    def __rshift__(self, other: Operand) -> Scalar:
        """Arithmetic shift: rounds towards minus infinity."""
        return Scalar(_arith.shrsi(self.value, self.like(other).value))

    def __lt__(self, other: Operand) -> Scalar:
        return self.compare("<", other)

    def __le__(self, other: Operand) -> Scalar:
        return self.compare("<=", other)

    def __gt__(self, other: Operand) -> Scalar:
        return self.compare(">", other)

    def __ge__(self, other: Operand) -> Scalar:
        return self.compare(">=", other)

    def equals(self, other: Operand) -> Scalar:
        """`i1`, true where both are equal (`==` is kept for Python's identity)."""
        return self.compare("==", other)

    def compare(self, relation: str, other: Operand) -> Scalar:
        """Signed for integers; ordered for floats, so false where either is NaN."""
        right = self.like(other).value
        if self.is_float:
            return Scalar(_arith.cmpf(_ORDERED[relation], self.value, right))
        return Scalar(_arith.cmpi(_SIGNED[relation], self.value, right))

    def _binary(self, name: str, other: Operand) -> Scalar:
        build = getattr(_arith, name + ("f" if self.is_float else "i"))
        return Scalar(build(self.value, self.like(other).value))

    def as_index(self) -> Scalar:
        """An `index` of the same value."""
        return self._cast_index(ir.IndexType.get())

    def as_integer(self) -> Scalar:
        """`i32`: the value of an index, an `f32` rounded towards zero, the low word of an `i64`."""
        if self.is_float:
            return Scalar(_arith.fptosi(integer_type(32), self.value))
        if self.value.type == integer_type(64):
            return Scalar(_arith.trunci(integer_type(32), self.value))
        if self.value.type == integer_type(1):
            return Scalar(_arith.extui(integer_type(32), self.value))
        return self._cast_index(integer_type(32))

    def _cast_index(self, type_: Any) -> Scalar:
        return self if self.value.type == type_ else Scalar(_arith.index_cast(type_, self.value))

    def as_wide(self) -> Scalar:
        """`i64`, sign-extended."""
        wide = integer_type(64)
        return self if self.value.type == wide else Scalar(_arith.extsi(wide, self.value))

    def as_float(self) -> Scalar:
        """`f32`, rounded to nearest."""
        return self if self.is_float else Scalar(_arith.sitofp(ir.F32Type.get(), self.value))

    def bits(self) -> Scalar:
        """The bit pattern of an `f32` as `i32`, or of an `i32` as `f32`."""
        type_ = integer_type(32) if self.is_float else ir.F32Type.get()
        return Scalar(_arith.bitcast(type_, self.value))


Index = Scalar | int


def number(value: Index) -> Scalar:
    """An `i32`; a scalar stays as it is."""
    return value if isinstance(value, Scalar) else Scalar(constant(value, integer_type(32)))


def real(value: float) -> Scalar:
    """An `f32` constant."""
    return Scalar(constant(value, ir.F32Type.get()))


def select(condition: Scalar, chosen: Scalar, otherwise: Operand) -> Scalar:
    """`chosen` where `condition` holds, else `otherwise`."""
    value = _arith.select(condition.value, chosen.value, chosen.like(otherwise).value)
    return Scalar(value)


def maximum(first: Operand, second: Operand) -> Any:
    """The larger of two integers (signed) or floats (by comparison: no library call is needed)."""
    return _extremum(first, second, max, "maxsi", ">")


def minimum(first: Operand, second: Operand) -> Any:
    """The smaller of two integers (signed) or floats (by comparison: no library call is needed)."""
    return _extremum(first, second, min, "minsi", "<")


def _extremum(first: Any, second: Any, static: Any, name: str, relation: str) -> Any:
    if not isinstance(first, Scalar):
        first, second = second, first
    if not isinstance(first, Scalar):
        return static(first, second)
    if first.is_float:
        # A NaN in `first` fails the comparison and gives `second`.
        return select(first.compare(relation, second), first, second)
    return Scalar(getattr(_arith, name)(first.value, first.like(second).value))


def clamp(value: Scalar, low: float, high: float) -> Scalar:
    """`value` limited to `[low, high]`; NaN becomes `high`."""
    return maximum(minimum(value, high), low)
