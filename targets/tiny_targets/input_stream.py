"""How an input arrives that never exists whole, as the schedule states it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stream:
    """How the input of a function arrives: row by row, into the ring that its argument `x` is.

    `x` has the shape [1, slots, width, channels]; row `r` belongs in slot `r % slots`.
    """

    command: int
    """The one that reads the rows; it runs in steps."""
    rows: int
    """Of the whole image."""
    arrivals: tuple[int, ...]
    """For each step, how many rows must have arrived before it."""
