"""What outputs were made from and with, for their manifests: hashes and versions, no paths.

Equal inputs and tool versions give equal records.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

TOOLS = ("tiny-training-compiler", "iree-base-compiler", "torch-mlir", "numpy", "ziglang")
"""Distributions whose version may change an output."""


@dataclass(frozen=True)
class Origin:
    """What something was made from: hashes and options."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    """What it is → SHA-256 of its bytes."""
    options: Mapping[str, Any] = field(default_factory=dict)


def provenance(origin: Origin, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Inputs, options, tool versions, and the size and SHA-256 of every output, as JSON values."""
    return {
        "inputs": dict(origin.inputs),
        "options": dict(origin.options),
        "tools": {name: _version(name) for name in TOOLS},
        "outputs": {
            path: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(files.items())
        },
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
