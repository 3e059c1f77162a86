"""Weights as the forward pass reads them: masters narrowed to int8, trained channels laid over."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_dialect.ops.convolution import trained_axis
from tiny_dialect.types import element_name, shape_of
from tiny_passes.linalg.scalars import Scalar
from tiny_passes.linalg.tensors import (
    constant,
    dims,
    elementwise,
    empty,
    extract,
    generic,
    loop_index,
)


def stored_weight(stored: Any) -> Any:
    """The int8 weight of an i8, i16 master or f32 master tensor."""
    element = element_name(stored)
    if element == "i16":
        return elementwise([stored], ["i8"], lambda master: (master >> 8).to("i8"))
    if element == "f32":
        return elementwise(
            [stored],
            ["i8"],
            lambda master: master.round_half_even().at_most(127).at_least(-128).to("i8"),
        )
    return stored


def effective_weight(w: Any, trained: Any | None, channels: Sequence[int], groups: int) -> Any:
    """The int8 weight with `trained` in place of the `channels` of `w`."""
    full = stored_weight(w)
    if trained is None:
        return full
    axis = trained_axis(groups, shape_of(full))
    table = np.full(shape_of(full)[axis], -1, np.int32)
    table[list(channels)] = np.arange(len(channels))
    loops = dims(4)
    part = stored_weight(trained)

    def body(frozen: Scalar, slot: Scalar, _: Scalar) -> Scalar:
        position = [loop_index(i) for i in range(4)]
        position[axis] = slot.at_least(0).to("index")
        return slot.compare("ge", 0).select(extract(part, position), frozen)

    return generic(
        [(full, loops), (constant(table), [loops[axis]])],
        [(empty(shape_of(full), "i8"), loops)],
        "pppp",
        body,
    )
