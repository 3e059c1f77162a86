"""Power-loss tests of a compiled image: the figures of `tiny-powertest`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.training_plan import require_seed
from tiny_targets.emulated_cuts import Sample, sweep_emulated_cuts
from tiny_targets.firmware import Image, load_image
from tiny_targets.power_sweep import empty_region, sweep_cuts, sweep_flips, wear_out
from tiny_targets.state_layout import blob_bytes
from tiny_targets.store_emulator import StoreEmulator
from tiny_targets.store_firmware import build_store_firmware, programming_of

Progress = Callable[[str], AbstractContextManager[None]]
_WEAR_SLOTS, _WEAR_COMMITS = 3, 200


def run_power_test(
    folder: Path, *, commits: int, stride: int, emulated_stride: int, seed: int, step: Progress
) -> dict[str, Any]:
    """Cut, flip and wear a store of what the image in `folder` learns; the fields of `--json`.

    The device trains on random images from `seed` and commits after each. Every `stride`th step and
    bit is tried on the host, every `emulated_stride`th step on the device. Raises `TinyError` for a
    folder without a training step, and where the store breaks a rule of the flash.
    """
    require_seed(seed)
    image = load_image(folder)
    if not image.schedule.state or "train_step" not in image.schedule.functions:
        raise InvalidOption("the image only infers, it has nothing to store", str(folder))
    programming, size = programming_of(image.board), blob_bytes(image.schedule)
    model_hash = image.schedule.model_hash
    region = empty_region(programming, size)
    with step("building the firmware with a store"):
        made = build_store_firmware(folder, region.page_count)
    with step("cutting the emulated device's power"):
        device = StoreEmulator(made, region.page_count)
        emulated, blobs = sweep_emulated_cuts(
            device, _samples(image, commits + 1, seed), stride=emulated_stride
        )
    with step("cutting the power of the same store on the host"):
        host = sweep_cuts(region, blobs, model_hash, stride=stride)
    with step("flipping bits of stored slots"):
        flips = sweep_flips(region, model_hash, size, stride)
    wear = wear_out(empty_region(programming, size, _WEAR_SLOTS), model_hash, size, _WEAR_COMMITS)
    parts = {"emulated": emulated, "host": host, "flips": flips, "wear": wear}
    return {
        "model": image.schedule.model,
        "board": image.board.name,
        "target": image.board.target.name,
        "state_bytes": size,
        "region_pages": region.page_count,
        "programming": asdict(programming),
        **{name: {**asdict(part), "passed": part.passed} for name, part in parts.items()},
        "passed": all(part.passed for part in parts.values()),
    }


def _samples(image: Image, count: int, seed: int) -> list[Sample]:
    function = image.schedule.functions["train_step"]
    rng = np.random.default_rng(seed)
    shape, classes = function.arguments[0].shape, function.results[1].shape[-1]
    if function.stream:
        shape = (shape[0], function.stream.rows, *shape[2:])
    return [
        (rng.integers(-128, 128, shape).astype(np.int8), int(rng.integers(classes)))
        for _ in range(count)
    ]
