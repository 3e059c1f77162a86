"""Weights by their address, whatever they are stored as: int8, int16 master or float32 master.

One row a output channel. Rows may have a length that only the device knows, so that layers share
their code.
"""

from typing import Any

from tiny_targets.kernels.address import ANY_SIZE, ELEMENT_BYTES, Address, address_of
from tiny_targets.kernels.nest import Nest
from tiny_targets.kernels.numerics import round_half_even
from tiny_targets.kernels.scalar import Index, Scalar, clamp


class WeightRows:
    """The weights of a convolution, or the trained part of them, as an argument of a nest."""

    def __init__(self, nest: Nest, value: Any, row_elements: Index) -> None:
        stored = nest.read(value, ANY_SIZE)
        self.element = stored.element
        self.stride = ELEMENT_BYTES[stored.element]
        """Bytes from one weight of a row to the next."""
        self.row_bytes = row_elements * self.stride
        self._base = address_of(stored)

    def at(self, row: Index, column: Index = 0) -> Address:
        """Where a weight lies."""
        return self._base + row * self.row_bytes + column * self.stride

    def integer(self, place: Address) -> Scalar:
        """The int8 value of the weight there, as `i32`."""
        if self.element == "f32":
            return self.real(place).as_integer()
        # The upper byte of an int16 master is its value, rounded down.
        return (place + (self.stride - 1)).load("i8")

    def real(self, place: Address) -> Scalar:
        """The int8 value of the weight there, as `f32`."""
        if self.element == "f32":
            return round_half_even(clamp(place.load("f32"), -128.0, 127.0))
        return self.integer(place).as_float()
