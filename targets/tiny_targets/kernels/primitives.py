"""What a core contributes to the kernels: a few operations that its instructions do well.

    core = primitives_of(target)
    x0, x1 = core.load_pair(x)                  # two words, on Cortex-M one ldrd
    total = core.dot2(x0, w0, total)            # two int16 products and their sum, one smlad

A word of two int16 is called a *pair of halves*. The portable forms are correct everywhere; a core
with the DSP extension replaces them. Nests are written against this class only.
"""

from collections.abc import Sequence
from typing import Any

from tiny_dialect.bindings import load
from tiny_targets.kernels.address import Address
from tiny_targets.kernels.scalar import Scalar, integer_type, maximum, minimum, select

_arith = load("dialects.arith")
_llvm = load("dialects.llvm")

_BYTES = (0xFF, 0xFF00, 0xFF0000, -(1 << 24))


class Primitives:
    """Portable forms, for any core with 32-bit words and a high multiply."""

    has_dot2 = False
    """True where `dot2` is one instruction, so that operands are worth packing into halves."""
    unaligned_words = False
    """True where a word may be loaded from any address."""
    has_bytewise_select = False
    """True where `select_larger` is one comparison of all four bytes."""

    def in_order(self, total: Scalar) -> Scalar:
        """`total`, computed before what is loaded next: in a block of many sums."""
        return pinned(total)

    def load_pair(self, address: Address) -> tuple[Scalar, Scalar]:
        """The two words at a multiple of four."""
        return address.load("i32"), (address + 4).load("i32")

    def store_pair(self, first: Scalar, second: Scalar, address: Address) -> None:
        """Store two words at a multiple of four."""
        address.store(first, "i32")
        (address + 4).store(second, "i32")

    def load_floats(self, address: Address) -> tuple[Scalar, Scalar]:
        """The two `f32` at a multiple of four."""
        return address.load("f32"), (address + 4).load("f32")

    def low_half(self, word: Scalar) -> Scalar:
        """The lower int16 of a word, sign-extended."""
        return (word << 16) >> 16

    def high_half(self, word: Scalar) -> Scalar:
        """The upper int16 of a word, sign-extended."""
        return word >> 16

    def pack(self, low: Scalar, high: Scalar) -> Scalar:
        """The low halves of two words as one pair of halves."""
        return (low & 0xFFFF) | (high << 16)

    def pack_high(self, low: Scalar, high: Scalar) -> Scalar:
        """The high halves of two words as one pair of halves."""
        return shift_right_unsigned(low, 16) | (high & -65536)

    def dot2(self, a: Scalar, b: Scalar, total: Scalar) -> Scalar:
        """`total + a.low b.low + a.high b.high`, modulo 2^32."""
        low = self.low_half(a) * self.low_half(b)
        return total + low + self.high_half(a) * self.high_half(b)

    def dot(self, a: Scalar, b: Scalar, total: Scalar, halves: str) -> Scalar:
        """`total + a.i b.j` for one half of each: `halves` is `ll`, `lh`, `hl` or `hh`."""
        pick = {"l": self.low_half, "h": self.high_half}
        return total + pick[halves[0]](a) * pick[halves[1]](b)

    def widen(self, word: Scalar, offset: Scalar | None = None) -> tuple[Scalar, Scalar]:
        """Four int8 as two pairs of halves: bytes (0, 2) and (1, 3), each plus a half of `offset`.

        `offset` holds the same int16 twice, see `twice`.
        """
        parts = [_byte(word, i) for i in range(4)]
        if offset is not None:
            step = self.low_half(offset)
            parts = [part + step for part in parts]
        return self.pack(parts[0], parts[2]), self.pack(parts[1], parts[3])

    def high_product(self, a: Scalar, b: Scalar) -> Scalar:
        """The upper word of the 64-bit product, rounded down."""
        return ((a.as_wide() * b.as_wide()) >> 32).as_integer()

    def limit(self, value: Scalar, low: int, high: int) -> Scalar:
        """`value` clamped to `[low, high]`."""
        return minimum(maximum(value, low), high)

    def select_larger(
        self, value: Scalar, best: Scalar, others: Sequence[tuple[Scalar, Scalar]]
    ) -> tuple[Scalar, ...]:
        """The larger of each int8 of two words, `best` where they are equal.

        Of the further pairs `(of value, of best)` the bytes of the side that was chosen.
        """
        larger = [_byte(value, i) > _byte(best, i) for i in range(4)]

        def merged(first: Scalar, second: Scalar) -> Scalar:
            word = first ^ first
            for i, chosen in enumerate(larger):
                word = word | (select(chosen, first, second) & _BYTES[i])
            return word

        return merged(value, best), *(merged(*pair) for pair in others)


class DspPrimitives(Primitives):
    """Cortex-M with the DSP extension."""

    has_dot2 = True
    unaligned_words = True
    has_bytewise_select = True

    def __init__(self, *, dual_issue: bool) -> None:
        self._dual_issue = dual_issue

    def in_order(self, total: Scalar) -> Scalar:
        """`pinned` where the scheduler fills the slots behind a load with more loads."""
        return total if self._dual_issue else pinned(total)

    def load_pair(self, address: Address) -> tuple[Scalar, Scalar]:
        """One `ldrd`: only the volatile form of a 64-bit load becomes it."""
        both = address.load("i64", volatile=True)
        high = Scalar(_arith.shrui(both.value, both.like(32).value))
        return both.as_integer(), high.as_integer()

    def store_pair(self, first: Scalar, second: Scalar, address: Address) -> None:
        """One `strd`."""
        wide = integer_type(64)
        low, high = (Scalar(_arith.extui(wide, word.value)) for word in (first, second))
        address.store(low | (high << 32), "i64", volatile=True)

    def dot2(self, a: Scalar, b: Scalar, total: Scalar) -> Scalar:
        """One `smlad`."""
        return _arm("smlad", a, b, total)

    def dot(self, a: Scalar, b: Scalar, total: Scalar, halves: str) -> Scalar:
        """One of `smlabb`, `smlabt`, `smlatb`, `smlatt`."""
        return _arm("smla" + halves.replace("l", "b").replace("h", "t"), a, b, total)

    def widen(self, word: Scalar, offset: Scalar | None = None) -> tuple[Scalar, Scalar]:
        """Two `sxtb16`, or two `sxtab16` where there is something to add; the rotation is free."""
        turned = Scalar(_llvm.intr_fshr(word.value, word.value, word.like(8).value))
        if offset is None:
            return _arm("sxtb16", word), _arm("sxtb16", turned)
        return _arm("sxtab16", offset, word), _arm("sxtab16", offset, turned)

    def select_larger(
        self, value: Scalar, best: Scalar, others: Sequence[tuple[Scalar, Scalar]]
    ) -> tuple[Scalar, ...]:
        """One `ssub8`, whose four flags a `sel` for each pair reads."""
        _arm("ssub8", best, value)
        return tuple(_arm("sel", second, first) for first, second in ((value, best), *others))


def primitives_of(target: Any) -> Primitives:
    """The primitives of a target, by its features."""
    if target.has("dsp"):
        return DspPrimitives(dual_issue=target.has("dual_issue"))
    return Primitives()


def twice(value: int) -> int:
    """The word, as a signed number, that holds the int16 `value` in both halves."""
    word = (value & 0xFFFF) * 0x10001
    return word - 2**32 if word >= 2**31 else word


def fused_multiply_add(a: Scalar, b: Scalar, total: Scalar) -> Scalar:
    """`total + a b` in float32, rounded once: one instruction with an FPU, else a library call."""
    return Scalar(_llvm.intr_fma(a.value, b.value, total.value))


def settled(value: Scalar) -> Scalar:
    """`value`, opaque to the optimizer, at no cost.

    A long sum of products is else rearranged into a tree, and all its operands wait in registers.
    """
    type_ = value.value.type
    return Scalar(_llvm.inline_asm(type_, [value.value], "", "=f,0" if value.is_float else "=r,0"))


def keep_loads_behind() -> None:
    """Loads that follow stay behind this place; no instruction.

    A scheduler else begins straight code with all its loads, and what waits goes to memory.
    """
    _llvm.inline_asm(None, [], "", "~{memory}", has_side_effects=True)


def pinned(value: Scalar) -> Scalar:
    """`value`, computed before any volatile load that follows; no instruction.

    In a block of many sums the scheduler else starts with all loads, and what waits goes to memory.
    """
    type_ = value.value.type
    asm = _llvm.inline_asm(type_, [value.value], "", "=r,0", has_side_effects=True)
    return Scalar(asm)


def shift_right_unsigned(value: Scalar, count: int) -> Scalar:
    """`value >> count` with zeros shifted in."""
    return Scalar(_arith.shrui(value.value, value.like(count).value))


def _byte(word: Scalar, number: int) -> Scalar:
    """Byte `number` of a word, sign-extended."""
    return (word << (24 - 8 * number)) >> 24


def _arm(name: str, *operands: Scalar) -> Scalar:
    values = [operand.value for operand in operands]
    return Scalar(_llvm.call_intrinsic(integer_type(32), f"llvm.arm.{name}", values, [], []))
