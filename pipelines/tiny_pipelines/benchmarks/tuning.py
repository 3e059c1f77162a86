"""Which blocking is best for a core: candidates measured in the emulator on small networks.

    core, kernel --cells, a network of layers that use it--> instructions, code bytes --> chosen

A candidate is recorded on the ops of a training step as `tiny-choose-blocking` would, and their
kernels run on noise that is always the same: the figures repeat exactly. Cheapest is what has the
least `instructions * (1 + code bytes / 64 KiB)`, so that a loop is unrolled as far as that pays.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.types import storage_bytes
from tiny_passes.graph import TRAIN_STEP, body, find_function
from tiny_passes.registry import run_pipeline
from tiny_pipelines.benchmarks.benchmark import kernel_sizes
from tiny_pipelines.frontends.emitter import emit
from tiny_pipelines.frontends.layers import (
    ConvLayer,
    GlobalAveragePoolLayer,
    LinearLayer,
    Network,
    Quantization,
)
from tiny_pipelines.inference import planning
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.codegen import compile_kernels
from tiny_targets.kernel_bench import run_kernels
from tiny_targets.kernels import Scratch, Table, build_call
from tiny_targets.kernels.blocked_forms import blocked_form
from tiny_targets.kernels.blocking import Blocking, record_blocking
from tiny_targets.kernels.kernel import KernelCall
from tiny_targets.kernels.scratch import scratch_of
from tiny_targets.target import Target

CODE_BUDGET = 64 * 1024
_CLASSES = 4
_OPTIONS = TrainingOptions("full", gradients="int16", fuse_blocks=False, row_overlap=False)
_CANDIDATES = {
    "pointwise.halves": "2x2x6 2x2x8 2x2x12 2x2x16 2x4x4 1x2x12",
    "pointwise.words": "2x4x1 2x4x2 2x4x4 2x2x4 4x2x2 4x4x1",
    "pointwise.floats": "4x4x1 4x4x2 4x4x4 2x4x2 4x2x2",
    "dense.halves": "2x2x4 2x4x4 1x2x4 4x2x4",
    "dense.words": "2x4x4 2x2x4 4x2x4 2x4x8",
    "dense.floats": "2x4x4 2x2x4 4x2x4 4x4x4 2x4x8",
    "input_gradient.pairs": "2x2x6 2x2x12",
    "input_gradient.singles": "4x3x2 4x3x4 4x3x8 4x2x4 2x4x4 3x3x4",
}
"""What is measured for each kernel.

Chunks beyond 12 steps are no candidates of input gradients: depths of real networks have few common
divisors that long, so each brings a kernel of its own, which the few layers here do not show.
"""

_POINTWISE = ((8, 8, 24), [(120, 1, 1), (40, 1, 1), (160, 1, 1), (48, 1, 1), (192, 1, 1)])
_DENSE = ((24, 24, 3), [(16, 3, 2), (16, 3, 1), (12, 5, 2)])
_CELLS = {"pointwise": _POINTWISE, "input_gradient": _POINTWISE, "dense": _DENSE}
"""(height, width, channels) of the input, then (channels, window, stride) of each layer."""


def cells(form: str) -> Any:
    """The module at the `model` stage of the network that a kernel is measured on."""
    (height, width, channels), layers = _CELLS[form.split(".")[0]]
    rng = np.random.default_rng(0)
    unit = Quantization(0.05, -3)
    network: list[Any] = []
    name, inputs = "input", channels
    for number, (outputs, window, stride) in enumerate(layers):
        shape, pad = (outputs, window, window, inputs), window // 2
        network.append(
            ConvLayer(
                name=f"cell{number}",
                inputs=(name,),
                input_quantization=unit,
                weight=rng.integers(-127, 128, shape).astype(np.int8),
                weight_scales=rng.uniform(0.5, 1.5, outputs) / (75 * np.sqrt(inputs) * window),
                bias=rng.integers(-200, 200, outputs).astype(np.int32),
                output_quantization=unit,
                strides=(stride, stride),
                pads=(pad, pad, pad, pad),
            )
        )
        name, inputs = f"cell{number}", outputs
    network.append(GlobalAveragePoolLayer("pool", (name,)))
    weights = rng.normal(size=(_CLASSES, inputs)).astype(np.float32)
    network.append(LinearLayer("head", ("pool",), weights, np.zeros(_CLASSES, np.float32)))
    return emit(Network(form, "cells", (1, height, width, channels), unit, tuple(network), "head"))


def measure(form: str, target: Target, blocking: Blocking) -> dict[str, int]:
    """What the ops with that kernel cost in their cells: instructions, and bytes of all kernels."""
    from tiny_dialect.dialect import new_context

    with new_context():
        module = cells(form)
        build_training_step(module, _OPTIONS, until="scheduled")
        step = find_function(module, TRAIN_STEP)
        ops = [op for op in body(step) if blocked_form(op, target) == form]
        for op in ops:
            record_blocking(op, blocking)
        run_pipeline(module, planning(target.name))
        ops = [op for op in body(find_function(module, TRAIN_STEP)) if _has(op, form, target)]
        calls = [build_call(op, target) for op in ops]
        arrays = [_arrays(op, call) for op, call in zip(ops, calls, strict=True)]
    kernels = [call.kernel for call in calls]
    runs = run_kernels(list(zip(kernels, arrays, strict=True)), target)
    sizes = kernel_sizes(compile_kernels(kernels, target))
    return {
        "instructions": sum(run.instructions for run in runs),
        "code_bytes": sum(sizes[name] for name in {kernel.name for kernel in kernels}),
    }


def _has(op: Any, form: str, target: Target) -> bool:
    return blocked_form(op, target) == form


def _arrays(op: Any, call: KernelCall) -> list[NDArray[Any]]:
    """Memory for each argument of a call: noise, tables, zeros where the kernel writes."""
    rng = np.random.default_rng(0)
    found: list[NDArray[Any]] = []
    memory: dict[Any, NDArray[Any]] = {}
    for argument in call.arguments:
        if isinstance(argument, Table):
            found.append(argument.array)
        elif isinstance(argument, Scratch):
            found.append(np.zeros(scratch_of(op) - argument.offset, np.int8))
        else:
            if argument not in memory:
                memory[argument] = rng.integers(-128, 128, storage_bytes(argument)).astype(np.int8)
            found.append(memory[argument])
    return found


def forms_of(target: Target) -> list[str]:
    """The kernels that a core uses in the cells."""
    from tiny_dialect.dialect import new_context

    found: set[str | None] = set()
    for form in ("pointwise", "dense"):
        with new_context():
            module = cells(form)
            build_training_step(module, _OPTIONS, until="scheduled")
            step = find_function(module, TRAIN_STEP)
            found |= {blocked_form(op, target) for op in body(step)}
    return sorted(form for form in found if form is not None)


def tune(target: Target, tell: Callable[[str], None]) -> dict[str, Any]:
    """The entry of the table for one core: `chosen` and `measured` by kernel."""
    record: dict[str, Any] = {}
    for form in forms_of(target):
        measured: dict[str, dict[str, int]] = {}
        for text in _CANDIDATES[form].split():
            measured[text] = measure(form, target, Blocking.parse(text))
            cost = measured[text]
            tell(
                f"{target.name} {form} {text}: {cost['instructions']:,} instructions, "
                f"{cost['code_bytes']:,} bytes"
            )
        record[form] = {"chosen": cheapest(measured.items()), "measured": measured}
    return record


def cheapest(measured: Iterable[tuple[str, dict[str, int]]]) -> str:
    """The candidate with the least instructions, code bytes weighed in; the first of equals."""

    def price(entry: tuple[str, dict[str, int]]) -> float:
        cost = entry[1]
        return cost["instructions"] * (1 + cost["code_bytes"] / CODE_BUDGET)

    return min(measured, key=price)[0]
