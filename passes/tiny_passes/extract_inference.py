"""Add `@infer`, the forward part of `@train_step`, beside it.

Before:  func @train_step(%x, %label, %rate) { ... %y, %mask = conv2d ...; return %loss, %logits }
After:   the same, and func @infer(%x) { ... %y = conv2d ...; return %logits }

Both functions name the same parameters, with the same types, values and `trained` marks: they
share the trained state. `@infer` has no masks and no saved copies of channels.

Cost: one walk. The step itself is unchanged.
"""

from typing import Any

from tiny_dialect.bindings import ir, load
from tiny_passes.graph import INFER, TRAIN_STEP, body, find_function, functions, producer
from tiny_passes.layers import returned_logits
from tiny_passes.prune_backward import remove_unused
from tiny_passes.registry import PassError, register_pass


def _inputs_of(step: Any) -> list[Any]:
    """The arguments without label and rate: the image, or what a prefix made of it."""
    return list(step.regions[0].blocks[0].arguments)[:-2]


def _forward_slice(step: Any) -> list[Any]:
    """The ops that the logits need, in program order; raises `PassError` if one reads the label."""
    allowed = _inputs_of(step)
    needed: set[Any] = set()
    waiting = [returned_logits(step)]
    while waiting:
        value = waiting.pop()
        op = producer(value)
        if op is None:
            if value not in allowed:
                raise PassError(step, "the logits depend on an argument other than the input")
        elif op.operation not in needed:
            needed.add(op.operation)
            waiting.extend(op.operands)
    return [op for op in body(step) if op.operation in needed]


def _empty_infer(module: Any, step: Any) -> Any:
    """`@infer(%x, ...) -> logits` without a body, right behind the step."""
    inputs = [value.type for value in _inputs_of(step)]
    types = ir.FunctionType.get(inputs=inputs, results=[returned_logits(step).type])
    point = ir.InsertionPoint(module.body)
    infer = load("dialects.func").FuncOp(INFER, types, loc=step.location, ip=point)
    for name in step.attributes:
        if name.startswith("tiny."):
            infer.attributes[name] = step.attributes[name]
    infer.add_entry_block([step.location] * len(inputs))
    return infer


@register_pass("tiny-extract-inference", anchor="builtin.module")
def extract_inference(module: Any) -> None:
    """Make `@infer` from `@train_step`; raises `PassError` without a step or beside an `@infer`."""
    step = find_function(module, TRAIN_STEP)
    if INFER in functions(module):
        raise PassError(functions(module)[INFER], "the module already has @infer")
    forward, logits = _forward_slice(step), returned_logits(step)
    infer = _empty_infer(module, step)
    values = dict(zip(_inputs_of(step), infer.entry_block.arguments, strict=True))
    with ir.InsertionPoint(infer.entry_block):
        for op in forward:
            copy = op.operation.clone()
            for index, operand in enumerate(op.operands):
                copy.operands[index] = values[operand]
            values.update(zip(op.results, copy.results, strict=True))
        load("dialects.func").ReturnOp([values[logits]], loc=step.location)
    remove_unused(infer)
