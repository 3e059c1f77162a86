"""PyTorch networks for the importer's tests, and how they are trained on the shipped digits."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.npz"


def digits():
    """(training images, labels, test images, labels): float32 [N, 8, 8] within 0 to 1."""
    with np.load(DIGITS, allow_pickle=False) as data:
        kinds = ("train_images", "train_labels", "test_images", "test_labels")
        x, y, x_test, y_test = (data[kind] for kind in kinds)
    x, x_test = (part.reshape(-1, 8, 8).astype(np.float32) / 255 for part in (x, x_test))
    return x, y.astype(np.int64), x_test, y_test.astype(np.int64)


def enlarged(images):
    """The images as colour ones of 32 by 32, channels first."""
    grey = torch.from_numpy(images)[:, None]
    large = nn.functional.interpolate(grey, (32, 32), mode="bilinear")
    return large.repeat(1, 3, 1, 1).numpy()


class SignalNetwork(nn.Module):
    """A small 1-D CNN: [N, 8, 8] as 8 sensors over 8 points of time."""

    def __init__(self, channels=8, classes=10):
        super().__init__()
        self.stem = nn.Conv1d(channels, 24, 3, padding="same", bias=False)
        self.norm = nn.BatchNorm1d(24)
        self.body = nn.Sequential(
            nn.Conv1d(24, 32, 3, padding=1), nn.BatchNorm1d(32), nn.ReLU(inplace=True)
        )
        self.pool = nn.MaxPool1d(2)
        self.last = nn.Conv1d(32, 32, 2)
        self.drop = nn.Dropout(0.1)
        self.classifier = nn.Linear(96, classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.pool(self.body(x))
        x = torch.relu_(self.last(x))
        return self.classifier(self.drop(x.flatten(1)))


def _divisible(channels):
    """As torchvision rounds: to a multiple of 8, never down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class ConvNormActivation(nn.Sequential):
    def __init__(self, inputs, outputs, kernel=3, stride=1, groups=1):
        pad = (kernel - 1) // 2
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        layers = [ConvNormActivation(inputs, hidden, 1)] if expansion != 1 else []
        layers += [
            ConvNormActivation(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """As torchvision defines it, at any width; strides as published."""

    def __init__(self, classes=10, width=0.35, inputs=3):
        super().__init__()
        channels = _divisible(32 * width)
        features = [ConvNormActivation(inputs, channels, stride=2)]
        blocks = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
        for expansion, wanted, count, stride in [*blocks, (6, 160, 3, 2), (6, 320, 1, 1)]:
            for number in range(count):
                outputs = _divisible(wanted * width)
                own = stride if number == 0 else 1
                features.append(InvertedResidual(channels, outputs, own, expansion))
                channels = outputs
        features.append(ConvNormActivation(channels, 1280, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


def train(model, x, y, epochs, rate=2e-3, batch=64):
    """Adam on cross entropy; the model in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2 * rate, total_steps=epochs * (len(x) // batch)
    )
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) - batch + 1, batch):
            chosen = order[start : start + batch]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def train_on_photos(x, y, epochs, rate=4e-3, batch=32):
    """MobileNetV2 0.35 for photos of 32 by 32 [N, 3, 32, 32]: mirrored, moved by up to 3 pixels.

    The first stride is 1, so that the last blocks still see an image.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = MobileNetV2()
    model.features[0][0].stride = (1, 1)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * (len(x) // batch), pct_start=0.2
    )
    x, y = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) - batch + 1, batch):
            chosen = order[start : start + batch]
            optimizer.zero_grad()
            shown = _mirrored_and_moved(x[chosen], generator)
            nn.functional.cross_entropy(model(shown), y[chosen]).backward()
            optimizer.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


def _mirrored_and_moved(x, generator, most=3):
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    down, right = (int(n) for n in torch.randint(0, 2 * most + 1, (2,), generator=generator))
    height, width = x.shape[2:]
    x = nn.functional.pad(x, (most, most, most, most))
    x = x[:, :, down : down + height, right : right + width]
    return x.contiguous(memory_format=torch.channels_last)


def logits(model, x):
    """The module's float results."""
    with torch.no_grad():
        return model(torch.from_numpy(x)).numpy()
