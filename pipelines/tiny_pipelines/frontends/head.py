"""Replace a network's classifier by a fresh float32 head for a new number of classes.

Before:  %logits = "tiny.conv2d"(%features, %w, %b)  or  "tiny.linear"(%features, %w, %b)
After:   %x = "tiny.dequantize"(%features)
         %logits = "tiny.linear"(%x, %classifier.weight, %classifier.bias)

Weights and biases are uniform in +-1/sqrt(features), drawn from a seeded generator: the same seed
gives the same head. The features and everything before them stay as they are. `head_values` and
`set_head` read and write the values of a float32 head.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect import ops
from tiny_dialect.attributes import dense, string, to_array
from tiny_dialect.bindings import ir
from tiny_dialect.errors import InvalidModel, InvalidOption
from tiny_dialect.types import is_quantized, shape_of, tensor
from tiny_pipelines.frontends.inference import infer_function, parameters, place

LAYER = "classifier"
MAX_CLASSES = 65_536

Reals = NDArray[np.float32]


def replace_head(module: Any, classes: int, seed: int) -> None:
    """Give `@infer` of `module` a new head, in place; its result becomes `tensor<1xCLASSESxf32>`.

    Raises `InvalidOption` for an impossible class count or seed, `InvalidModel` where the logits
    come neither from a convolution with a 1x1 output nor from a linear layer.
    """
    if not 2 <= classes <= MAX_CLASSES:
        raise InvalidOption(f"a head of {classes} classes; expected 2 to {MAX_CLASSES}")
    if seed < 0:
        raise InvalidOption(f"seed {seed}; expected 0 or more")
    function = infer_function(module)
    terminator = list(function.regions[0].blocks[0].operations)[-1]
    if len(terminator.operands) != 1:
        raise InvalidModel(
            f"@infer returns {len(terminator.operands)} values; expected the logits",
            place(function),
        )
    logits = terminator.operands[0]
    classifier = _classifier(logits, function)
    _require_free_symbols(function, classifier)
    with _location(classifier), ir.InsertionPoint(terminator):
        terminator.operands[0] = _head(classifier.operands[0], classes, np.random.default_rng(seed))
    _erase_unused(logits.owner)
    inputs = [argument.type for argument in function.regions[0].blocks[0].arguments]
    signature = ir.FunctionType.get(inputs, [terminator.operands[0].type])
    function.attributes["function_type"] = ir.TypeAttr.get(signature)


def head_values(module: Any) -> tuple[Reals, Reals]:
    """(weight [K, features], bias [K]) of the float32 head of `@infer`.

    Raises `InvalidModel` for a module whose logits come from something else.
    """
    weight, bias = _head_parameters(module)
    return to_array(weight.attributes["value"]).copy(), to_array(bias.attributes["value"]).copy()


def set_head(module: Any, weight: Reals, bias: Reals) -> None:
    """Give the float32 head of `@infer` these values, in place.

    Raises `InvalidModel` for a module without such a head, `InvalidOption` where shapes differ.
    """
    for op, values in zip(_head_parameters(module), (weight, bias), strict=True):
        shape = to_array(op.attributes["value"]).shape
        if values.shape != shape:
            raise InvalidOption(
                f"values of shape {list(values.shape)} for {list(shape)}", op.symbol.value
            )
        op.attributes["value"] = dense(values.astype(np.float32))


def _head_parameters(module: Any) -> tuple[Any, Any]:
    """The ops that hold weight and bias of the float32 head."""
    function = infer_function(module)
    terminator = list(function.regions[0].blocks[0].operations)[-1]
    linear = _producer(terminator.operands[0]) if len(terminator.operands) == 1 else None
    if not isinstance(linear, ops.Linear):
        raise InvalidModel("@infer does not end with a float32 head", place(linear or function))
    weight, bias = _producer(linear.w), _producer(linear.bias)
    if not (isinstance(weight, ops.Parameter) and isinstance(bias, ops.Parameter)):
        raise InvalidModel("the head is computed from no parameters", place(linear))
    return weight, bias


def _classifier(logits: Any, function: Any) -> Any:
    """The convolution or linear op that computes `logits`, looking through a final dequantize."""
    op = _producer(logits)
    if isinstance(op, ops.Dequantize):
        op = _producer(op.x)
    if isinstance(op, ops.Linear):
        return op
    if not isinstance(op, ops.Conv2D):
        name = "an argument" if op is None else op.operation.name
        raise InvalidModel(
            f"the logits come from {name}; a head replaces a convolution or a linear layer",
            place(op or function),
        )
    if shape_of(op.y)[:3] != (1, 1, 1):
        raise InvalidModel(
            f"the last convolution computes {list(shape_of(op.y))}; "
            "a classifier has height and width 1",
            place(op),
        )
    return op


def _location(classifier: Any) -> Any:
    """The location of the new head: that of the layer it replaces, under its own name."""
    if "layer" in classifier.attributes and classifier.attributes["layer"].value == LAYER:
        return classifier.location
    return ir.Location.name(LAYER, classifier.location)


def _producer(value: Any) -> Any | None:
    """The typed op that computes `value`; None for a function argument."""
    return None if isinstance(value.owner, ir.Block) else value.owner.opview


def _require_free_symbols(function: Any, classifier: Any) -> None:
    """No parameter that stays has a name of the new head's."""
    replaced = [
        op for op in map(_producer, list(classifier.operands)[1:]) if isinstance(op, ops.Parameter)
    ]
    for op in parameters(function):
        taken = op.symbol.value in (f"{LAYER}.weight", f"{LAYER}.bias")
        if taken and not any(op.operation == old.operation for old in replaced):
            raise InvalidModel(
                f"{op.symbol.value!r} is a parameter of another layer; rename it", place(op)
            )


def _head(features: Any, classes: int, generator: np.random.Generator) -> Any:
    """The logits of a new head on `features`, quantized or float32, at the insertion point."""
    size = math.prod(shape_of(features))
    bound = 1.0 / math.sqrt(size)
    weight = generator.uniform(-bound, bound, (classes, size)).astype(np.float32)
    bias = generator.uniform(-bound, bound, classes).astype(np.float32)
    if is_quantized(features):
        features = _in_layer(ops.Dequantize(features, tensor(shape_of(features), "f32"))).y
    operands = [_parameter("weight", weight), _parameter("bias", bias)]
    return _in_layer(ops.Linear(features, *operands, tensor((1, classes), "f32"))).y


def _parameter(suffix: str, values: np.ndarray) -> Any:
    op = ops.Parameter(tensor(values.shape, "f32"), string(f"{LAYER}.{suffix}"), dense(values))
    return _in_layer(op).result


def _in_layer(op: Any) -> Any:
    op.attributes["layer"] = string(LAYER)
    return op


def _erase_unused(op: Any) -> None:
    """Erase `op` and, behind it, every op that only it used."""
    waiting = [op]
    while waiting:
        op = waiting.pop()
        if any(list(result.uses) for result in op.results):
            continue
        # A producer waits once, and only while an op that used it has just gone: it still exists.
        producers = {value.owner for value in op.operands if not isinstance(value.owner, ir.Block)}
        op.erase()
        waiting.extend(producers - set(waiting))
