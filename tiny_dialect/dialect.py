"""The `tiny` dialect, contexts that have it loaded, and reading modules from text or bytecode."""

import io
import re
import threading
from pathlib import Path
from typing import Any

from tiny_dialect.bindings import ir
from tiny_dialect.errors import InvalidModel
from tiny_dialect.namespace import Tiny
from tiny_dialect.untrusted import rehearse

_LOAD_LOCK = threading.Lock()
_BYTECODE_MAGIC = b"ML\xefR"
_PRINTED_ELEMENTS = 4
# The bytecode reader reports what is wrong, but not where.
_NOWHERE = ("loc(unknown)", 'loc("-":0:0)')
_ESCAPED = re.compile(r"(?:\\[89A-F][0-9A-F])+")
_PRINTED = re.compile(rf"\\\\|({_ESCAPED.pattern})")
_QUOTED_LETTERS = 40


def new_context() -> Any:
    """A fresh context with the dialect loaded, single-threaded: Python verifiers hold the GIL."""
    from tiny_dialect import ops  # noqa: F401  (defining the op classes registers them)
    from tiny_dialect.iree_util import Util

    context = ir.Context()
    context.enable_multithreading(False)
    with _LOAD_LOCK, context, ir.Location.unknown():
        Tiny.load()
        Util.load()
    return context


def parse_module(data: bytes, source: str) -> Any:
    """The verified module in `data` (text or bytecode), parsed in the current context.

    Read in a child process first, which costs milliseconds: a hostile file may end it. Raises
    `InvalidModel` with the position and the reason of the first diagnostic.
    """
    rehearse(lambda: _require_text(_parse(data, source), source), source, len(data))
    return _parse(data, source)


def _require_text(module: Any, source: str) -> None:
    """Refuse names and strings that are no text: Python has none for such bytes.

    Prints the module without its constants: what is shared may grow without bound in text.
    """
    printed = module.operation.get_asm(large_elements_limit=_PRINTED_ELEMENTS)
    for found in _PRINTED.finditer(printed):
        try:
            _bytes_of(found[1] or "").decode("utf-8")
        except UnicodeDecodeError:
            around = printed[max(0, found.start() - _QUOTED_LETTERS) : found.end()].split("\n")[-1]
            message = f"holds a name or string that is not UTF-8: ...{around.strip()}"
            raise InvalidModel(message[: 4 * _QUOTED_LETTERS], source) from None


def _parse(data: bytes, source: str) -> Any:
    try:
        if data.startswith(_BYTECODE_MAGIC):
            return ir.Module.parse(data)
        operation = ir.Operation.parse(data.decode("utf-8"), source_name=source)
    except UnicodeDecodeError as error:
        raise InvalidModel("neither MLIR bytecode nor UTF-8 text", source) from error
    except ir.MLIRError as error:
        raise InvalidModel(*first_diagnostic(error, source)) from error
    except RuntimeError as error:  # a diagnostic that quotes bytes which are not text
        raise InvalidModel("malformed module", source) from error
    return _as_module(operation, source)


def _as_module(operation: Any, source: str) -> Any:
    """The parsed top-level op as `ir.Module`; a file may hold a single op that is not a module."""
    if operation.name != "builtin.module":
        module = ir.Module.create(ir.Location.file(source, 1, 1))
        module.body.append(operation)
        return module
    module = ir.Module.create(operation.location)
    for name in operation.attributes:
        module.operation.attributes[name] = operation.attributes[name]
    for child in list(operation.regions[0].blocks[0]):
        module.body.append(child)
    return module


def first_diagnostic(error: Any, source: str) -> tuple[str, str]:
    """(message, place) of the first diagnostic of an `MLIRError`."""
    diagnostics = getattr(error, "error_diagnostics", None)
    if not diagnostics:
        return str(error).strip().split("\n")[0] or "malformed module", source
    first = diagnostics[0]
    return first.message or "malformed module", place_of(first.location, source)


def place_of(location: Any, fallback: str = "") -> str:
    """`file:line:column` of a location, or its layer name, or `fallback`."""
    text = str(location)
    if text.startswith("loc(") and text not in _NOWHERE:
        return _ESCAPED.sub(_unescaped, text[4:-1].replace('"', ""))
    return fallback


def _unescaped(escaped: re.Match[str]) -> str:
    r"""The letters that MLIR prints as their bytes in UTF-8, `\C3\BC`."""
    return _bytes_of(escaped[0]).decode("utf-8", "replace")


def _bytes_of(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\", ""))


def read_module(path: Path) -> Any:
    """The module in the file `path`; raises `InvalidModel` with the reason."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidModel(error.strerror or str(error), str(path)) from error
    return parse_module(data, str(path))


def to_bytecode(module: Any) -> bytes:
    """The module as MLIR bytecode."""
    buffer = io.BytesIO()
    module.operation.write_bytecode(buffer)
    return buffer.getvalue()
