"""Importers: a model file of any supported format becomes a module at the `model` stage."""

from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidModel

SUPPORTED = "MCUNet .pkl (a zip with data.pkl), MLIR bytecode, MLIR text"

_ZIP_MAGIC = b"PK"
_BYTECODE_MAGIC = b"ML\xefR"


def import_model(path: Path, classes: int | None = None, seed: int = 0) -> Any:
    """The verified model in the file `path`, built in the current MLIR context.

    The format is told by content. With `classes`, the classifier is replaced by a fresh float32
    head drawn from `seed`. Raises `InvalidModel` or `InvalidOption` with the place and the reason.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidModel(error.strerror or str(error), str(path)) from error
    return import_bytes(data, str(path), classes, seed)


def import_bytes(data: bytes, source: str, classes: int | None = None, seed: int = 0) -> Any:
    """`import_model` for contents already read; `source` names them in errors and locations."""
    from tiny_dialect.dialect import parse_module
    from tiny_pipelines.frontends.head import replace_head
    from tiny_pipelines.frontends.inference import check_model

    name = Path(source).stem
    if format_of(data, source) == "mcunet":
        from tiny_pipelines.frontends.emitter import emit
        from tiny_pipelines.frontends.mcunet_pickle import read_network

        module = emit(read_network(data, name, source))
    else:
        module = parse_module(data, source)
    check_model(module, name, source)
    if classes is not None:
        replace_head(module, classes, seed)
        check_model(module, name, source)
    return module


def format_of(data: bytes, source: str) -> str:
    """`mcunet`, `bytecode` or `text`, told by content; raises `InvalidModel` for anything else."""
    if data.startswith(_ZIP_MAGIC):
        return "mcunet"
    if data.startswith(_BYTECODE_MAGIC):
        return "bytecode"
    if not data.strip():
        raise InvalidModel("is empty", source)
    if b"\0" in data or not _is_utf8(data):
        start = data[:8].hex(" ")
        raise InvalidModel(
            f"unknown format, starts with bytes {start}; supported: {SUPPORTED}", source
        )
    return "text"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
