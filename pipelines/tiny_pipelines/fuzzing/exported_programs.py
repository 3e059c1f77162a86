"""A small valid `.pt2` file made in code, without PyTorch, and damage to its parts.

Each file holds a pickle that would run a command, where PyTorch keeps sample inputs: nothing may
ever open it.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from random import Random
from subprocess import call
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_pipelines.fuzzing.mutations import (
    damage_bytes,
    damage_json,
    damage_zip,
    unzipped,
    zipped,
)

Array = NDArray[Any]

SAMPLE_SHAPE = (3, 7, 5)
"""Of one input, channels first."""
_ROOT = "seed/"
_MODEL = f"{_ROOT}models/model.json"
_WEIGHTS = f"{_ROOT}data/weights/"
_WEIGHTS_CONFIG = f"{_WEIGHTS}model_weights_config.json"
_FLOAT32 = 7


class _Hostile:
    """Unpickled, it runs a command."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return call, ("true",)


def pt2_file() -> bytes:
    """Convolution, batch norm, ReLU in place, pool, residual, flatten, linear: [1, 3, 7, 5] → 3."""
    constants = _constants()
    program = _Program(constants)
    y = program.node(
        "convolve", "conv2d.default", input="x", weight="p_w", bias="p_b", padding=[1, 1]
    )
    y = program.node(
        "norm", "batch_norm.default", input=y, weight="p_g", bias="p_h", running_mean="b_m",
        running_var="b_v", training=False, momentum=0.1, eps=1e-5, cudnn_enabled=False,
    )  # fmt: skip
    y = program.node("", "relu_.default", self=y)
    y = program.node("", "max_pool2d.default", self=y, kernel_size=[2, 2], stride=[2, 2])
    z = program.node("mix", "conv2d.default", input=y, weight="p_u")
    y = program.node("", "add.Tensor", self=y, other=z)
    y = program.node("", "flatten.using_ints", self=y, start_dim=1)
    y = program.node("classify", "linear.default", input=y, weight="p_f", bias="p_c")
    members = {
        _MODEL: json.dumps(program.model(y)).encode(),
        _WEIGHTS_CONFIG: json.dumps({"config": _config(constants)}).encode(),
        f"{_ROOT}data/constants/model_constants_config.json": b'{"config": {}}',
        f"{_ROOT}data/sample_inputs/model.pt": pickle.dumps(_Hostile(), protocol=4),
        f"{_ROOT}archive_format": b"pt2",
        f"{_ROOT}byteorder": b"little",
    }
    weights = {f"{_WEIGHTS}{name}": array.tobytes() for name, array in constants.items()}
    return zipped({**members, **weights})


def damage_program(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Damage to the graph, to the table or the bytes of weights; or a weight that is pickled."""
    kind = rng.random()
    if kind < 0.3:
        return damage_zip(rng, data, others)
    members = unzipped(data)
    if kind < 0.4:
        return _with_pickle(rng, members)
    if kind < 0.9:
        name = rng.choice((_MODEL, _MODEL, _WEIGHTS_CONFIG))
        members[name] = damage_json(rng, members[name], [members[name]])
    else:
        name = rng.choice([name for name in members if "weights/p_" in name])
        members[name] = damage_bytes(rng, members[name], list(members.values()))
    return zipped(members)


def _with_pickle(rng: Random, members: dict[str, bytes]) -> bytes:
    """One weight replaced by a pickle that would run a command; mostly declared as one."""
    config = json.loads(members[_WEIGHTS_CONFIG])
    chosen = rng.choice(list(config["config"].values()))
    chosen["use_pickle"] = rng.random() < 0.8
    members[_WEIGHTS + chosen["path_name"]] = pickle.dumps(_Hostile(), rng.choice((0, 2, 4)))
    members[_WEIGHTS_CONFIG] = json.dumps(config).encode()
    return zipped(members)


def _constants() -> dict[str, Array]:
    """Parameters and buffers by their names in the graph."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return rng.normal(0, 0.5, shape).astype(np.float32)

    return {
        "p_w": normal(5, 3, 3, 3),
        "p_b": normal(5),
        "p_g": 1 + normal(5),
        "p_h": normal(5),
        "b_m": normal(5),
        "b_v": 1 + normal(5) ** 2,
        "p_u": normal(5, 5, 1, 1),
        "p_f": normal(3, 30),
        "p_c": normal(3),
    }


class _Program:
    """A graph under construction, in the schema of `torch.export.save`."""

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self._constants = constants
        self._nodes: list[dict[str, Any]] = []

    def node(self, layer: str, operator: str, /, **arguments: Any) -> str:
        """Append a call; text names a value. The name of its result."""
        name = f"node_{len(self._nodes)}"
        stack = "L__self__,,seed.Network"
        stack += f";L__self__{layer},{layer},torch.nn.modules.seed.Layer" if layer else ""
        given = [{"name": k, "arg": _argument(v), "kind": 1} for k, v in arguments.items()]
        self._nodes.append(
            {
                "target": f"torch.ops.aten.{operator}",
                "inputs": given,
                "outputs": [{"as_tensor": {"name": name}}],
                "metadata": {
                    "stack_trace": f'File "/seed/network.py", line {len(self._nodes)}, in forward',
                    "nn_module_stack": stack,
                },
                "name": name,
            }
        )
        return name

    def model(self, output: str) -> dict[str, Any]:
        """The contents of the graph's file."""
        values = {name: _meta(array.shape) for name, array in self._constants.items()}
        specs = [_input_spec(name) for name in self._constants]
        given, result = ({"as_tensor": {"name": name}} for name in ("x", output))
        return {
            "graph_module": {
                "graph": {
                    "inputs": [{"as_tensor": {"name": name}} for name in (*self._constants, "x")],
                    "outputs": [result],
                    "nodes": self._nodes,
                    "tensor_values": {**values, "x": _meta((1, *SAMPLE_SHAPE))},
                },
                "signature": {
                    "input_specs": [*specs, {"user_input": {"arg": given}}],
                    "output_specs": [{"user_output": {"arg": result}}],
                },
            },
            "schema_version": {"major": 8, "minor": 15},
        }


def _argument(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"as_tensor": {"name": value}}
    kinds = {bool: "as_bool", int: "as_int", float: "as_float", list: "as_ints"}
    return {kinds[type(value)]: value}


def _input_spec(name: str) -> dict[str, Any]:
    kind = "parameter" if name.startswith("p_") else "buffer"
    return {kind: {"arg": {"name": name}, f"{kind}_name": name}}


def _meta(shape: Sequence[int]) -> dict[str, Any]:
    """The description of a contiguous float32 tensor."""
    steps = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return {
        "dtype": _FLOAT32,
        "sizes": [{"as_int": int(n)} for n in shape],
        "strides": [{"as_int": n} for n in steps],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


def _config(constants: Mapping[str, Array]) -> dict[str, Any]:
    """The table of the files that hold the weights."""
    return {
        name: {
            "path_name": name,
            "is_param": name.startswith("p_"),
            "use_pickle": False,
            "tensor_meta": _meta(array.shape),
        }
        for name, array in constants.items()
    }
