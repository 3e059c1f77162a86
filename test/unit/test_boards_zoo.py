"""A published network learns on boards of 128 KiB, as it does without any memory option."""

from dataclasses import replace

import pytest

from tiny_dialect.dialect import new_context
from tiny_passes.graph import TRAIN_STEP, find_function
from tiny_pipelines.datasets import load_dataset, preprocessing_of
from tiny_pipelines.firmware import build_firmware
from tiny_pipelines.frontends import import_model
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import find_board
from tiny_targets.emulate import Emulator

STEPS, RATE = 3, 0.0004
SCHEME = "mcunet-5fps-49kb"


def learned(model, options, board, samples, labels):
    """(losses and logits of the steps, trained state, the image)."""
    with new_context():
        module = import_model(model, classes=10)
        image = build_firmware(module, options, board).image
        prepare = preprocessing_of(find_function(module, TRAIN_STEP)).apply
    emulator = Emulator(image)
    steps = []
    for sample, label in zip(samples, labels, strict=True):
        loss, logits = emulator.train_step(prepare(sample), int(label), RATE)
        steps.append((loss, logits.tobytes()))
    state = {b.name: emulator.read_state(b.name).tobytes() for b in image.schedule.state}
    return steps, state, image, emulator.stack_bytes_used


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "update"), [("stm32f407", "int16"), ("stm32l476", "int8-stochastic")]
)
def test_mcunet_trains_in_128_kib_bit_for_bit_as_without_memory_options(zoo, name, update):
    model = zoo / "models" / "original" / "mcunet-5fps.pkl"
    train = load_dataset(zoo / "images" / "cifar10_32.npz").train
    samples, labels = train.samples[:STEPS], train.labels[:STEPS]
    options = TrainingOptions(SCHEME, update, "int16")
    plain = replace(options, fuse_blocks=False, row_overlap=False)
    expected = learned(model, plain, find_board("stm32f746"), samples, labels)
    steps, state, image, stack = learned(model, options, find_board(name), samples, labels)
    used = image.sizes.sram - image.sizes.stack + stack
    print(f"{name}: {used / 1024:.1f} KiB used, of it {stack} B of stack; {image.sizes}")
    assert used <= 128 * 1024
    assert steps == expected[0]
    assert state == expected[1]
