"""How much stack a linked program can use at most, read from its machine code.

Not estimated and not measured: every path through every function is followed in the image itself.
"""

from tiny_targets.stack_bound.bound import StackBound, stack_bound

__all__ = ["StackBound", "stack_bound"]
