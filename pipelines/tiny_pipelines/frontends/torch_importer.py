"""Importer of float PyTorch networks: exported, calibrated, quantized to int8 layer by layer.

A `.pt2` file or a live module becomes a `TorchGraph`; ranges come from evaluating it on the
calibration set. Then one walk makes layers: batch norms and constants that scale or shift fold into
the layer in front, in float64; ReLU, clamps and views wait there too. A layer is quantized when
something reads its result, with the range of the last node that was fused into it.
"""

from typing import Any

from numpy.typing import NDArray

from tiny_pipelines.frontends.calibration import fitted_samples, observe_ranges
from tiny_pipelines.frontends.layers import Network
from tiny_pipelines.frontends.torch_affine import RULES, VIEWS
from tiny_pipelines.frontends.torch_graph import TorchGraph, checked, out_of_place, require_torch
from tiny_pipelines.frontends.torch_reader import Reader


def read_network(data: bytes, name: str, source: str, samples: NDArray[Any]) -> Network:
    """The quantized network in the bytes of a `.pt2` file; `samples` [N, ...] calibrate it.

    Raises `InvalidModel` naming the node and the reason, `InvalidData` for unfit samples.
    """
    require_torch(source)
    from tiny_pipelines.frontends.pt2_file import read_graph

    return quantized_network(read_graph(data, source), name, samples)


def quantized_network(graph: TorchGraph, name: str, samples: NDArray[Any]) -> Network:
    """The layer records of a graph, quantized for the range of `samples` [N, ...]."""
    shape = graph.input_shape
    if not 2 <= len(shape) <= 4 or shape[0] != 1 or min(shape) < 1:
        graph.fail(
            f"takes an input of shape {list(shape)}; expected [1, C], [1, C, L] or [1, C, H, W], "
            "all fixed but for the batch"
        )
    instead = f"supported are {', '.join(supported_operators())}"
    whole = out_of_place(checked(graph, RULES.keys(), instead), VIEWS)
    ranges = observe_ranges(whole, fitted_samples(samples, shape, graph.source))
    return Reader(whole, ranges, RULES).network(name)


def supported_operators() -> tuple[str, ...]:
    """The aten operators that are imported, by name without overload; those in place too."""
    return tuple(sorted(RULES))
