"""Make `shifted.npz`, the domain the device meets, from `digits.npz`, the one it was trained for.

Pre-training saw bright ink on a black background. The device's camera sees dark ink on light paper,
with sensor noise: all that the network learned about edges has the wrong sign. The 600 samples to
adapt on and the 400 to measure on were not seen in pre-training.

    python examples/digits/domain.py            # rewrites examples/digits/shifted.npz
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
NOISE = 8.0
SEED = 2022


def shift(images: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """The images (uint8, any shape) as the device's camera sees them: inverted, with noise."""
    noise = generator.normal(0.0, NOISE, images.shape)
    return np.clip(np.rint(255 - images.astype(np.float64) + noise), 0, 255).astype(np.uint8)


def main() -> None:
    """Shift the samples set aside for adaptation and those of the test split."""
    generator = np.random.default_rng(SEED)
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as data:
        np.savez_compressed(
            FOLDER / "shifted.npz",
            attribution=data["attribution"],
            train_images=shift(data["adapt_images"], generator),
            train_labels=data["adapt_labels"],
            test_images=shift(data["test_images"], generator),
            test_labels=data["test_labels"],
        )


if __name__ == "__main__":
    main()
