"""The paper's analytic memory of an update scheme: what training keeps beyond inference.

The classifier's input at 8 bits a value; for each convolution whose bias is trained a mask bit an
output and 32 bits a bias; for each whose weight is trained the chosen input channels and the chosen
weights at 8 bits. It ranks schemes and reproduces the published figures; what a compiled step
really takes is the planner's business. Source: docs/design/arithmetic.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tiny_dialect.ops.convolution import geometry, input_channels, trained_axis, trained_shape
from tiny_dialect.types import Shape, shape_of
from tiny_passes.graph import layer_of
from tiny_passes.layers import layers_of
from tiny_passes.update_scheme import UpdateScheme, chosen_count


@dataclass(frozen=True)
class ConvolutionShape:
    """The shapes of one convolution: NHWC input and output, O·KH·KW·(I/groups) weight."""

    name: str
    x: Shape
    y: Shape
    weight: Shape
    groups: int = 1

    def bias_bits(self) -> int:
        """Clamp mask and bias."""
        return prod(self.y) + 32 * self.y[3]

    def weight_bits(self, ratio: float) -> int:
        """Saved input and updated weights."""
        count = self.weight[trained_axis(self.groups, self.weight)]
        chosen = chosen_count(count, ratio)
        saved = len(input_channels(self.groups, self.weight, list(range(chosen))))
        return 8 * (
            saved * self.x[1] * self.x[2] + prod(trained_shape(self.groups, self.weight, chosen))
        )


def convolution_shapes(function: Any) -> tuple[tuple[ConvolutionShape, ...], int]:
    """(convolutions without the classifier, values of the classifier's input) of a function."""
    layers = layers_of(function)
    shapes = tuple(
        ConvolutionShape(
            name=layer_of(conv),
            x=shape_of(conv.x),
            y=shape_of(conv.y),
            weight=shape_of(conv.w),
            groups=geometry(conv).groups,
        )
        for conv in layers.convolutions
    )
    features = 0 if layers.classifier is None else prod(shape_of(layers.classifier.operands[0]))
    return shapes, features


def analytic_bits(
    convolutions: Sequence[ConvolutionShape], classifier_inputs: int, scheme: UpdateScheme
) -> int:
    """Bits that training by `scheme` keeps; raises `InvalidOption` where it does not fit."""
    selection = scheme.resolve([conv.name for conv in convolutions])
    bits = 8 * classifier_inputs
    bits += sum(convolutions[index].bias_bits() for index in selection.biases)
    return bits + sum(convolutions[i].weight_bits(r) for i, r in selection.weights.items())


def analytic_bytes(function: Any, scheme: UpdateScheme) -> int:
    """Bytes that training `@infer` or `@train_step` by `scheme` keeps, rounded up.

    Counts the network before `tiny-select-updates`. Raises `InvalidOption` where the scheme names
    what the network does not have.
    """
    return -(-analytic_bits(*convolution_shapes(function), scheme) // 8)
