"""Every op of a published model's training step as a kernel, on the values of a real step."""

import numpy as np
import pytest
from kernel_case import Case, check

from tiny_dialect.semantics import evaluate_op
from tiny_pipelines.frontends import import_model
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.kernels import has_kernel

pytestmark = [pytest.mark.data, pytest.mark.slow]

TINY_RATE = 1e-3


def cases_of_a_step(module, image):
    """One case an op of `@train_step`, with the operands it has when the step runs on `image`."""
    (step,) = (f for f in module.body if f.name.value == "train_step")
    block = step.regions[0].blocks[0]
    arguments = (image, np.array(3, np.int32), np.array(TINY_RATE, np.float32))
    values = dict(zip(block.arguments, arguments, strict=True))
    for op in block:
        if op.operation.name == "func.return":
            return
        operands = [values[operand] for operand in op.operands]
        if has_kernel(op):
            label = f"{op.attributes['layer'].value} {op.operation.name}"
            copies = [operand.copy() for operand in operands]
            yield Case(label, op, copies, exact=False, module=module)
        values.update(zip(op.results, evaluate_op(op, operands), strict=True))


@pytest.mark.parametrize(
    ("name", "scheme", "target"),
    [
        ("mcunet-5fps", "mcunet-5fps-49kb", "cortex-m7"),
        ("mbv2-w0.35", "mbv2-w0.35-49kb", "rv32imafc"),
    ],
)
def test_every_op_of_a_step(name, scheme, target, zoo, context):
    models = zoo / "models"
    module = import_model(models / "original" / f"{name}.pkl", classes=10)
    build_training_step(module, TrainingOptions(scheme))
    golden = np.load(models / "golden" / f"golden_{name}.npz")
    image = golden["input_int8_nchw"][0].transpose(1, 2, 0)[None]
    cases = list(cases_of_a_step(module, np.ascontiguousarray(image)))
    assert len(cases) > 80
    check(cases, target)
