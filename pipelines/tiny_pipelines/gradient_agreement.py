"""How well integer gradients agree with float32 ones: the cosine of both updates, a parameter.

    python -m tiny_pipelines.gradient_agreement MODEL --scheme NAME --data SET.npz [--bits 16 8]

Both training steps start from the same weights, with a head trained for a while, and see the same
images on the NumPy interpreter. An update is compared as the change of the real-valued weights
(`s_w` a unit of a weight, `s_w s_x` of a bias): that is what the network feels.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.errors import InvalidOption
from tiny_dialect.semantics import initial_state, run
from tiny_dialect.semantics.backward import channel_sums, weight_gradient
from tiny_dialect.types import element_name, quantization
from tiny_passes.graph import TRAIN_STEP, find_function, users
from tiny_passes.prune_backward import UPDATES, updated_symbol
from tiny_passes.quantize_gradients import STEP_UNITS

Array = NDArray[Any]
Updates = dict[str, Array]

_ALMOST_ZERO = 1e-30


class UpdateRecorder:
    """The update that each parameter of a training step would get, in real units, by symbol.

    `module` is at the stage `scheduled` or later.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.step = find_function(module, TRAIN_STEP)
        self.state = initial_state(self.step)

    def updates(self, arguments: Sequence[Any]) -> Updates:
        """The updates of one sample at rate 1; the state is left as it was."""
        values: dict[Any, Array] = dict(
            zip(self.step.regions[0].blocks[0].arguments, map(np.asarray, arguments), strict=True)
        )
        found: Updates = {}

        def observe(op: Any, results: list[Array]) -> None:
            values.update(zip(op.results, results, strict=True))
            if op.operation.name in UPDATES:
                operands = [values[operand] for operand in op.operands]
                found[updated_symbol(op)] = _real_update(op, operands).reshape(-1)

        state = {symbol: value.copy() for symbol, value in self.state.items()}
        run(self.step, arguments, state, observe)
        return found


def _real_update(op: Any, operands: list[Array]) -> Array:
    """`factors * gradient` in real units, float64."""
    name = op.operation.name.removeprefix("tiny.").removeprefix("integer_")
    integer = op.operation.name.startswith("tiny.integer_")
    exponent = int(operands[list(op.operands).index(op.g_header)][0]) if integer else 0
    if name.removeprefix("stochastic_") == "conv2d_weight_update":
        gradient = weight_gradient(op, operands[1], operands[2], operands[0].shape)
    elif name in ("apply_update", "stochastic_update"):
        gradient = operands[1].astype(np.float64)
    elif name == "bias_update":
        gradient = channel_sums(operands[1])
    else:
        x = operands[1].reshape(-1).astype(np.float64)
        centred = x - quantization(op.x)[1] if integer else x
        gradient = np.outer(operands[2].reshape(-1), centred)
    factors = np.ldexp(to_array(op.factors).astype(np.float64), exponent) * _unit(op, integer)
    return gradient * factors.reshape(-1, *([1] * (gradient.ndim - 1)))


def _unit(op: Any, integer: bool) -> Any:
    """The real size of what one unit of `factors` changes, for each channel."""
    parameter = op.operands[0]
    for reader in users(parameter):
        if reader.operation.name == "tiny.integer_linear":
            return 2.0**-reader.fraction.value
        if reader.operation.name != "tiny.conv2d":
            continue
        scales = to_array(reader.weight_scales)
        if reader.bias == parameter:
            return scales * quantization(reader.x)[0]
        if reader.w != parameter and reader.groups.value > 1:  # some output channels are trained
            scales = scales[to_list(reader.attributes["trained_channels"])]
        return scales / (STEP_UNITS[element_name(parameter)] if integer else 1)
    return 1.0


def cosine(a: Array, b: Array) -> float:
    """The cosine of two vectors; 1 where both are zero, 0 where one is."""
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if min(norms) < _ALMOST_ZERO:
        return float(max(norms) < _ALMOST_ZERO)
    return float(a @ b) / (norms[0] * norms[1])


def agreement(reference: UpdateRecorder, other: UpdateRecorder, samples: Any) -> dict[str, Array]:
    """The cosines of both updates for each (x, label) of `samples`, by symbol."""
    cosines: dict[str, list[float]] = {}
    for x, label in samples:
        arguments = [x, np.array(label, np.int32), np.array(1.0, np.float32)]
        expected, got = reference.updates(arguments), other.updates(arguments)
        for symbol, update in expected.items():
            cosines.setdefault(symbol, []).append(cosine(update, got[symbol]))
    return {symbol: np.array(values) for symbol, values in cosines.items()}


def load_float_state(recorder: UpdateRecorder, state: dict[str, Array]) -> None:
    """Replace the head of a step by that of a float one: rounded, where the step has it in i32."""
    for symbol, value in state.items():
        own = recorder.state[symbol]
        if own.dtype == np.int32 and value.dtype == np.float32:
            value = np.rint(np.ldexp(value.astype(np.float64), _fraction(recorder.step, symbol)))
        recorder.state[symbol] = value.astype(own.dtype).reshape(own.shape)


def _fraction(step: Any, symbol: str) -> int:
    """The fraction bits of a parameter of an integer head."""
    for op in step.regions[0].blocks[0]:
        if op.operation.name == "tiny.integer_linear" and symbol in (
            value.owner.attributes["symbol"].value for value in (op.w, op.bias)
        ):
            return op.fraction.value
    raise InvalidOption(f"the step has no integer head with a parameter {symbol}")


def _trained_head(model: bytes, name: str, classes: int | None, data: Any, steps: int) -> Any:
    """The state of a float head after `steps` steps of training it alone."""
    from tiny_pipelines.experiment import TrainingPlan, load_experiment
    from tiny_pipelines.frontends import import_bytes
    from tiny_pipelines.training import TrainingOptions, build_training_step

    module = import_bytes(model, name, classes, 0)
    options = TrainingOptions("classifier-only", gradients="float32")
    step = build_training_step(module, options, until="scheduled")
    experiment = load_experiment(step, data)
    if steps:
        experiment.train(TrainingPlan(steps=steps, rate=0.4 / 256, schedule="constant"))
    return experiment.model.state(), experiment.preprocessing


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the mean and the least cosine of each parameter, as one JSON object."""
    from tiny_dialect.bindings import ir
    from tiny_dialect.dialect import new_context
    from tiny_pipelines.datasets import load_dataset
    from tiny_pipelines.frontends import import_bytes
    from tiny_pipelines.training import TrainingOptions, build_training_step

    options = _options().parse_args(arguments)
    model, name = options.model.read_bytes(), str(options.model)
    data = load_dataset(options.data)
    report: dict[str, Any] = {}
    with new_context(), ir.Location.unknown():
        head, preprocessing = _trained_head(model, name, options.classes, data, options.head_steps)

        def recorder(gradients: str) -> UpdateRecorder:
            module = import_bytes(model, name, options.classes, 0)
            training = TrainingOptions(options.scheme, gradients=gradients, fuse_blocks=False)
            made = UpdateRecorder(build_training_step(module, training, until="scheduled"))
            load_float_state(made, head)
            return made

        test = data.test.limited(options.samples)
        samples = [
            (preprocessing.apply(image), int(label))
            for image, label in zip(test.samples, test.labels, strict=True)
        ]
        reference = recorder("float32")
        for bits in options.bits:
            found = agreement(reference, recorder(f"int{bits}"), samples)
            report[f"int{bits}"] = {
                symbol: {"mean": round(float(c.mean()), 5), "least": round(float(c.min()), 5)}
                for symbol, c in found.items()
            }
    print(json.dumps(report, indent=2))
    return 0


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="gradient_agreement", description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("--scheme", required=True)
    options.add_argument("--data", required=True, type=Path)
    options.add_argument("--classes", type=int)
    options.add_argument("--samples", type=int, default=20)
    options.add_argument("--head-steps", type=int, default=500)
    options.add_argument("--bits", type=int, nargs="+", default=[16, 8], choices=[16, 8])
    return options


if __name__ == "__main__":
    raise SystemExit(main())
