"""What passes exist and which options they take, read from source text: nothing is imported.

`tiny-opt --help` lists every pass this way and starts in a fraction of the time that loading MLIR
takes. The source is the one place that states a pass's name, options and summary.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Option:
    """One option of a pass: its annotation and default as written; no default means required."""

    name: str
    annotation: str
    default: str | None

    def __str__(self) -> str:
        suffix = "" if self.default is None else f" = {self.default}"
        return f"{self.name}: {self.annotation}{suffix}"


@dataclass(frozen=True)
class Entry:
    """A pass as its source describes it."""

    name: str
    anchor: str
    summary: str
    options: tuple[Option, ...]


def builtin_passes() -> list[Entry]:
    """The passes of this package, by name."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sorted((entry for file in files for entry in passes_in(file)), key=lambda e: e.name)


def passes_in(path: Path) -> Iterator[Entry]:
    """The passes that a Python file registers with `@register_pass("name", anchor="...")`."""
    text = path.read_text(encoding="utf-8")
    if "@register_pass(" not in text:
        return
    module = ast.parse(text, str(path))
    constants = _constants(module)
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    for node in functions:
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("register_pass"):
                yield _entry(node, call, constants)


def _constants(module: ast.Module) -> dict[str, str]:
    """What the module's own names stand for, so that an alias or a constant shows its value."""
    return {
        target.id: ast.unparse(node.value)
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _entry(node: ast.FunctionDef, call: ast.Call, constants: dict[str, str]) -> Entry:
    def written(expression: ast.expr | None) -> str | None:
        if expression is None:
            return None
        text = ast.unparse(expression)
        return constants.get(text, text)

    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    anchor = (written(keywords.get("anchor")) or "").strip("'\"")
    summary = (ast.get_docstring(node) or "").split("\n\n")[0]
    options = tuple(
        Option(argument.arg, written(argument.annotation) or "str", written(default))
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    )
    return Entry(ast.literal_eval(call.args[0]), anchor, " ".join(summary.split()), options)
