"""The `@infer` function of a module: finding it, its parameters, the checks of every model."""

from typing import Any

from tiny_dialect import ops
from tiny_dialect.attributes import string
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import place_of
from tiny_dialect.errors import InvalidModel

_FUNCTION = "func.func"


def place(op: Any, fallback: str = "") -> str:
    """Where an op comes from: its location, or its layer, or `fallback`."""
    layer = op.attributes["layer"].value if "layer" in op.attributes else fallback
    return place_of(op.location, layer)


def infer_function(module: Any, source: str = "") -> Any:
    """The only function of a module at the `model` stage; raises `InvalidModel`."""
    functions = {
        op.attributes["sym_name"].value: op for op in module.body if op.operation.name == _FUNCTION
    }
    if "infer" not in functions:
        raise InvalidModel(f"has no function @infer; it has {sorted(functions) or 'none'}", source)
    if "train_step" in functions:
        raise InvalidModel("is a training step already; import the model it was made from", source)
    function = functions["infer"]
    if not list(function.regions[0].blocks):
        raise InvalidModel("@infer is only declared", place(function, source))
    return function


def parameters(function: Any) -> list[Any]:
    """The `tiny.parameter` ops of a function, in program order."""
    return [op for op in function.regions[0].blocks[0].operations if isinstance(op, ops.Parameter)]


def check_model(module: Any, name: str, source: str) -> None:
    """Check what holds for every model at the `model` stage; name the model where it has no name.

    Raises `InvalidModel` for a module without `@infer`, of a later stage, or with a symbol that
    names two parameters.
    """
    function = infer_function(module, source)
    seen: set[str] = set()
    for op in parameters(function):
        symbol = op.symbol.value
        if symbol in seen:
            raise InvalidModel(f"symbol {symbol!r} names two parameters", place(op, source))
        seen.add(symbol)
    for attribute, default in (("tiny.model", name), ("tiny.stage", "model")):
        if attribute not in function.attributes:
            function.attributes[attribute] = string(default)
    stage = function.attributes["tiny.stage"]
    if not isinstance(stage, ir.StringAttr) or stage.value != "model":
        raise InvalidModel(
            f"is at stage {stage}; only a model can be imported", place(function, source)
        )
