"""Importer of the MCUNet int8 format: a zip whose `data.pkl` holds a network of residual blocks.

The pickle is a dict: `first_conv`, `blocks` (each `pointwise1`, `depthwise`, `pointwise2` and an
optional `residual`), an optional `feature_mix`, a global average pool that is implied, and
`classifier`. A convolution holds OIHW int8 weights, float weight scales, int32 biases, the scales
and zero points on both sides, and pads its input by `(kernel - 1) // 2` on every side. Whatever
else a file asks for (squeeze-excite, an activation that is not folded) is refused by name.
"""

import io
import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tiny_dialect.errors import InvalidModel
from tiny_dialect.ops.convolution import ConvGeometry
from tiny_pipelines.frontends.layers import (
    INPUT,
    AddLayer,
    ConvLayer,
    GlobalAveragePoolLayer,
    Layer,
    Network,
    Quantization,
)
from tiny_pipelines.frontends.restricted_pickle import (
    MAX_BYTES,
    PickledArray,
    describe,
    load_pickle,
)
from tiny_pipelines.frontends.values import as_float64

PREPROCESS = "int8 value = uint8 pixel - 128, RGB, NHWC"
_POOL = "avgpool"
_CONV_FIELDS = frozenset(
    {"in_channel", "in_shape", "out_channel", "out_shape", "kernel_size", "stride", "groups"}
    | {"depthwise", "act", "params"}
)
_NETWORK_FIELDS = frozenset({"first_conv", "blocks", "feature_mix", "classifier"})
_MAIN_BRANCH = ("pointwise1", "depthwise", "pointwise2")
_BLOCK_FIELDS = frozenset({*_MAIN_BRANCH, "residual"})
_SKIP_FIELDS = frozenset({"in_channel", "in_shape", "params"})

_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)

Size = tuple[int, int]


def read_network(data: bytes, name: str, source: str) -> Network:
    """The network in the bytes of a `.pkl` file; `InvalidModel` names the layer and the reason."""
    root = load_pickle(read_member(data, "data.pkl", source), source)
    if type(root) is not dict or "first_conv" not in root:
        raise InvalidModel("the pickle is not an MCUNet network: it has no first_conv", source)
    return _Reader(source).network(_Part(source, "", root), name)


def read_member(data: bytes, name: str, source: str) -> bytes:
    """The one file called `name` in a zip, at most `MAX_BYTES` long unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist() if info.filename.split("/")[-1] == name]
            if len(members) != 1:
                raise InvalidModel(
                    f"zip archive with {len(members)} files {name}; an MCUNet model has one", source
                )
            with archive.open(members[0]) as member:
                content = member.read(MAX_BYTES + 1)
    except _ZIP_ERRORS as error:
        raise InvalidModel(f"truncated or damaged zip archive: {error}", source) from error
    if len(content) > MAX_BYTES:
        raise InvalidModel(f"{name} unpacks to more than {MAX_BYTES} bytes", source)
    return content


@dataclass(frozen=True)
class _Part:
    """A dict of the file with typed access; errors name the file, the layer and the field."""

    source: str
    path: str
    fields: dict[str, Any]

    def fail(self, message: str) -> NoReturn:
        raise InvalidModel(message, f"{self.source}:{self.path}" if self.path else self.source)

    def get(self, key: str) -> Any:
        if key not in self.fields:
            self.fail(f"has no {key}")
        return self.fields[key]

    def part(self, key: str, path: str) -> "_Part":
        value = self.get(key)
        if type(value) is not dict:
            self.fail(f"expects {key} to be a dict, got {describe(value)}")
        return _Part(self.source, path, value)

    def optional(self, key: str, path: str) -> "_Part | None":
        return None if self.fields.get(key) is None else self.part(key, path)

    def only(self, known: frozenset[str]) -> None:
        """Refuse fields that would change the meaning of the network."""
        for key, value in self.fields.items():
            if key not in known and value is not None:
                self.fail(f"has {describe(key)}, which is not supported")

    def integer(self, key: str) -> int:
        value = self._scalar(key)
        if type(value) is not int:
            self.fail(f"expects {key} to be an integer, got {describe(value)}")
        return value

    def real(self, key: str) -> float:
        value = self._scalar(key)
        if type(value) not in (int, float):
            self.fail(f"expects {key} to be a number, got {describe(value)}")
        try:
            return float(value)
        except OverflowError:
            self.fail(f"expects {key} to be a number, got {describe(value)}")

    def _scalar(self, key: str) -> Any:
        value = self.get(key)
        if isinstance(value, PickledArray) and value.array is not None and value.array.size == 1:
            return value.array.item()
        return value

    def pair(self, key: str) -> Size:
        """`n`, meaning `(n, n)`, or two integers: height and width."""
        value = self.get(key)
        items = tuple(value) if type(value) in (tuple, list) else (value, value)
        if len(items) != 2 or any(type(item) is not int for item in items):
            self.fail(f"expects {key} to be one or two integers, got {describe(value)}")
        return items[0], items[1]

    def array(self, key: str) -> np.ndarray:
        value = self.get(key)
        if not isinstance(value, PickledArray) or value.array is None:
            self.fail(f"expects {key} to be an array, got {describe(value)}")
        return value.array

    def quantization(self, prefix: str) -> Quantization:
        return Quantization(self.real(f"{prefix}_scale"), self.integer(f"{prefix}_zero"))


class _Reader:
    """Layers in execution order, and the height and width of every value so far."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.layers: list[Layer] = []
        self.sizes: dict[str, Size] = {}
        self.last = INPUT

    def network(self, root: _Part, name: str) -> Network:
        root.only(_NETWORK_FIELDS)
        first = root.part("first_conv", "first_conv")
        height, width = self.sizes[INPUT] = first.pair("in_shape")
        channels = first.integer("in_channel")
        quantization = first.part("params", first.path).quantization("x")
        self.conv(first)
        self.blocks(root)
        mix = root.optional("feature_mix", "feature_mix")
        if mix is not None:
            self.conv(mix)
        self.add_layer(GlobalAveragePoolLayer(_POOL, (self.last,)), (1, 1))
        self.conv(root.part("classifier", "classifier"))
        shape = (1, height, width, channels)
        return Network(
            name,
            self.source,
            shape,
            quantization,
            tuple(self.layers),
            self.last,
            preprocess=PREPROCESS,
        )

    def blocks(self, root: _Part) -> None:
        blocks = root.get("blocks")
        if type(blocks) is not list:
            root.fail(f"expects blocks to be a list, got {describe(blocks)}")
        for index, fields in enumerate(blocks):
            path = f"blocks.{index}"
            if type(fields) is not dict:
                root.fail(f"expects {path} to be a dict, got {describe(fields)}")
            self.block(_Part(self.source, path, fields))

    def block(self, block: _Part) -> None:
        block.only(_BLOCK_FIELDS)
        entry, written = self.last, Quantization(0.0, 0)
        for key in _MAIN_BRANCH:
            part = block.optional(key, f"{block.path}.{key}")
            if part is not None:
                written = self.conv(part)
        skip = block.optional("residual", f"{block.path}.residual")
        if skip is not None:
            if self.last == entry:
                block.fail("has a residual around no layer")
            self.residual(skip, entry, written, f"{block.path}.add")

    def residual(self, skip: _Part, entry: str, written: Quantization, name: str) -> None:
        """Add the block's input, itself or behind a convolution, to the block's last output."""
        branch, params = self.last, skip.part("params", skip.path)
        if "kernel_size" in skip.fields:
            read, result = self.conv(skip, entry), params.quantization("out")
            entry = self.last
        else:
            skip.only(_SKIP_FIELDS)
            read, result = params.quantization("x"), params.quantization("y")
        self.add_layer(AddLayer(name, (entry, branch), (read, written), result), self.sizes[branch])

    def conv(self, part: _Part, entry: str | None = None) -> Quantization:
        """Append the convolution `part` of `entry` or the last value; its output quantization."""
        part.only(_CONV_FIELDS)
        if part.fields.get("act") is not None:
            part.fail(
                f"has activation {describe(part.fields['act'])}, which is not folded into its clamp"
            )
        entry = self.last if entry is None else entry
        params = part.part("params", part.path)
        kernel, strides = part.pair("kernel_size"), part.pair("stride")
        pad_height, pad_width = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
        layer = ConvLayer(
            name=part.path,
            inputs=(entry,),
            input_quantization=params.quantization("x"),
            weight=_weight(part, params, kernel),
            weight_scales=_scales(params),
            bias=_bias(params),
            output_quantization=params.quantization("y"),
            strides=strides,
            pads=(pad_height, pad_width, pad_height, pad_width),
            groups=part.integer("groups"),
        )
        self.add_layer(layer, self.output_size(part, layer))
        return layer.output_quantization

    def add_layer(self, layer: Layer, size: Size) -> None:
        self.layers.append(layer)
        self.sizes[layer.name] = size
        self.last = layer.name

    def output_size(self, part: _Part, layer: ConvLayer) -> Size:
        """Height and width of the output, which must be those that the file declares."""
        actual = self.sizes[layer.inputs[0]]
        if "in_shape" in part.fields and part.pair("in_shape") != actual:
            part.fail(f"declares in_shape {part.pair('in_shape')}, but its input is {actual}")
        if min(layer.strides) < 1:
            part.fail(f"has stride {layer.strides}; expected at least 1")
        geometry = ConvGeometry(layer.strides, layer.pads, layer.groups)
        _, height, width, _ = geometry.output_shape((1, *actual, 1), layer.weight.shape)
        if "out_shape" in part.fields and part.pair("out_shape") != (height, width):
            part.fail(
                f"declares out_shape {part.pair('out_shape')}, but computes {(height, width)}"
            )
        return height, width


def _weight(part: _Part, params: _Part, kernel: Size) -> np.ndarray:
    """The OIHW weights of the file as O·KH·KW·I."""
    weight = params.array("weight")
    if weight.dtype != np.int8 or weight.ndim != 4 or weight.size == 0:
        part.fail(f"expects non-empty int8 weights OIHW, got {weight.dtype} {list(weight.shape)}")
    groups = part.integer("groups")
    declared = (part.integer("out_channel"), part.integer("in_channel"), *kernel)
    actual = (weight.shape[0], weight.shape[1] * groups, *weight.shape[2:])
    if declared != actual:
        part.fail(
            f"declares weights {list(declared)}, but has {list(weight.shape)} in {groups} groups"
        )
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))


def _scales(params: _Part) -> np.ndarray:
    scales = params.array("w_scales")
    if scales.dtype.kind != "f":
        params.fail(f"expects floating-point w_scales, got {scales.dtype}")
    return as_float64(scales)


def _bias(params: _Part) -> np.ndarray:
    """The biases as int32; wider integers only where the values fit."""
    bias = params.array("bias")
    limits = np.iinfo(np.int32)
    if bias.dtype.kind not in "iu" or (
        bias.size and not limits.min <= int(bias.min()) <= int(bias.max()) <= limits.max
    ):
        params.fail(f"expects biases that fit int32, got {bias.dtype}")
    return bias.astype(np.int32)
