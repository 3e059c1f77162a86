"""The geometry that every convolution op shares: strides, pads, groups, trained channels."""

from dataclasses import dataclass
from typing import Any

from tiny_dialect.attributes import to_list
from tiny_dialect.types import Shape, shape_of
from tiny_dialect.verify import Violation, require


@dataclass(frozen=True)
class ConvGeometry:
    """Strides (h, w), pads (top, left, bottom, right) and groups of a 2-D convolution."""

    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int

    def output_shape(self, x: Shape, w: Shape) -> Shape:
        """NHWC output shape for an NHWC input and an O·KH·KW·(I/groups) weight."""
        top, left, bottom, right = self.pads
        height = (x[1] + top + bottom - w[1]) // self.strides[0] + 1
        width = (x[2] + left + right - w[2]) // self.strides[1] + 1
        return (x[0], height, width, w[0])


def geometry(op: Any) -> ConvGeometry:
    """The geometry of any convolution op; raises `Violation` where its attributes are malformed."""
    try:
        strides, pads = to_list(op.attributes["strides"]), to_list(op.attributes["pads"])
    except TypeError as error:
        raise Violation(str(error)) from error
    groups = op.attributes["groups"].value
    require(
        len(strides) == 2 and min(strides) >= 1, f"expects two strides of at least 1, got {strides}"
    )
    require(len(pads) == 4 and min(pads) >= 0, f"expects four pads of at least 0, got {pads}")
    require(groups >= 1, f"expects groups of at least 1, got {groups}")
    return ConvGeometry((strides[0], strides[1]), (pads[0], pads[1], pads[2], pads[3]), groups)


def is_depthwise(groups: int, weight: Shape) -> bool:
    """True where each group reads one input channel: weights are chosen by output channel."""
    return weight[3] == 1 and groups > 1


def trained_axis(groups: int, weight: Shape) -> int:
    """The weight axis of channel choice: 0 (outputs) for depthwise, else 3 (inputs)."""
    return 0 if is_depthwise(groups, weight) else 3


def trained_shape(groups: int, weight: Shape, channels: int) -> Shape:
    """The shape of the trained part of a weight with `channels` chosen channels."""
    axis = trained_axis(groups, weight)
    return tuple(channels if i == axis else size for i, size in enumerate(weight))


def input_channels(groups: int, weight: Shape, channels: list[int]) -> list[int]:
    """The channels of the convolution's input that the chosen weights multiply."""
    if is_depthwise(groups, weight):
        multiplier = weight[0] // groups
        return [channel // multiplier for channel in channels]
    return [group * weight[3] + channel for group in range(groups) for channel in channels]


def require_conv_shapes(geo: ConvGeometry, x: Any, w: Any, y_shape: Shape) -> None:
    """Input, weight and output fit together; raises `Violation`."""
    x_shape, w_shape = shape_of(x), shape_of(w)
    require(
        w_shape[3] * geo.groups == x_shape[3],
        f"expects weights of {x_shape[3]} / {geo.groups} input channels, got {w.type} "
        f"for input {x.type}",
    )
    require(
        w_shape[0] % geo.groups == 0,
        f"expects output channels divisible by {geo.groups} groups, got {w.type}",
    )
    expected = geo.output_shape(x_shape, w_shape)
    require(min(expected) >= 1, f"has an empty output: kernel {w.type} over input {x.type}")
    require(y_shape == expected, f"expects output shape {list(expected)}, got {list(y_shape)}")


def require_channels(op: Any, groups: int, w: Any, trained: Any | None) -> None:
    """`trained` and `trained_channels` come together, in order, without repeats, and in range."""
    if trained is None:
        require(
            "trained_channels" not in op.attributes, "has trained_channels but no trained weights"
        )
        return
    require("trained_channels" in op.attributes, "has trained weights but no trained_channels")
    channels = to_list(op.attributes["trained_channels"])
    limit = shape_of(w)[trained_axis(groups, shape_of(w))]
    require(
        bool(channels)
        and sorted(set(channels)) == channels
        and channels[0] >= 0
        and channels[-1] < limit,
        f"expects increasing trained_channels below {limit}, got {channels}",
    )
    expected = trained_shape(groups, shape_of(w), len(channels))
    require(
        shape_of(trained) == expected,
        f"expects trained weights of shape {list(expected)}, got {trained.type}",
    )
