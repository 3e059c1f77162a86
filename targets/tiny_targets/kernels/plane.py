"""The gather plane: one channel of an NHWC image as contiguous, padded rows in scratch memory.

A depthwise window then reads neighbours side by side, and never asks whether it hangs over an edge:
the pads are there, filled once with the zero point. Elements are int16 where two of them make an
operand, float32 where a multiply-add is one instruction, else int8. The data of a row starts at a
whole word.

The same layout serves a dense convolution: its row is one of width times channels elements, already
contiguous, and only widened.

A plane that is too large is worked through in *bands* of output rows: the rows that the next band
needs again move to the top, the others are gathered.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tiny_targets.kernels.address import ELEMENT_BYTES, Address, walk
from tiny_targets.kernels.nest import Nest, Span
from tiny_targets.kernels.primitives import Primitives, twice
from tiny_targets.kernels.scalar import Index, Scalar, maximum, minimum
from tiny_targets.kernels.windows import Axis

_UNROLLED_PIXELS = 8
_WORD_BYTES = 4

RowSource = Callable[[Index], Address]
"""Where the elements of an image row start."""


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


@dataclass(frozen=True)
class Plane:
    """The layout of a plane: what lies where, in elements and bytes."""

    vertical: Axis
    horizontal: Axis
    element: str
    """`i8`, `i16` or `f32`."""
    band_rows: int
    """Output rows of one band; all of them where there is a single band."""
    alone: bool = False
    """Each band is filled on its own: nothing is there yet."""

    @staticmethod
    def of(vertical: Axis, horizontal: Axis, element: str, limit: int) -> "Plane":
        """The plane of a window, in as few bands of equal height as `limit` bytes allow."""
        rows = vertical.output
        while rows > 1 and Plane(vertical, horizontal, element, rows).bytes > limit:
            rows -= 1
        bands = -(-vertical.output // rows)
        return Plane(vertical, horizontal, element, -(-vertical.output // bands))

    def band(self, rows: int) -> "Plane":
        """The same for up to `rows` output rows at a time, each time filled anew."""
        return replace(self, band_rows=min(rows, self.vertical.output), alone=True)

    @property
    def element_bytes(self) -> int:
        """Bytes of an element."""
        return ELEMENT_BYTES[self.element]

    @property
    def left(self) -> int:
        """Elements before the data of a row: the pad, up to a whole word."""
        return _round_up(self.horizontal.pad, 2 if self.element == "i16" else 1)

    @property
    def window(self) -> int:
        """The element of a row at which the first window starts."""
        return self.left - self.horizontal.pad

    @property
    def row_bytes(self) -> int:
        """From one row to the next, whole words."""
        across = self.horizontal
        reach = self.window + (across.output - 1) * across.stride + across.kernel
        return _round_up(max(reach, self.left + across.input) * self.element_bytes, _WORD_BYTES)

    @property
    def bands(self) -> int:
        """How many bands cover the output."""
        return -(-self.vertical.output // self.band_rows)

    @property
    def advance(self) -> int:
        """Rows from one band to the next."""
        return self.band_rows * self.vertical.stride

    @property
    def overlap(self) -> int:
        """Rows that two bands have in common."""
        if self.bands == 1 or self.alone:
            return 0
        return max(self.vertical.kernel - self.vertical.stride, 0)

    @property
    def rows(self) -> int:
        """Rows of a plane, or of a band."""
        down = self.vertical
        if self.bands > 1 and not self.alone:
            return self.overlap + self.advance
        return (self.band_rows - 1) * down.stride + down.kernel

    @property
    def bytes(self) -> int:
        """With the word that a pair of words may reach beyond the last row."""
        return self.rows * self.row_bytes + _WORD_BYTES


@dataclass(frozen=True)
class PlaneWindow:
    """Where a plane lies over an image."""

    first: Index
    """The image row of its first row."""
    inside: Span
    """Its rows that are in the image."""


class PlaneWriter:
    """Emits the code that fills the plane at `start`.

    `channels` is the distance of two elements in the image, `zero` its zero point; with `centred`
    the elements are less the zero point, and the pads zero. The image has elements of `source`.
    """

    def __init__(
        self,
        nest: Nest,
        core: Primitives,
        plane: Plane,
        start: Address,
        zero: int,
        channels: int,
        *,
        centred: bool = False,
        source: str = "i8",
    ) -> None:
        self._nest, self._core, self._plane, self._start = nest, core, plane, start
        self._source, self._minus = source, zero if centred else 0
        self._distance = channels * ELEMENT_BYTES[source]
        zero = 0 if centred else zero
        self._padding = nest.number(_word_of(zero, plane.element))

    def clear(self) -> None:
        """Fill the whole plane with the zero point."""
        self._fill(self._start, self._plane.bytes)

    def clear_edges(self) -> None:
        """Fill what lies beside the data of each row, and words that belong to both."""
        plane, size = self._plane, self._plane.element_bytes
        first = -(-plane.left * size // _WORD_BYTES)
        last = (plane.left + plane.horizontal.input) * size // _WORD_BYTES
        words = plane.row_bytes // _WORD_BYTES
        for row in self._nest.loop(plane.rows):
            start = self._start + row * plane.row_bytes
            for word in (*range(first), *range(max(first, last), words)):
                (start + word * _WORD_BYTES).store(self._padding, "i32")

    def gather_all(self, image: Address) -> None:
        """The channel that starts at `image`, into a plane whose pads are there."""
        down = self._plane.vertical
        last = min(down.input, self._plane.rows - down.pad)
        first_row = self._start + down.pad * self._plane.row_bytes
        if last > 0:
            self._gather_rows(image, first_row, last)

    def window_at(self, first: Index) -> PlaneWindow:
        """The plane over image rows from `first` on: rows outside the image become pads, now."""
        inside = self._fill_outside(0, first, self._plane.rows)
        return PlaneWindow(first, inside)

    def gather_window(self, source: RowSource, window: PlaneWindow) -> None:
        """All rows of the plane that are in the image, of one channel or another."""
        for r in self._nest.loop(window.inside):
            target = self._start + r * self._plane.row_bytes
            self._gather_row(source(window.first + r).settled(), target.settled())

    def gather_band(self, image: Address, band: Index) -> None:
        """The rows of a band that are not there yet; what overlaps moves to the top."""
        plane, down = self._plane, self._plane.vertical
        image_row = plane.horizontal.input * self._distance

        def source(row: Index) -> Address:
            return image + row * image_row

        if plane.overlap:
            self._overlap(source, -down.pad, plane.overlap, band)
        top = band * plane.advance - down.pad + plane.overlap
        self._gather_image_rows(source, plane.overlap, top, plane.rows - plane.overlap)

    def _overlap(self, source: RowSource, first: int, count: int, band: Index) -> None:
        """The rows above those that a band adds: gathered for the first band, else moved."""

        def gather() -> tuple[Scalar, ...]:
            self._gather_image_rows(source, 0, first, count)
            return ()

        def move() -> tuple[Scalar, ...]:
            self._move_to_top(count)
            return ()

        assert isinstance(band, Scalar)
        self._nest.branch(band.equals(0), gather, move, like=())

    def _move_to_top(self, rows: int) -> None:
        plane = self._plane
        source = self._start + plane.advance * plane.row_bytes
        words = rows * plane.row_bytes // _WORD_BYTES
        for index in self._nest.loop(words // 2):
            offset = index * (2 * _WORD_BYTES)
            low, high = self._core.load_pair(source + offset)
            self._core.store_pair(low, high, self._start + offset)
        if words % 2:
            offset = (words - 1) * _WORD_BYTES
            (self._start + offset).store((source + offset).load("i32"), "i32")

    def _gather_image_rows(self, source: RowSource, row: int, first: Index, count: int) -> None:
        """Image rows `[first, first + count)` to plane rows from `row` on; none exist outside."""
        target = self._start + row * self._plane.row_bytes
        for r in self._nest.loop(self._fill_outside(row, first, count)):
            self._gather_row(source(first + r), target + r * self._plane.row_bytes)

    def _fill_outside(self, row: int, first: Index, count: int) -> Span:
        """Fill those of `count` plane rows from `row` on that lie outside the image; the others."""
        plane, size = self._plane, self._plane.vertical.input
        above = minimum(maximum(0 - first, 0), count)
        below = minimum(maximum(first + count - size, 0), count)
        target = self._start + row * plane.row_bytes
        for outside in (Span(0, above), Span(count - below, count)):
            for r in self._nest.loop(outside):
                self._fill(target + r * plane.row_bytes, plane.row_bytes)
        return Span(above, count - below)

    def _fill(self, start: Address, size: int) -> None:
        words = size // _WORD_BYTES
        pairs = words // 2
        for index in self._nest.loop(pairs):
            self._core.store_pair(self._padding, self._padding, start + index * (2 * _WORD_BYTES))
        if words % 2:
            (start + (words - 1) * _WORD_BYTES).store(self._padding, "i32")

    def _gather_rows(self, image: Address, target: Address, count: int) -> None:
        if count == 1:
            self._gather_row(image, target)
            return
        row_bytes = self._plane.row_bytes

        def one(target: Address, image: Address) -> tuple[Address, Address]:
            after = self._gather_row(image, target)
            return target + row_bytes, after

        walk(target + count * row_bytes, (target, image), one)

    def _gather_row(self, image: Address, target: Address) -> Address:
        """One row, its pads left alone; returns the image address behind it."""
        width, size = self._plane.horizontal.input, self._plane.element_bytes
        target = target + self._plane.left * size
        unrolled = min(_UNROLLED_PIXELS, width)
        full = width - width % unrolled

        def block(target: Address, image: Address) -> tuple[Address, Address]:
            self._gather_pixels(image, target, unrolled)
            return target + unrolled * size, image + unrolled * self._distance

        if full == unrolled:
            target, image = block(target, image)
        else:
            target, image = walk(target + full * size, (target, image), block)
        self._gather_pixels(image, target, width - full)
        return image + (width - full) * self._distance

    def _gather_pixels(self, image: Address, target: Address, count: int) -> None:
        words = self._widened(image, count // 4)
        done = 4 * len(words) // 2
        values = [
            (image + i * self._distance).load(self._source) - self._minus
            for i in range(done, count)
        ]
        element, size = self._plane.element, self._plane.element_bytes
        if element != "i16" or not self._core.has_dot2:
            for i, value in enumerate(values):
                value = value.as_float() if element == "f32" else value
                (target + i * size).store(value, element)
            return
        core = self._core
        pairs = zip(values[::2], values[1::2], strict=False)
        words += [core.pack(low, high) for low, high in pairs]
        for i in range(0, len(words) - 1, 2):
            core.store_pair(words[i], words[i + 1], target + 4 * i)
        if len(words) % 2:
            (target + 4 * (len(words) - 1)).store(words[-1], "i32")
        if count % 2:
            (target + 2 * (count - 1)).store(values[-1], "i16")

    def _widened(self, image: Address, count: int) -> list[Scalar]:
        """`count` whole words of neighbouring bytes as pairs of halves, in order; maybe none."""
        core, plane = self._core, self._plane
        if plane.element != "i16" or self._distance != 1 or not core.unaligned_words:
            return []
        offset = self._nest.number(twice(-self._minus)) if self._minus else None
        words = []
        for i in range(count):
            even, odd = core.widen((image + 4 * i).load("i32", volatile=True), offset)
            words += [core.pack(even, odd), core.pack_high(even, odd)]
        return words


def _word_of(value: int, element: str) -> int:
    """The word, as a signed number, that is full of `value`."""
    count = _WORD_BYTES // ELEMENT_BYTES[element]
    array = np.full(count, value, {"i8": np.int8, "i16": np.int16, "f32": np.float32}[element])
    return int(array.view(np.int32)[0])
