"""Static post-training quantization: ranges on a calibration set, then scales and integers.

Activations are asymmetric int8 over the range seen, which always holds zero. Weights are symmetric,
within ±127, a scale an output channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidModel
from tiny_pipelines.datasets import InvalidData, read_arrays
from tiny_pipelines.frontends.layers import Quantization
from tiny_pipelines.frontends.torch_graph import (
    TorchGraph,
    TorchNode,
    overload,
    require_torch,
    resolved,
    shown,
)

Array = NDArray[Any]
Range = tuple[float, float]

_SAMPLE_NAMES = ("calibration", "samples", "images", "x", "data", "train_images", "train_x")
_STEPS = 255
_SMALLEST_SPAN = 1e-9
_LARGEST_WEIGHT = 127
_BIAS_LIMIT = 2.0**29
_SMALLEST_FACTOR = 2.0**-31
_MAX_PAD = 1024


@dataclass(frozen=True)
class Channels:
    """int8 weights, their float64 scales and int32 biases, an output channel a scale and bias."""

    weight: NDArray[np.int8]
    scales: NDArray[np.float64]
    bias: NDArray[np.int32]


def load_samples(path: Path) -> Array:
    """The samples [N, ...] of a calibration set: the array of a known name, or the only float."""
    arrays = read_arrays(path)
    found = [name for name in _SAMPLE_NAMES if name in arrays]
    if not found:
        found = [name for name, array in arrays.items() if array.dtype.kind == "f"]
        if len(found) != 1:
            names = ", ".join(arrays) or "none"
            raise InvalidData(
                f"expected an array of samples called {', '.join(_SAMPLE_NAMES)}; it holds {names}",
                str(path),
            )
    return arrays[found[0]]


def checked_samples(samples: Any, source: str) -> Array:
    """The samples as an array [N, ...] of finite floats; `InvalidData` for anything else."""
    array = np.asarray(samples)
    if array.dtype.kind != "f":
        raise InvalidData(
            f"calibration samples are {array.dtype}; expected the float values that the module "
            "takes, after all preprocessing",
            source,
        )
    if array.ndim < 2 or array.size == 0:
        raise InvalidData(f"calibration samples have shape {list(array.shape)}", source)
    if not np.isfinite(array).all() or (np.abs(array) > np.finfo(np.float32).max).any():
        raise InvalidData("calibration samples are not all finite in float32", source)
    return array


def fitted_samples(samples: Array, shape: tuple[int, ...], source: str) -> NDArray[np.float32]:
    """The samples as float32 [N, *shape[1:]]: PyTorch's order of axes, or channels last.

    Axes of length 1 may be missing. Raises `InvalidData` for other shapes, and for what
    `checked_samples` refuses.
    """
    samples = checked_samples(samples, source)
    own = [n for n in samples.shape[1:] if n > 1]
    first = [n for n in shape[1:] if n > 1]
    last = [n for n in (*shape[2:], *shape[1:2]) if n > 1]
    if own == first:
        return samples.reshape(len(samples), *shape[1:]).astype(np.float32)
    if own == last:
        stored = samples.reshape(len(samples), *shape[2:], shape[1])
        return np.ascontiguousarray(np.moveaxis(stored, -1, 1).astype(np.float32))
    raise InvalidData(
        f"calibration samples have shape {list(samples.shape[1:])}; the model takes "
        f"{list(shape[1:])}",
        source,
    )


def observe_ranges(graph: TorchGraph, samples: NDArray[np.float32]) -> dict[str, Range]:
    """The lowest and highest value of each node and of the input over all samples, one by one.

    Raises `InvalidModel` at a node that cannot be evaluated or computes what is not finite.
    """
    torch = require_torch(graph.source)
    constants = {name: _to_torch(array) for name, array in graph.constants.items()}
    ranges: dict[str, Range] = {}
    with torch.no_grad():
        for sample in samples:
            values = dict(constants)
            values[graph.input_name] = torch.from_numpy(sample[None].copy())
            _widen(ranges, graph.input_name, values[graph.input_name])
            for node in graph.nodes:
                result = _evaluate(graph, node, values)
                values[node.name] = result
                if isinstance(result, torch.Tensor):
                    _widen(ranges, node.name, result)
                    if not np.isfinite(ranges[node.name]).all():
                        graph.fail("computes values that are not finite", node)
    return ranges


def evaluated_constant(graph: TorchGraph, node: TorchNode, values: Mapping[str, Any]) -> Array:
    """What a node computes from constants alone: arrays, and sizes, by name in `values`."""
    torch = require_torch(graph.source)
    given = {name: values[name] for name in node.operands()}
    tensors = {
        name: _to_torch(value) if isinstance(value, np.ndarray) else value
        for name, value in given.items()
    }
    with torch.no_grad():
        result = _evaluate(graph, node, tensors)
    if not isinstance(result, torch.Tensor):
        graph.fail("computes something other than a tensor from its constants", node)
    return result.contiguous().numpy()


def _to_torch(array: Array) -> Any:
    return require_torch().from_numpy(
        array.astype(np.float32) if array.dtype.kind == "f" else array
    )


def _widen(ranges: dict[str, Range], name: str, tensor: Any) -> None:
    low, high = (float(end) for end in tensor.aminmax())
    if name in ranges:
        low, high = min(low, ranges[name][0]), max(high, ranges[name][1])
    ranges[name] = low, high


def _evaluate(graph: TorchGraph, node: Any, values: Mapping[str, Any]) -> Any:
    """The result of one node by PyTorch's own operator."""
    function = overload(node.op)
    for name in ("pad", "padding"):
        amounts = node.arguments.get(name)
        if isinstance(amounts, list) and not all(_is_small(n) for n in amounts):
            graph.fail(f"pads by {amounts}; expected at most {_MAX_PAD}", node)
    positional, keywords = [], {}
    try:
        for argument in function._schema.arguments:
            value = resolved(node.arguments[argument.name], values)
            if argument.kwarg_only:
                keywords[argument.name] = value
            else:
                positional.append(value)
        return function(*positional, **keywords)
    except KeyError as error:
        graph.fail(f"reads {error.args[0]!r}, which nothing computes", node)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise InvalidModel(
            f"cannot be evaluated: {shown(reason)}", f"{graph.source}:{node.place}"
        ) from error


def _is_small(amount: Any) -> bool:
    return isinstance(amount, int) and abs(amount) <= _MAX_PAD


def activation_quantization(seen: Range) -> Quantization:
    """The int8 quantization of a range, widened to hold zero; its scale is a float32."""
    low, high = min(seen[0], 0.0), max(seen[1], 0.0)
    span = high - low
    if span < _SMALLEST_SPAN:
        # A value that is always zero: any scale holds it.
        span, low = 1.0, 0.0
    scale = float(np.float32(span / _STEPS))
    zero = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return Quantization(scale, zero)


def quantize_channels(
    weight: NDArray[np.float64], bias: NDArray[np.float64], x: Quantization, y: Quantization
) -> Channels:
    """Integers for `weight` [O, ...] and `bias` [O] of a layer that reads `x` and writes `y`.

    Scales are large enough for a bias of 30 bits, and for a factor that the integer arithmetic can
    hold: both matter for channels whose weights are almost zero only.
    """
    axes = tuple(range(1, weight.ndim))
    scales = np.abs(weight).max(axes) / _LARGEST_WEIGHT
    scales = np.maximum(scales, np.abs(bias) / (x.scale * _BIAS_LIMIT))
    scales = np.maximum(scales, y.scale / x.scale * _SMALLEST_FACTOR)
    column = scales.reshape(-1, *[1] * len(axes))
    integers = np.clip(np.rint(weight / column), -_LARGEST_WEIGHT, _LARGEST_WEIGHT)
    return Channels(
        integers.astype(np.int8), scales, np.rint(bias / (x.scale * scales)).astype(np.int32)
    )
