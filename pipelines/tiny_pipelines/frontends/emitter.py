"""Checked construction of the `model` stage from layer records; shared by all importers.

Every violation is an `InvalidModel` at `FILE:LAYER`, raised before the module is handed out.
"""

from pathlib import Path
from typing import Any

from tiny_dialect.bindings import ir
from tiny_pipelines.frontends import arithmetic_layers, between_layers
from tiny_pipelines.frontends.emission import Emission
from tiny_pipelines.frontends.layers import Network

_RULES = {**arithmetic_layers.RULES, **between_layers.RULES}


def emit(network: Network) -> Any:
    """The verified module with `@infer` for `network`, built in the current MLIR context.

    Raises `InvalidModel` naming the layer for any record that is inconsistent, out of range or
    not finite.
    """
    # The file's name alone, so that the same file gives the same bytes wherever it lies.
    with ir.Location.file(Path(network.source).name, 0, 0) as file:
        return Emission(network, file, _RULES).module()
