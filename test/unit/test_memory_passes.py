"""Order and address search on plain graphs, against exhaustive search; the passes on small IR."""

import itertools
import random

import pytest
from step_text import STEP

from tiny_dialect.dialect import parse_module
from tiny_dialect.errors import InvalidOption
from tiny_passes.liveness import (
    Buffer,
    Lifetime,
    Sharing,
    Step,
    StepGraph,
    choose_sharings,
    is_valid,
    lifetimes,
    live_bytes,
    peak_bytes,
    read_function,
)
from tiny_passes.offset_search import plan_offsets
from tiny_passes.order_search import find_order, order_bound_bytes
from tiny_passes.registry import PassError, run_pipeline


def random_graph(seed: int, steps: int) -> StepGraph:
    """A graph with fan-out, dead results, sharings, scratch, and steps without results."""
    choose = random.Random(seed)
    buffers = [Buffer(f"argument {n}", 4 * choose.randint(1, 6)) for n in range(2)]
    made = [Step("entry", writes=(0, 1))]
    writer = {0: 0, 1: 0}
    for index in range(1, steps + 1):
        reads = tuple(sorted(choose.sample(range(len(buffers)), choose.randint(1, 2))))
        after = {0, *(writer[buffer] for buffer in reads)}
        if index > 1 and choose.random() < 0.1:
            after.add(choose.randrange(1, index))
        writes = tuple(range(len(buffers), len(buffers) + choose.choice((0, 1, 1, 1, 2))))
        buffers += [Buffer(f"{index}", 4 * choose.randint(1, 20)) for _ in writes]
        writer.update((buffer, index) for buffer in writes)
        shared = writes[:1] if choose.random() < 0.5 else ()
        sharings = tuple(
            Sharing(result, operand, choose.choice((0, 0, 4, 12, 40)))
            for result in shared
            for operand in reads
        )
        scratch = choose.choice((0, 0, 0, 4, 24))
        made.append(
            Step(f"{index}", reads, writes, tuple(sorted(after)), sharings, scratch, not writes)
        )
    kept = tuple(sorted(choose.sample(range(len(buffers)), 2)))
    made.append(Step("return", kept, (), tuple(range(steps + 1))))
    return StepGraph(tuple(buffers), tuple(made))


def all_orders(graph: StepGraph):
    inner = range(1, len(graph.steps) - 1)
    for middle in itertools.permutations(inner):
        order = (0, *middle, len(graph.steps) - 1)
        if is_valid(graph, order):
            yield order


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_order_is_optimal_on_small_graphs(seed, in_place):
    graph = random_graph(seed, 6)
    best = min(peak_bytes(graph, order, in_place=in_place) for order in all_orders(graph))
    found = find_order(graph, in_place=in_place)
    assert order_bound_bytes(graph, in_place=in_place) <= best
    assert (found.peak_bytes, found.bound_bytes) == (best, best)


@pytest.mark.parametrize("seed", range(6))
def test_order_is_valid_repeatable_and_never_worse(seed):
    graph = random_graph(seed, 40)
    found = find_order(graph, state_budget=50)
    assert is_valid(graph, found.order)
    assert peak_bytes(graph, found.order) == found.peak_bytes
    assert found.bound_bytes <= found.peak_bytes <= peak_bytes(graph, graph.source_order)
    assert found == find_order(graph, state_budget=50)


def holders(graph, order, plan):
    """(start, end, lifetime) of every buffer and scratch of a plan."""
    position = {step: place for place, step in enumerate(order)}
    for buffer, life, start in zip(
        graph.buffers, lifetimes(graph, order), plan.offsets, strict=True
    ):
        yield start, start + buffer.size_bytes, life
    for step, start in plan.scratch_offsets.items():
        here = Lifetime(position[step], position[step])
        yield start, start + graph.steps[step].scratch_bytes, here


def allowed_distances(graph, order, alignment):
    """For a result and an operand that dies at its step, how many bytes before it it may start."""
    lives = lifetimes(graph, order)
    return {
        (sharing.result, sharing.operand): -(-sharing.distance // alignment) * alignment
        for place, index in enumerate(order)
        for sharing in graph.steps[index].sharings
        if lives[sharing.operand].last == place
    }


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("alignment", [4, 16])
@pytest.mark.parametrize("seed", range(8))
def test_plans_do_not_overlap(seed, alignment, in_place):
    graph = random_graph(seed, 30)
    order = graph.source_order
    plan = plan_offsets(graph, order, in_place=in_place, alignment=alignment)
    placed = list(holders(graph, order, plan))
    allowed = allowed_distances(graph, order, alignment)
    assert all(start % alignment == 0 and start >= 0 for start, _, _ in placed)
    assert plan.arena_bytes == max(end for _, end, _ in placed)
    assert set(plan.scratch_offsets) == {i for i, s in enumerate(graph.steps) if s.scratch_bytes}
    for (i, one), (j, other) in itertools.combinations(enumerate(placed), 2):
        apart = one[1] <= other[0] or other[1] <= one[0] or not one[2].overlaps(other[2])
        shared = in_place and (
            other[0] - one[0] == allowed.get((i, j)) or one[0] - other[0] == allowed.get((j, i))
        )
        assert apart or shared


@pytest.mark.parametrize("seed", range(8))
def test_plan_is_near_its_bound(seed):
    graph = random_graph(seed, 60)
    plan = plan_offsets(graph, graph.source_order)
    sharings = choose_sharings(graph, graph.source_order)
    assert plan.bound_bytes == max(live_bytes(graph, graph.source_order, sharings))
    assert plan.bound_bytes <= plan.arena_bytes <= 1.1 * plan.bound_bytes
    assert plan == plan_offsets(graph, graph.source_order)


def test_live_bytes_of_a_chain():
    # x(8) -> a(8, over x) -> b(4); c dies at once; scratch only where it is used
    buffers = tuple(Buffer(name, size) for name, size in (("x", 8), ("a", 8), ("b", 4), ("c", 12)))
    steps = (
        Step("entry", writes=(0,)),
        Step("one", (0,), (1,), (0,), (Sharing(1, 0),)),
        Step("two", (1,), (2, 3), (0, 1), (), 16),
        Step("return", (2,), (), (0, 1, 2)),
    )
    graph = StepGraph(buffers, steps)
    assert choose_sharings(graph, graph.source_order) == (Sharing(1, 0),)
    assert live_bytes(graph, graph.source_order) == (8, 16, 40, 4)
    assert live_bytes(graph, graph.source_order, (Sharing(1, 0),)) == (8, 8, 40, 4)


def test_graph_of_a_step(context):
    module = parse_module(STEP.encode(), "step")
    graph = read_function(module.body.operations[0]).graph
    names = [step.name for step in graph.steps]
    assert names[0] == "entry"
    assert names[1:3] == ["tiny.conv2d (a)", "tiny.add (b)"]
    sizes = [buffer.size_bytes for buffer in graph.buffers]
    assert sizes == [24, 4, 4, 24, 8, 24, 96, 96, 96, 96]  # a mask pixel takes one byte, 6 pixels
    assert graph.steps[2].scratch_bytes == 12
    assert graph.steps[2].sharings == (Sharing(5, 3), Sharing(5, 0))
    lives = lifetimes(graph, graph.source_order)
    assert lives[1] == Lifetime(0, 0)  # the label is not used
    assert lives[0] == Lifetime(0, 2)
    assert lives[8] == Lifetime(7, 9)  # returned
    assert [step.is_update for step in graph.steps].count(True) == 2
    assert 1 in graph.steps[5].after  # the update of w follows the convolution that reads it


def test_offsets_in_place_and_scratch(context):
    module = parse_module(STEP.encode(), "step")
    run_pipeline(module, "tiny-plan-memory,tiny-check-plan")
    step = module.body.operations[0]
    conv, add, _, scale = [
        op for op in step.regions[0].blocks[0] if "tiny.offsets" in op.attributes
    ][:4]
    (summed,) = add.attributes["tiny.offsets"]
    x, _, _ = step.attributes["tiny.argument_offsets"]
    y, _ = conv.attributes["tiny.offsets"]
    assert summed in (x, y)
    assert "tiny.scratch_offset" in add.attributes
    assert "tiny.scratch_offset" not in scale.attributes
    assert step.attributes["tiny.state_bytes"].value == 32
    assert (
        step.attributes["tiny.arena_bytes"].value
        == step.attributes["tiny.arena_lower_bound_bytes"].value
    )


def test_wrong_alignment_is_refused(context):
    module = parse_module(STEP.encode(), "step")
    with pytest.raises(InvalidOption, match="alignment 6 is not one of"):
        run_pipeline(module, "tiny-plan-memory{alignment=6}")


@pytest.mark.parametrize("name", ["tiny-reorder", "tiny-plan-memory"])
def test_use_after_update_is_refused(context, name):
    lines = STEP.splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if "tiny.conv2d" in line)
    update = next(line for line in lines if "bias_update" in line and "%w" in line)
    early = update.replace("%h", "%z")
    gradient = '  %z = "tiny.dequantize"(%x) : (!q) -> !f\n'
    lines.remove(update)
    text = "".join([*lines[:number], gradient, early, *lines[number:]])
    with pytest.raises(PassError, match=r"step:\d+:3 \(d\): .*updates w before its last other use"):
        run_pipeline(parse_module(text.encode(), "step"), name)


def test_state_of_two_functions_must_agree(context):
    head, infer = STEP.split("func.func @infer")
    infer = infer.replace("dense<1> : tensor<4xi32>} : () -> tensor<4xi32>", "VALUE")
    infer = infer.replace("VALUE", "dense<1> : tensor<1x4xi32>} : () -> tensor<1x4xi32>")
    infer = "\n".join(line for line in infer.splitlines() if "conv2d" not in line)
    infer = infer.replace("%y, %x", "%x, %x")
    module = parse_module((head + "func.func @infer" + infer).encode(), "step")
    with pytest.raises(PassError, match="w is tensor<1x4xi32> here and tensor<4xi32> elsewhere"):
        run_pipeline(module, "tiny-plan-memory")


@pytest.mark.parametrize("name", ["tiny-reorder", "tiny-plan-memory"])
def test_value_without_a_size_is_refused(context, name):
    text = b"func.func @infer(%x: tensor<?xf32>) {\n  %c = arith.constant 1 : i64\n  return\n}"
    with pytest.raises(PassError, match=r"step:1:1: .* type tensor<\?xf32>, which has no storage"):
        run_pipeline(parse_module(text, "step"), name)
    text = text.replace(b"?", b"4")
    with pytest.raises(PassError, match=r"step:2:8: .* type i64, which has no storage size"):
        run_pipeline(parse_module(text, "step"), name)
