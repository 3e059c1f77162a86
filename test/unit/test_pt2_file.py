"""The reader of `.pt2` files, which needs no PyTorch: bounded, and nothing is ever unpickled."""

import json
import pickle
import pickletools
import zipfile

import pytest

from tiny_dialect.errors import InvalidModel
from tiny_pipelines.frontends import format_of, pt2_file
from tiny_pipelines.frontends.pt2_file import read_graph
from tiny_pipelines.fuzzing import exported_programs
from tiny_pipelines.fuzzing.mutations import unzipped, zipped

CONFIG = "seed/data/weights/model_weights_config.json"
MODEL = "seed/models/model.json"
SAMPLES = "seed/data/sample_inputs/model.pt"


@pytest.fixture
def members():
    return unzipped(exported_programs.pt2_file())


def changed(members, path, change):
    value = json.loads(members[path])
    change(value)
    return {**members, path: json.dumps(value).encode()}


def refused(members, method=zipfile.ZIP_DEFLATED):
    with pytest.raises(InvalidModel) as caught:
        read_graph(zipped(members, method), "m.pt2")
    text = str(caught.value)
    assert "\n" not in text and len(text) < 800
    return text


def test_a_file_without_pytorch_has_its_graph():
    data = exported_programs.pt2_file()
    assert format_of(data, "m.pt2") == "pt2"
    graph = read_graph(data, "m.pt2")
    assert graph.input_shape == (1, 3, 7, 5)
    assert [node.kind for node in graph.nodes][:4] == ["conv2d", "batch_norm", "relu", "max_pool2d"]
    assert graph.constants["p_w"].shape == (5, 3, 3, 3)
    assert graph.nodes[0].module == "convolve" and graph.nodes[0].line == "network.py:0"


def test_the_sample_inputs_of_the_seed_would_run_a_command_and_are_not_opened(members, monkeypatch):
    names = [str(value) for _, value, _ in pickletools.genops(members[SAMPLES])]
    assert {"subprocess", "call"} <= set(names)
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    assert read_graph(zipped({**members, SAMPLES: b"\x80 no pickle"}), "m").constants
    assert read_graph(zipped(members), "m").constants


def test_a_pickled_weight_is_refused(members):
    def pickled(config):
        config["config"]["p_w"]["use_pickle"] = True

    assert "pickles 'p_w', and unpickling may" in refused(changed(members, CONFIG, pickled))


def test_a_bomb_is_refused_before_it_is_unpacked(members):
    members = {**members, "seed/data/weights/p_w": bytes(pt2_file._UNPACKED_BYTES + 1)}
    assert len(zipped(members)) < 1 << 18
    assert "data/weights/p_w takes more than the" in refused(members)


def test_the_graph_has_a_limit_of_its_own(members, monkeypatch):
    monkeypatch.setattr(pt2_file, "_JSON_BYTES", 1 << 12)
    assert "models/model.json has " in refused(members)


def test_a_tensor_that_repeats_its_bytes_is_bounded(members):
    def repeated(config):
        meta = config["config"]["p_w"]["tensor_meta"]
        meta["sizes"] = [{"as_int": 1 << 14}] * 2
        meta["strides"] = [{"as_int": 0}] * 2

    assert "tensor 'p_w' takes more than the" in refused(changed(members, CONFIG, repeated))


@pytest.mark.parametrize("path", ["../models/model.json", "a/b", "", "x" * 300, "a\nb", 7])
def test_a_weight_lies_in_a_file_beside_the_others(members, path):
    def elsewhere(config):
        config["config"]["p_w"]["path_name"] = path

    assert "is in no file of a name that may be" in refused(changed(members, CONFIG, elsewhere))


def test_other_compressions_are_refused(members):
    assert "archive_format is neither stored nor deflated" in refused(members, zipfile.ZIP_LZMA)


def test_long_or_odd_text_does_not_reach_an_error(members):
    def endless(model):
        model["graph_module"]["signature"]["output_specs"][0] = {"a\n" * 5000: {}}

    assert "..." in refused(changed(members, MODEL, endless))
