"""The convolutions of a function, numbered as update schemes number them, and the classifier."""

from dataclasses import dataclass
from typing import Any

from tiny_passes.graph import body, layer_of, producer, terminator
from tiny_passes.registry import PassError

# What may lie between a classifier and the logits.
_TRANSPARENT = (
    "tiny.dequantize",
    "tiny.global_average_pool",
    "tiny.average_pool2d",
    "tiny.mean",
    "tiny.requantize",
    "tiny.reshape",
)
_CLASSIFIERS = ("tiny.conv2d", "tiny.linear")


@dataclass(frozen=True)
class Layers:
    """Convolutions in program order, classifier excluded, and the op that produces the logits."""

    convolutions: tuple[Any, ...]
    classifier: Any | None

    @property
    def names(self) -> tuple[str, ...]:
        """The layer name of each convolution; empty where an op carries none."""
        return tuple(layer_of(op) for op in self.convolutions)


def returned_logits(function: Any) -> Any:
    """The last value that the function returns; raises `PassError` where it returns none."""
    returned = terminator(function)
    if not returned.operands:
        raise PassError(returned, "returns nothing; expects the logits last")
    return returned.operands[len(returned.operands) - 1]


def layers_of(function: Any) -> Layers:
    """The numbered layers of `@infer` or `@train_step`.

    The classifier is the convolution or the linear op that produces the logits, behind
    dequantization, a pool or a rescaling; a function without one has classifier None.
    """
    op = producer(returned_logits(function))
    while op is not None and op.operation.name in _TRANSPARENT:
        op = producer(op.operands[0])
    is_classifier = op is not None and op.operation.name in _CLASSIFIERS
    classifier = op if is_classifier else None
    convolutions = tuple(
        op
        for op in body(function)
        if op.operation.name == "tiny.conv2d" and (classifier is None or op != classifier)
    )
    return Layers(convolutions, classifier)
