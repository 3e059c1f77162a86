"""Names, options and textual pipelines for passes written in Python.

    @register_pass("tiny-prune-backward", anchor="func.func")
    def prune_backward(step: Any, *, keep: tuple[str, ...] = ()) -> None: ...

    run_pipeline(module, "tiny-prune-backward{keep=head.w,head.b},func.func(cse),canonicalize")

The keyword-only parameters of a pass are its options; their annotations coerce the text. Whatever
is not registered here goes to MLIR as text. A pass `tiny-a-b` is in `tiny_passes/a_b.py`, which is
imported when the name is first used; any other file registers its passes through `load_file`.
"""

import importlib
import importlib.util
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_passes.pipeline_text import Element, coerce_options, parse_elements

MODULE, FUNCTION = "builtin.module", "func.func"
ANCHORS = (MODULE, FUNCTION)

Function = TypeVar("Function", bound=Callable[..., Any])
Observer = Callable[[str, Any, float], None]


@dataclass(frozen=True)
class Pass:
    """A registered pass: `function(op, **options)` on ops named `anchor`."""

    name: str
    anchor: str
    function: Callable[..., None]
    only: str | None = None


@dataclass(frozen=True)
class Pipeline:
    """A named pipeline: its text, or a function of keyword options that returns it."""

    name: str
    text: str | Callable[..., str]
    doc: str


@dataclass(frozen=True)
class Step:
    """One pass of a resolved pipeline; `apply` takes the module."""

    text: str
    apply: Callable[[Any], None]


class PassError(TinyError):
    """A pass that cannot do its work on `op`: anything with a location, best an operation.

    Shown as `file.mlir:12:5 (blocks.3.depthwise): tiny-plan-memory: message`.
    """

    def __init__(self, op: Any, message: str) -> None:
        super().__init__(message, _place_of(op))
        self.location = op.location
        self.pass_name = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.pass_name, self.message) if part)


PASSES: dict[str, Pass] = {}
PIPELINES: dict[str, Pipeline] = {}


def register_pass(
    name: str, *, anchor: str, only: str | None = None
) -> Callable[[Function], Function]:
    """Make the decorated function the pass `name`; its keyword-only parameters are the options.

    With anchor `func.func` the pass runs on every function that has a body, or with `only` on the
    function of that name, which must exist.
    """
    if anchor not in ANCHORS:
        raise ValueError(f"pass {name}: anchor {anchor!r} is not one of {', '.join(ANCHORS)}")
    if only is not None and anchor != FUNCTION:
        raise ValueError(f"pass {name}: `only` names a function, so the anchor must be {FUNCTION}")

    def register(function: Function) -> Function:
        known = PASSES.get(name)
        if known is not None and _source(known.function) != _source(function):
            raise InvalidOption(f"pass {name} is already registered by {known.function.__module__}")
        PASSES[name] = Pass(name, anchor, function, only)
        return function

    return register


def register_pipeline(name: str, text: str | Callable[..., str], doc: str) -> None:
    """Make `name` stand for a pipeline text, or for the text that a function of options returns."""
    PIPELINES[name] = Pipeline(name, text, doc)


def load_file(path: Path) -> None:
    """Execute a Python file that registers passes or pipelines; raises `InvalidOption`."""
    spec = importlib.util.spec_from_file_location(f"tiny_loaded_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InvalidOption("not a readable Python file", str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except TinyError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InvalidOption(f"cannot be loaded: {reason}", str(path)) from error


def find_pass(name: str) -> Pass | None:
    """The pass called `name`, its module imported where needed; None if it is not a Python pass."""
    if name not in PASSES and name.startswith("tiny-"):
        module = name.removeprefix("tiny-").replace("-", "_")
        if module.isidentifier() and (Path(__file__).parent / f"{module}.py").is_file():
            importlib.import_module(f"{__package__}.{module}")
    return PASSES.get(name)


def run_pipeline(
    module: Any, text: str, *, observer: Observer | None = None, verify: bool = True
) -> None:
    """Run the passes of `text` on `module` in order, in place.

    `observer(pass_text, module, seconds)` is called after each pass. With `verify` the module is
    verified after each Python pass (MLIR verifies after its own).
    Raises `InvalidOption` for a wrong text before anything runs, `PassError` where a pass fails.
    """
    for step in list(resolve(module, text)):
        start = time.perf_counter()
        with module.context, module.operation.location:
            _run_step(step, module, verify)
        if observer is not None:
            observer(step.text, module, time.perf_counter() - start)


def resolve(module: Any, text: str) -> Iterator[Step]:
    """The passes that `text` stands for, named pipelines expanded and every option coerced."""
    with module.context:
        yield from _resolve(parse_elements(text), ())


def _resolve(
    elements: tuple[Element, ...], path: tuple[str, ...], inside: tuple[str, ...] = ()
) -> Iterator[Step]:
    for element in elements:
        if element.name in PIPELINES:
            if element.name in inside:
                raise InvalidOption(f"pipeline {element.name} contains itself")
            yield from _resolve(_expand(element), path, (*inside, element.name))
        elif (found := find_pass(element.name)) is not None:
            yield _python_step(found, element, path)
        elif element.name == MODULE and not path and element.children is not None:
            yield from _resolve(element.children, path, inside)
        elif element.name == FUNCTION and not path and _holds_python(element):
            yield from _resolve(element.children or (), (FUNCTION,), inside)
        elif _holds_python(element):
            raise InvalidOption(f"Python passes nest in {FUNCTION} only, not in {element.name}")
        elif element.name.startswith("tiny-"):
            raise InvalidOption(f"unknown pass {element.name}; tiny-opt --help lists the passes")
        else:
            yield _native_step(element, path)


def _expand(element: Element) -> tuple[Element, ...]:
    text = PIPELINES[element.name].text
    if callable(text):
        return parse_elements(text(**coerce_options(text, element.options, element.name)))
    coerce_options(lambda: None, element.options, element.name)
    return parse_elements(text)


def _holds_python(element: Element) -> bool:
    return any(
        child.name in PIPELINES or find_pass(child.name) is not None or _holds_python(child)
        for child in element.children or ()
    )


def _python_step(found: Pass, element: Element, path: tuple[str, ...]) -> Step:
    if element.children is not None:
        raise InvalidOption(f"pass {found.name} takes options in {{}}, no nested passes")
    if path and found.anchor != path[-1]:
        raise InvalidOption(f"pass {found.name} runs on {found.anchor}, not inside {path[-1]}")
    options = coerce_options(found.function, element.options, f"pass {found.name}")

    def apply(module: Any) -> None:
        for op in _anchored(module, found):
            found.function(op, **options)

    return Step(str(element), apply)


def _anchored(module: Any, found: Pass) -> list[Any]:
    """The ops of `module` that a pass runs on."""
    if found.anchor == MODULE:
        return [module]
    functions = [
        op for op in module.body.operations if op.operation.name == FUNCTION and not op.is_external
    ]
    if found.only is None:
        return functions
    chosen = [op for op in functions if op.name.value == found.only]
    if not chosen:
        raise PassError(module.operation, f"needs a function @{found.only}; the module has none")
    return chosen


def _native_step(element: Element, path: tuple[str, ...]) -> Step:
    """A pass or a nest of MLIR's own, parsed now: a wrong name fails before anything runs."""
    from tiny_dialect.bindings import load

    text = str(element)
    for anchor in reversed(path):
        text = f"{anchor}({text})"
    manager = load("passmanager").PassManager
    try:
        parsed = manager.parse(f"{MODULE}({text})")
    except ValueError as error:
        if f"restricted to '{FUNCTION}'" not in str(error) or path:
            raise InvalidOption(_pipeline_complaint(error)) from error
        parsed = manager.parse(f"{MODULE}({FUNCTION}({text}))")
    return Step(text, lambda module: parsed.run(module.operation))


def _pipeline_complaint(error: ValueError) -> str:
    first = str(error).strip().split("\n")[0]
    return "pipeline: " + first.split("error: ")[-1]


def _run_step(step: Step, module: Any, verify: bool) -> None:
    """Apply one step; every MLIR diagnostic becomes a `PassError` that names the pass."""
    from tiny_dialect.bindings import ir

    name = step.text.split("{")[0]
    try:
        try:
            step.apply(module)
        except ir.MLIRError as error:
            raise _from_diagnostics(error, module, "") from error
        if verify:
            try:
                module.operation.verify()
            except ir.MLIRError as error:
                raise _from_diagnostics(error, module, "left invalid IR: ") from error
    except PassError as error:
        error.pass_name = error.pass_name or name
        raise


def _from_diagnostics(error: Any, module: Any, prefix: str) -> PassError:
    diagnostics = error.error_diagnostics
    if not diagnostics:
        return PassError(module.operation, prefix + str(error).strip().split("\n")[0])
    return PassError(diagnostics[0], prefix + diagnostics[0].message)


def _place_of(op: Any) -> str:
    """`file:line:column (layer)` of an op; of anything else with a location only the position."""
    from tiny_dialect.dialect import place_of

    place = place_of(op.location)
    attributes = getattr(op, "attributes", {})
    layer = attributes["layer"].value if "layer" in attributes else ""
    if layer and layer not in place:
        return f"{place} ({layer})" if place else layer
    return place


def _source(function: Callable[..., Any]) -> tuple[str, str]:
    """What identifies a pass function across a reload of its file."""
    return inspect.getsourcefile(function) or "", function.__qualname__
