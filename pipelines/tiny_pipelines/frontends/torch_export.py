"""A live `nn.Module`, or what `torch.export.export` made of one, as a `TorchGraph`."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidModel, InvalidOption
from tiny_pipelines.frontends.torch_graph import (
    ATEN,
    Ref,
    TorchGraph,
    TorchNode,
    is_name,
    module_path,
    output_objection,
    require_torch,
    user_line,
)

_DEFAULT = object()
"""Stands for an argument that is left out."""


def exported_graph(module: Any, sample: NDArray[Any], source: str) -> TorchGraph:
    """The graph of an `nn.Module` in evaluation mode for one sample, or of an `ExportedProgram`.

    `sample` has the shape of the module's input without the batch; the module is left as it was.
    """
    torch = require_torch(source)
    if isinstance(module, torch.export.ExportedProgram):
        return _graph(module, source)
    if not isinstance(module, torch.nn.Module):
        raise InvalidOption(
            f"expected an nn.Module or an ExportedProgram, got {type(module).__name__}", source
        )
    example = torch.from_numpy(np.array(sample[None], np.float32))
    with _evaluating(module), torch.no_grad():
        try:
            program = torch.export.export(module, (example,))
        # What a user's own forward, and the tracing of it, may raise is without limit.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise InvalidModel(f"torch.export.export: {reason}", source) from error
    return _graph(program, source)


@contextmanager
def _evaluating(module: Any) -> Generator[None]:
    """The module in evaluation mode; each part goes back to its own mode behind."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _graph(program: Any, source: str) -> TorchGraph:
    constants: dict[str, NDArray[Any]] = {}
    inputs: list[str] = []
    for spec in program.graph_signature.input_specs:
        kind = spec.kind.name
        if kind == "USER_INPUT":
            inputs.append(str(spec.arg.name))
        elif kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            stored = program.state_dict.get(spec.target, program.constants.get(spec.target))
            constants[spec.arg.name] = _array(stored)
        else:
            raise InvalidModel(f"has an input of kind {kind}, which is not supported", source)
    outputs = program.graph_signature.output_specs
    objection = output_objection([spec.kind.name.lower() for spec in outputs])
    if len(inputs) != 1:
        objection = f"has {len(inputs)} inputs; expected one"
    if objection:
        raise InvalidModel(objection, source)
    nodes = [node for node in program.graph.nodes if node.op not in ("placeholder", "output")]
    (given,) = (node for node in program.graph.nodes if node.name == inputs[0])
    return TorchGraph(
        source,
        inputs[0],
        _sample_shape(given),
        constants,
        tuple(_node(node) for node in nodes),
        str(outputs[0].arg.name),
    )


def _array(tensor: Any) -> NDArray[Any]:
    plain = tensor.detach().cpu()
    return plain.float().numpy() if plain.is_floating_point() else plain.numpy()


def _sample_shape(node: Any) -> tuple[int, ...]:
    """The shape of the input; a first size that is not fixed, the batch, is 1."""
    sizes = list(node.meta["val"].shape)
    if sizes and not isinstance(sizes[0], int):
        sizes[0] = 1
    return tuple(size if isinstance(size, int) else 0 for size in sizes)


def _node(node: Any) -> TorchNode:
    target, arguments = str(node.target), dict[str, Any]()
    if isinstance(node.target, require_torch()._ops.OpOverload):
        schema = node.target._schema
        given = dict(zip((a.name for a in schema.arguments), node.args, strict=False))
        read = {name: _argument(value) for name, value in (given | node.kwargs).items()}
        arguments = {name: value for name, value in read.items() if value is not _DEFAULT}
    elif target.startswith(ATEN):
        target = f"function {target}"
    stack = node.meta.get("nn_module_stack") or {}
    paths = [(str(path), str(kind)) for path, kind in stack.values()]
    name = str(node.name)
    return TorchNode(
        name if is_name(name) else "node",
        target,
        arguments,
        module_path(paths),
        user_line(str(node.meta.get("stack_trace") or "")),
    )


def _argument(value: Any) -> Any:
    """Numbers, text and references as they are; of other types the operators take the default."""
    if isinstance(value, require_torch().fx.Node):
        return Ref(str(value.name))
    if isinstance(value, list | tuple):
        return [_argument(item) for item in value]
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else _DEFAULT
