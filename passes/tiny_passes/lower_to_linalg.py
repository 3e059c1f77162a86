"""Lower every function of tiny ops to linalg, for the host.

Before:  %w = "tiny.parameter"() {symbol = "c.w", trained, value = dense<...> : tensor<8x1x1x4xi16>}
         %y = "tiny.conv2d"(%x, %w, %b) ... : tensor<1x8x8x4x!quant.uniform<i8:f32, ...>>
         "tiny.conv2d_weight_update"(%w, %x, %g, %rate) ...
After:   ml_program.global private mutable @c.w(dense<...>) : tensor<8x1x1x4xi16>
         %w = ml_program.global_load @c.w
         %s = linalg.matmul ... -> tensor<64x8xi32>           and a linalg.generic that requantizes
         ml_program.global_store @c.w = %new
         func.func @get.c.w() -> tensor<...>   func.func @set.c.w(tensor<...>)   func.func @reset()

Quantized tensors become i8, masks i8 of 0 and 1; frozen parameters become constants. A trained
parameter is one global whatever number of functions name it. Integer results are those of
`tiny_dialect.semantics` bit for bit; float sums may associate differently. Nothing of the tiny or
quant dialects is left. Cost: one walk.
"""

from collections.abc import Callable
from typing import Any

from tiny_dialect.attributes import to_array
from tiny_dialect.bindings import ir, load
from tiny_dialect.op_functions import functions_of_ops
from tiny_dialect.types import element_name, shape_of
from tiny_passes.linalg import (
    backward,
    forward,
    integer_backward,
    integer_head,
    integer_update,
    layout,
    pooling,
    update,
)
from tiny_passes.linalg.tensors import constant, tensor_type
from tiny_passes.registry import PassError, register_pass
from tiny_passes.unfuse_blocks import unfuse_blocks

_func = load("dialects.func")
_ml_program = load("dialects.ml_program")

RULES: dict[str, Callable[..., list[Any]]] = functions_of_ops(
    forward, backward, pooling, layout, integer_backward, integer_head
)

UPDATE_RULES: dict[str, Callable[..., Any]] = functions_of_ops(update, integer_update)


def register_lowering(name: str, rule: Callable[..., list[Any]]) -> None:
    """Give a user's op `name` its linalg form: `rule(op, *tensors) -> tensors`, one a result.

    `op` is the tiny op, for its attributes and types; quantized tensors come and go as i8.
    """
    RULES[name] = rule


@register_pass("tiny-lower-to-linalg", anchor="builtin.module")
def lower_to_linalg(module: Any) -> None:
    """Replace every function by its linalg form and add the state accessors.

    Raises `PassError` at an op without a rule, and where two functions disagree about a parameter.
    """
    functions = [
        op for op in module.body if op.operation.name == "func.func" and not op.is_external
    ]
    trained = _trained_parameters(functions)
    with ir.InsertionPoint(module.body), module.operation.location:
        _state_functions(trained)
    with ir.InsertionPoint.at_block_begin(module.body):
        for symbol, parameter in trained.items():
            with parameter.location:
                _declare_global(symbol, parameter)
    for function in functions:
        unfuse_blocks(function)
        with ir.InsertionPoint(function), function.location:
            _lower_function(function)
        function.operation.erase()


def _trained_parameters(functions: list[Any]) -> dict[str, Any]:
    """The trained parameter ops by symbol, one for each piece of state."""
    trained: dict[str, Any] = {}
    for function in functions:
        for op in function.regions[0].blocks[0]:
            if op.operation.name != "tiny.parameter" or "trained" not in op.attributes:
                continue
            symbol = op.attributes["symbol"].value
            known = trained.setdefault(symbol, op)
            if known.attributes["value"] != op.attributes["value"]:
                raise PassError(op, f"parameter {symbol} starts with another value elsewhere")
    return trained


def _declare_global(symbol: str, parameter: Any) -> None:
    value = parameter.attributes["value"]
    _ml_program.GlobalOp(
        symbol,
        ir.TypeAttr.get(value.type),
        is_mutable=True,
        value=value,
        sym_visibility=ir.StringAttr.get("private"),
    )


def _host_type(kind: Any) -> Any:
    """The tensor type on the host: i8 for quantized elements and for masks."""
    if not isinstance(kind, ir.RankedTensorType):
        return kind
    element = element_name(kind)
    return tensor_type(shape_of(kind), "i8" if element == "i1" else element)


def _lower_function(function: Any) -> None:
    """The linalg form of one function, before it in the module."""
    block = function.regions[0].blocks[0]
    results = [_host_type(kind) for kind in function.type.results]
    arguments = [_host_type(argument.type) for argument in block.arguments]
    lowered = _func.FuncOp(function.name.value, ir.FunctionType.get(arguments, results))
    target = lowered.add_entry_block()
    values = dict(zip(block.arguments, target.arguments, strict=True))
    with ir.InsertionPoint(target):
        for op in block:
            with op.location:
                operands = [values[operand] for operand in op.operands]
                values.update(zip(op.results, _lower_op(op, operands), strict=True))


def _lower_op(op: Any, operands: list[Any]) -> list[Any]:
    """The lowered results of one op."""
    name = op.operation.name
    if name == "tiny.parameter":
        return [_lower_parameter(op)]
    if name == "func.return":
        _func.ReturnOp(operands)
        return []
    if name in UPDATE_RULES:
        owner = op.operands[0].owner
        _store(owner.attributes["symbol"].value, UPDATE_RULES[name](op, *operands))
        return []
    if name not in RULES:
        raise PassError(op, f"no linalg form for '{name}'")
    return RULES[name](op, *operands)


def _lower_parameter(op: Any) -> Any:
    if "trained" in op.attributes:
        return _load(op.attributes["symbol"].value, op.results[0].type)
    return constant(to_array(op.attributes["value"]))


def _load(symbol: str, kind: Any) -> Any:
    return _ml_program.GlobalLoadOp(kind, ir.FlatSymbolRefAttr.get(symbol)).result


def _store(symbol: str, value: Any) -> None:
    _ml_program.GlobalStoreOp(ir.FlatSymbolRefAttr.get(symbol), value)


def _state_functions(trained: dict[str, Any]) -> None:
    """`@get.SYMBOL`, `@set.SYMBOL` for each parameter, and `@reset` to the initial values."""
    for symbol, parameter in trained.items():
        kind = parameter.attributes["value"].type
        getter = _func.FuncOp(f"get.{symbol}", ir.FunctionType.get([], [kind]))
        with ir.InsertionPoint(getter.add_entry_block()):
            _func.ReturnOp([_load(symbol, kind)])
        setter = _func.FuncOp(f"set.{symbol}", ir.FunctionType.get([kind], []))
        with ir.InsertionPoint(setter.add_entry_block()):
            _store(symbol, setter.arguments[0])
            _func.ReturnOp([])
    reset = _func.FuncOp("reset", ir.FunctionType.get([], []))
    with ir.InsertionPoint(reset.add_entry_block()):
        for symbol, parameter in trained.items():
            _store(symbol, constant(to_array(parameter.attributes["value"])))
        _func.ReturnOp([])
