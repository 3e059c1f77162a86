"""The published models on emulated boards: every layer of one image, bit for bit."""

import numpy as np
import pytest

from tiny_passes.registry import run_pipeline
from tiny_pipelines.frontends import import_model
from tiny_targets.boards import find_board
from tiny_targets.codegen import compile_kernels
from tiny_targets.emulate import Emulator
from tiny_targets.firmware import build_image
from tiny_targets.schedule import build_schedule

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.mark.parametrize("board_name", ["stm32f746", "generic-rv32imafc", "esp32-c3"])
@pytest.mark.parametrize("model", ["mcunet-5fps", "mbv2-w0.35"])
def test_every_layer_of_the_first_image(zoo, context, model, board_name):
    module = import_model(zoo / "models" / "original" / f"{model}.pkl")
    run_pipeline(module, "tiny-reorder,tiny-plan-memory")
    golden = np.load(zoo / "models" / "golden" / f"golden_{model}.npz")
    board = find_board(board_name)
    schedule = build_schedule(module, board.target)
    image = build_image(schedule, compile_kernels(schedule.kernels, board.target), board)
    emulator = Emulator(image)
    outputs = {}
    x = golden["input_int8_nchw"][0].transpose(1, 2, 0)[None]
    logits = emulator.infer(
        x, observe=lambda command, results: outputs.update({command.layer: results[0]})
    )
    expected = {key.removeprefix("layer0/"): golden[key] for key in golden if "/" in key}
    assert set(outputs) == set(expected)
    for name, channels_first in expected.items():
        np.testing.assert_array_equal(
            outputs[name][0], channels_first.transpose(1, 2, 0), err_msg=name
        )
    np.testing.assert_array_equal(outputs["avgpool"].ravel(), golden["avgpool"][0])
    np.testing.assert_array_equal(logits.ravel(), golden["logits"][0])
    assert image.sizes.sram <= 256 * 1024 and image.sizes.flash <= 1024 * 1024
