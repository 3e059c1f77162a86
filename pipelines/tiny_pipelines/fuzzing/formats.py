"""Every input format: valid files made in code, how they are damaged, and what reads them."""

import importlib
import importlib.util
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

import numpy as np

from tiny_pipelines.fuzzing import device_images, readers
from tiny_pipelines.fuzzing.exported_programs import damage_program, pt2_file
from tiny_pipelines.fuzzing.mutations import (
    Mutation,
    damage_bytes,
    damage_json,
    damage_text,
    damage_zip,
    unzipped,
    zipped,
)


@dataclass(frozen=True)
class Format:
    """A format that the compiler reads; what it holds can be sent to another process."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    damage: Mutation
    read: Callable[[bytes, Path], None]
    """Reads a file's bytes, with a folder of its own; returns or raises `TinyError`."""
    needs: str = ""
    """The package that reading it takes, where that is optional."""

    @property
    def available(self) -> bool:
        """False where an optional package is missing."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def damaged(chosen: Format, seeds: Sequence[bytes], seed: int, index: int) -> bytes:
    """Input `index` of a campaign: always the same for the same numbers."""
    rng = Random(f"{seed}/{chosen.name}/{index}")
    return chosen.damage(rng, rng.choice(seeds), seeds)


def _models(name: str) -> Sequence[bytes]:
    from tiny_pipelines.fuzzing import model_seeds

    return [getattr(model_seeds, name)()]


def _programs() -> Sequence[bytes]:
    """A `.pt2` file. PyTorch, where there is one, loads its libraries here, before the watch."""
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch").set_num_threads(1)
    return [pt2_file()]


def _modules(bytecode: bool) -> Sequence[bytes]:
    """A model and the training step made of it."""
    from tiny_dialect.dialect import new_context, to_bytecode
    from tiny_pipelines.fuzzing.model_seeds import tiny_module
    from tiny_pipelines.training import TrainingOptions, build_training_step

    files: list[bytes] = []
    for trained in (False, True):
        with new_context():
            module = tiny_module()
            if trained:
                build_training_step(module, TrainingOptions("bias-only"), until="sparse")
            files.append(to_bytecode(module) if bytecode else str(module).encode())
    return files


def _schemes() -> Sequence[bytes]:
    whole: dict[str, Any] = {"name": "full", "biases": "all", "weights": {"all": 1}}
    part: dict[str, Any] = {
        "name": "part",
        "model": "seed",
        "biases": 3,
        "weights": {"1": 0.25, "0": 1.0, "blocks.0.pointwise2": 0.5},
    }
    return [json.dumps(one, indent=1).encode() for one in (whole, part)]


def _boards() -> Sequence[bytes]:
    region = {"base": "0x20000000", "kib": 128}
    board: dict[str, Any] = {
        "name": "mine",
        "target": "cortex-m7",
        "description": "a board",
        "source": "its manual",
        "flash": {"base": "0x08000000", "kib": 1024},
        "constants": {"base": "0x00200000", "kib": 1024},
        "sram": [region, {"base": "0x10000000", "kib": 64}],
        "programming": {
            "page_bytes": 2048, "program_bytes": 8, "erased": "0xFF", "endurance": 10000,
        },
    }  # fmt: skip
    return [json.dumps(one, indent=1).encode() for one in (board, {"boards": [board]}, [board])]


def _arrays(**arrays: Any) -> bytes:
    members: dict[str, bytes] = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        members[f"{name}.npy"] = buffer.getvalue()
    return zipped(members)


def _data_sets() -> Sequence[bytes]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 6, 5, 3)).astype(np.uint8)
    reals = rng.normal(size=(4, 9, 7, 1)).astype(np.float32)
    labels = np.arange(5) % 3
    return [
        _arrays(images=images, labels=labels),
        _arrays(x_train=reals, y_train=labels[:4], x_test=reals[:2], y_test=labels[:2]),
    ]


def _images() -> Sequence[bytes]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (8, 7, 3)).astype(np.uint8)
    found: list[bytes] = []
    for kind in ("PNG", "BMP", "GIF", "JPEG", "PPM", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        found.append(buffer.getvalue())
    return found


def _checkpoints() -> Sequence[bytes]:
    text = json.dumps({"run": readers.RUN, "record": readers.RECORD})
    state = {f"state/{name}": value for name, value in readers.STATE.items()}
    return [_arrays(record=np.array(text), losses=np.linspace(2, 1, 4), **state)]


def _damage_checkpoint(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """As any zip, or in the values of its JSON record."""
    if rng.random() < 0.5:
        return damage_zip(rng, data, others)
    members = unzipped(data)
    text = str(np.load(io.BytesIO(members["record.npy"])))
    changed = damage_json(rng, text.encode(), [text.encode()]).decode("utf-8", "replace")
    buffer = io.BytesIO()
    np.save(buffer, np.array(changed))
    return zipped({**members, "record.npy": buffer.getvalue()})


def _blobs() -> Sequence[bytes]:
    from tiny_targets.state_layout import encode_state

    return [encode_state(readers.schedule(), readers.STATE)]


def _damage_blob(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Any damage; half of it under a checksum that is right."""
    changed = damage_bytes(rng, data, others)
    if rng.random() < 0.5 or len(changed) < readers.BLOB_HEAD + 4:
        return changed
    head, content = changed[: readers.BLOB_HEAD], changed[readers.BLOB_HEAD + 4 :]
    return head + struct.pack("<I", zlib.crc32(head + content)) + content


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        one.name: one
        for one in (
            Format("tflite", partial(_models, "tflite_file"), damage_bytes, readers.model),
            Format("onnx", partial(_models, "onnx_file"), damage_bytes, readers.model, "onnx"),
            Format("pickle", partial(_models, "mcunet_file"), damage_zip, readers.model),
            Format("pt2", _programs, damage_program, readers.program),
            Format("mlir", partial(_modules, False), damage_text, readers.module),
            Format("bytecode", partial(_modules, True), damage_bytes, readers.module),
            Format("scheme", _schemes, damage_json, readers.scheme),
            Format("board", _boards, damage_json, readers.board),
            Format("npz", _data_sets, damage_zip, readers.data_set),
            Format("images", _images, damage_bytes, readers.image_folder, "PIL"),
            Format("checkpoint", _checkpoints, _damage_checkpoint, readers.checkpoint),
            Format("blob", _blobs, _damage_blob, readers.blob),
            Format("manifest", device_images.manifests, damage_json, device_images.manifest),
            Format("elf", device_images.programs, damage_bytes, device_images.program),
        )
    }
)
