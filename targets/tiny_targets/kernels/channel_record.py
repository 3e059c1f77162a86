"""What a depthwise channel needs while it is at work, gathered side by side in scratch memory.

    bias | shift | multiplier | rounding | taps, row after row

Taps are words of two int16 (`tap_pairs`), bytes or floats. The record is made on the device, so
frozen, trained and partly trained weights run the same loops, and weights stay row-major. Elements
of the gather plane are raw: what the zero point adds to a sum is taken from the bias.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_list
from tiny_dialect.types import element_name, quantization, shape_of
from tiny_targets.kernels.address import ELEMENT_BYTES, Address, address_of
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.numerics import round_half_even
from tiny_targets.kernels.primitives import Primitives, settled
from tiny_targets.kernels.rescale import Rescaling
from tiny_targets.kernels.scalar import Index, Scalar, clamp, maximum, minimum
from tiny_targets.kernels.tap_pairs import Pair
from tiny_targets.kernels.weights import constant_of, trained_rows

_BIAS, _SHIFT, _MULTIPLIER, _TAPS = 0, 4, 8, 16
"""Byte offsets; the rounding follows the multiplier."""

_Reader = Callable[[int], Scalar]


@dataclass(frozen=True)
class RecordLayout:
    """The taps of a record."""

    kernel: tuple[int, int]
    element: str
    """`i16`: pairs of halves, see `words`; else `i8` or `f32`."""
    words: tuple[Pair, ...] = ()
    """The words of one row of pairs."""

    @property
    def taps(self) -> int:
        """Taps of a channel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def bytes(self) -> int:
        """Whole pairs of words."""
        if self.element == "i16":
            size = 4 * self.kernel[0] * len(self.words)
        else:
            size = self.taps * ELEMENT_BYTES[self.element]
        return -(-(_TAPS + size) // 8) * 8


class ChannelRecord:
    """The arguments behind the record, and the code that fills and reads it."""

    def __init__(
        self,
        nest: Nest,
        op: Any,
        core: Primitives,
        layout: RecordLayout,
        rescale: Rescaling,
        start: Address,
    ) -> None:
        self._nest, self._core, self._layout = nest, core, layout
        self._rescale, self._start = rescale, start
        self._zero = quantization(op.x)[1]
        self._limits = [int(bound) for bound in to_list(op.attributes["clamp"])]
        self._storage = element_name(op.w)
        self._frozen = address_of(nest.read(op.w))
        self._rows = self._trained = None
        if op.trained is not None:
            self._rows = nest.read(trained_rows(op))
            self._trained = address_of(nest.read(op.trained))
            self._trained_storage = element_name(op.trained)
        # As arguments, so that layers which differ in nothing else share the code.
        numbers = [rescale.offset, rescale.bias_limit or 0]
        self._numbers = nest.read(np.array(numbers, np.int32))
        self._bind_biases(op)
        self._multipliers = nest.read(rescale.multipliers)
        self._shifts = None if rescale.uniform else nest.read(rescale.shifts)
        self._taps = start + _TAPS

    def _bind_biases(self, op: Any) -> None:
        """The bias argument, with the zero point's share inside or as a table where it is known."""
        weights, bias = constant_of(op.w), constant_of(op.bias)
        limit, self._zero_sums = self._rescale.bias_limit, None
        known = self._zero == 0 or (weights is not None and op.trained is None)
        self._sums_taps, self._bias_limit = not known, limit
        if not known or (bias is None and self._zero == 0):
            self._bias = self._nest.read(op.bias)
            return
        sums = np.zeros(shape_of(op.w)[0], np.int64)
        if weights is not None and self._zero:
            sums = weights.astype(np.int64).sum(axis=(1, 2, 3)) * self._zero
        if bias is None:
            self._bias = self._nest.read(op.bias)
            self._zero_sums = self._nest.read(sums.astype(np.int32))
            return
        limited = bias.astype(np.int64) if limit is None else np.clip(bias, -limit, limit)
        # The difference may wrap; adding the raw products unwraps it.
        self._bias = self._nest.read((limited - sums).astype(np.int32))
        self._bias_limit = None

    @property
    def taps(self) -> Address:
        """Where the taps of the prepared channel start."""
        return self._taps

    def prepare(self, channel: Index) -> None:
        """Fill the record."""
        total = self._prepare_taps(channel)
        bias = self._bias[channel]
        if self._bias_limit is not None:
            limit = self._numbers[1]
            bias = minimum(maximum(bias, 0 - limit), limit)
        if self._zero_sums is not None:
            bias = bias - self._zero_sums[channel]
        elif self._sums_taps:
            bias = bias - total * self._zero
        rounding = self._numbers[0] if self._rescale.uniform else self._nest.number(1)
        if self._shifts is None:
            (self._start + _BIAS).store(bias, "i32")
        else:
            shift = self._shifts[channel]
            rounding = rounding << (shift - 1)
            self._core.store_pair(bias, shift, self._start + _BIAS)
        address = self._start + _MULTIPLIER
        self._core.store_pair(self._multipliers[channel], rounding, address)

    def _prepare_taps(self, channel: Index) -> Scalar:
        """Store the taps; their sum where it is needed, else 0."""
        whole = self._frozen + channel * (self._layout.taps * ELEMENT_BYTES[self._storage])
        if self._layout.element == "i8" and self._storage == "i8" and self._rows is None:
            self._taps = whole
            return self._sum([(whole + t).load("i8") for t in range(self._layout.taps)])
        if self._rows is None or self._trained is None:
            return self._store_taps(weight_reader(whole, self._storage))
        row = self._rows[channel]
        trained, size = self._trained, ELEMENT_BYTES[self._trained_storage]
        return self._nest.branch(
            row >= 0,
            lambda: self._store_taps(
                weight_reader(trained + row * (self._layout.taps * size), self._trained_storage)
            ),
            lambda: self._store_taps(weight_reader(whole, self._storage)),
            like=self._nest.number(0),
        )

    def _store_taps(self, read: _Reader) -> Scalar:
        height, width = self._layout.kernel
        target, total, position = self._start + _TAPS, self._nest.number(0), 0
        words: list[Scalar] = []
        for u in range(height):
            taps = [read(u * width + v) for v in range(width)]
            total = settled(total + self._sum(taps)) if self._sums_taps else total
            if self._layout.element != "i16":
                self._store_row(taps, u)
                continue
            words += [self._word(taps, pair) for pair in self._layout.words]
            while len(words) > 1:
                self._core.store_pair(words.pop(0), words.pop(0), target + position)
                position += 8
        if words:
            (target + position).store(words[0], "i32")
        return total

    def _store_row(self, taps: list[Scalar], u: int) -> None:
        element = self._layout.element
        for v, tap in enumerate(taps):
            at = (u * len(taps) + v) * ELEMENT_BYTES[element]
            value = tap.as_float() if element == "f32" else tap
            (self._start + (_TAPS + at)).store(value, element)

    def _sum(self, taps: list[Scalar]) -> Scalar:
        total = self._nest.number(0)
        for tap in taps if self._sums_taps else ():
            total = total + tap
        return total

    def _word(self, taps: list[Scalar], pair: Pair) -> Scalar:
        low, high = pair
        if high is None:
            assert low is not None
            return taps[low] & 0xFFFF
        return taps[high] << 16 if low is None else self._core.pack(taps[low], taps[high])

    def bias(self) -> Scalar:
        """What a sum of products starts from."""
        return (self._start + _BIAS).load("i32")

    def finish(self, totals: list[Scalar]) -> list[tuple[Scalar, Scalar]]:
        """(clamped output, the same before the clamp) of each total."""
        multiplier, rounding = self._core.load_pair(self._start + _MULTIPLIER)
        shift: Index = self._rescale.shift
        if self._shifts is not None:
            shift = (self._start + _SHIFT).load("i32", volatile=True)
        zero = 0 if self._rescale.uniform else self._rescale.zero
        results = []
        for total in totals:
            value = self._core.high_product(total, multiplier) + rounding
            value = (value >> shift) + zero
            results.append((self._core.limit(value, *self._limits), value))
        return results


def weight_reader(taps: Address, storage: str) -> _Reader:
    """Reads the int8 weight number `tap` behind `taps`, stored as `i8`, `i16` master or `f32`."""
    width = ELEMENT_BYTES[storage]

    def read(tap: int) -> Scalar:
        if storage == "f32":
            real = clamp((taps + width * tap).load("f32"), -128.0, 127.0)
            return round_half_even(real).as_integer()
        # The high byte of an int16 master is the weight.
        return (taps + (width * tap + width - 1)).load("i8")

    return read
