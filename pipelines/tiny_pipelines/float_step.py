"""Full-precision fine-tuning of a float network in PyTorch: plain SGD, gradients by autograd.

What no trained parameter reaches is computed once a sample and kept. PyTorch is optional
(`pip install '.[torch]'`).
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.float_network import FloatNetwork, FloatOp

Array = NDArray[Any]


def torch_module() -> Any:
    """PyTorch; raises `InvalidOption` where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise InvalidOption("PyTorch is needed: pip install '.[torch]'") from error


class FloatStep:
    """A float network with its trained parameters, on one device.

    `features` are what the frozen part hands to the trained one: tensors [N, ...], the same for a
    sample whatever was learned. Raises `InvalidOption` for a device that PyTorch does not have.
    """

    def __init__(
        self, network: FloatNetwork, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self._torch = torch = torch_module()
        _require_device(torch, device)
        self.device, self._type = device, getattr(torch, precision)
        # Full precision also where a GPU would shorten its factors, and the same sums every time.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
        self._network, self.preprocessing = network, network.preprocessing
        self._values: dict[int, Any] = {}
        self.parameters: dict[str, Any] = {}
        for number, parameter in network.parameters.items():
            made = torch.tensor(parameter.value, dtype=self._type, device=device)
            self._values[number] = made
            if parameter.trained:
                self.parameters[parameter.symbol] = made.requires_grad_()
        self._channels = {
            op.result: torch.tensor(op.settings["channels"], device=device)
            for op in network.ops
            if op.settings.get("channels")
        }
        self._frozen, self._trained = _parted(network)
        made_here = {op.result for op in self._trained}
        read = {operand for op in self._trained for operand in op.operands} | {network.logits}
        self._boundary = sorted(read - made_here - set(self._values))

    def features(self, samples: Array) -> list[Any]:
        """What the frozen part makes of int8 samples [N, height, width, channels]."""
        x = self._torch.from_numpy(np.ascontiguousarray(samples)).to(self.device, self._type)
        with self._torch.no_grad():
            real = (x - self.preprocessing.zero_point) * self.preprocessing.scale
            values = self._values | {0: real}
            self._run(self._frozen, values)
        return [values[number] for number in self._boundary]

    def logits(self, features: Sequence[Any]) -> Any:
        """Logits [N, K] of samples."""
        values = self._values | dict(zip(self._boundary, features, strict=True))
        self._run(self._trained, values)
        found = values[self._network.logits]
        return found.reshape(found.shape[0], -1)

    def losses(self, features: Sequence[Any], labels: Any) -> Any:
        """The cross-entropy of each sample."""
        cross_entropy = self._torch.nn.functional.cross_entropy
        return cross_entropy(self.logits(features), labels, reduction="none")

    def train(self, features: Sequence[Any], labels: Any, rate: float) -> list[float]:
        """One update by the summed gradients of a batch; the loss of each sample before it."""
        losses = self.losses(features, labels)
        losses.sum().backward()
        trained = list(self.parameters.values())
        with self._torch.no_grad():
            self._torch._foreach_add_(trained, [one.grad for one in trained], alpha=-rate)
        for parameter in trained:
            parameter.grad = None
        return losses.detach().tolist()

    def classes_of(self, features: Sequence[Any]) -> list[int]:
        """The class with the largest logit, of each sample."""
        with self._torch.no_grad():
            return self.logits(features).argmax(dim=1).tolist()

    def labels(self, labels: Array) -> Any:
        """int64 labels as a tensor on the device."""
        return self._torch.from_numpy(np.asarray(labels)).to(self.device)

    def joined(self, parts: Sequence[Any]) -> Any:
        """One tensor of parts, along the samples."""
        return self._torch.cat(list(parts))

    def state(self) -> dict[str, Array]:
        """A copy of every trained parameter in real units, by symbol."""
        return {name: one.detach().cpu().numpy().copy() for name, one in self.parameters.items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Replace every trained parameter."""
        with self._torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self._torch.from_numpy(state[name]))

    def _run(self, ops: Iterable[FloatOp], values: dict[int, Any]) -> None:
        for op in ops:
            operands = [values[number] for number in op.operands]
            if op.result in self._channels:
                operands = self._with_trained(op, operands)
            made = _MEANING[op.kind](self._torch, op.settings, *operands)
            if "clamp" in op.settings:
                made = self._torch.clamp(made, *op.settings["clamp"])
            values[op.result] = made

    def _with_trained(self, op: FloatOp, operands: list[Any]) -> list[Any]:
        """The operands of a convolution whose weight is trained in some channels."""
        x, w, bias, trained = operands
        return [x, w.index_copy(op.settings["axis"], self._channels[op.result], trained), bias]


def _require_device(torch: Any, device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidOption(f"PyTorch has no device {device} here: {reason}") from error


def _parted(network: FloatNetwork) -> tuple[list[FloatOp], list[FloatOp]]:
    """(ops that no trained parameter reaches, the others), both in order."""
    reached = {number for number, one in network.parameters.items() if one.trained}
    parts: tuple[list[FloatOp], list[FloatOp]] = ([], [])
    for op in network.ops:
        trained = not reached.isdisjoint(op.operands)
        parts[trained].append(op)
        if trained:
            reached.add(op.result)
    return parts


def _padded(torch: Any, x: Any, pads: Sequence[int], value: float = 0.0) -> Any:
    """[N, C, H, W] of an [N, H, W, C] tensor, with a border."""
    top, left, bottom, right = pads
    planes = x.permute(0, 3, 1, 2)
    if not any(pads):
        return planes
    return torch.nn.functional.pad(planes, (left, right, top, bottom), value=value)


def _conv2d(torch: Any, settings: dict[str, Any], x: Any, w: Any, bias: Any) -> Any:
    planes, kernel = _padded(torch, x, settings["pads"]), w.permute(0, 3, 1, 2)
    options = {"stride": settings["strides"], "groups": settings["groups"]}
    return torch.nn.functional.conv2d(planes, kernel, bias, **options).permute(0, 2, 3, 1)


def _max_pool2d(torch: Any, settings: dict[str, Any], x: Any) -> Any:
    planes = _padded(torch, x, settings["pads"], float("-inf"))
    pool = torch.nn.functional.max_pool2d
    return pool(planes, settings["kernel"], settings["strides"]).permute(0, 2, 3, 1)


def _average_pool2d(torch: Any, settings: dict[str, Any], x: Any) -> Any:
    def total(values: Any) -> Any:
        planes = _padded(torch, values, settings["pads"])
        window = settings["kernel"], settings["strides"]
        return torch.nn.functional.avg_pool2d(planes, *window, divisor_override=1)

    return (total(x) / total(torch.ones_like(x[:1]))).permute(0, 2, 3, 1)


def _pad(torch: Any, settings: dict[str, Any], x: Any) -> Any:
    return _padded(torch, x, settings["pads"]).permute(0, 2, 3, 1)


def linear(_: Any, settings: Any, x: Any, w: Any, bias: Any) -> Any:
    """`x w^T + bias` of a batch; nothing of it depends on the op's `settings`."""
    return x.reshape(x.shape[0], -1) @ w.T + bias


_MEANING: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "max_pool2d": _max_pool2d,
    "average_pool2d": _average_pool2d,
    "pad": _pad,
    "linear": linear,
    "add": lambda _, settings, a, b: a + b,
    "requantize": lambda _, settings, x: x,
    "dequantize": lambda _, settings, x: x,
    "global_average_pool": lambda _, settings, x: x.mean(dim=(1, 2), keepdim=True),
    "mean": lambda _, settings, x: x.mean(dim=settings["axes"], keepdim=True),
    "reshape": lambda _, settings, x: x.reshape(x.shape[0], *settings["shape"][1:]),
}
