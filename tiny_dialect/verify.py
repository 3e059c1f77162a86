"""Shared parts of the op verifiers: located errors, never an exception into MLIR."""

from collections.abc import Callable, Sequence
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.types import element_name, is_quantized, shape_of


class Violation(Exception):
    """A broken invariant; its text completes the sentence `'tiny.conv2d' op ...`."""


def verifier(check: Callable[[Any], None]) -> Any:
    """Wrap `check(op)`, which raises `Violation`, as the `verify_invariants` hook of an op class.

    MLIR calls the hook before it checks operand counts, so any other exception is reported as
    a malformed op instead of reaching the C++ caller.
    """

    def verify_invariants(op: Any) -> bool:
        try:
            check(op)
        except Violation as violation:
            op.location.emit_error(f"'{op.name}' op {violation}")
            return False
        except Exception as error:  # an op of any shape can be written as text
            op.location.emit_error(f"'{op.name}' op is malformed: {error}")
            return False
        return True

    return staticmethod(verify_invariants)


def require(condition: bool, message: str) -> None:
    """Raise `Violation(message)` unless `condition` holds."""
    if not condition:
        raise Violation(message)


def typed(op: Any, cls: type) -> Any:
    """`op` as an instance of its op class, after a check of the operand segment sizes."""
    for key, values in (("operandSegmentSizes", op.operands), ("resultSegmentSizes", op.results)):
        if key in op.attributes:
            sizes = list(op.attributes[key])
            require(
                all(size >= 0 for size in sizes) and sum(sizes) == len(values), f"has wrong {key}"
            )
    view = op.operation.opview if hasattr(op, "operation") else op.opview
    require(isinstance(view, cls), f"is not a {cls.__name__}")
    return view


def require_rank(value: Any, rank: int, what: str) -> None:
    """The tensor `value` has static shape and `rank` dimensions."""
    require(
        isinstance(value.type, ir.RankedTensorType),
        f"expects {what} to be a ranked tensor, got {value.type}",
    )
    require(value.type.has_static_shape, f"expects {what} of static shape, got {value.type}")
    require(value.type.rank == rank, f"expects {what} of rank {rank}, got {value.type}")


def require_element(value: Any, allowed: Sequence[str], what: str) -> None:
    """The element type is one of `allowed` (MLIR spelling; `quant` for `!quant.uniform`)."""
    name = "quant" if is_quantized(value) else element_name(value)
    require(name in allowed, f"expects {what} of {' or '.join(allowed)} elements, got {value.type}")


def require_activation(value: Any, what: str) -> None:
    """A quantized NHWC tensor with N = 1, a finite positive scale and a zero point in int8."""
    require_rank(value, 4, what)
    require_element(value, ("quant",), what)
    require(shape_of(value)[0] == 1, f"expects {what} with batch size 1, got {value.type}")
    element = value.type.element_type
    require(
        0.0 < element.scale < float("inf"),
        f"expects {what} with a positive finite scale, got {value.type}",
    )
    require(
        -128 <= element.zero_point <= 127,
        f"expects {what} with a zero point in int8, got {value.type}",
    )


def require_gradient(value: Any, like: Any, what: str) -> None:
    """A float32 tensor of the shape of `like`."""
    require_element(value, ("f32",), what)
    require_shape(value, shape_of(like), what)


def require_shape(value: Any, shape: Sequence[int], what: str) -> None:
    """The static shape equals `shape`."""
    require(
        shape_of(value) == tuple(shape), f"expects {what} of shape {list(shape)}, got {value.type}"
    )


def require_vector(attribute: Any, length: int, element: str, what: str) -> None:
    """A dense attribute of `length` elements of type `element`."""
    require(
        shape_of(attribute.type) == (length,) and element_name(attribute.type) == element,
        f"expects {what} as dense tensor<{length}x{element}>, got {attribute.type}",
    )
