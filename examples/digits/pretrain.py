"""Pre-train the digits network, quantize it to int8 and write `digits.mlirbc` and `digits.npz`.

A residual depthwise-separable CNN on scikit-learn's handwritten digits (UCI ML, 1797 scans), then
static post-training quantization (`quantize.py`). The two files are part of the repository; this
script is how they were made:

    pip install -e '.[pretrain]' && python examples/digits/pretrain.py

Seeded and single-threaded: the same PyTorch gives the same files, another one an equal accuracy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from quantize import quantize
from tiny_dialect.dialect import new_context, to_bytecode
from tiny_dialect.semantics import run
from tiny_pipelines.datasets import Split, load_dataset, preprocessing_of, resize_bilinear
from tiny_pipelines.frontends.emitter import emit

FOLDER = Path(__file__).parent
SEED = 2022
EPOCHS = 120
BATCH = 64
PEAK_RATE = 8e-3
CLASSES = 10
SIZE = 16
ATTRIBUTION = (
    "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI ML, CC BY 4.0"
)
SPLITS = {"train": 797, "adapt": 600, "test": 400}


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless linear, ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.Identity() if linear else nn.ReLU6(),
        )


class InvertedBottleneck(nn.Module):
    """Expand, depthwise, project; a residual addition where the shape allows it."""

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvNorm(inputs, hidden, 1)
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvNorm(hidden, outputs, 1, linear=True)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW to NCHW."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class DigitsNet(nn.Module):
    """1·16·16 pixels to ten logits; about 155,000 multiply-accumulates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 12, 3, stride=2)
        self.blocks = nn.Sequential(
            InvertedBottleneck(12, 26, 12, kernel=3, stride=1),
            InvertedBottleneck(12, 30, 20, kernel=3, stride=2),
            InvertedBottleneck(20, 42, 20, kernel=5, stride=1),
        )
        self.features = ConvNorm(20, 36, 1)
        self.head = nn.Linear(36, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N·1·16·16 to N·10."""
        return self.head(self.features(self.blocks(self.stem(x))).mean((2, 3)))


def write_data(path: Path) -> None:
    """Shuffle and split the scans once, and store them as 8x8 pixels of 0 to 255."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    arrays: dict[str, Any] = {}
    for split, samples in SPLITS.items():
        chosen, order = order[:samples], order[samples:]
        arrays[f"{split}_images"] = pixels[chosen]
        arrays[f"{split}_labels"] = digits.target[chosen].astype(np.uint8)
    np.savez_compressed(path, attribution=np.array(ATTRIBUTION), **arrays)


def as_tensors(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """(images N·1·16·16 in the network's real units, labels N)."""
    pixels = np.stack([resize_bilinear(image[..., None], SIZE, SIZE) for image in split.samples])
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    return (images - 128) / 127.5, torch.from_numpy(split.labels)


def augmented(x: torch.Tensor) -> torch.Tensor:
    """A small random rotation, scaling and translation of each image."""
    angle = (torch.rand(len(x)) - 0.5) * 0.5
    scale = 1 + (torch.rand(len(x)) - 0.5) * 0.3
    offset = (torch.rand(len(x), 2) - 0.5) * 0.3
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    top = torch.stack([cosine, -sine, offset[:, 0]], 1)
    bottom = torch.stack([sine, cosine, offset[:, 1]], 1)
    grid = functional.affine_grid(torch.stack([top, bottom], 1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train(network: DigitsNet, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Adam with a one-cycle rate; the network is left in evaluation mode."""
    steps = len(images) // BATCH
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=EPOCHS * steps)
    network.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for chosen in order[: steps * BATCH].split(BATCH):
            loss = functional.cross_entropy(network(augmented(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def accuracy(network: DigitsNet, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images that the float network classifies correctly."""
    with torch.no_grad():
        return float((network(images).argmax(1) == labels).float().mean())


def int8_accuracy(module: Any, split: Split) -> float:
    """The same of the int8 network, on the NumPy semantics of its ops."""
    (function,) = module.body
    preprocessing = preprocessing_of(function)
    correct = 0
    for sample, label in zip(split.samples, split.labels, strict=True):
        (logits,) = run(function, [preprocessing.apply(sample)])
        correct += int(logits.argmax()) == label
    return correct / len(split)


def main() -> None:
    """Write the data, train, quantize and write the model."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    write_data(FOLDER / "digits.npz")
    data = load_dataset(FOLDER / "digits.npz")
    network = DigitsNet()
    images, labels = as_tensors(data.train)
    train(network, images, labels)
    print(f"float32 test accuracy {accuracy(network, *as_tensors(data.test)):.1%}")
    with new_context():
        module = emit(quantize(network, images))
        (FOLDER / "digits.mlirbc").write_bytes(to_bytecode(module))
        print(f"int8    test accuracy {int8_accuracy(module, data.test):.1%}")


if __name__ == "__main__":
    main()
