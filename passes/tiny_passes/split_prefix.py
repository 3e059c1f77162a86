"""Cut off the part of the network before the first trained layer, so that it can run once a sample.

Before:  func @train_step(%x, %label, %rate) {
           %a = conv2d(%x, frozen) ... %y = conv2d(%a, trained) ... }
After:   func @prefix(%x) -> %a { %a = conv2d(%x, frozen) ... }
         func @train_step(%a, %label, %rate) { %y = conv2d(%a, trained) ... }

The prefix is every forward op that no trained parameter can change; what the step needs of it
becomes its arguments, in front of label and rate. Copies of channels and dequantization stay in the
step: they would only make more of the same bytes. A step without such ops stays as it is. This is
for the host, which sees an image more than once; results are unchanged, bit for bit.

Cost: one walk. It runs before `tiny-extract-inference`, whose `@infer` then takes the same values.
"""

from typing import Any

from tiny_dialect.bindings import ir, load
from tiny_passes.graph import TRAIN_STEP, body, find_function, functions, producer
from tiny_passes.prune_backward import remove_unused
from tiny_passes.registry import PassError, register_pass

PREFIX = "prefix"
_FORWARD = (
    "tiny.conv2d",
    "tiny.add",
    "tiny.global_average_pool",
    "tiny.max_pool2d",
    "tiny.average_pool2d",
    "tiny.mean",
    "tiny.requantize",
    "tiny.pad",
    "tiny.reshape",
)
_PARAMETER = "tiny.parameter"


@register_pass("tiny-split-prefix", anchor="builtin.module")
def split_prefix(module: Any) -> None:
    """Move what never changes out of `@train_step` into `@prefix`.

    Raises `PassError` where `@prefix` exists.
    """
    step = find_function(module, TRAIN_STEP)
    if PREFIX in functions(module):
        raise PassError(functions(module)[PREFIX], "the prefix is split off already")
    x, *others = step.regions[0].blocks[0].arguments
    constant = _constant_ops(step, x)
    if not any(op.operation.name != _PARAMETER for op in constant):
        return
    crossing = _crossing(step, x, {op.operation for op in constant})
    _copied(step, PREFIX, [x], constant, crossing)
    returned = list(body(step)[-1].operands)
    _copied(step, TRAIN_STEP, [*crossing, *others], body(step)[:-1], returned)
    step.operation.erase()


def _constant_ops(step: Any, x: Any) -> list[Any]:
    """Frozen parameters, and the forward ops that depend on those and the input alone."""
    known, found = {x}, []
    for op in body(step):
        if op.operation.name == _PARAMETER:
            is_constant = "trained" not in op.attributes
        else:
            is_constant = op.operation.name in _FORWARD and all(v in known for v in op.operands)
        if is_constant:
            known.update(op.results)
            found.append(op)
    return found


def _crossing(step: Any, x: Any, constant: set[Any]) -> list[Any]:
    """The values of the prefix, the input included, that the rest of the step reads."""
    crossing: dict[Any, None] = {}
    for op in body(step):
        if op.operation in constant:
            continue
        for value in op.operands:
            source = producer(value)
            made = source is not None and source.operation in constant
            if value == x or (made and source is not None and source.operation.name != _PARAMETER):
                crossing[value] = None
    return list(crossing)


def _copied(step: Any, name: str, inputs: list[Any], ops: list[Any], returned: list[Any]) -> None:
    """The function `inputs -> returned` of those `ops` that it needs."""
    types = ir.FunctionType.get([v.type for v in inputs], [v.type for v in returned])
    point = ir.InsertionPoint(step)
    function = load("dialects.func").FuncOp(name + ".new", types, loc=step.location, ip=point)
    for key in step.attributes:
        if key.startswith("tiny."):
            function.attributes[key] = step.attributes[key]
    entry = function.add_entry_block([step.location] * len(inputs))
    values = dict(zip(inputs, entry.arguments, strict=True))
    with ir.InsertionPoint(entry):
        for op in ops:
            if any(value not in values for value in op.operands):
                continue
            if op.results and all(result in values for result in op.results):
                continue
            copy = op.operation.clone()
            for index, operand in enumerate(op.operands):
                copy.operands[index] = values[operand]
            for old, new in zip(op.results, copy.results, strict=True):
                values.setdefault(old, new)
        load("dialects.func").ReturnOp([values[value] for value in returned], loc=step.location)
    remove_unused(function)
    function.attributes["sym_name"] = ir.StringAttr.get(name)
