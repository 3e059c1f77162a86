"""A float network as plain arrays and settings: what fine-tuning in full precision starts from.

It is kept in one `.npz` file, which a machine with NumPy and PyTorch alone can train from.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.npz_file import UnreadableArrays, read_npz
from tiny_pipelines.preprocessing import Preprocessing

Array = NDArray[Any]

_GRAPH, _VALUE = "graph", "value."


@dataclass(frozen=True)
class FloatOp:
    """One op: its kind is the op's name, values are numbers, settings are plain Python."""

    kind: str
    operands: tuple[int, ...]
    result: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class FloatParameter:
    """A weight or bias in real units, float32."""

    symbol: str
    value: NDArray[np.float32]
    trained: bool


@dataclass
class FloatNetwork:
    """The forward part of a training step; value 0 is the input, [1, height, width, channels].

    `preprocessing` makes the int8 form of that input from a sample; its scale and zero point make
    it real. `logits` is the value that the loss reads.
    """

    preprocessing: Preprocessing
    ops: list[FloatOp] = field(default_factory=list[FloatOp])
    parameters: dict[int, FloatParameter] = field(default_factory=dict[int, FloatParameter])
    logits: int = 0

    def write(self, path: Path) -> None:
        """Keep it in an `.npz` file."""
        parameters = {n: (one.symbol, one.trained) for n, one in self.parameters.items()}
        graph = {
            "preprocessing": asdict(self.preprocessing),
            "ops": [asdict(op) for op in self.ops],
            "parameters": parameters,
            "logits": self.logits,
        }
        values: dict[str, Any] = {f"{_VALUE}{n}": p.value for n, p in self.parameters.items()}
        values[_GRAPH] = np.frombuffer(json.dumps(graph).encode(), np.uint8)
        np.savez_compressed(path, **values)


def read_float_network(path: Path) -> FloatNetwork:
    """The network that `FloatNetwork.write` kept; raises `InvalidOption` naming the file."""
    try:
        return _network(read_npz(path))
    except OSError as error:
        raise InvalidOption(error.strerror or str(error), str(path)) from error
    except (UnreadableArrays, KeyError, TypeError, ValueError) as error:
        raise InvalidOption(f"holds no float network: {error}", str(path)) from error


def _network(arrays: dict[str, Array]) -> FloatNetwork:
    graph = json.loads(arrays[_GRAPH].tobytes())
    parameters = {
        int(n): FloatParameter(symbol, arrays[f"{_VALUE}{n}"], trained)
        for n, (symbol, trained) in graph["parameters"].items()
    }
    ops = [
        FloatOp(op["kind"], tuple(op["operands"]), op["result"], op["settings"])
        for op in graph["ops"]
    ]
    return FloatNetwork(Preprocessing(**graph["preprocessing"]), ops, parameters, graph["logits"])
