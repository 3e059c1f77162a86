"""The camera of an emulated device: supplies the rows of an image when the firmware asks for them.

It insists on the contract of a streamed input: rows are asked for in order, each once, and at the
end as many have been as the schedule says.
"""

import numpy as np

from tiny_targets.input_stream import Stream
from tiny_targets.machine import EmulationError, Machine
from tiny_targets.schedule import Function


class RowFeed:
    """One image on its way into one call of a function."""

    def __init__(self, machine: Machine, function: Function, stream: Stream, x: np.ndarray) -> None:
        self._machine, self._stream, self._data = machine, stream, np.ascontiguousarray(x).tobytes()
        ring = function.arguments[0]
        self._row_bytes = ring.bytes // ring.shape[1]
        self._arrived = 0
        self._fault = ""

    def on_request(self) -> None:
        """The firmware has entered its source of rows: put the rows where it wants them."""
        _, place, first, count = (self._machine.argument(number) for number in range(4))
        if first != self._arrived or not 0 < count <= self._stream.rows - first:
            self._fault = self._fault or (
                f"asks for rows {first} to {first + count - 1} of {self._stream.rows} when "
                f"{self._arrived} have arrived"
            )
            return
        self._arrived += count
        start = first * self._row_bytes
        self._machine.write(place, self._data[start : start + count * self._row_bytes])

    def require_complete(self) -> None:
        """Raise `EmulationError` where rows were asked for out of order, twice, or too few."""
        needed = self._stream.arrivals[-1]
        if not self._fault and self._arrived != needed:
            self._fault = f"asked for {self._arrived} rows of the input, and needs {needed}"
        if self._fault:
            raise EmulationError(self._fault)
