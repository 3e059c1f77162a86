"""Input gradients on mantissas: the general form, and the choice between the forms.

`gx = saturate(round(conv_transpose(w, g) * 2^-shift))`: each element is summed over the outputs
that read it and written once.
"""

from typing import Any

from tiny_dialect.ops import IntegerConv2DInputGrad
from tiny_dialect.types import shape_of
from tiny_passes.overwriting import PLANES, traversal_of
from tiny_targets.kernels import integer_depthwise, integer_window_gradient
from tiny_targets.kernels.channel_plane import ChannelPlane, Image
from tiny_targets.kernels.convolution import Sums, axes
from tiny_targets.kernels.integer_header import EXPONENT, Result, limit_mantissa, round_shift
from tiny_targets.kernels.integer_pointwise import (
    PointwiseInputGradient,
    plan_of,
    pointwise_scratch,
)
from tiny_targets.kernels.nest import Nest, Span
from tiny_targets.kernels.primitives import Primitives, primitives_of
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar
from tiny_targets.kernels.scratch import ScratchWish, register_scratch, scratch_of
from tiny_targets.kernels.weights import Overlay, Weight, weights_of
from tiny_targets.kernels.windows import as_one_row

_COLUMNS = 4
"""Input channels summed at once."""


@register_kernel(IntegerConv2DInputGrad, traversals=(PLANES,))
def integer_conv2d_input_grad(nest: Nest, op: Any, target: Any) -> None:
    """The fastest form that fits the op and its scratch memory."""
    plan = plan_of(op, target)
    if plan is not None and scratch_of(op) >= plan.panel_bytes and not traversal_of(op):
        PointwiseInputGradient(nest, op, plan).emit()
        return
    planes = integer_depthwise.plan_of(op, target)
    if planes is not None and scratch_of(op) >= planes.scratch_bytes:
        integer_depthwise.DepthwiseInputGradient(nest, op, planes, target).emit()
        return
    windows = None if traversal_of(op) else integer_window_gradient.plan_of(op, target)
    if windows and scratch_of(op) >= integer_window_gradient.panels_bytes(op, windows):
        integer_window_gradient.WindowInputGradient(nest, op, windows).emit()
        return
    _General(nest, op, primitives_of(target)).emit()


@register_scratch(IntegerConv2DInputGrad)
def scratch_wish(op: Any, target: Any) -> ScratchWish | None:
    """What the fast form of the op needs."""
    return (
        pointwise_scratch(op, target)
        or integer_depthwise.depthwise_scratch(op, target)
        or integer_window_gradient.window_scratch(op, target)
    )


class _General:
    """Any kernel size, stride, pads, groups and trained channels."""

    def __init__(self, nest: Nest, op: Any, core: Primitives) -> None:
        self._nest, self._core, shape = nest, core, shape_of(op.w)
        windows = axes(op, op.gx, op.g, shape)
        planes = traversal_of(op) == PLANES
        self._vertical, self._horizontal = windows if planes else as_one_row(*windows)
        self._groups, self._outputs = op.groups.value, shape[0] // op.groups.value
        self._channels, self._shift = shape[3], op.shift.value
        size = (self._vertical.output, self._horizontal.output, shape[0])
        self._planes = ChannelPlane(nest, op.g) if traversal_of(op) == PLANES else None
        self._g: Image = self._planes or nest.read(op.g, size)
        self._header = nest.read(op.g_header)
        self._weight, self._overlay = weights_of(nest, op, self._groups)
        self._result = Result(nest, core, op)

    def emit(self) -> None:
        """All elements, then the header."""
        if self._planes is not None:
            self._emit_in_planes(self._planes)
        else:
            self._emit_pixels()
        self._result.finish(self._header[EXPONENT] + self._shift)

    def _emit_in_planes(self, planes: ChannelPlane) -> None:
        """A channel after the other: the result may lie where g lies."""
        for channel in self._nest.loop(self._groups):
            planes.copy(channel)
            for h in self._nest.loop(self._vertical.input):
                for w in self._nest.loop(self._horizontal.input):
                    self._group((h, w), channel)

    def _emit_pixels(self) -> None:
        nest = self._nest
        for h in nest.loop(self._vertical.input):
            for w in nest.loop(self._horizontal.input):
                for group in nest.loop(self._groups):
                    self._group((h, w), group)

    def _group(self, place: tuple[Index, Index], group: Index) -> None:
        nest, base = self._nest, group * self._channels
        outputs = Span(group * self._outputs, (group + 1) * self._outputs, self._outputs)
        for first, size in nest.blocks(self._channels, _COLUMNS):
            sums = self._block(place, outputs, first, size)
            for j, total in enumerate(sums):
                self._store(place, base + first + j, total)
        if self._overlay is None or self._overlay.depthwise:
            return
        for j in nest.loop(len(self._overlay.channels)):
            # The frozen table holds zeros here: what was written above is replaced.
            channel = self._overlay.table[j].as_index() + base
            (total,) = self._sums(place, outputs, (nest.number(0),), self._overlay.trained, j)
            self._store(place, channel, total)

    def _store(self, place: tuple[Index, Index], channel: Index, total: Scalar) -> None:
        h, w = (self._nest.index(i).as_integer() for i in place)
        pixel = h * self._horizontal.input + w
        position = pixel * (self._groups * self._channels) + self._nest.index(channel).as_integer()
        value = limit_mantissa(self._core, round_shift(total, self._shift))
        (self._result.start + position * 2).store(value, "i16")

    def _block(self, place: tuple[Index, Index], outputs: Span, first: Index, size: int) -> Sums:
        """The sums of `size` channels of a group from `first` on."""
        zeros, overlay = (self._nest.number(0),) * size, self._overlay
        if overlay is None or not overlay.depthwise:
            return self._sums(place, outputs, zeros, self._weight, first)

        def add_output(sums: Sums, oc: Index) -> Sums:
            return self._chosen_sums(place, oc, sums, overlay, first)

        return _several(self._nest.fold((outputs,), zeros, add_output))

    def _chosen_sums(
        self, place: tuple[Index, Index], oc: Index, sums: Sums, overlay: Overlay, first: Index
    ) -> Sums:
        """`sums` plus one output's products, from the weight that holds its row."""
        row, one = overlay.table[oc], Span.one(oc)
        found = self._nest.branch(
            row >= 0,
            lambda: self._sums(place, one, sums, overlay.trained, first, row),
            lambda: self._sums(place, one, sums, self._weight, first),
            like=sums,
        )
        return _several(found)

    def _sums(
        self, place: tuple[Index, Index], outputs: Span, start: Sums, weight: Weight, first: Index,
        row: Index | None = None,
    ) -> Sums:  # fmt: skip
        """`start` plus the products of the outputs; `row` replaces their number in the weight."""
        h, w = place

        def add_products(sums: Sums, oh: Index, ow: Index, oc: Index) -> Sums:
            gradient = self._g[oh, ow, oc]
            tap = self._vertical.tap(oh, h), self._horizontal.tap(ow, w)
            return tuple(
                total + gradient * weight[(oc if row is None else row, *tap, first + j)]
                for j, total in enumerate(sums)
            )

        spans = self._vertical.outputs_of_source(h), self._horizontal.outputs_of_source(w), outputs
        return _several(self._nest.fold(spans, start, add_products))


def _several(found: Any) -> Sums:
    return found if isinstance(found, tuple) else (found,)
