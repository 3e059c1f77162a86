"""The float32 head: linear layer, softmax cross-entropy, their gradients; sums are sequential."""

from typing import Any

from tiny_dialect.ops import (
    Linear,
    LinearInputGrad,
    LinearWeightGrad,
    SoftmaxCrossEntropy,
    SoftmaxCrossEntropyGrad,
)
from tiny_dialect.types import shape_of
from tiny_targets.kernels.elementwise import flat
from tiny_targets.kernels.nest import Buffer, Nest, Span
from tiny_targets.kernels.numerics import exponential, logarithm
from tiny_targets.kernels.registry import register_kernel
from tiny_targets.kernels.scalar import Index, Scalar, maximum, select

_COLUMNS = 4
"""Input gradients computed at once: one load of g serves them all."""


@register_kernel(Linear)
def linear(nest: Nest, op: Any, target: Any) -> None:
    """`y[k] = bias[k] + sum_c w[k, c] x[c]`, c upwards."""
    classes, features = shape_of(op.w)
    x, w, bias = nest.read(op.x, flat(op.x)), nest.read(op.w), nest.read(op.bias)
    y = nest.write(op.y, (classes,))
    for k in nest.loop(classes):

        def add_product(total: Scalar, c: Index, k: Index = k) -> Scalar:
            return total + w[k, c] * x[c]

        y[k] = nest.fold((features,), nest.real(0.0), add_product) + bias[k]


@register_kernel(LinearInputGrad)
def linear_input_grad(nest: Nest, op: Any, target: Any) -> None:
    """`gx[c] = sum_k w[k, c] g[k]`, k upwards."""
    classes, features = shape_of(op.w)
    g, w = nest.read(op.g, flat(op.g)), nest.read(op.w)
    gx = nest.write(op.gx, flat(op.gx))
    for first, size in nest.blocks(features, _COLUMNS):

        def add_row(
            totals: tuple[Scalar, ...], k: Index, first: Index = first
        ) -> tuple[Scalar, ...]:
            gradient = g[k]
            return tuple(total + w[k, first + j] * gradient for j, total in enumerate(totals))

        totals = nest.fold((classes,), (nest.real(0.0),) * size, add_row)
        for j, total in enumerate(totals):
            gx[first + j] = total


@register_kernel(LinearWeightGrad)
def linear_weight_grad(nest: Nest, op: Any, target: Any) -> None:
    """`gw[k, c] = g[k] x[c]`."""
    classes, features = shape_of(op.gw)
    x, g = nest.read(op.x, flat(op.x)), nest.read(op.g, flat(op.g))
    gw = nest.write(op.gw)
    for k in nest.loop(classes):
        gradient = g[k]
        for c in nest.loop(features):
            gw[k, c] = gradient * x[c]


def _largest(nest: Nest, logits: Buffer) -> Scalar:
    (classes,) = logits.shape
    return nest.fold((Span(1, classes),), logits[0], lambda best, k: maximum(logits[k], best))


@register_kernel(SoftmaxCrossEntropy)
def softmax_cross_entropy(nest: Nest, op: Any, target: Any) -> None:
    """`log(sum exp(logits - max)) - (logits[label] - max)`."""
    logits, label = nest.read(op.logits, flat(op.logits)), nest.read(op.label)
    loss = nest.write(op.loss)
    (classes,) = logits.shape
    largest, chosen = _largest(nest, logits), label[()]

    # The label is compared with every class and never used as an address: it cannot reach outside.
    def add_class(sums: tuple[Scalar, Scalar], k: Index) -> tuple[Scalar, Scalar]:
        total, picked = sums
        shifted = logits[k] - largest
        hit = nest.index(k).as_integer().equals(chosen)
        return total + exponential(shifted), select(hit, shifted, picked)

    zero = nest.real(0.0)
    total, picked = nest.fold((classes,), (zero, zero), add_class)
    loss[()] = logarithm(total) - picked


@register_kernel(SoftmaxCrossEntropyGrad)
def softmax_cross_entropy_grad(nest: Nest, op: Any, target: Any) -> None:
    """`softmax(logits) - onehot(label)`; the exponentials wait in the result for their sum."""
    logits, label = nest.read(op.logits, flat(op.logits)), nest.read(op.label)
    gx = nest.write(op.gx, flat(op.gx))
    (classes,) = logits.shape
    largest, chosen = _largest(nest, logits), label[()]

    def add_class(total: Scalar, k: Index) -> Scalar:
        power = exponential(logits[k] - largest)
        gx[k] = power
        return total + power

    reciprocal = nest.real(1.0) / nest.fold((classes,), nest.real(0.0), add_class)
    for k in nest.loop(classes):
        hit = nest.index(k).as_integer().equals(chosen)
        gx[k] = gx[k] * reciprocal - select(hit, nest.real(1.0), 0.0)
