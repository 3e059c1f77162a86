"""Loop nests over static memrefs: arguments, loads and stores, loops, folds and branches.

    nest = Nest("gather_channels")
    x, channels, y = nest.read(op.x), nest.read(table), nest.write(op.y)
    for pixel in nest.loop(pixels):
        for c in nest.loop(count):
            y[pixel, c] = x[pixel, channels[c]]
    call = nest.call()

A Python `for` over `nest.loop` emits one `scf.for` and runs its body once. A loop of one iteration
known at build time is not emitted: its index is then a Python integer or the lower bound itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.bindings import ir, load
from tiny_dialect.types import element_name, shape_of
from tiny_passes.graph import outer_value
from tiny_targets.kernels.kernel import Kernel, KernelCall, Scratch, Step, Table
from tiny_targets.kernels.scalar import Index, Scalar, constant, integer_type

_arith = load("dialects.arith")
_func = load("dialects.func")
_memref = load("dialects.memref")
_scf = load("dialects.scf")

_TABLE_ELEMENTS = {
    np.dtype(np.int8): "i8",
    np.dtype(np.int16): "i16",
    np.dtype(np.int32): "i32",
    np.dtype(np.float32): "f32",
}


@dataclass(frozen=True)
class Span:
    """The half-open range `[lower, upper)` of a loop; `count` where it is known at build time."""

    lower: Index
    upper: Index
    count: int | None = None

    @staticmethod
    def of(bounds: Span | int) -> Span:
        """`bounds`, or `[0, bounds)`."""
        return bounds if isinstance(bounds, Span) else Span(0, bounds)

    @staticmethod
    def one(index: Index) -> Span:
        """The single iteration `index`."""
        return Span(index, index + 1, 1)

    @property
    def trips(self) -> int | None:
        """The number of iterations, or None where only the device knows it."""
        if self.count is None and isinstance(self.lower, int) and isinstance(self.upper, int):
            return max(0, self.upper - self.lower)
        return self.count


def image_shape(value: Any) -> tuple[int, int, int]:
    """(H, W, C) of an NHWC tensor with N = 1."""
    _, height, width, channels = shape_of(value)
    return height, width, channels


def packed_shape(shape: Sequence[int]) -> tuple[int, int]:
    """(pixels, bytes a pixel) of a mask over a tensor of `shape`."""
    return prod(shape[:-1]), (shape[-1] + 7) // 8


class Buffer:
    """A kernel argument: indexing loads and stores one element, widened to `i32` where narrower."""

    def __init__(self, value: Any, shape: tuple[int, ...]) -> None:
        self._value = value
        self.shape = shape

    @property
    def argument(self) -> Any:
        """The memref."""
        return self._value

    @property
    def element(self) -> str:
        """The stored element type: `i8`, `i16`, `i32` or `f32`."""
        return str(self._value.type.element_type)

    def _indices(self, indices: Any) -> list[Any]:
        parts = indices if isinstance(indices, tuple) else (indices,)
        index = ir.IndexType.get()
        return [
            part.as_index().value if isinstance(part, Scalar) else constant(part, index)
            for part in parts
        ]

    def __getitem__(self, indices: Any) -> Scalar:
        loaded = _memref.load(self._value, self._indices(indices))
        if self.element in ("i8", "i16"):
            return Scalar(_arith.extsi(integer_type(32), loaded))
        return Scalar(loaded)

    def __setitem__(self, indices: Any, scalar: Scalar) -> None:
        value, element = scalar.value, self._value.type.element_type
        if value.type != element:
            value = _arith.trunci(element, value)
        _memref.store(value, self._value, self._indices(indices))


class Nest:
    """One kernel under construction. Use inside the op's context, with a default location set."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._module = ir.Module.create()
        empty = ir.FunctionType.get([], [])
        self._func = _func.FuncOp(name, empty, ip=ir.InsertionPoint(self._module.body))
        self._block = self._func.body.blocks.append()
        self._accesses: list[str] = []
        self._bound: list[Any] = []
        self._steps = 1
        self._top = ir.InsertionPoint(self._block)

    def __enter__(self) -> Nest:
        self._top.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._top.__exit__(*exception)

    def read(self, bound: Any, shape: Sequence[int] | None = None) -> Buffer:
        """An argument that is only read: an `ir.Value`, a `Table`, or an array that becomes one.

        `shape` is the argument's own view of the same elements in the same order.
        """
        return self._argument(bound, shape, "read")

    def write(self, bound: Any, shape: Sequence[int] | None = None) -> Buffer:
        """An argument of which every element is written before it is read."""
        return self._argument(bound, shape, "write")

    def update(self, bound: Any, shape: Sequence[int] | None = None) -> Buffer:
        """An argument changed in place."""
        return self._argument(bound, shape, "read_write")

    def scratch(self, shape: Sequence[int], element: str, offset: int = 0) -> Buffer:
        """A part of the op's scratch memory, `offset` bytes from its start."""
        return self._declare(Scratch(offset), tuple(shape), element, "read_write")

    def step(self, count: int) -> Scalar:
        """An argument: the number of the step of a kernel that is dispatched `count` times."""
        argument = self._block.add_argument(ir.IndexType.get(), ir.Location.unknown())
        self._accesses.append("step")
        self._bound.append(Step())
        self._steps = count
        return Scalar(argument)

    def _argument(self, bound: Any, shape: Sequence[int] | None, access: str) -> Buffer:
        if isinstance(bound, np.ndarray):
            bound = Table(np.ascontiguousarray(bound))
        if isinstance(bound, Table):
            natural, element = bound.array.shape, _TABLE_ELEMENTS[bound.array.dtype]
        else:
            bound = outer_value(bound)
            natural, element = shape_of(bound), element_name(bound)
            if element == "i1":
                natural, element = packed_shape(natural), "i8"
        return self._declare(bound, tuple(natural if shape is None else shape), element, access)

    def _declare(self, bound: Any, shape: tuple[int, ...], element: str, access: str) -> Buffer:
        argument = self._block.add_argument(
            ir.MemRefType.get(list(shape), ir.Type.parse(element)), ir.Location.unknown()
        )
        self._accesses.append(access)
        self._bound.append(bound)
        return Buffer(argument, shape)

    def call(self) -> KernelCall:
        """Close the function: the kernel, named by its content, and its arguments."""
        _func.return_([])
        types = [argument.type for argument in self._block.arguments]
        self._func.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, []))
        self._func.operation.verify()
        digest = hashlib.sha256(str(self._func).encode()).hexdigest()[:12]
        name = f"{self._name}_{digest}"
        self._func.attributes["sym_name"] = ir.StringAttr.get(name)
        kernel = Kernel(name, str(self._func), tuple(self._accesses), self._steps)
        return KernelCall(kernel, tuple(self._bound))

    def number(self, value: int) -> Scalar:
        """An `i32` constant."""
        return Scalar(constant(value, integer_type(32)))

    def wide(self, value: int) -> Scalar:
        """An `i64` constant."""
        return Scalar(constant(value, integer_type(64)))

    def real(self, value: float) -> Scalar:
        """An `f32` constant."""
        return Scalar(constant(value, ir.F32Type.get()))

    def index(self, value: Index) -> Scalar:
        """An `index` scalar."""
        return value if isinstance(value, Scalar) else Scalar(constant(value, ir.IndexType.get()))

    def loop(self, bounds: Span | int, step: int = 1) -> Iterator[Any]:
        """Iterate over `bounds`; the body of the Python loop becomes the body of the `scf.for`."""
        span = Span.of(bounds)
        if span.trips == 0:
            return
        if span.trips == 1:
            yield span.lower
            return
        loop = self._for(span, step, [])
        with ir.InsertionPoint(loop.body):
            yield Scalar(loop.induction_variable)
            _scf.yield_([])

    def blocks(self, count: int, size: int) -> Iterator[tuple[Index, int]]:
        """(start, length) of blocks that cover `[0, count)`: a loop of full ones, then the rest."""
        full = count - count % size
        for start in self.loop(Span(0, full, full // size), step=size):
            yield start, size
        if full < count:
            yield full, count - full

    def _for(self, span: Span, step: int, initial: list[Any]) -> Any:
        lower, upper, stride = (self.index(i).value for i in (span.lower, span.upper, step))
        return _scf.ForOp(lower, upper, stride, initial)

    def fold(self, bounds: Sequence[Span | int], initial: Any, body: Callable[..., Any]) -> Any:
        """Carry `initial` (a scalar or a tuple of them) through nested loops, outermost first.

        `body(carried, *indices)` returns the next carried value or values.
        """
        if not bounds:
            return body(initial)
        span = Span.of(bounds[0])

        def inner(index: Any, carried: Any) -> Any:
            return self.fold(bounds[1:], carried, lambda c, *rest: body(c, index, *rest))

        if span.trips == 0:
            return initial
        if span.trips == 1:
            return inner(span.lower, initial)
        several = isinstance(initial, tuple)
        loop = self._for(span, 1, [s.value for s in (initial if several else (initial,))])
        with ir.InsertionPoint(loop.body):
            carried = tuple(Scalar(value) for value in loop.inner_iter_args)
            following = inner(Scalar(loop.induction_variable), carried if several else carried[0])
            _scf.yield_([s.value for s in (following if several else (following,))])
        results = tuple(Scalar(value) for value in loop.results)
        return results if several else results[0]

    def branch(
        self, condition: Scalar, then: Callable[[], Any], otherwise: Callable[[], Any], like: Any
    ) -> Any:
        """The scalar (or tuple) of the branch taken; `like` has the types of the result."""
        several = isinstance(like, tuple)
        types = [s.value.type for s in (like if several else (like,))]
        chosen = _scf.IfOp(condition.value, types, has_else=True)
        for block, body in ((chosen.then_block, then), (chosen.else_block, otherwise)):
            with ir.InsertionPoint(block):
                out = body()
                _scf.yield_([s.value for s in (out if several else (out,))])
        results = tuple(Scalar(value) for value in chosen.results)
        return results if several else results[0]
