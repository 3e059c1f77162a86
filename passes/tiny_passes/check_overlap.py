"""Whether a result may lie over an operand of the same op: replayed, not derived.

The planner takes the distance from a formula; this file replays what the kernel does to each row
and looks whether a row that is still to be read has been overwritten. It shares no code with
`overwriting` and `row_schedule`, and works the other way round: it asks of every row *when* it is
computed, instead of which rows a step computes.
"""

from math import prod
from typing import Any

from tiny_dialect.attributes import to_list
from tiny_dialect.bindings import ir
from tiny_dialect.types import numpy_type, shape_of, storage_bytes

_WORD_BYTES = 4
_NEVER = 1 << 30

# Each element of these operands is read before the same element of the result is written.
_ELEMENTWISE = {
    "tiny.scale_gradient": {0},
    "tiny.add_gradients": {0, 1},
    "tiny.add": {0, 1},
    "tiny.requantize": {0},
    "tiny.reshape": {0},
    "tiny.normalize_gradient": {0},
    "tiny.integer_add_gradients": {0, 2},
}

# Depthwise ops that may copy a channel before they write it, with the number of the weight operand.
_PLANE_OPS = {
    "tiny.conv2d": 1,
    "tiny.conv2d_input_grad": 1,
    "tiny.integer_conv2d_input_grad": 2,
}


def is_safe_overlap(op: Any, operand: int, distance: int) -> bool:
    """True where result 0 may start `distance` bytes before `operand`, which dies here.

    A negative distance is behind the start of the operand.
    """
    x, y = op.operands[operand], op.results[0]
    if _is_streamed(x):
        return False  # a ring holds no row for good
    traversal = op.attributes["tiny.traversal"].value if "tiny.traversal" in op.attributes else ""
    if operand in _ELEMENTWISE.get(op.operation.name, ()):
        is_spread = prod(shape_of(y)) != prod(shape_of(x))
        return distance == 0 and not is_spread and storage_bytes(y) <= storage_bytes(x)
    if traversal == "planes":
        return distance == 0 and operand == 0 and _copies_planes(op)
    if traversal == "rows":
        last_read = _last_reads(op, operand)
        return last_read is not None and _rows_survive(x, y, last_read, distance)
    return False


def most_common_bytes(op: Any, operand: int) -> int:
    """The most bytes that result 0 and `operand` can have in common."""
    if not len(op.results):
        return 0
    x, y = (_words(storage_bytes(value)) for value in (op.operands[operand], op.results[0]))
    if is_safe_overlap(op, operand, 0):
        return min(x, y) * _WORD_BYTES
    if not is_safe_overlap(op, operand, y * _WORD_BYTES):
        return 0
    safe, unsafe = y, -1  # where it is safe at all it stays so further away
    while safe - unsafe > 1:
        middle = (safe + unsafe) // 2
        if is_safe_overlap(op, operand, middle * _WORD_BYTES):
            safe = middle
        else:
            unsafe = middle
    return max(0, min(y - safe, x)) * _WORD_BYTES


def _is_streamed(value: Any) -> bool:
    if not isinstance(value.owner, ir.Block):
        return False
    attributes = value.owner.owner.operation.attributes
    return (
        "arg_attrs" in attributes and "tiny.streamed" in attributes["arg_attrs"][value.arg_number]
    )


def _words(size_bytes: int) -> int:
    return -(-size_bytes // _WORD_BYTES)


def _copies_planes(op: Any) -> bool:
    """True for a depthwise op, channel to channel, with room for what it copies of a channel."""
    number = _PLANE_OPS.get(op.operation.name)
    if number is None or "tiny.scratch_bytes" not in op.attributes:
        return False
    x, y, weight = op.operands[0], op.results[0], shape_of(op.operands[number])
    height, width, channels = shape_of(x)[1:]
    depthwise = weight[3] == 1 and weight[0] == channels == op.attributes["groups"].value
    if not depthwise or shape_of(y)[3] != channels:
        return False
    size = numpy_type(x).itemsize
    if size != numpy_type(y).itemsize:
        return False
    needed = size * height * width
    if op.operation.name == "tiny.conv2d_input_grad":
        if len(op.operands) != 2:
            return False
        needed += size * weight[1] * weight[2]  # the taps as floats
    return op.attributes["tiny.scratch_bytes"].value >= needed


def _rows_survive(x: Any, y: Any, last_read: list[int], distance: int) -> bool:
    """True where no row of `y` is written over a row of `x` that is read then or later."""
    x_row, y_row = _row_bytes(x), _row_bytes(y)
    for row in range(shape_of(y)[1]):
        start, end = row * y_row, (row + 1) * y_row
        for source, last in enumerate(last_read):
            source_start = distance + source * x_row
            if last >= row and start < source_start + x_row and source_start < end:
                return False
    return True


def _row_bytes(value: Any) -> int:
    return prod(shape_of(value)[2:]) * numpy_type(value).itemsize


def _last_reads(op: Any, operand: int) -> list[int] | None:
    """For each row of an operand, the result row at which it is read last; -1 for never.

    None for operands whose rows are not read in the order of the result's rows.
    """
    name = op.operation.name
    if name == "tiny.conv2d" and operand == 0:
        return _last_reads_of_convolution(op, list(range(shape_of(op.results[0])[1])))
    if name == "tiny.conv2d_input_grad" and operand == 0:
        kernel, stride, pad = _vertical(op)
        last = [-1] * shape_of(op.operands[0])[1]
        for row in range(shape_of(op.results[0])[1]):
            for reader in range(len(last)):
                if 0 <= row + pad - reader * stride < kernel:
                    last[reader] = row
        return last
    if name == "tiny.fused_block":
        return _last_reads_of_block(op, operand)
    return None


def _vertical(conv: Any) -> tuple[int, int, int]:
    """(kernel, stride, leading pad) of the vertical axis."""
    strides, pads = to_list(conv.attributes["strides"]), to_list(conv.attributes["pads"])
    return shape_of(conv.operands[1])[1], strides[0], pads[0]


def _last_reads_of_convolution(conv: Any, computed_at: list[int]) -> list[int]:
    """When each input row is read last, if output row `r` is computed at `computed_at[r]`."""
    kernel, stride, pad = _vertical(conv)
    last = [-1] * shape_of(conv.operands[0])[1]
    for row, time in enumerate(computed_at):
        for source in range(row * stride - pad, row * stride - pad + kernel):
            if 0 <= source < len(last) and time != _NEVER:
                last[source] = max(last[source], time)
    return last


def _last_reads_of_block(block: Any, operand: int) -> list[int] | None:
    inner = block.regions[0].blocks[0]
    argument = inner.arguments[operand]
    *ops, _ = inner.operations
    convolutions = [op for op in ops if op.operation.name == "tiny.conv2d"]
    additions = [op for op in ops if op.operation.name == "tiny.add"]
    readers = {use.owner.operation for use in argument.uses}
    allowed = {op.operation for op in [convolutions[0], *additions]}
    if not readers <= allowed or len(shape_of(argument)) != 4:
        return None
    outputs = shape_of(convolutions[-1].results[0])[1]
    last = [-1] * shape_of(argument)[1]
    if argument == convolutions[0].operands[0]:
        last = _last_reads_of_convolution(convolutions[0], computed_at(convolutions, ops, outputs))
    if any(argument in list(addition.operands) for addition in additions):
        last = [max(row, time) for row, time in enumerate(last)]
    return last


def computed_at(convolutions: list[Any], ops: list[Any], outputs: int) -> list[int]:
    """At which output row of a chain each row of its first convolution is computed.

    `outputs` is after the last one, and a larger number never.
    """
    stored = {op.operands[0] for op in ops if op.operation.name == "tiny.gather_channels"}
    times = list(range(outputs))
    for producer, consumer in zip(convolutions[-2::-1], convolutions[:0:-1], strict=True):
        kernel, stride, pad = _vertical(consumer)
        rows = shape_of(producer.results[0])[1]
        keeps_all = len(producer.results) > 1 or producer.results[0] in stored
        needed = [outputs if keeps_all else _NEVER] * rows
        for row, time in enumerate(times):
            for source in range(row * stride - pad, row * stride - pad + kernel):
                if 0 <= source < rows:
                    needed[source] = min(needed[source], time)
        for row in reversed(range(rows - 1)):  # rows are computed in order
            needed[row] = min(needed[row], needed[row + 1])
        times = needed
    return times
