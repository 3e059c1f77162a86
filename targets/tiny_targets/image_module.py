"""The planned module beside an image: read, and held against the image that was built from it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_dialect.dialect import parse_module
from tiny_dialect.errors import InvalidModel
from tiny_targets.firmware import MANIFEST
from tiny_targets.manifest_reader import read_manifest
from tiny_targets.schedule import CONSTANTS, Function, Schedule, outline


def read_image_module(path: Path) -> Any:
    """The planned module in the file `path`, in the folder of the image built from it.

    Raises `InvalidModel` for a file that is unreadable, damaged, or of another image.
    """
    manifest = read_manifest(path.parent / MANIFEST, ())
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidModel(error.strerror or str(error), str(path)) from error
    manifest.require_described(path, data)
    module = parse_module(data, str(path))
    try:
        planned = outline(module)
    except InvalidModel as error:
        raise InvalidModel(str(error), str(path)) from error
    require_built_from(manifest.schedule, planned, str(path))
    return module


def require_built_from(schedule: Schedule, planned: Schedule, where: str) -> None:
    """Raise `InvalidModel` where `schedule` has other ops or places than the outline `planned`."""
    for name in sorted({*schedule.functions, *planned.functions}):
        have, want = schedule.functions.get(name), planned.functions.get(name)
        if have is None or want is None or _comparable(have) != _comparable(want):
            _fail(f"@{name} has other ops or places", where)
    if sorted(map(repr, schedule.state)) != sorted(map(repr, planned.state)):
        _fail("the trained parameters are others", where)
    if (schedule.arena_bytes, schedule.state_bytes) != (planned.arena_bytes, planned.state_bytes):
        _fail("its memory has another size", where)


def _fail(reason: str, where: str) -> None:
    raise InvalidModel(
        f"is not what the image beside it was built from: {reason}; run tiny-compile again", where
    )


def _comparable(function: Function) -> Function:
    """A function without kernels, and without where its results lie among the constants."""
    commands = [replace(c, kernel=0, bindings=(), constant_bytes=()) for c in function.commands]
    results = [replace(r, offset=0) if r.space == CONSTANTS else r for r in function.results]
    return replace(function, commands=tuple(commands), results=tuple(results))
