"""Provisional stand-in; replaced by the shared primitives."""
from __future__ import annotations
from typing import Any
from tiny_dialect.bindings import ir, load
from tiny_targets.kernels.nest import Buffer, Nest
from tiny_targets.kernels.scalar import Scalar, integer_type, constant

_arith = load("dialects.arith")
_llvm = load("dialects.llvm")
_memref = load("dialects.memref")
_scf = load("dialects.scf")

PTR = "!llvm.ptr"
def _op(name, results, operands, **attributes):
    return ir.Operation.create(name, results=results, operands=operands, attributes=attributes)

def ptr_type(): return ir.Type.parse(PTR)
def i(n): return integer_type(n)

class Pointer:
    __slots__ = ("value",)
    def __init__(self, value): self.value = value
    @staticmethod
    def of(buffer: Buffer) -> "Pointer":
        index = _memref.extract_aligned_pointer_as_index(buffer._value)
        word = _arith.index_cast(i(32), index)
        return Pointer(_op("llvm.inttoptr", [ptr_type()], [word]).result)
    def __add__(self, offset):
        if isinstance(offset, int):
            if offset == 0: return self
            return Pointer(_gep(self.value, offset))
        value = offset.as_integer().value
        return Pointer(_op("llvm.getelementptr", [ptr_type()], [self.value, value],
            rawConstantIndices=ir.DenseI32ArrayAttr.get([-2**31]), elem_type=ir.TypeAttr.get(i(8)),
            ).result)
    def load(self, bits, offset=0, volatile=False, align=None):
        at = (self + offset).value
        attrs = {}
        if volatile: attrs["volatile_"] = ir.UnitAttr.get()
        if align: attrs["alignment"] = ir.IntegerAttr.get(i(64), align)
        return Scalar(_op("llvm.load", [i(bits)], [at], **attrs).result)
    def load_signed(self, bits, offset=0):
        return Scalar(_arith.extsi(i(32), self.load(bits, offset).value))
    def load_pair(self, offset=0):
        t = self.load(64, offset, volatile=True).value
        high = _arith.shrui(t, constant(32, i(64)))
        return Scalar(_arith.trunci(i(32), t)), Scalar(_arith.trunci(i(32), high))
    def store(self, bits, value, offset=0, align=None):
        v = value.value
        if v.type != i(bits): v = _arith.trunci(i(bits), v)
        attrs = {"alignment": ir.IntegerAttr.get(i(64), align)} if align else {}
        _op("llvm.store", [], [v, (self + offset).value], **attrs)
    def store_pair(self, low, high, offset=0):
        a = _arith.extui(i(64), low.value); b = _arith.extui(i(64), high.value)
        b = _arith.shli(b, constant(32, i(64)))
        _op("llvm.store", [], [_arith.ori(a, b), (self + offset).value], volatile_=ir.UnitAttr.get())

def _gep(value, offset):
    return _op("llvm.getelementptr", [ptr_type()], [value],
        rawConstantIndices=ir.DenseI32ArrayAttr.get([offset]), elem_type=ir.TypeAttr.get(i(8)),
        noWrapFlags=ir.Attribute.parse("#llvm.gep_no_wrap<inbounds>") if False else ir.IntegerAttr.get(i(32), 3)).result

def intrinsic(name, *operands):
    return Scalar(_op("llvm.call_intrinsic", [i(32)], [o.value for o in operands],
        intrin=ir.StringAttr.get(name), op_bundle_sizes=ir.DenseI32ArrayAttr.get([]),
        operandSegmentSizes=ir.DenseI32ArrayAttr.get([len(operands), 0])).result)

def do_while(carried, end, body, leader=0):
    """carried: list of Pointer/Scalar; do carried=body(carried) while carried[leader] != end"""
    kinds = [type(c) for c in carried]
    types = [c.value.type for c in carried]
    loop = _scf.WhileOp(types, [c.value for c in carried])
    before = ir.Block.create_at_start(loop.before, types)
    after = ir.Block.create_at_start(loop.after, types)
    with ir.InsertionPoint(before):
        values = [kind(v) for kind, v in zip(kinds, before.arguments)]
        out = body(values)
        more = _op("llvm.icmp", [i(1)], [out[leader].value, end.value],
                   predicate=ir.IntegerAttr.get(i(64), 1)).result
        _scf.condition(more, [o.value for o in out])
    with ir.InsertionPoint(after):
        _scf.yield_(list(after.arguments))
    return [kind(v) for kind, v in zip(kinds, loop.results)]
