"""Which rows a chain of convolutions needs when: its rings, and how soon rows may be overwritten.

A chain is computed row by row. To emit output row `r`, each convolution first has its producer emit
the rows that its window meets and that are not there yet; every row is computed once, in increasing
order. Of a hidden tensor only the newest rows are kept, as many as the window of its consumer is
high: the rows `[r s - p, r s - p + k)` of consecutive `r` never reach behind that.

A single convolution is a chain of one, and the input gradient of a convolution is a row op as well.
The input of a chain may arrive row by row too: then a ring of its newest rows is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

from tiny_dialect.ops.convolution import geometry
from tiny_dialect.types import shape_of

WORD_BYTES = 4


@dataclass(frozen=True)
class Window:
    """The vertical axis of a convolution: `outputs` rows, each from `kernel` rows of `inputs`."""

    kernel: int
    stride: int
    pad: int
    inputs: int
    outputs: int

    def first(self, row: int) -> int:
        """The first input row that output row `row` meets (behind `end` where it meets none)."""
        return max(0, row * self.stride - self.pad)

    def end(self, row: int) -> int:
        """One more than the last input row that output rows up to `row` meet."""
        return min(max(row * self.stride - self.pad + self.kernel, 0), self.inputs)

    def rows_for(self, band: int) -> int:
        """How many of the newest input rows must be kept to compute `band` rows at a time."""
        return min(self.kernel + (band - 1) * self.stride, self.inputs)


def window_of(conv: Any) -> Window:
    """The window of a `conv2d`."""
    geo = geometry(conv)
    inputs, outputs = shape_of(conv.operands[0])[1], shape_of(conv.results[0])[1]
    return Window(shape_of(conv.operands[1])[1], geo.strides[0], geo.pads[0], inputs, outputs)


@dataclass(frozen=True)
class Chain:
    """Convolutions that feed each other, and the addition that may end them.

    `gathers` are the ops that copy channels of a hidden tensor or of the last convolution's output.
    """

    convolutions: tuple[Any, ...]
    addition: Any | None
    gathers: tuple[Any, ...] = ()

    @property
    def output(self) -> Any:
        """The value that the chain produces."""
        return (self.addition or self.convolutions[-1]).results[0]

    @property
    def hidden(self) -> list[Any]:
        """The tensors between the convolutions."""
        return [conv.results[0] for conv in self.convolutions[:-1]]

    @property
    def residual(self) -> Any | None:
        """The operand of the addition that is not the last convolution's output."""
        if self.addition is None:
            return None
        a, b = self.addition.operands[0], self.addition.operands[1]
        return b if a == self.convolutions[-1].results[0] else a

    def windows(self) -> list[Window]:
        """The window of each convolution."""
        return [window_of(conv) for conv in self.convolutions]

    def kept(self) -> list[bool]:
        """For each convolution, whether every row is needed: a mask or a gather is stored."""
        gathered = {gather.operands[0] for gather in self.gathers}
        return [len(c.results) > 1 or c.results[0] in gathered for c in self.convolutions]


def chain_of(block: Any) -> Chain:
    """The chain in a `tiny.fused_block`."""
    *ops, _ = block.regions[0].blocks[0].operations
    named = [(op.operation.name, op) for op in ops]
    convolutions = tuple(op for name, op in named if name == "tiny.conv2d")
    additions = [op for name, op in named if name == "tiny.add"]
    gathers = tuple(op for name, op in named if name == "tiny.gather_channels")
    return Chain(convolutions, additions[0] if additions else None, gathers)


def ring_shapes(chain: Chain, bands: Sequence[int] = ()) -> list[tuple[int, int, int]]:
    """[rows, width, channels] of the ring of each hidden tensor, int8.

    `bands` says how many rows each convolution computes at a time: all of them one, if empty.
    """
    shapes = []
    windows = chain.windows()
    bands = bands or [1] * len(windows)
    for window, band, value in zip(windows[1:], bands[1:], chain.hidden, strict=True):
        _, _, width, channels = shape_of(value)
        shapes.append((window.rows_for(band), width, channels))
    return shapes


def ring_offsets(chain: Chain, bands: Sequence[int] = ()) -> list[int]:
    """Bytes from the start of the scratch memory to each ring, and their total as the last."""
    offsets = [0]
    for shape in ring_shapes(chain, bands):
        offsets.append(offsets[-1] + _words(prod(shape)))
    return offsets


def scratch_bytes(chain: Chain, bands: Sequence[int] = ()) -> int:
    """The scratch memory of the fused chain: its rings."""
    return ring_offsets(chain, bands)[-1]


def row_reads(windows: Sequence[Window], kept: Sequence[bool]) -> list[tuple[int, int]]:
    """For each output row, [first, end) of the input rows that are read for it; (inputs, 0): none.

    Of a chain's input. The rows of kept tensors that no output row needs are computed after the
    last output row, and count as read for that one.
    """
    produced = [0] * len(windows)
    nothing = windows[0].inputs, 0
    read = nothing

    def advance(stage: int, rows: int) -> None:
        nonlocal read
        while produced[stage] < rows:
            row = produced[stage]
            first, end = windows[stage].first(row), windows[stage].end(row)
            if stage:
                advance(stage - 1, end)
            elif first < end:
                read = min(read[0], first), max(read[1], end)
            produced[stage] += 1

    reads = []
    for row in range(windows[-1].outputs):
        read = nothing
        advance(len(windows) - 1, row + 1)
        if row + 1 == windows[-1].outputs:
            for stage, keep in reversed(list(enumerate(kept))):
                if keep:
                    advance(stage, windows[stage].outputs)
        reads.append(read)
    return reads


def lowest_rows(windows: Sequence[Window], kept: Sequence[bool]) -> list[int]:
    """For each output row, the lowest input row that is read for it or for any later row.

    Of a chain's input; `inputs` where nothing is read any more.
    """
    firsts = [first for first, _ in row_reads(windows, kept)]
    return list(accumulate(reversed(firsts), min))[::-1]


def arrivals(windows: Sequence[Window], kept: Sequence[bool]) -> list[int]:
    """For each output row of a chain, how many rows of its input must have arrived."""
    return list(accumulate((end for _, end in row_reads(windows, kept)), max))


def slots_needed(windows: Sequence[Window], kept: Sequence[bool]) -> int:
    """The newest input rows that must be kept, where the input arrives as `arrivals` says.

    Before output row `r` the rows up to `arrivals[r]` arrive; of those the ones from
    `lowest_rows[r]` on are read then or later.
    """
    lowest, arrived = lowest_rows(windows, kept), arrivals(windows, kept)
    return max(1, *(end - first for first, end in zip(lowest, arrived, strict=True)))


def overwrite_distance(lowest: Sequence[int], inputs: int, x_row: int, y_row: int) -> int:
    """The smallest `x_offset - y_offset`, in whole words, at which `y` may overwrite `x`.

    Output row `r` occupies `[y + r y_row, y + (r + 1) y_row)` and may be written at any time while
    it is computed; rows `lowest[r]` of `x` and above are still to be read then. Nothing is lost if
    the row ends where those begin, `y + (r + 1) y_row <= x + lowest[r] x_row`, for every `r` at
    which something is still to be read (`lowest[r] < inputs`). `lowest` never decreases, so rows
    written before `r` end lower still. The largest `(r + 1) y_row - lowest[r] x_row` is therefore
    both sufficient and, for a kernel that may write a row before it reads for it, necessary.
    """
    gaps = [(row + 1) * y_row - first * x_row for row, first in enumerate(lowest) if first < inputs]
    return _words(max(gaps, default=0))


def _words(size_bytes: int) -> int:
    return max(0, -(-size_bytes // WORD_BYTES) * WORD_BYTES)
