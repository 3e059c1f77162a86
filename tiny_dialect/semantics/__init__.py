"""The NumPy meaning of every op: the oracle that host, Cortex-M and RV32 results are held against.

Integers are exact. Floats are computed in float64 and rounded once to float32; compiled code sums
in float32, so it may differ by the rounding of its sums.
"""

from tiny_dialect.semantics.interpreter import evaluate_op, initial_state, register_meaning, run

__all__ = ["evaluate_op", "initial_state", "register_meaning", "run"]
