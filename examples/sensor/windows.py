"""Synthetic accelerometer windows: what a motion sensor sees of five activities, two mountings.

A window is 64 samples of 3 axes at 25 Hz (2.6 s), as an 8-bit accelerometer of ±4 g hands them out:
int8, 1/32 g a count, saturated. In the body's frame (forward, left, up) gravity is 1 g upwards, and

- `still`   breathing, a slow sway;
- `walk`    steps at 1.6 to 2.2 Hz with their harmonic, half that frequency sideways;
- `run`     steps at 2.4 to 3.2 Hz, impacts of 1 to 2 g;
- `shake`   3 to 6 Hz in any direction, 0.5 to 4.2 g, so that hard ones saturate;
- `turn`    the body leans over by 50 to 110 degrees within the window.

Frequencies, strengths and phases differ from window to window. A mounting turns the body's frame
into the sensor's, by a rotation that varies by a few degrees, scales it (sampling gain) and adds
noise. The network is trained for the `belt`; the device sits on an `arm`: other axes, a lower gain,
more noise.

    python examples/sensor/windows.py -o build/sensor     # writes belt.npz and arm.npz
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES = ("still", "walk", "run", "shake", "turn")
SAMPLES = 64
RATE_HZ = 25.0
COUNTS_A_G = 32
SEED = 2022
SPLITS = {"train": 600, "test": 300}

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Mounting:
    """How a sensor sits on the body.

    `angles` are roll, pitch and yaw in degrees, `wobble` the deviation of each from window to
    window, `gain` what it reads of 1 g, `noise` the deviation of a sample in g.
    """

    name: str
    angles: tuple[float, float, float]
    wobble: float
    gain: float
    noise: float


BELT = Mounting("belt", (0.0, 0.0, 0.0), wobble=6.0, gain=1.0, noise=0.03)
ARM = Mounting("arm", (80.0, -30.0, 140.0), wobble=12.0, gain=0.7, noise=0.06)
MOUNTINGS = (BELT, ARM)


def body_motion(kind: str, generator: np.random.Generator) -> Reals:
    """Acceleration [SAMPLES, 3] in g, in the body's frame."""
    t = np.arange(SAMPLES) / RATE_HZ
    up = np.array([0.0, 0.0, 1.0])
    if kind == "turn":
        return _leaning(t, generator)
    if kind == "shake":
        direction = generator.normal(size=3)
        direction /= np.linalg.norm(direction)
        wave = generator.uniform(0.5, 4.2) * _wave(t, generator.uniform(3.0, 6.0), generator)
        return up + wave[:, None] * direction
    if kind == "still":
        return up + 0.02 * np.stack([_wave(t, 0.3, generator) for _ in range(3)], axis=1)
    low, high, strength = (1.6, 2.2, 0.35) if kind == "walk" else (2.4, 3.2, 1.4)
    steps = generator.uniform(low, high)
    strength *= generator.uniform(0.7, 1.3)
    vertical = _wave(t, steps, generator) + 0.4 * _wave(t, 2 * steps, generator)
    forward = 0.5 * _wave(t, steps, generator)
    sideways = 0.4 * _wave(t, steps / 2, generator)
    return up + strength * np.stack([forward, sideways, vertical], axis=1)


def _wave(t: Reals, frequency: float, generator: np.random.Generator) -> Reals:
    return np.sin(2 * np.pi * (frequency * t + generator.uniform()))


def _leaning(t: Reals, generator: np.random.Generator) -> Reals:
    """Gravity while the body leans over, in a random direction; some swaying on top."""
    middle, seconds = generator.uniform(0.8, 1.7), generator.uniform(0.3, 0.8)
    angle = np.radians(generator.uniform(50, 110)) / (1 + np.exp(-(t - middle) / (0.25 * seconds)))
    heading = generator.uniform(0, 2 * np.pi)
    lean = np.sin(angle)[:, None] * np.array([np.cos(heading), np.sin(heading), 0.0])
    sway = 0.05 * np.stack([_wave(t, 1.0, generator) for _ in range(3)], axis=1)
    return lean + np.cos(angle)[:, None] * np.array([0.0, 0.0, 1.0]) + sway


def rotation(angles: Reals) -> Reals:
    """The matrix [3, 3] of roll, pitch and yaw in degrees: x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[second, first] = np.sin(angle)
        turn[first, second] = -turn[second, first]
        matrix = turn @ matrix
    return matrix


def window(kind: str, mounting: Mounting, generator: np.random.Generator) -> NDArray[np.int8]:
    """One window [SAMPLES, 3] as the sensor hands it out."""
    motion = body_motion(kind, generator)
    angles = np.array(mounting.angles) + generator.normal(0.0, mounting.wobble, 3)
    seen = mounting.gain * motion @ rotation(angles).T
    seen += generator.normal(0.0, mounting.noise, seen.shape)
    return np.clip(np.rint(seen * COUNTS_A_G), -128, 127).astype(np.int8)


def windows(
    mounting: Mounting, count: int, generator: np.random.Generator
) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """(windows [count, 1, SAMPLES, 3], labels [count]), the classes in a random order."""
    labels = generator.permutation(np.arange(count) % len(CLASSES)).astype(np.uint8)
    found = [window(CLASSES[label], mounting, generator) for label in labels]
    return np.stack(found)[:, None], labels


def write_data(folder: Path, mounting: Mounting, seed: int = SEED) -> Path:
    """Write the data set of a mounting to `folder`, made where it is missing; its file."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([seed, MOUNTINGS.index(mounting)])
    arrays: dict[str, NDArray[np.int8] | NDArray[np.uint8]] = {}
    for split, count in SPLITS.items():
        arrays[f"{split}_x"], arrays[f"{split}_y"] = windows(mounting, count, generator)
    path = folder / f"{mounting.name}.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def main() -> None:
    """Write the data set of each mounting."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("-o", "--output", type=Path, default=Path("build/sensor"), help="folder")
    chosen = options.parse_args()
    for mounting in MOUNTINGS:
        path = write_data(chosen.output, mounting)
        print(f"{path}: {SPLITS['train']} windows to learn from, {SPLITS['test']} to test")


if __name__ == "__main__":
    main()
