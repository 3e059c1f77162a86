"""Pre-train the motion network on windows of the belt, import it as int8, write `motion.mlirbc`.

A depthwise-separable 1-D CNN. The importer quantizes its layers for the training windows; the head
stays float32, so that a training step can learn it. The model is part of the repository; this
script is how it was made:

    pip install -e '.[pretrain]' && python examples/sensor/pretrain.py

Seeded and single-threaded: the same PyTorch gives the same file, another one an equal accuracy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tiny_dialect.dialect import new_context, to_bytecode
from tiny_dialect.semantics import run
from tiny_passes.graph import INFER, find_function
from tiny_pipelines.datasets import preprocessing_of
from tiny_pipelines.frontends import import_torch
from tiny_pipelines.frontends.head import set_head
from windows import BELT, CLASSES, COUNTS_A_G, SEED, windows

FOLDER = Path(__file__).parent
WINDOWS = 3000
EPOCHS = 12
BATCH = 50
PEAK_RATE = 8e-3


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution over time, batch norm, ReLU6."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU6(),
    )


class MotionNet(nn.Module):
    """3·64 samples in g to one logit an activity."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 12, 5, stride=2)
        self.first = nn.Sequential(conv(12, 12, 5, stride=2, groups=12), conv(12, 20, 1))
        self.second = nn.Sequential(conv(20, 20, 5, groups=20), conv(20, 20, 1))
        self.third = nn.Sequential(conv(20, 20, 5, stride=2, groups=20), conv(20, 32, 1))
        self.head = nn.Linear(32, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N·3·64 to N·5."""
        x = self.first(self.stem(x))
        return self.head(self.third(x + self.second(x)).mean(2))


def as_tensor(samples: np.ndarray) -> torch.Tensor:
    """Windows N·1·64·3 of counts as N·3·64 in g."""
    return torch.from_numpy(samples[:, 0].transpose(0, 2, 1).astype(np.float32) / COUNTS_A_G)


def train(network: MotionNet, x: torch.Tensor, labels: torch.Tensor) -> None:
    """Adam with a one-cycle rate; the network is left in evaluation mode."""
    steps = len(x) // BATCH
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=EPOCHS * steps)
    network.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x))[: steps * BATCH].split(BATCH):
            loss = functional.cross_entropy(network(x[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def imported(network: MotionNet, x: torch.Tensor) -> Any:
    """The int8 module with the network's own head; its input is what the sensor hands out."""
    module = import_torch(network, x.numpy(), "motion", classes=len(CLASSES))
    weight, bias = (part.detach().numpy() for part in (network.head.weight, network.head.bias))
    set_head(module, weight, bias)
    found = preprocessing_of(find_function(module, INFER))
    if (found.scale, found.zero_point) != (1 / COUNTS_A_G, 0):
        raise SystemExit(f"the input is not in counts: {found.scale}, {found.zero_point}")
    return module


def int8_accuracy(module: Any, samples: np.ndarray, labels: np.ndarray) -> float:
    """The share that the int8 network gets right, on the NumPy semantics of its ops."""
    function = find_function(module, INFER)
    guesses = [int(run(function, [sample[None]])[0].argmax()) for sample in samples]
    return float(np.mean(np.array(guesses) == labels))


def main() -> None:
    """Train, import and write the model."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    generator = np.random.default_rng(SEED)
    samples, labels = windows(BELT, WINDOWS, generator)
    fresh, fresh_labels = windows(BELT, 500, generator)
    network = MotionNet()
    train(network, as_tensor(samples), torch.from_numpy(labels.astype(np.int64)))
    with torch.no_grad():
        guesses = network(as_tensor(fresh)).argmax(1).numpy()
    print(f"float32 accuracy {np.mean(guesses == fresh_labels):.1%}")
    with new_context():
        module = imported(network, as_tensor(samples))
        (FOLDER / "motion.mlirbc").write_bytes(to_bytecode(module))
        print(f"int8    accuracy {int8_accuracy(module, fresh, fresh_labels):.1%}")


if __name__ == "__main__":
    main()
