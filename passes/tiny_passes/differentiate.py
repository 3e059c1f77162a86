"""Turn the forward function into a training step: loss, gradients, one update a parameter.

Before:  func.func @infer(%x) -> logits {
           %w = "tiny.parameter"() {symbol = "a.w", ...}
           %y = "tiny.conv2d"(%x, %w, %b) ...

After:   func.func @train_step(%x, %label, %rate) -> (loss, logits) {
           %w = "tiny.parameter"() {symbol = "a.w", trained, ...}
           %y, %mask = "tiny.conv2d"(%x, %w, %b) ...
           %loss = "tiny.softmax_cross_entropy"(%logits, %label)
           %g = "tiny.softmax_cross_entropy_grad"(%logits, %label)
           ...                                     // reverse order; rules: gradient_rules.py
           "tiny.apply_update"(%w, %gw, %rate) {factors = dense<1.0>}

A value used more than once sums its gradients. A gradient is computed only where a parameter lies
behind it, so never for the input. Updates stand at the end in source order: the baseline that
`tiny-fuse-updates` and `tiny-reorder` improve on. Forward results are unchanged.

Cost: two walks over the function.
"""

import math
from typing import Any

import numpy as np

from tiny_dialect.attributes import dense, string
from tiny_dialect.bindings import ir
from tiny_dialect.ops import (
    AddGradients,
    ApplyUpdate,
    Dequantize,
    Parameter,
    SoftmaxCrossEntropy,
    SoftmaxCrossEntropyGrad,
)
from tiny_dialect.types import is_quantized, shape_of, tensor
from tiny_passes.gradient_rules import gradient_type, needs_mask, rule_of
from tiny_passes.graph import (
    INFER,
    TRAIN_STEP,
    body,
    copy_layer,
    find_function,
    functions,
    parameters,
    producer,
    terminator,
    with_mask,
)
from tiny_passes.registry import PassError, register_pass


@register_pass("tiny-differentiate", anchor="builtin.module")
def differentiate(module: Any) -> None:
    """Turn @infer into @train_step: loss, gradients and one update a parameter."""
    if TRAIN_STEP in functions(module):
        raise PassError(module.operation, f"already has @{TRAIN_STEP}; differentiate @{INFER} only")
    step = find_function(module, INFER)
    parameters(step)  # refuses repeated symbols
    if len(terminator(step).operands) != 1:
        raise PassError(terminator(step), f"expects @{INFER} to return the logits and nothing else")
    label, rate = _append_arguments(step)
    with ir.InsertionPoint(terminator(step)):
        logits = _float_logits(terminator(step))
        for op in _trainable_path(step, logits):
            if needs_mask(op):
                with_mask(op)
        forward = body(step)
        loss, gradient = _loss(logits, label)
        tape = _Tape(forward, _varying(forward))
        tape.add(logits, gradient, terminator(step))
        for op in reversed(forward):
            tape.reverse(op)
        _update_parameters(forward, tape.gradients, rate)
    _finish(step, [loss, logits])


class _Tape:
    """The gradients of one function while they are built, in reverse program order."""

    def __init__(self, forward: list[Any], varying: set[Any]) -> None:
        self.varying = varying
        self.gradients: dict[Any, Any] = {}
        self.labelled = {value for op in forward for value in op.results}

    def add(self, value: Any, gradient: Any, source: Any) -> None:
        """Sum `gradient` into the gradient of `value`; new ops belong to the layer of `source`."""
        self._label(gradient, source)
        if value in self.gradients:
            owner = producer(value) or source
            with owner.location:
                earlier = self.gradients[value]
                gradient = AddGradients(earlier, gradient, gradient_type(value)).gx
            self._label(gradient, owner)
        self.gradients[value] = gradient

    def reverse(self, op: Any) -> None:
        """Apply the rule of one forward op if its first result has a gradient."""
        if isinstance(op, Parameter) or not op.results or op.results[0] not in self.gradients:
            return
        wanted = [value in self.varying for value in op.operands]
        if not any(wanted):
            return
        with op.location:
            results = rule_of(op)(op, self.gradients.pop(op.results[0]), wanted)
        for value, needed, result in zip(op.operands, wanted, results, strict=True):
            if needed and result is not None:
                self.add(value, result, op)

    def _label(self, gradient: Any, source: Any) -> None:
        """Give every op built for `gradient` the layer of `source`."""
        pending = [gradient]
        while pending:
            value = pending.pop()
            built = producer(value)
            if built is None or value in self.labelled:
                continue
            self.labelled.update(built.results)
            copy_layer(source, built)
            pending += built.operands


def _append_arguments(step: Any) -> tuple[Any, Any]:
    """The new arguments `label: tensor<i32>` and `rate: tensor<f32>`."""
    block = step.regions[0].blocks[0]
    label = block.add_argument(tensor((), "i32"), step.location)
    rate = block.add_argument(tensor((), "f32"), step.location)
    if "arg_attrs" in step.attributes:
        empty = ir.DictAttr.get({})
        step.attributes["arg_attrs"] = ir.ArrayAttr.get(
            [*step.attributes["arg_attrs"], empty, empty]
        )
    return label, rate


def _float_logits(returned: Any) -> Any:
    """What the function returns, dequantized if it is quantized, in the layer of its producer."""
    logits = returned.operands[0]
    owner = producer(logits)
    if owner is None:
        raise PassError(returned, "returns its argument; there is nothing to train")
    _require_classes(returned, shape_of(logits))
    if not is_quantized(logits):
        return logits
    with owner.location:
        dequantized = Dequantize(logits, gradient_type(logits))
    copy_layer(owner, dequantized)
    return dequantized.y


def _require_classes(returned: Any, shape: tuple[int, ...]) -> None:
    """The logits are one number a class: one label says nothing of a map of them."""
    if math.prod(shape) != shape[-1]:
        size = "x".join(map(str, shape))
        raise PassError(
            returned,
            f"returns {size}; a classifier, which training needs, returns one value a class",
        )


def _varying(ops: list[Any]) -> set[Any]:
    """The values that depend on a parameter."""
    found: set[Any] = set()
    for op in ops:
        if isinstance(op, Parameter) or any(value in found for value in op.operands):
            found.update(op.results)
    return found


def _trainable_path(step: Any, logits: Any) -> list[Any]:
    """The ops between a parameter and the logits, whose gradient is therefore computed."""
    forward = body(step)[:-1]
    varying = _varying(forward)
    reached = {logits}
    path = []
    for op in reversed(forward):
        if any(result in reached for result in op.results):
            reached.update(op.operands)
            if any(value in varying for value in op.operands):
                path.append(op)
    if not path:
        raise PassError(
            terminator(step), "no parameter reaches the logits; there is nothing to train"
        )
    return path


def _loss(logits: Any, label: Any) -> tuple[Any, Any]:
    """The softmax cross-entropy of the logits and its gradient, in the layer of the logits."""
    owner = logits.owner.opview
    with owner.location:
        loss = SoftmaxCrossEntropy(logits, label, tensor((), "f32"))
        gradient = SoftmaxCrossEntropyGrad(logits, label, gradient_type(logits))
    copy_layer(owner, loss)
    copy_layer(owner, gradient)
    return loss.loss, gradient.gx


def _update_parameters(forward: list[Any], gradients: dict[Any, Any], rate: Any) -> None:
    """One update for each parameter with a gradient, in source order; marks it `trained`."""
    for op in forward:
        if not isinstance(op, Parameter) or op.result not in gradients:
            continue
        op.attributes["trained"] = ir.UnitAttr.get()
        factors = dense(np.ones(shape_of(op.result)[0], np.float32))
        with op.location:
            update = ApplyUpdate(op.result, gradients[op.result], rate, factors)
        copy_layer(op, update)


def _finish(step: Any, returned: list[Any]) -> None:
    """Return `returned`; name the function and its stage, and give it its new type."""
    old = terminator(step)
    ir.Operation.create(
        "func.return", operands=returned, loc=old.location, ip=ir.InsertionPoint(old)
    )
    old.operation.erase()
    arguments = [argument.type for argument in step.regions[0].blocks[0].arguments]
    function_type = ir.FunctionType.get(arguments, [value.type for value in returned])
    step.attributes["function_type"] = ir.TypeAttr.get(function_type)
    step.attributes["sym_name"] = string(TRAIN_STEP)
    step.attributes["tiny.stage"] = string("train")
    if "res_attrs" in step.attributes:
        empty = ir.DictAttr.get({})
        step.attributes["res_attrs"] = ir.ArrayAttr.get([empty, *step.attributes["res_attrs"]])
