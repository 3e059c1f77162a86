"""The proven stack of an image held against what is reserved for it.

Every entry point of the device is bounded from the linked machine code (`stack_bound`), above the
frames of the program that calls it. Interrupts, and the source of rows of a product, come on top.
"""

from collections.abc import Iterable

from tiny_dialect.errors import DoesNotFit
from tiny_targets.schedule import Schedule
from tiny_targets.stack_bound import StackBound, stack_bound

_QUERY = "kernels_library_query"
_ROWS = "device_rows"
_PROGRAM = ("device_start", "device_main", "device_idle")


def image_stack_bounds(
    elf: bytes, schedule: Schedule, kernels: Iterable[str]
) -> dict[str, StackBound]:
    """The bound of `init` and of each function of `schedule`, by name, in bytes.

    Raises `InvalidModel` naming the function of the image that cannot be bounded.
    """
    called = list(kernels)
    if any(function.stream for function in schedule.functions.values()):
        called.append(_ROWS)
    pointers = {"tiny_bind_kernels": [_QUERY], "tiny_run_command": called}
    names = ["init", *schedule.functions]
    found = stack_bound(elf, [f"device_{name}" for name in names], pointers, _PROGRAM)
    return {name: found[f"device_{name}"] for name in names}


def require_stack(bounds: dict[str, StackBound], schedule: Schedule, reserved: int) -> None:
    """Raise `DoesNotFit` with the bytes missing and the ops at fault; `reserved` is in bytes."""
    name, worst = max(bounds.items(), key=lambda item: item[1].bytes)
    excess = worst.bytes - reserved
    if excess <= 0:
        return
    raise DoesNotFit(
        f"{name} may use {worst.bytes} bytes of stack, {excess} more than the {reserved} that are "
        f"reserved: {' calls '.join(worst.chain)}{_ops_of(worst.chain[-1], schedule)}; reserve "
        "more, or change the layer"
    )


def _ops_of(kernel: str, schedule: Schedule) -> str:
    """The ops that a kernel computes, in words; empty for any other function."""
    ordinals = {known.name: number for number, known in enumerate(schedule.kernels)}
    if kernel not in ordinals:
        return ""
    commands = [c for function in schedule.functions.values() for c in function.commands]
    names = dict.fromkeys(c.name for c in commands if c.kernel == ordinals[kernel])
    return f", the kernel of {', '.join(names)}"
