"""Depthwise convolution: a channel at a time from a gather plane, several outputs side by side.

For each output channel its record is prepared (`channel_record`), its input channel is gathered
(`plane`), and each row of outputs is computed in groups that share the taps. With `dot2` a step is
a product of int16 pairs (`tap_pairs`); without, taps and elements are floats or bytes, and the few
taps of a small window stay in registers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tiny_dialect.ops.convolution import is_depthwise
from tiny_dialect.types import quantization, shape_of
from tiny_passes.overwriting import PLANES, traversal_of
from tiny_targets.kernels.address import ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.channel_record import ChannelRecord, RecordLayout
from tiny_targets.kernels.nest import Buffer, Nest, Span
from tiny_targets.kernels.plane import Plane, PlaneWriter
from tiny_targets.kernels.primitives import primitives_of, settled
from tiny_targets.kernels.rescale import Rescaling, rescaling_of
from tiny_targets.kernels.rows import Rows
from tiny_targets.kernels.scalar import Index, Scalar, minimum, select
from tiny_targets.kernels.scratch import ScratchWish, scratch_of
from tiny_targets.kernels.tap_pairs import Pair, row_products, weight_words
from tiny_targets.kernels.weights import sum_bounds
from tiny_targets.kernels.windows import Axis, axes
from tiny_targets.kernels.word_stream import WordStream

OUTPUTS = 4
"""Outputs side by side: six live accumulators are the limit, and a step must be whole words."""

PLANE_BYTES = (1024, 2048, 4096, 8192)
"""Of a plane: a larger one is cut into bands, the smaller the more often rows are moved."""

_WHOLE_PLANE = 1 << 30

TAPS_IN_REGISTERS = {"i8": 9, "f32": 9}
"""Up to here a core without `dot2` keeps the taps of a channel in registers."""

_EXACT_FLOAT = 2**24
"""Sums below it are exact. Raw elements reach no further than elements less their zero point."""

UNROLLED_TAPS = 9
"""Up to here two groups of a row stand one behind the other, without a loop."""


@dataclass(frozen=True)
class Depthwise:
    """What the code of a depthwise convolution is chosen by."""

    plane: Plane
    layout: RecordLayout
    channels: int
    """Input channels."""
    multiplier: int
    """Output channels of an input channel."""

    @property
    def element(self) -> str:
        """`i16` in pairs, `i8` or `f32`: taps and elements."""
        return self.layout.element

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.channels * self.multiplier

    def band(self, rows: int) -> "Depthwise":
        """The same with a plane of its own for each `rows` output rows."""
        return replace(self, plane=self.plane.band(rows))

    @property
    def scratch_bytes(self) -> int:
        """The record, then the plane."""
        return self.layout.bytes + self.plane.bytes


def depthwise_of(op: Any, target: Any, limit: int = PLANE_BYTES[0]) -> Depthwise | None:
    """The form of a `conv2d` with one input channel a group; None for any other.

    Its plane takes up to `limit` bytes, unless a single row of outputs needs more.
    """
    shape, groups = shape_of(op.w), op.groups.value
    if not is_depthwise(groups, shape):
        return None
    element = _element(op, target)
    plane = Plane.of(*axes(op, op.x, op.y, shape), element, limit)
    across = plane.horizontal
    words: tuple[Pair, ...] = ()
    if element == "i16":
        words = weight_words(plane.window, across.stride, across.kernel)
    layout = RecordLayout((shape[1], shape[2]), element, words)
    return Depthwise(plane, layout, groups, shape[0] // groups)


def _element(op: Any, target: Any) -> str:
    """What taps and elements are kept as: sums of raw products must be exact."""
    if primitives_of(target).has_dot2:
        return "i16"
    exact = target.has("fpu") and int(sum_bounds(op).max()) < _EXACT_FLOAT
    return "f32" if exact else "i8"


@dataclass(frozen=True)
class _Place:
    """Where a group of outputs is: its windows, its outputs, its mask bytes."""

    window: Address
    y: Address
    mask: Address | None = None

    @property
    def carried(self) -> tuple[Address, ...]:
        """As the values of a loop."""
        return (self.window, self.y) if self.mask is None else (self.window, self.y, self.mask)


class DepthwiseEmitter:
    """The arguments of one kernel, and its code, from one end of an image to the other."""

    def __init__(
        self, nest: Nest, op: Any, form: Depthwise, rescale: Rescaling, target: Any, start: Address
    ) -> None:
        self._nest, self._form = nest, form
        self._core = primitives_of(target)
        self._mask_bytes = 0 if op.mask is None else -(-form.outputs // 8)
        self._record = ChannelRecord(nest, op, self._core, form.layout, rescale, start)
        self._plane = start + form.layout.bytes
        zero = quantization(op.x)[1]
        self._writer = PlaneWriter(nest, self._core, form.plane, self._plane, zero, form.channels)
        self._register_taps: list[Scalar] | None = None
        self._bit = nest.number(0)

    @property
    def vertical(self) -> Axis:
        """Of rows."""
        return self._form.plane.vertical

    def prepare(self) -> None:
        """Nothing is kept from row to row."""

    def emit_image(self, x: Address, y: Address, mask: Address | None) -> None:
        """All rows, a channel after the other."""
        down, plane = self.vertical, self._form.plane
        row_outputs = plane.horizontal.output
        self._writer.clear()
        self._clear_mask(mask, down.output * row_outputs)
        for source, channel in self._channels():
            for band in self._nest.loop(plane.bands):
                if plane.bands == 1:
                    self._writer.gather_all(x + source)
                else:
                    self._writer.gather_band(x + source, band)
                first = band * plane.band_rows
                place = self._place(channel, y, mask, first * row_outputs)
                self._emit_rows(place, minimum(down.output - first, plane.band_rows))

    def emit_rows(self, first: Index, count: Index, x: Rows, y: Rows, mask: Buffer | None) -> None:
        """`count` rows of `y`, side by side, from the rows of `x` that their windows meet."""
        down, row_outputs = self.vertical, self._form.plane.horizontal.output
        bits = None
        if mask is not None:
            bits = address_of(mask) + first * (row_outputs * self._mask_bytes)
        self._writer.clear_edges()
        self._clear_mask(bits, count * row_outputs)
        # Its pads serve all channels.
        window = self._writer.window_at(first * down.stride - down.pad)
        for source, channel in self._channels():
            self._writer.gather_window(lambda row, source=source: x.address(row) + source, window)
            place = self._place(channel, y.address(first), bits, 0)
            if isinstance(count, int) and count == 1:
                self._emit_row(place)
            else:
                self._emit_rows(place, count)

    def _channels(self) -> Iterator[tuple[Index, Index]]:
        """(input channel, output channel), its record prepared."""
        form = self._form
        for source in self._nest.loop(form.channels):
            for number in self._nest.loop(form.multiplier):
                channel = source * form.multiplier + number
                self._prepare(channel)
                yield source, channel

    def _place(self, channel: Index, y: Address, mask: Address | None, first: Index) -> _Place:
        """The outputs of a channel from pixel `first` on, the plane's first row behind them."""
        bits = mask
        if mask is not None:
            bits = mask + self._nest.index(channel) // 8 + first * self._mask_bytes
        return _Place(self._plane, y + channel + first * self._form.outputs, bits)

    def _clear_mask(self, mask: Address | None, pixels: Index) -> None:
        """Bits are added a channel at a time."""
        if mask is None:
            return
        zero = self._nest.number(0)
        for byte in self._nest.loop(Span(0, pixels * self._mask_bytes)):
            (mask + byte).store(zero, "i8")

    def _prepare(self, channel: Index) -> None:
        self._record.prepare(channel)
        taps, element = self._form.layout.taps, self._form.element
        if taps <= TAPS_IN_REGISTERS.get(element, 0):
            size = ELEMENT_BYTES[element]
            self._register_taps = [
                (self._record.taps + t * size).load(element) for t in range(taps)
            ]
        if self._mask_bytes:
            number = self._nest.index(channel).as_integer()
            self._bit = self._nest.number(1) << (number & 7)

    def _emit_rows(self, place: _Place, count: Index) -> None:
        """`count` output rows, of which the plane holds the windows."""
        step = self.vertical.stride * self._form.plane.row_bytes

        def row(*carried: Address) -> tuple[Address, ...]:
            after = self._emit_row(_Place(*carried))
            return (carried[0] + step, *after.carried[1:])

        if self.vertical.output == 1:
            row(*place.carried)
        else:
            walk(place.window + count * step, place.carried, row)

    def _emit_row(self, place: _Place) -> _Place:
        """One row of outputs; the place behind it."""
        width = self._form.plane.horizontal.output
        full = width // OUTPUTS
        several = full > 2 or (full == 2 and self._form.layout.taps > UNROLLED_TAPS)
        if several:
            advance = full * self._window_bytes(OUTPUTS)
            end = place.window + advance
            place = _Place(*walk(end, place.carried, lambda *c: self._group(_Place(*c)).carried))
        else:
            for _ in range(full):
                place = self._group(place)
        return self._group(place, width % OUTPUTS) if width % OUTPUTS else place

    def _window_bytes(self, outputs: int) -> int:
        plane = self._form.plane
        return outputs * plane.horizontal.stride * plane.element_bytes

    def _group(self, place: _Place, count: int = OUTPUTS) -> _Place:
        """`count` outputs side by side."""
        totals = self._totals(place.window, count)
        channels = self._form.outputs
        mask_bytes = self._mask_bytes
        for i, (clamped, unclamped) in enumerate(self._record.finish(totals)):
            (place.y + i * channels).store(clamped, "i8")
            if place.mask is not None:
                byte = place.mask + i * mask_bytes
                old = byte.load_byte()
                byte.store(select(clamped.equals(unclamped), old | self._bit, old), "i8")
        mask = None if place.mask is None else place.mask + count * mask_bytes
        return _Place(place.window + self._window_bytes(count), place.y + count * channels, mask)

    def _totals(self, window: Address, count: int) -> list[Scalar]:
        bias = self._record.bias()
        if self._form.element == "i16":
            return self._pair_sums(window, [bias] * count)
        if self._form.element == "i8":
            return self._single_sums(window, [bias] * count)
        sums = self._single_sums(window, [self._nest.real(0.0)] * count)
        return [total.as_integer() + bias for total in sums]

    def _pair_sums(self, window: Address, totals: list[Scalar]) -> list[Scalar]:
        core, plane = self._core, self._form.plane
        across, totals = plane.horizontal, list(totals)
        row = row_products(plane.window, across.stride, across.kernel, len(totals))
        height = plane.vertical.kernel
        taps = WordStream(core, self._record.taps, height * len(row.words))
        for u in range(height):
            elements = WordStream(core, window + u * plane.row_bytes, row.element_words)
            for product in row.products:
                x, w = elements[product.word], taps[u * len(row.words) + product.weight]
                total = totals[product.output]
                if product.halves is None:
                    totals[product.output] = core.dot2(x, w, total)
                else:
                    totals[product.output] = core.dot(x, w, total, product.halves)
        return totals

    def _single_sums(self, window: Address, totals: list[Scalar]) -> list[Scalar]:
        plane, totals = self._form.plane, list(totals)
        across, element, size = plane.horizontal, plane.element, plane.element_bytes
        for u in range(plane.vertical.kernel):
            taps = self._row_taps(u)
            start = window + (u * plane.row_bytes + plane.window * size)
            for column in range((len(totals) - 1) * across.stride + across.kernel):
                value = None
                for i in range(len(totals)):
                    tap = column - i * across.stride
                    if 0 <= tap < across.kernel:
                        value = (start + column * size).load(element) if value is None else value
                        totals[i] = totals[i] + value * taps[tap]
            totals = [settled(total) for total in totals]
        return totals

    def _row_taps(self, u: int) -> list[Scalar]:
        width, element = self._form.plane.horizontal.kernel, self._form.element
        if self._register_taps is not None:
            return self._register_taps[u * width : (u + 1) * width]
        # Volatile: else they all move out of the loops, and onto the stack.
        size = ELEMENT_BYTES[element]
        start = self._record.taps + u * width * size
        return [(start + v * size).load(element, volatile=True) for v in range(width)]


def depthwise_scratch(op: Any, target: Any) -> ScratchWish | None:
    """The record and the gather plane of a depthwise `conv2d`."""
    if rescaling_of(op) is None:
        return None
    forms = [depthwise_of(op, target, limit) for limit in _limits(op)]
    sizes = sorted({form.scratch_bytes for form in forms if form is not None})
    return ScratchWish(sizes) if sizes else None


def _limits(op: Any) -> tuple[int, ...]:
    """Of the bytes of a plane; a channel that is overwritten must lie there whole."""
    return (_WHOLE_PLANE,) if traversal_of(op) == PLANES else PLANE_BYTES


def _form_within(op: Any, target: Any, budget: int) -> Depthwise | None:
    """The form with the largest plane that fits; None where none does."""
    forms = [depthwise_of(op, target, limit) for limit in reversed(_limits(op))]
    return next((form for form in forms if form is not None and form.scratch_bytes <= budget), None)


def emit_depthwise(nest: Nest, op: Any, target: Any) -> bool:
    """The kernel of a depthwise `conv2d` whose scratch memory suffices; False for any other."""
    form, rescale = _form_within(op, target, scratch_of(op)), rescaling_of(op)
    if form is None or rescale is None:
        return False
    x, y = address_of(nest.read(op.x)), address_of(nest.write(op.y))
    mask = None if op.mask is None else address_of(nest.write(op.mask))
    start = address_of(nest.scratch((form.scratch_bytes // 4,), "i32"))
    DepthwiseEmitter(nest, op, form, rescale, target, start).emit_image(x, y, mask)
    return True
