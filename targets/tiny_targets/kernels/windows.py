"""Which taps of a convolution meet which elements along one axis, without per-element tests.

Output `o` reads input `o * stride + tap - pad` for every tap of the kernel. The spans below hold
exactly the indices for which that input exists; they may be empty on the device.
"""

from dataclasses import dataclass
from typing import Any

from tiny_dialect.ops.convolution import geometry
from tiny_targets.kernels.nest import Span, image_shape
from tiny_targets.kernels.scalar import Index, maximum, minimum


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution: sizes of input, output and kernel, stride, leading pad."""

    input: int
    output: int
    kernel: int
    stride: int
    pad: int

    @property
    def pointwise(self) -> bool:
        """True where output `o` reads input `o` and nothing else."""
        # Equal sizes leave no room for padding; the leading pad alone does not say so.
        return self.kernel == 1 and self.stride == 1 and self.input == self.output

    @property
    def _overhangs(self) -> bool:
        """True where the last window ends behind the input."""
        return (self.output - 1) * self.stride + self.kernel - self.pad > self.input

    def source(self, output: Index, tap: Index) -> Any:
        """The input that `tap` of `output` reads."""
        return output * self.stride + tap - self.pad

    def tap(self, output: Index, source: Index) -> Any:
        """The tap with which `output` reads `source`."""
        return source + self.pad - output * self.stride

    def taps_of_output(self, output: Index) -> Span:
        """The taps of `output` that lie inside the input."""
        start = output * self.stride - self.pad
        lower = maximum(0 - start, 0) if self.pad else 0
        upper = minimum(self.input - start, self.kernel) if self._overhangs else self.kernel
        return Span(lower, upper)

    def outputs_of_source(self, source: Index) -> Span:
        """The outputs that read `source`."""
        if self.pointwise:
            return Span.one(source)
        behind = source + self.pad
        lower = maximum(behind - self.kernel + self.stride, 0) // self.stride
        upper = minimum(behind // self.stride + 1, self.output)
        return Span(lower, upper)

    def outputs_of_tap(self, tap: Index) -> Span:
        """The outputs whose `tap` lies inside the input."""
        lower: Index = 0
        if self.pad:
            lower = maximum(self.pad + self.stride - 1 - tap, 0) // self.stride
        upper: Index = self.output
        if self._overhangs:
            ahead = maximum(self.input + self.pad + self.stride - 1 - tap, 0)
            upper = minimum(ahead // self.stride, self.output)
        return Span(lower, upper)


def axes(op: Any, source: Any, output: Any, weight: tuple[int, ...]) -> tuple[Axis, Axis]:
    """The vertical and horizontal axis of a convolution from image `source` to image `output`."""
    geo = geometry(op)
    (height, width, _), (rows, columns, _) = image_shape(source), image_shape(output)
    vertical = Axis(height, rows, weight[1], geo.strides[0], geo.pads[0])
    horizontal = Axis(width, columns, weight[2], geo.strides[1], geo.pads[1])
    return vertical, horizontal


def as_one_row(vertical: Axis, horizontal: Axis) -> tuple[Axis, Axis]:
    """The axes; of a pointwise convolution, those of its image seen as a single row of pixels."""
    if not (vertical.pointwise and horizontal.pointwise):
        return vertical, horizontal
    pixels = vertical.input * horizontal.input
    return Axis(1, 1, 1, 1, 0), Axis(pixels, pixels, 1, 1, 0)
