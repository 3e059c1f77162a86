"""Reads a `.pt2` file, as `torch.export.save` writes it, into a `TorchGraph`.

The archive is a zip with the graph as JSON and each weight as raw bytes. Both are read here, not by
`torch.export.load`, which unpickles without restriction. Pickled parts are never opened: sample
inputs are not needed, and a weight that is pickled is refused.
"""

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidModel
from tiny_pipelines.frontends.torch_graph import (
    ATEN,
    Ref,
    TorchGraph,
    TorchNode,
    is_name,
    module_path,
    output_objection,
    shown,
    user_line,
)

_FORMAT = "archive_format"
_FORMAT_VALUE = b"pt2"
_EARLIER = "serialized_exported_program.json"
_UNPACKED_BYTES, _UNPACKED_RATIO, _MAX_BYTES = 2**26, 64, 2**30
_JSON_BYTES = 2**24
_TARGET = "torch.ops.aten."
_DTYPES = {4: np.int32, 5: np.int64, 6: np.float16, 7: np.float32, 8: np.float64, 12: np.bool_}
_ADVICE = "save it again with torch.export.save of PyTorch 2.9 or later, or use import_torch"
_FILE_NAME = re.compile(r"[\w.-]{1,200}")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# All that zipfile raises for an archive that is cut or corrupt.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
_PLAIN = ("as_int", "as_float", "as_bool", "as_string", "as_ints", "as_floats", "as_bools")
# Of these the operators that are read have one choice that fits, their default.
_IGNORED = {"as_device", "as_layout", "as_memory_format", "as_scalar_type"}


def is_pt2(data: bytes) -> bool:
    """True for a zip that is an exported program, of this or an earlier layout."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except _DAMAGED:
        return False
    return any(name.split("/")[-1] in (_FORMAT, _EARLIER) for name in names)


def read_graph(data: bytes, source: str) -> TorchGraph:
    """The graph in the bytes of a `.pt2` file; `InvalidModel` for what is damaged or not safe."""
    return _Archive(data, source).graph()


class _Archive:
    """One file being read; `fail` names it."""

    def __init__(self, data: bytes, source: str) -> None:
        self.source = source
        self._left = min(_MAX_BYTES, max(_UNPACKED_BYTES, _UNPACKED_RATIO * len(data)))
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            names = self._zip.namelist()
        except _DAMAGED as error:
            raise InvalidModel("damaged .pt2 file: not a readable zip", source) from error
        found = [name for name in names if name.split("/")[-1] == _FORMAT]
        if len(found) != 1:
            self.fail(f"has the .pt2 layout of an earlier PyTorch, which pickles; {_ADVICE}")
        self._root = found[0].removesuffix(_FORMAT)
        if self._bytes(_FORMAT) != _FORMAT_VALUE:
            self.fail("is not a .pt2 archive of an exported program")
        if self._bytes("byteorder").strip() != b"little":
            self.fail("was written on a big-endian machine, which is not supported")
        self.names = [name.removeprefix(self._root) for name in names]

    def fail(self, message: str) -> NoReturn:
        raise InvalidModel(shown(message), self.source)

    def _bytes(self, name: str) -> bytes:
        """The contents of one entry, within the budget of the whole file."""
        try:
            entry = self._zip.getinfo(self._root + name)
            if entry.compress_type not in _METHODS:
                self.fail(f"{name} is neither stored nor deflated")
            self._spend(entry.file_size, name)
            return self._zip.read(entry)
        except KeyError as error:
            raise InvalidModel(f"damaged .pt2 file: it has no {name}", self.source) from error
        except _DAMAGED as error:
            raise InvalidModel(f"damaged .pt2 file: {name} is unreadable", self.source) from error

    def _spend(self, size: int, name: str) -> None:
        """Take `size` bytes of memory from the budget of the whole file."""
        if not 0 <= size <= self._left:
            self.fail(f"{name} takes more than the {self._left} bytes left of the file's limit")
        self._left -= size

    def _json(self, name: str) -> Any:
        data = self._bytes(name)
        if len(data) > _JSON_BYTES:
            self.fail(f"{name} has {len(data)} bytes; at most {_JSON_BYTES} are read")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InvalidModel(f"damaged .pt2 file: {name} is no JSON", self.source) from error

    def graph(self) -> TorchGraph:
        """The only model in the archive."""
        models = [name for name in self.names if _is_model(name)]
        if len(models) != 1:
            self.fail(f"holds {len(models)} exported programs; expected one")
        model = models[0].removeprefix("models/").removesuffix(".json")
        try:
            return self._graph(self._json(models[0])["graph_module"], model)
        except _MALFORMED as error:
            reason = f"{type(error).__name__} {error}".split("\n")[0][:80]
            raise InvalidModel(f"damaged .pt2 file: {models[0]}: {reason}", self.source) from error

    def _graph(self, module: Mapping[str, Any], model: str) -> TorchGraph:
        stored: dict[str, NDArray[Any]] = {}
        for kind in ("weights", "constants"):
            config = f"data/{kind}/model_{kind}_config.json"
            own = f"data/{kind}/{model}_{kind}_config.json"
            if not {config, own} & set(self.names):
                self.fail(f"has no {own}: an earlier PyTorch pickled its {kind}; {_ADVICE}")
            entries = self._json(own if own in self.names else config)["config"]
            stored |= self._tensors(kind, entries)
        constants, inputs = self._inputs(module["signature"]["input_specs"], stored)
        graph = module["graph"]
        (name,) = inputs
        return TorchGraph(
            self.source,
            name,
            _sample_shape(graph["tensor_values"][name]),
            constants,
            tuple(self._node(node) for node in graph["nodes"]),
            self._output(module["signature"]["output_specs"]),
        )

    def _tensors(self, kind: str, entries: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        tensors: dict[str, NDArray[Any]] = {}
        for name, entry in entries.items():
            shown, path = repr(name)[:80], entry["path_name"]
            if entry["use_pickle"]:
                self.fail(f"pickles {shown}, and unpickling may execute anything; {_ADVICE}")
            if not isinstance(path, str) or not _FILE_NAME.fullmatch(path):
                self.fail(f"damaged .pt2 file: {shown} is in no file of a name that may be")
            data = self._bytes(f"data/{kind}/{path}")
            meta = entry["tensor_meta"]
            # Strides of 0 make a large tensor of few bytes.
            elements = math.prod(int(size["as_int"]) for size in meta["sizes"])
            self._spend(8 * abs(elements), f"tensor {shown}")
            tensors[name] = _tensor(data, meta)
        return tensors

    def _inputs(
        self, specs: Any, stored: Mapping[str, NDArray[Any]]
    ) -> tuple[dict[str, NDArray[Any]], list[str]]:
        """(constants by the name in the graph, names of the user's inputs)."""
        constants: dict[str, NDArray[Any]] = {}
        inputs: list[str] = []
        for spec in specs:
            ((kind, entry),) = spec.items()
            if kind == "user_input":
                inputs.append(self._name(entry["arg"]["as_tensor"]["name"]))
            elif kind in ("parameter", "buffer", "tensor_constant"):
                name = self._name(entry["arg"]["name"])
                constants[name] = stored[entry[f"{kind}_name"]]
            else:
                self.fail(f"has an input of kind {kind}, which is not supported")
        if len(inputs) != 1:
            self.fail(f"has {len(inputs)} inputs; expected one")
        return constants, inputs

    def _output(self, specs: Any) -> str:
        objection = output_objection([str(kind) for spec in specs for kind in spec])
        if objection:
            self.fail(objection)
        return self._name(specs[0]["user_output"]["arg"]["as_tensor"]["name"])

    def _name(self, text: Any) -> str:
        if not is_name(text):
            self.fail("damaged .pt2 file: it names a value by something other than an identifier")
        return text

    def _node(self, entry: Mapping[str, Any]) -> TorchNode:
        metadata = entry["metadata"]
        stack = [part.split(",") for part in metadata.get("nn_module_stack", "").split(";")]
        paths = [(parts[1], parts[-1]) for parts in stack if len(parts) >= 3]
        outputs, target = entry["outputs"], str(entry["target"])
        ((kind, output),) = outputs[0].items() if outputs else (("as_none", True),)
        named = isinstance(output, dict)
        name = output.get("name") or output.get("as_name") if named else entry.get("name")
        single = len(outputs) == 1 and kind in ("as_tensor", "as_sym_int")
        if single and target.startswith(_TARGET):
            target = ATEN + target.removeprefix(_TARGET)
        return TorchNode(
            self._name(name or f"node_{len(outputs)}"),
            target,
            {
                str(given["name"]): self._argument(given["arg"])
                for given in entry["inputs"]
                if not given["arg"].keys() & _IGNORED
            },
            module_path(paths),
            user_line(str(metadata.get("stack_trace", ""))),
        )

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind in ("as_tensor", "as_sym_int"):
            return self._number(value) if kind == "as_sym_int" else Ref(self._name(value["name"]))
        if kind == "as_sym_ints":
            return [self._number(item) for item in value]
        if kind == "as_none":
            return None
        if kind not in _PLAIN:
            return Ref(f"unsupported_{kind}")
        return value

    def _number(self, value: Mapping[str, Any]) -> Any:
        ((kind, number),) = value.items()
        return int(number) if kind == "as_int" else Ref(self._name(number))


def _is_model(name: str) -> bool:
    inner = name.removeprefix("models/")
    return inner != name and name.endswith(".json") and _FILE_NAME.fullmatch(inner) is not None


def _sample_shape(meta: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of the input; a first size that is not fixed, the batch, is 1."""
    sizes = [size.get("as_int") for size in meta["sizes"]]
    if sizes and sizes[0] is None:
        sizes[0] = 1
    return tuple(0 if size is None else int(size) for size in sizes)


def _tensor(data: bytes, meta: Mapping[str, Any]) -> NDArray[Any]:
    """The tensor that lies in `data` with the sizes, strides and offset of `meta`, checked."""
    dtype = np.dtype(_DTYPES[meta["dtype"]])
    shape, strides = ([int(n["as_int"]) for n in meta[key]] for key in ("sizes", "strides"))
    offset = int(meta["storage_offset"]["as_int"])
    if len(shape) != len(strides) or min([*shape, *strides, offset, 0]) < 0:
        raise ValueError("negative size, stride or offset")
    if len(shape) > 8:
        raise ValueError("too many axes")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    whole = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
    if math.prod(shape) and last >= whole.size:
        raise ValueError("a tensor reaches beyond its bytes")
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    bytes_apart = [step * dtype.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(whole[offset:], shape, bytes_apart).copy()
