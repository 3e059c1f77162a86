"""Python functions that see the module between two phases of IREE.

A hook of phase P gets the module that enters P, as an `iree.compiler.ir.Module` whose context is
current, and changes it in place or returns another one. Packages offer hooks under the entry-point
group `tiny_pipelines.iree_hooks`: the name is the phase, the value `module:function`.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import groupby
from typing import Any

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_pipelines.iree.compiler import PHASES, edit_module, require_phase

ENTRY_POINT_GROUP = "tiny_pipelines.iree_hooks"


@dataclass(frozen=True)
class Hook:
    """`edit` sees the module before `phase` runs; `name` is for messages."""

    phase: str
    edit: Callable[[Any], Any]
    name: str = "hook"

    def __post_init__(self) -> None:
        require_phase(self.phase)
        if self.phase == PHASES[0]:
            raise InvalidOption(
                f"a hook runs before a phase that has one before it: {', '.join(PHASES[1:])}",
                self.name,
            )

    @property
    def after(self) -> str:
        """The phase whose result the hook gets."""
        return PHASES[PHASES.index(self.phase) - 1]


def parse_hook(text: str) -> Hook:
    """The hook that `PHASE:MODULE:FUNCTION` names; the current folder is searched for modules too.

    Raises `InvalidOption` for a text of another form, and where nothing of that name is found.
    """
    phase, _, target = text.partition(":")
    module_name, _, function_name = target.partition(":")
    if not (phase and module_name and function_name):
        raise InvalidOption(f"expected PHASE:MODULE:FUNCTION, got {text!r}", "--tiny-hook")
    require_phase(phase)
    return Hook(phase, _function(module_name, function_name), target)


def _function(module_name: str, function_name: str) -> Callable[[Any], Any]:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        found = importlib.import_module(module_name)
        for part in function_name.split("."):
            found = getattr(found, part)
    except TinyError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InvalidOption(
            f"cannot be loaded: {reason}", f"{module_name}:{function_name}"
        ) from error
    if not callable(found):
        raise InvalidOption("is not a function", f"{module_name}:{function_name}")
    return found


def installed_hooks() -> list[Hook]:
    """The hooks that installed packages offer, ordered by phase and value."""
    points = sorted(
        entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name, point.value)
    )
    return [parse_hook(f"{point.name}:{point.value}") for point in points]


def by_stage(
    hooks: Iterable[Hook], compile_from: str, compile_to: str
) -> Iterator[tuple[str, list[Hook]]]:
    """(phase to stop after, hooks that run there) in order; raises where a hook is not reached."""
    place = {hook: PHASES.index(hook.phase) for hook in hooks}
    first, last = PHASES.index(compile_from), PHASES.index(compile_to)
    for hook, index in place.items():
        if not first < index <= last:
            raise InvalidOption(
                f"phase {hook.phase} does not run between {compile_from} and {compile_to}",
                hook.name,
            )
    ordered = sorted(place, key=lambda hook: place[hook])
    for stop, group in groupby(ordered, key=lambda hook: hook.after):
        yield stop, list(group)


def run_hooks(bytecode: bytes, hooks: Iterable[Hook]) -> bytes:
    """The module after all `hooks`, one after the other.

    Errors that a hook raises itself become `InvalidOption` with its name, `TinyError`s pass.
    """
    for hook in hooks:
        bytecode = edit_module(bytecode, _guarded(hook), hook.name)
    return bytecode


def _guarded(hook: Hook) -> Callable[[Any], Any]:
    def edit(module: Any) -> Any:
        try:
            return hook.edit(module)
        except TinyError:
            raise
        except Exception as error:
            raise InvalidOption(f"failed: {type(error).__name__}: {error}", hook.name) from error

    return edit
