"""The kernel of `conv2d`: the choice among its forms.

| the input lies in a ring, or rows must keep their order | a chain of one, row by row |
| result over the input, a channel after the other | planes, whole ones |
| pointwise | panels of pixels and weights |
| one input channel a group, or one group | planes in bands, or rows against a panel |
| anything else, or without scratch memory | the plain loops |
"""

from typing import Any

from tiny_dialect.dialect import place_of
from tiny_dialect.errors import InvalidModel
from tiny_dialect.ops import Conv2D
from tiny_passes.graph import layer_of
from tiny_passes.overwriting import PLANES, ROWS, possible, traversal_of
from tiny_passes.row_schedule import Chain
from tiny_passes.streamed import is_streamed
from tiny_targets.kernels.convolution import emit_convolution, emit_in_planes
from tiny_targets.kernels.dense import emit_dense
from tiny_targets.kernels.dense_panel import dense_scratch
from tiny_targets.kernels.depthwise import depthwise_scratch, emit_depthwise
from tiny_targets.kernels.fused_block import chain_scratch, emit_chain
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.pointwise import emit_pointwise, pointwise_scratch
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scratch import ScratchWish, register_scratch, scratch_of


@register_scratch(Conv2D)
def scratch_wish(op: Any, target: Any) -> ScratchWish | None:
    """What the form that suits the op best can use."""
    if is_streamed(op.x):
        return chain_scratch(op, Chain((op,), None), target)
    panels = pointwise_scratch(op, target)
    if panels is not None:
        return panels
    if traversal_of(op) == ROWS:
        return chain_scratch(op, Chain((op,), None), target)
    return depthwise_scratch(op, target) or dense_scratch(op, target)


@register_kernel(Conv2D, traversals=(ROWS, PLANES))
def conv2d(nest: Nest, op: Any, target: Any) -> None:
    """The fastest form that fits the op, the order it asks for, and its scratch memory."""
    if traversal_of(op) == PLANES:
        _require_plane(op)
        if not emit_depthwise(nest, op, target):
            emit_in_planes(nest, op)
        return
    if is_streamed(op.x):
        _emit_rows(nest, op, target)
        return
    if emit_pointwise(nest, op, target):
        return
    if traversal_of(op) == ROWS:
        _emit_rows(nest, op, target)
        return
    if not (emit_depthwise(nest, op, target) or emit_dense(nest, op, target)):
        emit_convolution(nest, op)


def _emit_rows(nest: Nest, op: Any, target: Any) -> None:
    results = {value: value for value in op.results}
    emit_chain(nest, op, Chain((op,), None), results, target)


def _require_plane(op: Any) -> None:
    """Raise `InvalidModel` where there is no room for a channel."""
    best = possible(op)
    if best.traversal != PLANES or scratch_of(op) < best.scratch_bytes:
        place = layer_of(op) or place_of(op.location)
        raise InvalidModel(f"cannot work in planes in {scratch_of(op)} bytes of scratch", place)
