"""Importers: a model file of any supported format becomes a module at the `model` stage.

An importer reads bytes into the records of `layers`; `emitter` makes IR of those. To add a format,
tell it by content in `format_of` and name its reader in `_READERS`.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidModel, InvalidOption

SUPPORTED = (
    "MCUNet .pkl (a zip with data.pkl), int8 TFLite, QDQ ONNX, PyTorch .pt2, MLIR bytecode, "
    "MLIR text"
)

_ZIP_MAGIC = b"PK"
_BYTECODE_MAGIC = b"ML\xefR"
_TFLITE_IDENTIFIER = b"TFL3"
# Protobuf has no magic: field 1 of a model, its IR version as one byte, then one of fields 2 to 8
# or 14 (producer, domain, version, text, graph, operator sets) as the next.
_ONNX_FIRST = 0x08
_ONNX_NEXT = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72)

_FLOAT_FORMAT = "pt2"
"""The format that is quantized here, by a calibration set: `torch_importer`."""

_READERS = {
    "mcunet": "tiny_pipelines.frontends.mcunet_pickle",
    "tflite": "tiny_pipelines.frontends.tflite_importer",
    "onnx": "tiny_pipelines.frontends.onnx_importer",
}
"""By format, the module whose `read_network(data, name, source)` gives the layer records."""


def supported_operators() -> dict[str, tuple[str, ...]]:
    """By format, the operators that its importer reads, from the tables that the importers use."""
    from tiny_pipelines.frontends import onnx_importer, tflite_importer, torch_importer

    return {
        "TFLite": tflite_importer.supported_operators(),
        "ONNX": onnx_importer.supported_operators(),
        "PyTorch": torch_importer.supported_operators(),
    }


def import_model(
    path: Path, classes: int | None = None, seed: int = 0, calibration: Path | None = None
) -> Any:
    """The verified model in the file `path`, built in the current MLIR context.

    The format is told by content. With `classes`, the classifier is replaced by a fresh float32
    head drawn from `seed`. A float model (PyTorch .pt2) is quantized for the samples in the file
    `calibration`. Raises `InvalidModel` or `InvalidOption` with the place and the reason.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidModel(error.strerror or str(error), str(path)) from error
    return import_bytes(data, str(path), classes, seed, calibration)


def import_bytes(
    data: bytes,
    source: str,
    classes: int | None = None,
    seed: int = 0,
    calibration: Path | None = None,
) -> Any:
    """`import_model` for contents already read; `source` names them in errors and locations."""
    from tiny_dialect.dialect import parse_module
    from tiny_pipelines.frontends.emitter import emit

    name = Path(source).stem
    found = format_of(data, source)
    if found == _FLOAT_FORMAT:
        module = emit(_quantized(data, name, source, calibration))
    elif calibration is not None:
        raise InvalidOption("only a PyTorch .pt2 model takes --calibrate", source)
    elif found in _READERS:
        module = emit(import_module(_READERS[found]).read_network(data, name, source))
    else:
        module = parse_module(data, source)
    return _with_head(module, name, source, classes, seed)


def import_torch(
    model: Any, calibration: Any, name: str = "model", classes: int | None = None, seed: int = 0
) -> Any:
    """The verified model of a live PyTorch module, built in the current MLIR context.

    `model` is an `nn.Module`, exported in evaluation mode, or an `ExportedProgram`; `calibration`
    is a float array [N, ...] of what the module takes, in its order of axes. Operators, errors,
    `classes` and `seed` are those of `import_model`.
    """
    from tiny_pipelines.frontends.calibration import checked_samples
    from tiny_pipelines.frontends.emitter import emit
    from tiny_pipelines.frontends.torch_export import exported_graph
    from tiny_pipelines.frontends.torch_importer import quantized_network

    samples = checked_samples(calibration, name)
    graph = exported_graph(model, samples[0], name)
    return _with_head(emit(quantized_network(graph, name, samples)), name, name, classes, seed)


def _quantized(data: bytes, name: str, source: str, calibration: Path | None) -> Any:
    """The layer records of a float model."""
    from tiny_pipelines.frontends.calibration import load_samples
    from tiny_pipelines.frontends.torch_importer import read_network

    if calibration is None:
        raise InvalidOption(
            "a float model is quantized for samples of its input: "
            "tiny-import MODEL --calibrate SET.npz -o MODEL.mlirbc",
            source,
        )
    return read_network(data, name, source, load_samples(calibration))


def _with_head(module: Any, name: str, source: str, classes: int | None, seed: int) -> Any:
    """The module, checked; with a fresh head for `classes` unless that is None."""
    from tiny_pipelines.frontends.head import replace_head
    from tiny_pipelines.frontends.inference import check_model

    check_model(module, name, source)
    if classes is not None:
        replace_head(module, classes, seed)
        check_model(module, name, source)
    return module


def format_of(data: bytes, source: str) -> str:
    """The format, told by content; raises `InvalidModel` for one that is unknown.

    `mcunet`, `pt2`, `tflite`, `onnx`, `bytecode` or `text`.
    """
    if data.startswith(_ZIP_MAGIC):
        from tiny_pipelines.frontends.pt2_file import is_pt2

        return _FLOAT_FORMAT if is_pt2(data) else "mcunet"
    if data[4:8] == _TFLITE_IDENTIFIER:
        return "tflite"
    if len(data) > 2 and data[0] == _ONNX_FIRST and data[1] < 0x80 and data[2] in _ONNX_NEXT:
        return "onnx"
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
