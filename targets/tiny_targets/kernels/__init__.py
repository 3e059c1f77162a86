"""Kernels: one loop nest in upstream MLIR for one op of a planned function.

`build_call(op, target)` gives the kernel and what its arguments are bound to. What differs between
layers of one shape (weights, biases, multipliers, factors, channel lists) is an argument, so
kernels of equal shape are equal and compiled once. `register_kernel(OpClass)` adds or replaces a
builder.
"""

# Importing a family registers its kernels.
from tiny_targets.kernels import (  # noqa: F401
    conv2d,
    elementwise,
    fused_block,
    gradient_passes,
    gradients,
    head,
    integer_elementwise,
    integer_head,
    integer_input_grad,
    integer_update,
    integer_weight_update,
    layout,
    pointwise_gradients,
    pooling,
    residual_add,
    updates,
    window_pools,
)
from tiny_targets.kernels.kernel import Kernel, KernelCall, Scratch, Table
from tiny_targets.kernels.registry import build_call, has_kernel, register_kernel

__all__ = [
    "Kernel",
    "KernelCall",
    "Scratch",
    "Table",
    "build_call",
    "has_kernel",
    "register_kernel",
]
