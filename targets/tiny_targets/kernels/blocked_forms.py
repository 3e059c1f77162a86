"""Which entry of the blocking table the kernel of an op looks up."""

from typing import Any

from tiny_dialect.ops.convolution import is_depthwise
from tiny_dialect.types import shape_of
from tiny_targets.kernels.panels import form_name
from tiny_targets.kernels.pointwise import is_pointwise
from tiny_targets.kernels.primitives import primitives_of
from tiny_targets.kernels.rescale import rescaling_of


def blocked_form(op: Any, target: Any) -> str | None:
    """`pointwise.halves` and its like; None for an op whose kernel has no blocking."""
    view, name = op.operation.opview, op.operation.name
    if name == "tiny.conv2d" and rescaling_of(view) is not None:
        if is_pointwise(view):
            return f"pointwise.{form_name(view, target)}"
        shape, groups = shape_of(view.w), view.groups.value
        if groups == 1 and not is_depthwise(groups, shape):
            return f"dense.{form_name(view, target)}"
    if name == "tiny.integer_conv2d_input_grad" and is_pointwise(view):
        return f"input_gradient.{'pairs' if primitives_of(target).has_dot2 else 'singles'}"
    return None
