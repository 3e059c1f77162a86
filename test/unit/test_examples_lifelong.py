"""The lifelong example: its measures, its buffer, and a short life on host and board."""

import json
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tiny_dialect.errors import InvalidModel, InvalidOption
from tiny_pipelines.frontends.head import head_values, set_head
from tiny_targets.boards import find_board

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "lifelong"


@pytest.fixture(autouse=True)
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture(scope="module")
def deployed():
    sys.path.insert(0, str(FOLDER))
    from deployed import deploy

    yield deploy(find_board("stm32f746"))
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def world(deployed):
    from tasks import load_world

    return load_world(deployed.preprocessing)


def test_forgetting_is_best_earlier_minus_final() -> None:
    from forgetting import average_accuracy, forgetting

    matrix = [[0.9, 0.1, 0.0], [0.95, 0.8, 0.2], [0.5, 0.9, 0.7]]
    assert average_accuracy(matrix) == pytest.approx(0.7)
    assert forgetting(matrix) == pytest.approx(((0.95 - 0.5) + (0.8 - 0.9)) / 2)
    assert forgetting([[0.5]]) == 0.0


def test_buffer_is_balanced_and_keeps_within_its_capacity() -> None:
    from replay import ReplayBuffer

    buffer = ReplayBuffer(12, np.random.default_rng(0))
    for number in range(500):
        label = 2 if number % 50 == 49 else number % 2
        buffer.show(np.full((1, 2, 2, 1), number % 128, np.int8), label)
        assert len(buffer) == min(number + 1, 12)
    assert Counter(buffer.labels) == {0: 4, 1: 4, 2: 4}


def test_buffer_draws_each_class_uniformly_from_what_it_showed() -> None:
    from replay import ReplayBuffer

    late = 0
    for seed in range(200):
        buffer = ReplayBuffer(4, np.random.default_rng(seed))
        for number in range(40):
            buffer.show(np.array([number], np.int8), 0)
        kept = [int(buffer.draw()[0][0]) for _ in range(8)]
        late += sum(number >= 20 for number in kept)
    assert 0.4 < late / 1600 < 0.6


def test_curriculum_depends_on_the_seed_alone(world) -> None:
    from tasks import Strategy, curriculum

    short = world.limited(20, 5)
    first, again, other = (curriculum(short, Strategy("replay", 8), seed) for seed in (1, 1, 2))
    plain, twice = (curriculum(short, Strategy("", times=times), 1) for times in (1, 2))
    assert [len(stage) for stage in first] == [40, 40]
    assert [len(stage) for stage in plain] == [20, 20]
    assert [one for stage in twice for one in stage[::2]] == [one for s in plain for one in s]
    same = [np.array_equal(a[0], b[0]) for a, b in zip(first[1], again[1], strict=True)]
    assert all(same)
    assert any(a[1] != b[1] for a, b in zip(first[1], other[1], strict=True))
    assert all(label >= 7 for _, label in plain[0])
    assert {label for _, label in first[0]} & set(range(7))


def test_validation_holds_scans_out_of_the_streams(deployed, world) -> None:
    from tasks import load_world

    held = load_world(deployed.preprocessing, validation=True)
    assert len(held.tasks[2].stream) + len(held.tasks[2].test) == len(world.tasks[2].stream)
    streamed = {x.tobytes() for x, _ in held.tasks[2].stream}
    assert not streamed & {x.tobytes() for x, _ in held.tasks[2].test}


def test_the_deployed_head_knows_seven_classes(deployed, world) -> None:
    from deployed import accuracy

    deployed.host.reset()
    known, new, dark = (accuracy(deployed.host, task.test[:100]) for task in world.tasks)
    assert known > 0.96
    assert new < 0.2
    assert dark < 0.25


def test_replay_forgets_less(deployed, world) -> None:
    from forgetting import average_accuracy, forgetting
    from lifelong import live
    from tasks import Strategy

    short = world.limited(250, 80)
    strategies = Strategy("once"), Strategy("replay", 40)
    plain, replay = (live(deployed, short, one, 0.003, 0).matrix for one in strategies)
    assert plain[1][1] > 0.8, "the new classes were not learned"
    assert plain[2][2] > plain[1][2] + 0.2, "the new domain was not learned"
    assert forgetting(plain) > 0.15, "nothing to prevent"
    assert forgetting(replay) < forgetting(plain) - 0.1
    assert average_accuracy(replay) > average_accuracy(plain) + 0.1


def test_the_board_continues_with_the_same_bits(deployed, world) -> None:
    import lifelong
    from tasks import Strategy

    short, replay = world.limited(10, 12), Strategy("replay", 8)
    record = lifelong.on_board(deployed, short, replay, 0.003, 0, steps=6)
    trained = sum(value.size for value in deployed.host.state().values())
    assert record["steps"] == 6
    assert record["equal_values"] == 6 + trained + 100
    deployed.host.reset()
    symbol = deployed.host.symbols[0]
    with pytest.raises(InvalidOption, match="expected int32"):
        deployed.device().write_state(symbol, np.zeros(3, np.int32))
    with pytest.raises(InvalidOption, match="none"):
        deployed.device().write_state("none", np.zeros(3, np.int32))
    with pytest.raises(lifelong.BitsDiffer, match="differ"):
        _on_another_start(lifelong, deployed, short, replay)


def _on_another_start(lifelong, deployed, world, strategy) -> None:
    """The same with one trained value of the board off by one."""
    make = deployed.device

    class Off:
        image, host = deployed.image, deployed.host

        def device(self):
            device = make()
            write = device.write_state

            def wrong(symbol, value):
                write(symbol, value + value.dtype.type(1))

            device.write_state = wrong
            return device

    lifelong.on_board(Off(), world, strategy, 0.003, 0, steps=2)


def test_a_buffer_that_does_not_fit_is_refused(deployed) -> None:
    deployed.require_room(40)
    with pytest.raises(InvalidOption, match="needs 514000 bytes"):
        deployed.require_room(2000)


def test_command_prints_json_and_curve(tmp_path, capsys) -> None:
    import lifelong
    from tiny_pipelines.cli import entry

    svg = tmp_path / "curve.svg"
    arguments = "--seeds 1 --limit-stream 8 --limit-test 10 --buffer 4 --board-steps 2 --json --svg"
    assert entry.run(lifelong.parser(), lifelong.run, [*arguments.split(), str(svg)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["samples"] == [0, 8, 8]
    assert record["on_board"]["steps"] == 2
    assert [len(row) for row in record["strategies"]["twice"][0]["accuracy"]] == [3, 3, 3]
    assert record["memory"]["buffer"] == 4 * 257
    assert len(ElementTree.parse(svg).findall(".//{*}polyline")) == 9
    assert entry.run(lifelong.parser(), lifelong.run, ["--seeds", "0"]) == 1


def test_the_head_of_a_model_is_read_and_written(context) -> None:
    from tiny_dialect.dialect import parse_module, read_module

    module = read_module(FOLDER.parent / "digits" / "digits.mlirbc")
    weight, bias = head_values(module)
    assert weight.shape == (10, 36)
    set_head(module, weight * 2, bias + 1)
    assert np.array_equal(head_values(module)[0], weight * 2)
    assert np.array_equal(head_values(module)[1], bias + 1)
    with pytest.raises(InvalidOption, match=r"classifier.weight: values of shape \[9, 36\]"):
        set_head(module, weight[:9], bias)
    headless = (
        "func.func @infer(%x: tensor<1x2xf32>) -> tensor<1x2xf32> { return %x : tensor<1x2xf32> }"
    )
    with pytest.raises(InvalidModel, match="does not end with a float32 head"):
        head_values(parse_module(headless.encode(), "none.mlir"))
