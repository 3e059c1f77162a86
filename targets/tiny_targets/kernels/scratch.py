"""How much scratch memory a kernel can use; `tiny-declare-scratch` decides how much it gets.

A kernel names sizes from the least that is worth having upwards. An op without scratch memory still
has a correct kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SCRATCH_BYTES = "tiny.scratch_bytes"
"""The attribute of an op that declares its scratch memory."""


@dataclass(frozen=True)
class ScratchWish:
    """Useful amounts of scratch memory, in bytes, increasing.

    The first is what the plan makes room for; 0 asks only for what is free.
    """

    sizes: list[int]

    def within(self, budget: int) -> int:
        """The largest size up to `budget`, or the least one."""
        return max([size for size in self.sizes if size <= budget], default=self.sizes[0])


Wish = Callable[[Any, Any], ScratchWish | None]

_WISHES: dict[str, Wish] = {}


def register_scratch(op_class: Any) -> Callable[[Wish], Wish]:
    """Decorator: `wish(op, target)` says what scratch memory the kernel of `op_class` can use."""

    def register(wish: Wish) -> Wish:
        _WISHES[op_class.OPERATION_NAME] = wish
        return wish

    return register


def scratch_wish_of(op: Any, target: Any) -> ScratchWish | None:
    """What the kernel of an op can use, or None where it uses none."""
    wish = _WISHES.get(op.operation.name)
    return None if wish is None else wish(op.operation.opview, target)


def scratch_of(op: Any) -> int:
    """The scratch memory that an op declares, in bytes."""
    return op.attributes[SCRATCH_BYTES].value if SCRATCH_BYTES in op.attributes else 0
