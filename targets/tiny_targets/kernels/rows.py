"""Image rows as kernels read and write them: a whole image, or a ring that holds the newest rows.

Indices are those of the image, `[row, column, channel]`, whatever is behind.
"""

from dataclasses import dataclass

from tiny_targets.kernels.address import Address, address_of
from tiny_targets.kernels.nest import Buffer
from tiny_targets.kernels.scalar import Index, Scalar


@dataclass(frozen=True)
class Rows:
    """The rows of an image in `buffer`, [slots, width, channels].

    With `ring` the buffer holds the newest `slots` rows, row `r` in slot `r % slots`; else all.
    """

    buffer: Buffer
    ring: bool = False

    @property
    def slots(self) -> int:
        """How many rows there is room for."""
        return self.buffer.shape[0]

    def slot(self, row: Index) -> Index:
        """Where `row` lies in the buffer."""
        if not self.ring:
            return row
        return 0 if self.slots == 1 else row % self.slots

    def address(self, row: Index) -> Address:
        """Where `row` starts."""
        _, width, channels = self.buffer.shape
        return address_of(self.buffer) + self.slot(row) * (width * channels)

    def __getitem__(self, indices: tuple[Index, Index, Index]) -> Scalar:
        row, column, channel = indices
        return self.buffer[self.slot(row), column, channel]

    def __setitem__(self, indices: tuple[Index, Index, Index], value: Scalar) -> None:
        row, column, channel = indices
        self.buffer[self.slot(row), column, channel] = value
