"""Scalar arithmetic inside a linalg body, written with Python operators.

Integers are signless two's complement (`>>` is arithmetic, `<` signed); floats carry no fast-math
flags. A Python number on either side becomes a constant of the other side's type.
"""

from typing import Any

from tiny_dialect.bindings import ir, load

_arith = load("dialects.arith")
_math = load("dialects.math")

_INTEGER_PREDICATES = {"eq": 0, "ne": 1, "lt": 2, "le": 3, "gt": 4, "ge": 5}
_FLOAT_PREDICATES = {"eq": 1, "gt": 2, "ge": 3, "lt": 4, "le": 5, "ne": 13}


def element_type(name: str) -> Any:
    """The element type in MLIR spelling (`i1`, `i8`, `i64`, `f32`, `index`, ...)."""
    return ir.Type.parse(name)


def number(value: float, element: Any) -> "Scalar":
    """`value` as a constant of type `element`."""
    if isinstance(element, ir.FloatType):
        return Scalar(_arith.ConstantOp(element, ir.FloatAttr.get(element, float(value))).result)
    return Scalar(_arith.ConstantOp(element, ir.IntegerAttr.get(element, int(value))).result)


class Scalar:
    """One SSA value of an integer, index or float type."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def type(self) -> Any:
        """The MLIR type."""
        return self.value.type

    @property
    def is_float(self) -> bool:
        """True for floats."""
        return isinstance(self.type, ir.FloatType)

    def _like(self, other: "Scalar | float") -> "Scalar":
        return other if isinstance(other, Scalar) else number(other, self.type)

    def _apply(self, integer_op: Any, float_op: Any, other: "Scalar | float") -> "Scalar":
        builder = float_op if self.is_float else integer_op
        return Scalar(builder(self.value, self._like(other).value).result)

    def __add__(self, other: "Scalar | float") -> "Scalar":
        return self._apply(_arith.AddIOp, _arith.AddFOp, other)

    def __sub__(self, other: "Scalar | float") -> "Scalar":
        return self._apply(_arith.SubIOp, _arith.SubFOp, other)

    def __mul__(self, other: "Scalar | float") -> "Scalar":
        return self._apply(_arith.MulIOp, _arith.MulFOp, other)

    def __rshift__(self, other: "Scalar | int") -> "Scalar":
        return Scalar(_arith.ShRSIOp(self.value, self._like(other).value).result)

    def __and__(self, other: "Scalar | int") -> "Scalar":
        return Scalar(_arith.AndIOp(self.value, self._like(other).value).result)

    def __or__(self, other: "Scalar | int") -> "Scalar":
        return Scalar(_arith.OrIOp(self.value, self._like(other).value).result)

    def __xor__(self, other: "Scalar | int") -> "Scalar":
        return Scalar(_arith.XOrIOp(self.value, self._like(other).value).result)

    def shift_right_unsigned(self, count: int) -> "Scalar":
        """`self >> count` with zeros shifted in."""
        return Scalar(_arith.ShRUIOp(self.value, self._like(count).value).result)

    def __truediv__(self, other: "Scalar | float") -> "Scalar":
        return Scalar(_arith.DivFOp(self.value, self._like(other).value).result)

    def __floordiv__(self, other: "Scalar | int") -> "Scalar":
        return Scalar(_arith.FloorDivSIOp(self.value, self._like(other).value).result)

    def compare(self, predicate: str, other: "Scalar | float") -> "Scalar":
        """`self predicate other` as i1: `eq ne lt le gt ge`, false on NaN except `ne`."""
        table = _FLOAT_PREDICATES if self.is_float else _INTEGER_PREDICATES
        builder = _arith.CmpFOp if self.is_float else _arith.CmpIOp
        return Scalar(builder(table[predicate], self.value, self._like(other).value).result)

    def select(self, yes: "Scalar", no: "Scalar | float") -> "Scalar":
        """`yes` where this i1 is true, else `no`."""
        return Scalar(_arith.SelectOp(self.value, yes.value, yes._like(no).value).result)

    def at_most(self, limit: "Scalar | float") -> "Scalar":
        """`self if self < limit else limit`; NaN becomes the limit."""
        return self.compare("lt", limit).select(self, limit)

    def at_least(self, limit: "Scalar | float") -> "Scalar":
        """`self if self > limit else limit`; NaN becomes the limit."""
        return self.compare("gt", limit).select(self, limit)

    def to(self, name: str) -> "Scalar":
        """Converted to the element type `name`: signed, i1 as 0 or 1, floats truncated."""
        target = element_type(name)
        if target == self.type:
            return self
        return Scalar(_conversion(self, target)(target, self.value).result)

    def round_half_even(self) -> "Scalar":
        """The nearest whole float."""
        return Scalar(_math.RoundEvenOp(self.value).result)


def _conversion(source: Scalar, target: Any) -> Any:
    to_float = isinstance(target, ir.FloatType)
    if isinstance(source.type, ir.IndexType) or isinstance(target, ir.IndexType):
        return _arith.IndexCastOp
    if source.is_float:
        return _arith.FPToSIOp
    if to_float:
        return _arith.SIToFPOp
    if source.type.width > target.width:
        return _arith.TruncIOp
    return _arith.ExtUIOp if source.type.width == 1 else _arith.ExtSIOp
