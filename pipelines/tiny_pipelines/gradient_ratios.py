"""How large weights are beside their gradients, a layer: in float, in int8, in int8 with rescaling.

    python -m tiny_pipelines.gradient_ratios MODEL --data SET.npz [--classes N] [--svg FILE.svg]

Prints log10 of |w| / |g| for every weight and bias. `float` is the network without any rounding,
with real-valued weights: relaxed forward ops, and the same backward ops behind them. `int8` are the
stored integers and their gradients, `rescaled` the same gradients times the factors of the update.
Where a training step treats all layers as float training would, its column follows `float`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.errors import InvalidOption, TinyError
from tiny_dialect.ops.convolution import geometry
from tiny_dialect.semantics.convolution import convolve_weight_gradient
from tiny_dialect.semantics.interpreter import evaluate_op
from tiny_dialect.semantics.relaxed import relax
from tiny_dialect.types import is_quantized, quantization, shape_of
from tiny_passes.graph import TRAIN_STEP, body, find_function, layer_of, users
from tiny_passes.prune_backward import updated_symbol
from tiny_pipelines.ratio_plot import ratio_plot

Array = NDArray[Any]

_UPDATE = "tiny.apply_update"
COLUMNS = ("float", "int8", "rescaled")


@dataclass(frozen=True)
class Ratio:
    """log10(|w| / |g|) of one parameter; None where its gradient is 0."""

    symbol: str
    layer: str
    real: float | None
    stored: float | None
    rescaled: float | None


class StepGradients:
    """The gradients of one training step at its initial weights, integer or without rounding.

    `step` is at the stage `scaled`, with weights stored as int8.
    """

    def __init__(self, step: Any, *, rounding: bool) -> None:
        self.step, self.rounding = step, rounding
        self.sums: dict[str, Array] = {}

    def add(self, x: Array, label: int) -> None:
        """Sum the gradients of one more sample."""
        arguments = self.step.regions[0].blocks[0].arguments
        given = (x, np.array(label, np.int32), np.array(0, np.float32))
        values: dict[Any, Array] = dict(zip(arguments, given, strict=True))
        for op in body(self.step):
            name = op.operation.name
            operands = [values[operand] for operand in op.operands]
            if name == _UPDATE:
                symbol = updated_symbol(op)
                self.sums[symbol] = self.sums.get(symbol, 0.0) + operands[1].astype(np.float64)
            elif name not in ("func.return", "tiny.advance_counter"):
                values.update(zip(op.results, self._evaluated(op, operands), strict=True))

    def _evaluated(self, op: Any, operands: list[Array]) -> list[Array]:
        if self.rounding or not op.operands or not _is_float_form(op, operands):
            return evaluate_op(op, operands)
        if op.operation.name == "tiny.conv2d_weight_grad":
            return [_real_weight_gradient(op, *operands)]
        try:
            y = relax(op, operands)
        except NotImplementedError:
            return evaluate_op(op, operands)
        return [y] if len(op.results) == 1 else [y, _inside(op, y)]


def _is_float_form(op: Any, operands: list[Array]) -> bool:
    """True for forward ops, and for the gradient that reads an activation."""
    name = op.operation.name
    if name == "tiny.conv2d_weight_grad":
        return True
    return any(is_quantized(value) for value in op.operands) or name == "tiny.linear"


def _inside(op: Any, y: Array) -> Array:
    """Where the clamp lets a gradient through."""
    low, high = to_list(op.attributes["clamp"])
    return (y > low - 0.5) & (y < high + 0.5)


def _real_weight_gradient(op: Any, x: Array, g: Array) -> Array:
    _, zero = quantization(op.x)
    scales = to_array(op.attributes["scales"]).reshape(-1, 1, 1, 1)
    shape = shape_of(op.results[0])
    return convolve_weight_gradient(x.astype(np.float64) - zero, g, geometry(op), shape) * scales


def _units(update: Any) -> Array:
    """The real size of one unit of a parameter, for each factor."""
    for reader in users(update.operands[0]):
        if reader.operation.name == "tiny.conv2d":
            scales = to_array(reader.weight_scales).astype(np.float64)
            is_bias = reader.bias == update.operands[0]
            return scales * quantization(reader.x)[0] if is_bias else scales
    return np.ones(shape_of(update.operands[0])[0])


def _log_ratio(weight: Array, gradient: Array) -> float | None:
    norms = float(np.linalg.norm(weight)), float(np.linalg.norm(gradient))
    return float(np.log10(norms[0] / norms[1])) if min(norms) > 0 else None


def gradient_ratios(step: Any, samples: Sequence[tuple[Array, int]]) -> list[Ratio]:
    """The ratios of every updated parameter, in program order, gradients summed over `samples`.

    `step` is a `@train_step` at the stage `scaled` whose weights are stored as int8.
    """
    real, stored = (StepGradients(step, rounding=rounding) for rounding in (False, True))
    for x, label in samples:
        real.add(x, label)
        stored.add(x, label)
    found: list[Ratio] = []
    for update in body(step):
        if update.operation.name != _UPDATE:
            continue
        symbol = updated_symbol(update)
        weight = to_array(update.operands[0].owner.opview.value).astype(np.float64)
        shape = (-1, *[1] * (weight.ndim - 1))
        units = _units(update).reshape(shape)
        factors = to_array(update.factors).astype(np.float64).reshape(shape)
        live = factors > 0
        ratios = (
            _log_ratio(weight * units * live, real.sums[symbol] / np.where(live, units, 1) * live),
            _log_ratio(weight * live, stored.sums[symbol] * live),
            _log_ratio(weight * live, stored.sums[symbol] * factors),
        )
        found.append(Ratio(symbol, layer_of(update), *ratios))
    return found


def distances(ratios: Sequence[Ratio]) -> dict[str, float]:
    """How far each integer column is from `float`, in decades: the mean absolute difference."""
    complete = [r for r in ratios if None not in (r.real, r.stored, r.rescaled)]
    if not complete:
        raise InvalidOption("no parameter has a gradient")
    rows = np.array([[r.real, r.stored, r.rescaled] for r in complete], np.float64)
    away = np.abs(rows[:, 1:] - rows[:, :1]).mean(axis=0)
    return {"int8": float(away[0]), "rescaled": float(away[1])}


def _table(ratios: Sequence[Ratio]) -> str:
    lines = [f"{'log10(|w| / |g|)':<36}" + "".join(f"{name:>10}" for name in COLUMNS)]
    for ratio in ratios:
        cells = (ratio.real, ratio.stored, ratio.rescaled)
        texts = ("-" if cell is None else f"{cell:.2f}" for cell in cells)
        lines.append(f"{ratio.symbol:<36}" + "".join(f"{text:>10}" for text in texts))
    away = distances(ratios)
    lines.append(f"{'mean distance from float, decades':<36}{'':>10}"
                 f"{away['int8']:>10.2f}{away['rescaled']:>10.2f}")  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or one JSON object; draw the picture where one is asked for."""
    options = _options().parse_args(arguments)
    try:
        ratios = _measured(options)
        if options.svg is not None:
            columns = [[r.real, r.stored, r.rescaled] for r in ratios]
            names = [ratio.symbol for ratio in ratios]
            options.svg.write_text(ratio_plot(names, columns, COLUMNS), "utf-8")
    except TinyError as error:
        print(f"gradient_ratios: {error}", file=sys.stderr)
        return 1
    if options.json:
        record = {"ratios": [asdict(ratio) for ratio in ratios], "distance": distances(ratios)}
        print(json.dumps(record, indent=2))
    else:
        print(_table(ratios))
    return 0


def _measured(options: argparse.Namespace) -> list[Ratio]:
    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context
    from tiny_pipelines.datasets import load_dataset
    from tiny_pipelines.frontends import import_bytes
    from tiny_pipelines.training import TrainingOptions, build_training_step

    data = load_dataset(options.data)
    with new_context(), ir.Location.unknown():
        name = str(options.model)
        module = import_bytes(options.model.read_bytes(), name, options.classes, options.seed)
        training = TrainingOptions(options.scheme, "int8", "float32")
        step = find_function(build_training_step(module, training, until="scaled"), TRAIN_STEP)
        data.require_classes(shape_of(step.type.results[1])[-1])
        prepare = data.preprocessing_for(step)
        chosen = data.train.limited(options.samples)
        pairs = zip(chosen.samples, chosen.labels, strict=True)
        samples = [(prepare.apply(image), int(label)) for image, label in pairs]
        return gradient_ratios(step, samples)


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="gradient_ratios", description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("--data", required=True, type=Path)
    options.add_argument("--scheme", default="full")
    options.add_argument("--classes", type=int)
    options.add_argument("--samples", type=int, default=16)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--svg", type=Path)
    options.add_argument("--json", action="store_true")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
