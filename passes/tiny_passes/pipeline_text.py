"""The text of a pipeline, `a{opt=v other=w},func.func(b,cse)`: parsing, printing, options."""

import inspect
import shlex
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from tiny_dialect.errors import InvalidOption

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_MOST_DEPTH = 32


@dataclass(frozen=True)
class Element:
    """`name`, `name{options}` or `name(children)`."""

    name: str
    options: str | None = None
    children: "tuple[Element, ...] | None" = None

    def __str__(self) -> str:
        options = "" if self.options is None else f"{{{self.options}}}"
        children = "" if self.children is None else f"({','.join(map(str, self.children))})"
        return self.name + options + children


def parse_elements(text: str) -> tuple[Element, ...]:
    """The elements of a pipeline text; raises `InvalidOption` with the offending column."""
    scanner = _Scanner(text)
    elements = scanner.elements()
    if scanner.position != len(text):
        unbalanced = scanner.peek() == ")"
        raise scanner.error("unbalanced ')'" if unbalanced else "expected ',' or the end")
    return elements


class _Scanner:
    """Recursive descent over a pipeline text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def skip_space(self) -> None:
        while self.peek().isspace():
            self.position += 1

    def error(self, message: str) -> InvalidOption:
        return InvalidOption(f"{message} in pipeline '{self.text}'", f"column {self.position + 1}")

    def elements(self) -> tuple[Element, ...]:
        found = [self.element()]
        while self.peek() == ",":
            self.position += 1
            found.append(self.element())
        return tuple(found)

    def element(self) -> Element:
        self.skip_space()
        start = self.position
        while self.peek() and self.peek() not in ",(){}" and not self.peek().isspace():
            self.position += 1
        name = self.text[start : self.position]
        if not name:
            raise self.error("expected a pass name")
        options = self.braces() if self.peek() == "{" else None
        children = self.parentheses() if self.peek() == "(" else None
        self.skip_space()
        return Element(name, options, children)

    def braces(self) -> str:
        start, depth = self.position, 0
        while self.peek():
            depth += {"{": 1, "}": -1}.get(self.peek(), 0)
            self.position += 1
            if depth == 0:
                return self.text[start + 1 : self.position - 1]
        raise self.error("unbalanced '{'")

    def parentheses(self) -> tuple[Element, ...]:
        if self.depth == _MOST_DEPTH:
            raise self.error(f"more than {_MOST_DEPTH} '(' within each other")
        self.position += 1
        self.depth += 1
        children = self.elements()
        if self.peek() != ")":
            raise self.error("expected ')'")
        self.position += 1
        self.depth -= 1
        return children


def coerce_options(function: Callable[..., Any], text: str | None, owner: str) -> dict[str, Any]:
    """The keyword arguments that `opt=v other=w` stands for, by the annotations of `function`.

    A hyphen in an option is an underscore of the parameter; a bare `opt` is `opt=true`; values with
    spaces are quoted. Raises `InvalidOption` for unknown, repeated, missing or ill-typed options.
    """
    parameters = option_parameters(function)
    try:
        words = shlex.split(text or "")
    except ValueError as error:
        raise InvalidOption(f"{owner}: options '{text}': {error}") from error
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        parameter = parameters.get(name.replace("-", "_"))
        if parameter is None:
            raise InvalidOption(f"{owner} has no option '{name}'; {_known(parameters)}")
        if parameter.name in values:
            raise InvalidOption(f"{owner}: option '{name}' is given twice")
        what = f"{owner}: option '{name}'"
        values[parameter.name] = _coerce(parameter.annotation, value if equals else None, what)
    for parameter in parameters.values():
        if parameter.default is parameter.empty and parameter.name not in values:
            raise InvalidOption(f"{owner} needs the option '{parameter.name}'")
    return values


def option_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a pass function."""
    parameters = inspect.signature(function, eval_str=True).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def _known(parameters: dict[str, inspect.Parameter]) -> str:
    return "it has " + (", ".join(sorted(parameters)) if parameters else "none")


def _coerce(annotation: Any, text: str | None, what: str) -> Any:
    """`text` as a value of the annotated type; None is an option without a value."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if annotation is bool:
        return _boolean(text, what)
    if text is None:
        raise InvalidOption(f"{what} needs a value")
    if get_origin(annotation) is Literal:
        if text not in get_args(annotation):
            allowed = ", ".join(map(str, get_args(annotation)))
            raise InvalidOption(f"{what} is one of {allowed}, got '{text}'")
        return text
    if get_origin(annotation) is tuple:
        item = get_args(annotation)[0]
        return tuple(_coerce(item, part, what) for part in text.split(",") if part)
    if annotation not in (int, float, str, Path):
        raise TypeError(f"{what} is annotated {annotation!r}, which no text stands for")
    try:
        return annotation(text)
    except ValueError as error:
        raise InvalidOption(f"{what} is of type {annotation.__name__}, got '{text}'") from error


def _boolean(text: str | None, what: str) -> bool:
    if text is None or text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise InvalidOption(f"{what} is true or false, got '{text}'")
