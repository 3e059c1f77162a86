"""What passes and named pipelines exist, and their options, read from source text: no imports.

`tiny-opt --help` lists them this way and starts in a fraction of the time that loading MLIR takes.
The source stays the one place that states a pass's name, options and summary.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_PIPELINE = "pipeline"


@dataclass(frozen=True)
class Option:
    """One option: its annotation and default as written; without a default it is required."""

    name: str
    annotation: str
    default: str | None

    def __str__(self) -> str:
        suffix = "" if self.default is None else f" = {self.default}"
        return f"{self.name}: {self.annotation}{suffix}"


@dataclass(frozen=True)
class Entry:
    """A pass, or with anchor `pipeline` a named pipeline, as its source describes it."""

    name: str
    anchor: str
    summary: str
    options: tuple[Option, ...]


def builtin_passes() -> list[Entry]:
    """The passes of this package, by name."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sorted((entry for file in files for entry in entries_in(file)), key=lambda e: e.name)


def entries_in(path: Path) -> Iterator[Entry]:
    """What a Python file registers with `@register_pass(...)` and `register_pipeline(...)`."""
    text = path.read_text(encoding="utf-8")
    if "register_pass(" not in text and "register_pipeline(" not in text:
        return
    module = ast.parse(text, str(path))
    constants = _constants(module)
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    for function in functions.values():
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and _calls(decorator, "register_pass"):
                yield _pass_entry(function, decorator, constants)
    statements = [node.value for node in module.body if isinstance(node, ast.Expr)]
    for value in statements:
        if isinstance(value, ast.Call) and _calls(value, "register_pipeline"):
            yield _pipeline_entry(value, functions, constants)


def _calls(call: ast.Call, name: str) -> bool:
    return ast.unparse(call.func).split(".")[-1] == name


def _constants(module: ast.Module) -> dict[str, str]:
    """What the module's own names stand for, so that an alias or a constant shows its value."""
    return {
        target.id: ast.unparse(node.value)
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _pass_entry(function: ast.FunctionDef, call: ast.Call, constants: Mapping[str, str]) -> Entry:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    anchor = _written(keywords.get("anchor"), constants) or ""
    summary = " ".join((ast.get_docstring(function) or "").split("\n\n")[0].split())
    options = _options(function, constants)
    return Entry(_literal(call.args[0]), anchor.strip("'\""), summary, options)


def _pipeline_entry(
    call: ast.Call, functions: Mapping[str, ast.FunctionDef], constants: Mapping[str, str]
) -> Entry:
    name, text, doc = call.args
    function = functions.get(text.id) if isinstance(text, ast.Name) else None
    options = _options(function, constants) if function else ()
    return Entry(_literal(name), _PIPELINE, _literal(doc), options)


def _literal(expression: ast.expr) -> str:
    return str(ast.literal_eval(expression))


def _options(function: ast.FunctionDef, constants: Mapping[str, str]) -> tuple[Option, ...]:
    """The keyword-only parameters."""
    arguments = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return tuple(
        Option(
            argument.arg,
            _written(argument.annotation, constants) or "str",
            _written(default, constants),
        )
        for argument, default in arguments
    )


def _written(expression: ast.expr | None, constants: Mapping[str, str]) -> str | None:
    if expression is None:
        return None
    text = ast.unparse(expression)
    return constants.get(text, text)
