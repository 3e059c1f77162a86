"""A PyTorch forward pass as plain records: what a `.pt2` file and an `ExportedProgram` both become.

Only operators of the importers' own table ever become nodes that are evaluated, by name, so that
nothing a file says is executed. Operators that work in place are replaced by those that do not.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, NoReturn

from numpy.typing import NDArray

from tiny_dialect.errors import InvalidModel, InvalidOption

ATEN = "aten."

_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,499}")
_MODULE_PATH = re.compile(r"[\w.]{1,500}")
_FRAME = re.compile(r'File "([^"\n]*)", line (\d+)')
_LIBRARY_FRAME = re.compile(r"[/\\]torch[/\\]")
_LIBRARY_MODULE = "torch.nn.modules."


def require_torch(source: str = "") -> Any:
    """The `torch` module; `InvalidOption` says how to get it."""
    try:
        return import_module("torch")
    except ImportError as error:
        raise InvalidOption(
            "a PyTorch model needs PyTorch: pip install 'tiny-training-compiler[torch]'", source
        ) from error


@dataclass(frozen=True)
class Ref:
    """A value that a node reads, by name."""

    name: str


@dataclass(frozen=True)
class TorchNode:
    """One operator call: `op` is `aten.NAME.OVERLOAD`, or the target's text where it is not aten's.

    `arguments` are by the schema's names.

    `module` is the path of the layer's `nn.Module`, empty where there is none of its own; `line`
    is where the user's code calls it, as `FILE:LINE`.
    """

    name: str
    op: str
    arguments: Mapping[str, Any]
    module: str = ""
    line: str = ""

    @property
    def place(self) -> str:
        """The node in words, for errors."""
        where = "".join(f", {text}" for text in (self.module, self.line) if text)
        return f"node {self.name} ({shown(self.op, 120)}{where})"

    @property
    def kind(self) -> str:
        """The operator's name without its overload and the underscore of those in place."""
        return self.op.removeprefix(ATEN).split(".")[0].rstrip("_")

    @property
    def in_place(self) -> bool:
        """True where it changes its first operand."""
        return self.op.removeprefix(ATEN).split(".")[0].endswith("_")

    @property
    def layer(self) -> str:
        """What its layer is called: by the module where it has one of its own."""
        return self.module or self.name

    def operands(self) -> list[str]:
        """The names of the values it reads."""
        return [ref.name for ref in _refs(list(self.arguments.values()))]


@dataclass(frozen=True, eq=False)
class TorchGraph:
    """A network of one input and one output: nodes in execution order, constants by name.

    `input_shape` is that of one sample in the axis order of PyTorch, batch 1.
    """

    source: str
    input_name: str
    input_shape: tuple[int, ...]
    constants: Mapping[str, NDArray[Any]]
    nodes: tuple[TorchNode, ...]
    output: str

    def fail(self, message: str, node: TorchNode | None = None) -> NoReturn:
        """Raise `InvalidModel` for the file, or at a node."""
        raise InvalidModel(shown(message), f"{self.source}:{node.place}" if node else self.source)


def _refs(argument: Any) -> list[Ref]:
    if isinstance(argument, Ref):
        return [argument]
    if isinstance(argument, list | tuple):
        return [ref for item in argument for ref in _refs(item)]
    return []


def resolved(argument: Any, values: Mapping[str, Any]) -> Any:
    """`argument` with each `Ref`, in lists too, replaced by its value."""
    if isinstance(argument, Ref):
        return values[argument.name]
    if isinstance(argument, list | tuple):
        return [resolved(item, values) for item in argument]
    return argument


def shown(text: str, most: int = 600) -> str:
    """Text that a file has a part in, as it may stand in an error: short and on one line."""
    plain = text if text.isprintable() else ascii(text)
    return plain if len(plain) <= most else f"{plain[:most]}..."


def is_name(text: object) -> bool:
    """True for what may name a value."""
    return isinstance(text, str) and _IDENTIFIER.fullmatch(text) is not None


def user_line(stack_trace: str) -> str:
    """`FILE:LINE` of the innermost frame outside PyTorch; empty if there is none."""
    frames = [found for found in _FRAME.findall(stack_trace) if not _LIBRARY_FRAME.search(found[0])]
    if not frames:
        return ""
    path, line = frames[-1]
    return f"{shown(PurePosixPath(path.replace(chr(92), '/')).name, 100)}:{line[:9]}"


def module_path(stack: Sequence[tuple[str, str]]) -> str:
    """The path of the innermost module of `(path, class)` pairs, if the class is PyTorch's own."""
    if not stack:
        return ""
    path, kind = stack[-1]
    known = kind.startswith(_LIBRARY_MODULE) and _MODULE_PATH.fullmatch(path)
    return path if known else ""


def output_objection(kinds: Sequence[str]) -> str:
    """What is wrong with a program that has outputs of these kinds; empty for one result."""
    if list(kinds) == ["user_output"]:
        return ""
    if set(kinds) <= {"user_output"}:
        return f"has {len(kinds)} outputs; expected one"
    listed = ", ".join(kinds)
    return f"has the outputs {listed}; expected one (call module.eval() before the export)"


def overload(op: str) -> Any:
    """The aten operator `aten.NAME.OVERLOAD`; None if there is none."""
    parts = op.split(".")
    if len(parts) != 3 or f"{parts[0]}." != ATEN or not all(map(is_name, parts)):
        return None
    return getattr(getattr(require_torch().ops.aten, parts[1], None), parts[2], None)


def checked(graph: TorchGraph, supported: Collection[str], instead: str) -> TorchGraph:
    """The graph with all arguments of each node in the order of its schema, none in place.

    Raises at the first node whose operator is not in `supported`; `instead` says which are.
    """
    nodes: list[TorchNode] = []
    known = {graph.input_name, *graph.constants}
    for node in graph.nodes:
        parts = node.op.split(".")
        op = f"{ATEN}{node.kind}.{parts[-1]}"
        function = overload(op) if node.op.startswith(ATEN) and node.kind in supported else None
        if function is None:
            graph.fail(f"is not supported; {instead}", node)
        for name in node.operands():
            if name not in known:
                graph.fail(f"reads {name!r}, which nothing computes", node)
        if node.name in known:
            graph.fail("computes a value that exists already", node)
        known.add(node.name)
        nodes.append(replace(node, arguments=_complete(graph, node, function)))
    if graph.output not in known:
        graph.fail(f"returns {graph.output!r}, which nothing computes")
    return replace(graph, nodes=tuple(nodes))


def _complete(graph: TorchGraph, node: TorchNode, function: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for argument in function._schema.arguments:
        if argument.name in node.arguments:
            arguments[argument.name] = node.arguments[argument.name]
        elif argument.has_default_value():
            arguments[argument.name] = argument.default_value
        else:
            graph.fail(f"has no argument {argument.name}", node)
    unknown = node.arguments.keys() - arguments.keys()
    if unknown:
        graph.fail(f"has unknown arguments {', '.join(sorted(unknown))}", node)
    return arguments


def out_of_place(graph: TorchGraph, views: frozenset[str]) -> TorchGraph:
    """The graph without operators that change their operand: later readers read the result.

    `views` are the operators whose result may share memory with their operand. Raises where such
    a share is read after the change.
    """
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.operands()}
    last[graph.output] = len(graph.nodes)
    current: dict[str, str] = {}
    sharing: dict[str, set[str]] = {}
    nodes: list[TorchNode] = []
    for number, node in enumerate(graph.nodes):
        changed = node.operands()[:1] if node.in_place else []
        for name in changed:
            group = sharing.get(name, set()) - {name}
            if any(last.get(other, -1) > number for other in group):
                graph.fail(f"changes {name} in place, which is also read through a view", node)
        if node.kind in views and node.operands():
            operand = node.operands()[0]
            group = sharing.setdefault(operand, {operand})
            group.add(node.name)
            sharing[node.name] = group
        nodes.append(_rewritten(node, current))
        for name in changed:
            current[name] = node.name
    output = _latest(graph.output, current)
    return replace(graph, nodes=tuple(nodes), output=output)


def _latest(name: str, current: Mapping[str, str]) -> str:
    while name in current:
        name = current[name]
    return name


def _rewritten(node: TorchNode, current: Mapping[str, str]) -> TorchNode:
    def latest(argument: Any) -> Any:
        if isinstance(argument, Ref):
            return Ref(_latest(argument.name, current))
        return [latest(item) for item in argument] if isinstance(argument, list) else argument

    arguments = {key: latest(value) for key, value in node.arguments.items()}
    return replace(node, op=f"{ATEN}{node.kind}.{node.op.split('.')[-1]}", arguments=arguments)
