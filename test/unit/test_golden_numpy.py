"""The published models, imported from their original files, on the NumPy semantics: bit for bit."""

import numpy as np
import pytest

from tiny_dialect.semantics import run
from tiny_pipelines.frontends import import_model
from tiny_pipelines.frontends.inference import infer_function

pytestmark = pytest.mark.data

MODELS = ("mcunet-5fps", "mbv2-w0.35")


@pytest.fixture(params=MODELS)
def model(request, zoo, context):
    """(module, arrays of the golden file) of one published model."""
    name = request.param
    module = import_model(zoo / "models" / "original" / f"{name}.pkl")
    golden = np.load(zoo / "models" / "golden" / f"golden_{name}.npz")
    return module, golden


def layer_outputs(function, image):
    """(activation by layer name, logits) of one NCHW int8 image."""
    outputs = {}

    def observe(op, results):
        if op.operation.name != "tiny.parameter":
            outputs[op.attributes["layer"].value] = results[0]

    (logits,) = run(function, [image.transpose(1, 2, 0)[None]], observe=observe)
    return outputs, logits


def test_pooled_features_and_logits_of_every_image(model):
    module, golden = model
    function = infer_function(module)
    for index, image in enumerate(golden["input_int8_nchw"]):
        outputs, logits = layer_outputs(function, image)
        np.testing.assert_array_equal(outputs["avgpool"].ravel(), golden["avgpool"][index])
        np.testing.assert_array_equal(logits.ravel(), golden["logits"][index])


def test_every_layer_of_the_first_image(model):
    module, golden = model
    function = infer_function(module)
    outputs, _ = layer_outputs(function, golden["input_int8_nchw"][0])
    expected = {key.removeprefix("layer0/"): golden[key] for key in golden if "/" in key}
    assert list(outputs) == list(expected)
    for name, channels_first in expected.items():
        np.testing.assert_array_equal(
            outputs[name][0], channels_first.transpose(1, 2, 0), err_msg=name
        )
