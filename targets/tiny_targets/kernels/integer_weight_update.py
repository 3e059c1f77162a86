"""Weight updates of convolutions: the pointwise form, a product of panels of pixel pairs."""

from typing import Any

from tiny_dialect.ops import IntegerConv2DWeightUpdate
from tiny_targets.kernels.integer_update import update_weights
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.registry import register_kernel


@register_kernel(IntegerConv2DWeightUpdate)
def integer_conv2d_weight_update(nest: Nest, op: Any, target: Any) -> None:
    """The general form."""
    update_weights(nest, op, target)
