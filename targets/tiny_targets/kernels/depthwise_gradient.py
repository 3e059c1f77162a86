"""The input gradient of a depthwise convolution in float32, a channel at a time from a plane of g.

Element `h` of the gradient meets outputs `(h + pad - tap) / stride`, for the taps that leave no
remainder. So elements whose indices leave the same remainder by the stride, a *phase*, meet the
same taps, at the same distances from output `h / stride`: rows are computed in groups of one of
each phase, and so are columns. With stride 1 that is a correlation with reversed taps; with any
other nothing is multiplied by a zero that an enlarged gradient would hold.

The channel's scale is folded into its taps. A channel of g is copied before that channel of gx is
written, which may lie in its place.
"""

from dataclasses import dataclass
from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.types import element_name, shape_of
from tiny_targets.kernels.address import ELEMENT_BYTES, Address, address_of, walk
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.numerics import round_half_even
from tiny_targets.kernels.plane import Plane, PlaneWriter
from tiny_targets.kernels.primitives import fused_multiply_add, primitives_of, settled
from tiny_targets.kernels.scalar import Index, Scalar, clamp
from tiny_targets.kernels.scratch import ScratchWish, scratch_of
from tiny_targets.kernels.weights import trained_rows
from tiny_targets.kernels.windows import Axis, axes

LARGEST_PLANE = 8192
"""Bytes; beyond, the plain loops are kept: the plane would be part of the peak."""

TAPS_IN_REGISTERS = 9

_SIDE_BY_SIDE = 4
_FLOAT = 4


@dataclass(frozen=True)
class Phases:
    """One axis of an input gradient: which taps an element meets, by phase."""

    axis: Axis
    """Of the convolution: its input is the axis of the gradient."""

    @property
    def _distances(self) -> list[int]:
        every = [d for phase in range(self.axis.stride) for _, d in self._met(phase)]
        return [*every, 0]

    def _met(self, phase: int) -> list[tuple[int, int]]:
        """(tap, output less the output of the group) for an element of a phase."""
        axis = self.axis
        ahead = [(tap, phase + axis.pad - tap) for tap in range(axis.kernel)]
        return [(tap, d // axis.stride) for tap, d in ahead if d % axis.stride == 0]

    def taps(self, phase: int) -> list[tuple[int, int]]:
        """(tap, element of the window) for an element of a phase; a group's window starts at 0."""
        first = min(self._distances)
        return [(tap, distance - first) for tap, distance in self._met(phase)]

    @property
    def window(self) -> Axis:
        """Groups as outputs of a window over g."""
        axis, distances = self.axis, self._distances
        groups = -(-axis.input // axis.stride)
        return Axis(axis.output, groups, max(distances) - min(distances) + 1, 1, -min(distances))


@dataclass(frozen=True)
class _Form:
    down: Phases
    across: Phases
    plane: Plane

    @property
    def taps(self) -> int:
        return self.down.axis.kernel * self.across.axis.kernel

    @property
    def scratch_bytes(self) -> int:
        """The taps, then the plane."""
        return self.taps * _FLOAT + self.plane.bytes


def _form_of(op: Any, target: Any) -> _Form | None:
    shape = shape_of(op.w)
    if not target.has("fpu") or shape[0] != op.groups.value or shape[3] != 1 or shape[0] == 1:
        return None
    down, across = (Phases(axis) for axis in axes(op, op.gx, op.g, shape))
    plane = Plane(down.window, across.window, "f32", down.window.output)
    return _Form(down, across, plane) if plane.bytes <= LARGEST_PLANE else None


def depthwise_gradient_scratch(op: Any, target: Any) -> ScratchWish | None:
    """Taps and plane of one channel."""
    form = _form_of(op, target)
    return None if form is None else ScratchWish([form.scratch_bytes])


def emit_depthwise_gradient(nest: Nest, op: Any, target: Any) -> bool:
    """The kernel where it applies and its scratch memory suffices; False for any other op."""
    form = _form_of(op, target)
    if form is None or scratch_of(op) < form.scratch_bytes:
        return False
    _Emitter(nest, op, form, target).emit()
    return True


class _Emitter:
    """The arguments of one kernel, and its code."""

    def __init__(self, nest: Nest, op: Any, form: _Form, target: Any) -> None:
        self._nest, self._form = nest, form
        self._core = primitives_of(target)
        self._channels = shape_of(op.w)[0]
        self._g = address_of(nest.read(op.g))
        self._weights = _Taps(nest, op, form.taps)
        self._scales = nest.read(to_array(op.scales))
        self._gx = address_of(nest.write(op.gx))
        self._taps = address_of(nest.scratch((form.scratch_bytes // 4,), "f32"))
        self._plane = self._taps + form.taps * _FLOAT
        self._writer = PlaneWriter(
            nest, self._core, form.plane, self._plane, 0, self._channels, source="f32"
        )
        self._registers: list[Scalar] = []

    def emit(self) -> None:
        """All channels."""
        self._writer.clear()
        count = self._form.taps
        for channel in self._nest.loop(self._channels):
            self._weights.store_scaled(channel, self._scales[channel], self._taps)
            if count <= TAPS_IN_REGISTERS:
                self._registers = [(self._taps + t * _FLOAT).load("f32") for t in range(count)]
            self._writer.gather_all(self._g + channel * _FLOAT)
            self._emit_rows(self._gx + channel * _FLOAT)

    def _emit_rows(self, out: Address) -> None:
        axis, step = self._form.down.axis, self._form.plane.row_bytes
        full = axis.input // axis.stride

        def group(window: Address, out: Address) -> tuple[Address, Address]:
            for phase in range(axis.stride):
                out = self._emit_row(window, out, phase)
            return window + step, out

        window = self._plane
        if full:
            window, out = walk(window + full * step, (window, out), group)
        for phase in range(axis.input % axis.stride):
            out = self._emit_row(window, out, phase)

    def _emit_row(self, window: Address, out: Address, phase: int) -> Address:
        """One row; the address of the next."""
        axis = self._form.across.axis
        rows = self._form.down.taps(phase)
        width = max(_SIDE_BY_SIDE // axis.stride, 1) * axis.stride
        full, step = axis.input // width, width // axis.stride * _FLOAT

        def block(window: Address, out: Address) -> tuple[Address, Address]:
            self._block(window, out, rows, width)
            return window + step, out + width * self._channels * _FLOAT

        if full == 1:
            window, out = block(window, out)
        elif full:
            window, out = walk(window + full * step, (window, out), block)
        rest = axis.input % width
        if rest:
            self._block(window, out, rows, rest)
        return out + rest * self._channels * _FLOAT

    def _block(
        self, window: Address, out: Address, rows: list[tuple[int, int]], count: int
    ) -> None:
        """`count` neighbouring elements of a row; the first one is of phase 0."""
        totals: list[Scalar | None] = [None] * count
        for kh, u in rows:
            row = window + u * self._form.plane.row_bytes
            elements: dict[int, Scalar] = {}
            taps: dict[int, Scalar] = {}
            for kw, column, i in self._products(count):
                if column not in elements:
                    elements[column] = (row + column * _FLOAT).load("f32")
                if kw not in taps:
                    taps[kw] = self._tap(kh, kw)
                total, x, w = totals[i], elements[column], taps[kw]
                totals[i] = x * w if total is None else fused_multiply_add(x, w, total)
            if not self._core.has_dot2:
                totals = [None if total is None else settled(total) for total in totals]
        for i, total in enumerate(totals):
            value = self._nest.real(0.0) if total is None else total
            (out + i * self._channels * _FLOAT).store(value, "f32")

    def _products(self, count: int) -> list[tuple[int, int, int]]:
        """(tap, element, output) of one row of the window, by element."""
        stride = self._form.across.axis.stride
        found = [
            (kw, column + i // stride, i)
            for i in range(count)
            for kw, column in self._form.across.taps(i % stride)
        ]
        return sorted(found, key=lambda product: product[1])

    def _tap(self, kh: int, kw: int) -> Scalar:
        number = kh * self._form.across.axis.kernel + kw
        if self._registers:
            return self._registers[number]
        return (self._taps + number * _FLOAT).load("f32", volatile=True)


class _Taps:
    """The weights of a channel, frozen or trained."""

    def __init__(self, nest: Nest, op: Any, count: int) -> None:
        self._nest, self._count = nest, count
        self._whole = address_of(nest.read(op.w))
        self._storage = element_name(op.w)
        self._rows = None
        if op.trained is not None:
            rows = trained_rows(op)
            self._rows = nest.read(rows)
            self._trained = address_of(nest.read(op.trained))
            self._trained_storage = element_name(op.trained)

    def store_scaled(self, channel: Index, scale: Scalar, target: Address) -> None:
        """The taps times `scale`, as floats."""
        if self._rows is None:
            self._store(self._whole, self._storage, channel, scale, target)
            return
        row = self._rows[channel]

        def trained() -> tuple[Scalar, ...]:
            self._store(self._trained, self._trained_storage, row, scale, target)
            return ()

        def frozen() -> tuple[Scalar, ...]:
            self._store(self._whole, self._storage, channel, scale, target)
            return ()

        self._nest.branch(row >= 0, trained, frozen, like=())

    def _store(
        self, start: Address, storage: str, row: Index, scale: Scalar, target: Address
    ) -> None:
        size = ELEMENT_BYTES[storage]
        first = start + row * (self._count * size)
        for tap in range(self._count):
            at = first + tap * size
            if storage == "f32":
                value = round_half_even(clamp(at.load("f32"), -128.0, 127.0))
            else:
                # The high byte of an int16 master is the weight.
                value = (at + (size - 1)).load("i8").as_float()
            (target + tap * _FLOAT).store(value * scale, "f32")
