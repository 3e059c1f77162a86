"""The integer form of gradients behind windows and reshapes, for `tiny-quantize-gradients`.

Dividing by the count of an average is left to the next op as a factor. An average over windows that
share out one pixel each stays a spread; everything else becomes sums of mantissas.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from tiny_dialect.attributes import integer
from tiny_dialect.block_float import ceil_log2
from tiny_dialect.ops import IntegerPool2DGrad, MaxPool2DGrad, Reshape
from tiny_dialect.ops.pooling import window_of
from tiny_dialect.semantics.pooling import valid_counts
from tiny_dialect.types import element_name, shape_of, tensor
from tiny_passes.graph import copy_layer
from tiny_passes.mantissas import Gradient, mantissa_types
from tiny_passes.registry import PassError

WINDOW_GRADIENTS = ("tiny.max_pool2d_grad", "tiny.average_pool2d_grad")


def window_count(op: Any) -> int:
    """What the gradient of each window is divided by; raises `PassError` where that differs."""
    if isinstance(op, MaxPool2DGrad):
        return 1
    counts = valid_counts(window_of(op), shape_of(op.gx))
    counts = np.unique(counts[counts > 0])
    if counts.size > 1:
        raise PassError(
            op,
            f"averages {counts[0]} to {counts[-1]} values at its border, which has no integer "
            "form; use --gradients float32",
        )
    return int(counts[0])


def stays_spread(op: Any, g: Any) -> bool:
    """True where every pixel of an average lies in one window, and all gradients are equal."""
    window = window_of(op)
    axes = zip(
        shape_of(op.gx)[1:3], shape_of(op.g)[1:3], window.kernel, window.strides, strict=True
    )
    tiled = all(
        pixels == windows * kernel and (kernel == stride or windows == 1)
        for pixels, windows, kernel, stride in axes
    )
    one = g.mask is None and (g.spread is not None or shape_of(op.g)[1:3] == (1, 1))
    # A pad is a window of one pixel: what lies outside the inner part is no share.
    return tiled and one and not any(window.pads) and not isinstance(op, MaxPool2DGrad)


def window_gradient(op: Any, g: Gradient) -> Gradient:
    """The gradient in front of a pool; `g` has no mask and no spread unless it stays one."""
    factor = g.factor / window_count(op)
    if stays_spread(op, g):
        return replace(g, factor=factor, spread=op.gx.type, origin=op)
    window = window_of(op)
    built = IntegerPool2DGrad(
        g.mantissas,
        g.header,
        *mantissa_types(shape_of(op.gx)),
        op.attributes["kernel"],
        integer(ceil_log2(window.cover)),
        argmax=op.argmax if isinstance(op, MaxPool2DGrad) else None,
        strides=op.attributes["strides"],
        pads=op.attributes["pads"],
    )
    copy_layer(op, built)
    return Gradient(built.gx, built.gx_header, factor)


def reshaped_gradient(op: Any, g: Gradient) -> Gradient:
    """The gradient in front of a reshape; `g` has no mask and no spread."""
    built = Reshape(g.mantissas, tensor(shape_of(op.y), element_name(g.mantissas)))
    copy_layer(op, built)
    return replace(g, mantissas=built.y, origin=op)
