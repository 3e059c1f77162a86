"""The same training step in PyTorch: int8 arithmetic simulated in float32, gradients by autograd.

    python -m tiny_pipelines.torch_step MODEL --scheme NAME --data SET.npz [--batch 1 64]

prints images a second, side by side: of the compiled step, of its simulation in PyTorch, and of
plain float fine-tuning in PyTorch, which rounds nothing. One thread each, one after the other on
the same machine, in seconds of CPU time: other jobs on its cores count little. All keep what the
frozen prefix computes, train the same parameters on the same samples and update by plain SGD.
Beside them the loss of all on the first samples. PyTorch is optional (`pip install '.[torch]'`).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.errors import InvalidOption, TinyError
from tiny_dialect.ops.convolution import geometry, trained_axis
from tiny_dialect.semantics.forward import trained_channels
from tiny_dialect.types import quantization
from tiny_passes.graph import TRAIN_STEP, body, find_function
from tiny_pipelines.experiment import Experiment
from tiny_pipelines.float_step import FloatStep, linear, torch_module

Array = NDArray[Any]


class TorchStep:
    """The forward part of a `@train_step` as a PyTorch function of its trained state.

    The module is at the stage `scaled`, with its prefix split off.

    Weights are floats in units of int8; rounding is straight-through. Supported are convolutions,
    residual sums, average pools and a linear head; others raise `InvalidOption`.
    """

    def __init__(self, module: Any) -> None:
        self._torch = torch_module()
        step = find_function(module, TRAIN_STEP)
        self._arguments = list(step.regions[0].blocks[0].arguments)[:-2]
        self._ops = [op for op in body(step) if op.operation.name in _FORWARD]
        self._constants: dict[Any, Any] = {}
        self.parameters: dict[str, Any] = {}
        self._factors: dict[str, Any] = {}
        for op in body(step):
            if op.operation.name == "tiny.parameter":
                self._constants[op.results[0]] = self._parameter(op)
        for op in body(step):
            if "factors" in op.attributes:
                self._note_factors(op)

    def _parameter(self, op: Any) -> Any:
        value = to_array(op.value)
        if "trained" not in op.attributes:
            return self._torch.from_numpy(value.astype(np.float32))
        real = value.astype(np.float32)
        made = self._torch.from_numpy(np.floor(real / 256) if value.dtype == np.int16 else real)
        self.parameters[op.symbol.value] = made.requires_grad_()
        return made

    def _note_factors(self, update: Any) -> None:
        symbol = update.operands[0].owner.opview.symbol.value
        factors = to_array(update.attributes["factors"])
        shape = (-1, *[1] * (self.parameters[symbol].dim() - 1))
        self._factors[symbol] = self._torch.from_numpy(factors.reshape(shape).astype(np.float32))

    def loss(self, inputs: Sequence[Any], labels: Any) -> Any:
        """The summed loss of a batch: NHWC float tensors, int64 labels."""
        values = dict(zip(self._arguments, inputs, strict=True)) | self._constants
        for op in self._ops:
            values[op.results[0]] = _FORWARD[op.operation.name](
                self._torch, op, *(values[operand] for operand in op.operands)
            )
        logits = values[_logits(self._ops)]
        return self._torch.nn.functional.cross_entropy(logits, labels, reduction="sum")

    def train(self, inputs: Sequence[Any], labels: Any, rate: float) -> float:
        """One update; the mean loss before it."""
        loss = self.loss(inputs, labels)
        loss.backward()
        with self._torch.no_grad():
            for symbol, parameter in self.parameters.items():
                parameter -= rate * self._factors[symbol] * parameter.grad
                parameter.grad = None
        return float(loss.detach()) / len(labels)


def _logits(ops: Sequence[Any]) -> Any:
    return next(op for op in reversed(ops) if op.operation.name == "tiny.linear").results[0]


def _rounded(torch: Any, op: Any, value: Any) -> Any:
    """Rounded and clamped, with a gradient of 1 where the clamp changes nothing."""
    low, high = to_list(op.attributes["clamp"])
    return torch.clamp(value + (torch.round(value) - value).detach(), low, high)


def _conv2d(torch: Any, op: Any, x: Any, w: Any, bias: Any, trained: Any = None) -> Any:
    (scale_x, zero_x), (scale_y, zero_y) = quantization(op.x), quantization(op.y)
    geo = geometry(op)
    if trained is not None:
        channels = torch.tensor(trained_channels(op))
        w = w.index_copy(trained_axis(geo.groups, tuple(w.shape)), channels, trained)
    w = w + (torch.round(w) - w).detach()
    top, left, bottom, right = geo.pads
    padded = torch.nn.functional.pad((x - zero_x).permute(0, 3, 1, 2), (left, right, top, bottom))
    kernel = w.permute(0, 3, 1, 2)
    y = torch.nn.functional.conv2d(padded, kernel, bias, geo.strides, groups=geo.groups)
    factors = torch.from_numpy((scale_x * to_array(op.weight_scales) / scale_y).astype(np.float32))
    return _rounded(torch, op, y.permute(0, 2, 3, 1) * factors + zero_y)


def _add(torch: Any, op: Any, a: Any, b: Any) -> Any:
    (scale_a, zero_a), (scale_b, zero_b) = quantization(op.a), quantization(op.b)
    scale_y, zero_y = quantization(op.y)
    total = (a - zero_a) * (scale_a / scale_y) + (b - zero_b) * (scale_b / scale_y)
    return _rounded(torch, op, total + zero_y)


def _pool(torch: Any, _: Any, x: Any) -> Any:
    mean = x.mean(dim=(1, 2), keepdim=True)
    return mean + (torch.round(mean) - mean).detach()


def _dequantize(_: Any, op: Any, x: Any) -> Any:
    scale, zero = quantization(op.x)
    return (x - zero) * scale


_FORWARD: dict[str, Callable[..., Any]] = {
    "tiny.conv2d": _conv2d,
    "tiny.add": _add,
    "tiny.global_average_pool": _pool,
    "tiny.dequantize": _dequantize,
    "tiny.linear": linear,
}
_SILENT = ("tiny.parameter", "tiny.gather_channels", "func.return", "tiny.softmax_cross_entropy")


def require_supported(module: Any) -> None:
    """Raise `InvalidOption` for a forward op that `TorchStep` does not have."""
    for op in body(find_function(module, TRAIN_STEP)):
        name = op.operation.name
        if name == "tiny.softmax_cross_entropy":
            return
        if name not in _FORWARD and name not in _SILENT:
            raise InvalidOption(f"no PyTorch form of {name}")


@dataclass(frozen=True)
class Throughput:
    """Images a second of CPU time of each, and their mean loss over the first batch."""

    batch: int
    compiled: float
    torch: float
    float_torch: float
    compiled_loss: float
    torch_loss: float
    float_torch_loss: float


def _measured(
    module: Any, step: TorchStep, plain: Experiment, batch: int, seconds: float
) -> Throughput:
    from tiny_pipelines.experiment import load_experiment

    data = plain.data
    torch, experiment = torch_module(), load_experiment(module, data)
    indices = [list(range(i, i + batch)) for i in range(0, len(data.train) - batch + 1, batch)]
    inputs = [experiment.inputs.of(data.train, i) for i in range(len(data.train))]
    labels = torch.from_numpy(data.train.labels)

    def batch_of(chosen: list[int]) -> list[Any]:
        samples = [one if isinstance(one, tuple) else (one,) for one in (inputs[i] for i in chosen)]
        stacked = (np.concatenate(parts).astype(np.float32) for parts in zip(*samples, strict=True))
        return [torch.from_numpy(part) for part in stacked]

    def run_compiled(chosen: list[int], rate: float) -> float:
        return float(np.mean(experiment.update(data.train, chosen, rate)))

    def run_torch(chosen: list[int], rate: float) -> float:
        return step.train(batch_of(chosen), labels[chosen], rate)

    def run_float(chosen: list[int], rate: float) -> float:
        return float(np.mean(plain.update(data.train, chosen, rate)))

    runs = (run_compiled, run_torch, run_float)
    losses = [run(indices[0], 0.0) for run in runs]
    speeds = [_speed(run, indices, seconds) * batch for run in runs]
    return Throughput(batch, *speeds, *losses)


def _speed(
    run: Callable[[list[int], float], float], batches: list[list[int]], seconds: float
) -> float:
    """Updates a second of CPU time, over at least `seconds` of it."""
    begin, count = time.process_time(), 0
    while (elapsed := time.process_time() - begin) < seconds:
        run(batches[count % len(batches)], 0.1 / 256)
        count += 1
    return count / elapsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a batch size, or one JSON object."""
    options = _options().parse_args(arguments)
    try:
        found = _compare(options)
    except TinyError as error:
        print(f"torch_step: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([vars(one) for one in found], indent=2))
        return 0
    print(f"{'batch':>5} {'compiled':>12} {'PyTorch':>12} {'float':>12}   "
          "images a second of CPU time, one thread")  # fmt: skip
    for one in found:
        losses = (one.compiled_loss, one.torch_loss, one.float_torch_loss)
        print(
            f"{one.batch:>5} {one.compiled:>12.1f} {one.torch:>12.1f} {one.float_torch:>12.1f}   "
            f"loss {', '.join(f'{loss:.4f}' for loss in losses)}"
        )
    return 0


def _compare(options: argparse.Namespace) -> list[Throughput]:
    from dataclasses import replace

    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context
    from tiny_passes.registry import run_pipeline
    from tiny_pipelines.datasets import load_dataset
    from tiny_pipelines.dequantize import dequantized
    from tiny_pipelines.float_experiment import FloatExperiment

    torch_module().set_num_threads(1)
    data = load_dataset(options.data)
    data = replace(data, train=data.train.limited(options.samples))
    found: list[Throughput] = []
    with new_context(), ir.Location.unknown():
        for batch in options.batch:
            scaled = _step_at("scaled", options, batch)
            run_pipeline(scaled, "tiny-split-prefix")
            require_supported(scaled)
            plain = dequantized(_step_at("sparse", options, batch, "float32"), data)
            experiment = FloatExperiment(FloatStep(plain), data)
            module, compared = _step_at("scheduled", options, batch), TorchStep(scaled)
            found.append(_measured(module, compared, experiment, batch, options.seconds))
    return found


def _step_at(stage: str, options: argparse.Namespace, batch: int, update: str = "int16") -> Any:
    """The training step at a stage, in the current context."""
    from tiny_pipelines.frontends import import_bytes
    from tiny_pipelines.training import TrainingOptions, build_training_step

    training = TrainingOptions(
        options.scheme,
        update,
        gradients="float32",
        accumulate=batch > 1,
        split_prefix=True,
        fuse_blocks=False,
        row_overlap=False,
    )
    model = options.model.read_bytes()
    module = import_bytes(model, str(options.model), options.classes, 0)
    return build_training_step(module, training, until=stage)


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="torch_step", description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("--scheme", required=True)
    options.add_argument("--data", required=True, type=Path)
    options.add_argument("--classes", type=int)
    options.add_argument("--samples", type=int, default=256)
    options.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--json", action="store_true")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
