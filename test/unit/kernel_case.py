"""One op as a kernel on an emulated core, held against the semantics."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tiny_dialect import ops
from tiny_dialect.attributes import dense, integer, integers, string
from tiny_dialect.bindings import ir, load
from tiny_dialect.semantics import evaluate_op
from tiny_dialect.types import NUMPY_TYPES, numpy_type, quantized, shape_of, tensor
from tiny_targets.kernel_bench import run_kernels
from tiny_targets.kernels import KernelCall, Scratch, Table, build_call
from tiny_targets.kernels.address import ANY_SIZE
from tiny_targets.kernels.scratch import scratch_of, scratch_wish_of
from tiny_targets.target import find_target

func = load("dialects.func")

FLOAT_TOLERANCE = 1e-5
"""Of the largest magnitude of a tensor: float32 sums of a few hundred terms, fused or not."""

STACK_LIMIT = 512
"""Bytes of one kernel, library calls included."""


@dataclass
class Case:
    """One op in a function of its own, and arrays for its operands."""

    label: str
    op: Any
    operands: list[np.ndarray]
    exact: bool
    module: Any = field(repr=False)
    in_place: bool = False
    """The first result lies where the first operand lies."""
    overlap: tuple[int, int] | None = None
    """(operand, distance): the first result starts that many bytes before the operand."""


class Maker:
    """Collects parameters, arguments and their arrays, then the op under test."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.module = ir.Module.create()
        self._arrays: dict[Any, np.ndarray] = {}
        top = ir.InsertionPoint(self.module.body)
        function = func.FuncOp("f", ir.FunctionType.get([], []), ip=top)
        self._block = function.body.blocks.append()
        self._function = function

    def argument(self, type_: Any, array: Any) -> Any:
        value = self._block.add_argument(type_, ir.Location.unknown())
        self._arrays[value] = np.array(array, order="C")
        return value

    def parameter(self, array: Any, trained: bool = False) -> Any:
        value = dense(array)
        op = self.build(ops.Parameter, value.type, string(f"p{len(self._arrays)}"), value)
        if trained:
            op.attributes["trained"] = ir.UnitAttr.get()
        self._arrays[op.result] = np.array(array, order="C")
        return op.result

    def activation(
        self, shape: Any, scale: float, zero: int, limits: tuple[int, int] = (-128, 128)
    ) -> Any:
        array = self.rng.integers(*limits, (1, *shape)).astype(np.int8)
        return self.argument(quantized((1, *shape), scale, zero), array)

    def floats(self, shape: Any, exact: bool = False) -> Any:
        array = self.rng.integers(-40, 41, shape) / 16 if exact else self.rng.normal(size=shape)
        return self.argument(tensor(shape, "f32"), array.astype(np.float32))

    def zero_point(self) -> int:
        return int(self.rng.choice([-128, 127, 0, int(self.rng.integers(-128, 128))]))

    def build(self, op_class: Any, *arguments: Any, **attributes: Any) -> Any:
        with ir.InsertionPoint(self._block):
            return op_class(*arguments, **attributes)

    def case(
        self, label: str, op_class: Any, *arguments: Any, exact: bool = True, **attributes: Any
    ) -> Case:
        names = {"trained_channels", "output_channels"} & set(attributes)
        extra = {name: attributes.pop(name) for name in names}
        op = self.build(op_class, *arguments, **attributes)
        for key, value in extra.items():
            op.attributes[key] = integers(value)
        self.finish([])
        return self.case_of(label, op, exact)

    def finish(self, returned: Any) -> None:
        """End the function; it returns the values `returned`."""
        types = [argument.type for argument in self._block.arguments]
        kind = ir.FunctionType.get(types, [value.type for value in returned])
        self._function.attributes["function_type"] = ir.TypeAttr.get(kind)
        with ir.InsertionPoint(self._block):
            func.return_(returned)
        assert self.module.operation.verify()

    def case_of(self, label: str, op: Any, exact: bool = True) -> Case:
        """The case of one op of the finished function."""
        operands = [self._arrays[operand] for operand in op.operands]
        return Case(label, op, operands, exact, self.module)


def pack(mask: np.ndarray) -> np.ndarray:
    """A boolean tensor as its device bytes, [pixels, bytes a pixel]."""
    bits = mask.reshape(-1, mask.shape[-1])
    return np.packbits(bits, axis=1, bitorder="little").view(np.int8)


def device_array(array: np.ndarray) -> np.ndarray:
    return pack(array) if array.dtype == np.bool_ else array


def call_arrays(case: Case, call: KernelCall) -> list[np.ndarray]:
    """An array for each argument: operand, table, or garbage where a result goes."""
    values = {v: device_array(a) for v, a in zip(case.op.operands, case.operands, strict=True)}
    for result in case.op.results:
        empty = device_array(np.zeros(shape_of(result), numpy_type(result)))
        values[result] = np.full_like(empty, 0x55)
    if case.in_place:
        values[case.op.results[0]] = values[case.op.operands[0]]
    if case.overlap is not None:
        operand, distance = case.op.operands[case.overlap[0]], case.overlap[1]
        values |= _overlapping(operand, case.op.results[0], distance, values)
    return [_array_of(case.op, argument, shape, values) for argument, shape in _bound(call)]


def _overlapping(
    operand: Any, result: Any, distance: int, values: dict[Any, np.ndarray]
) -> dict[Any, np.ndarray]:
    """Both in one piece of memory, the result `distance` bytes before the operand."""
    x, y = values[operand], values[result]
    memory = np.full(max(distance + x.nbytes, y.nbytes), 0x55, np.uint8)
    inside = memory[distance : distance + x.nbytes].view(x.dtype).reshape(x.shape)
    inside[...] = x
    return {operand: inside, result: memory[: y.nbytes].view(y.dtype).reshape(y.shape)}


def _bound(call: KernelCall) -> list[tuple[Any, tuple[int, ...]]]:
    """Each argument of the kernel with the shape and element type it is declared with."""
    module = ir.Module.parse(call.kernel.text)
    block = module.body.operations[0].body.blocks[0]
    types = [argument.type for argument in block.arguments]
    return list(zip(call.arguments, types, strict=True))


def _array_of(op: Any, argument: Any, kind: Any, values: dict[Any, np.ndarray]) -> np.ndarray:
    if isinstance(argument, Table):
        return argument.array
    if isinstance(argument, Scratch):
        if tuple(kind.shape) == ANY_SIZE:
            return np.full(scratch_of(op) - argument.offset, 0x55, np.int8)
        return np.full(kind.shape, 0x55, NUMPY_TYPES[str(kind.element_type)])
    return values[argument]


def declare_scratch(case: Case, target_name: str, choice: int = 0) -> None:
    """Declare scratch memory on the case's op: the size number `choice` of those of its kernel."""
    wish = scratch_wish_of(case.op, find_target(target_name))
    if wish is not None:
        size = wish.sizes[min(choice, len(wish.sizes) - 1)]
        case.op.attributes["tiny.scratch_bytes"] = integer(-(-size // 4) * 4)


def check(cases: list[Case], target_name: str) -> list[int]:
    """Run all cases in one executable and assert what they write; instructions by case."""
    target = find_target(target_name)
    calls = [build_call(case.op, target) for case in cases]
    inputs = [call_arrays(case, call) for case, call in zip(cases, calls, strict=True)]
    kernels = [call.kernel for call in calls]
    runs = run_kernels(list(zip(kernels, inputs, strict=True)), target)
    for case, call, run in zip(cases, calls, runs, strict=True):
        assert run.stack_bytes <= STACK_LIMIT, f"{case.label}: {run.stack_bytes} bytes of stack"
        operands = [operand.copy() for operand in case.operands]
        results = evaluate_op(case.op, operands)
        expected = dict(zip(case.op.results, results, strict=True))
        if not results:
            expected[case.op.operands[0]] = operands[0]
        changed = zip(call.arguments, call.kernel.accesses, run.arrays, strict=True)
        for argument, access, got in changed:
            if access != "read" and argument in expected:
                want = device_array(expected.pop(argument))
                # A rounded update may follow a float sum to the neighbouring unit; results may not.
                computed = argument in case.op.results and want.dtype != np.float32
                compare(f"{target_name} {case.label}", got, want, case.exact or computed)
        assert not expected, f"{case.label}: the kernel leaves results unwritten"
    return [run.instructions for run in runs]


def compare(what: str, got: np.ndarray, want: np.ndarray, exact: bool) -> None:
    """Equal where `exact`; else floats within the tolerance and integers within one unit."""
    if exact:
        np.testing.assert_array_equal(got, want, err_msg=what)
    elif want.dtype != np.float32:
        assert np.abs(got.astype(np.int64) - want).max() <= 1, what
    else:
        finite = np.abs(want[np.isfinite(want)])
        limit = FLOAT_TOLERANCE * float(finite.max(initial=0.0)) + 1e-7
        np.testing.assert_allclose(got, want, rtol=0, atol=limit, err_msg=what)
