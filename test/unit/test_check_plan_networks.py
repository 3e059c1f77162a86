"""Faults planted in the plan of a network: fused blocks, rows overwritten, a stream, integers.

`test_check_plan` spoils a plan written by hand; here the planner made it, with every pass that lets
memory be used twice, and what is spoilt is what those passes rely on.
"""

import pytest
import small_network

from tiny_dialect.attributes import integer, integers, to_list
from tiny_dialect.bindings import ir
from tiny_passes.graph import find_function
from tiny_passes.registry import PassError, run_pipeline
from tiny_passes.streamed import RING_ROWS
from tiny_pipelines.training import TrainingOptions, pipeline_text

_WORD = 4


class Network:
    """The small network, planned, its ops by name and layer, and short ways to spoil it."""

    def __init__(self, streamed: bool) -> None:
        scheme = "bias-only" if streamed else "full"
        options = TrainingOptions(scheme, gradients="int16", stream_input=streamed)
        text = pipeline_text(options, target="cortex-m7")
        text = text.replace("tiny-fuse-blocks{row_", "tiny-fuse-blocks{all=true row_")
        text = text.replace("tiny-overlap-rows,", "tiny-overlap-rows{all=true},")
        assert text.count("all=true") == 2
        self.module = small_network.build()
        run_pipeline(self.module, text)

    def function(self, name):
        return find_function(self.module, name)

    def op(self, name, layer="", function="train_step"):
        (found,) = (
            op.operation
            for op in self.function(function).regions[0].blocks[0].operations
            if op.operation.name == f"tiny.{name}"
            and (not layer or layer in op.attributes["layer"].value)
        )
        return found

    def parameter(self, symbol):
        return next(
            op
            for op in self.function("train_step").regions[0].blocks[0].operations
            if "symbol" in op.attributes and op.attributes["symbol"].value == symbol
        )

    def place(self, value):
        """Where a value lies."""
        if isinstance(value.owner, ir.Block):
            offsets = value.owner.owner.operation.attributes["tiny.argument_offsets"]
            return to_list(offsets)[value.arg_number]
        return to_list(value.owner.attributes["tiny.offsets"])[value.result_number]

    def put(self, value, offset):
        offsets = to_list(value.owner.attributes["tiny.offsets"])
        offsets[value.result_number] = offset
        value.owner.attributes["tiny.offsets"] = integers(offsets)

    def number(self, op, name, value):
        op.attributes[name] = integer(value)

    def ring(self, rows):
        """Give the streamed input of the step a ring of so many rows."""
        function = self.function("train_step")
        first, *others = function.attributes["arg_attrs"]
        changed = {one.name: one.attr for one in first} | {RING_ROWS: integer(rows)}
        function.attributes["arg_attrs"] = ir.ArrayAttr.get([ir.DictAttr.get(changed), *others])

    def ring_rows(self):
        return self.function("train_step").attributes["arg_attrs"][0][RING_ROWS].value


# Of the network whose input exists whole.


def live_values_swapped(net):
    output, mask = net.op("conv2d", "depthwise").results
    first, second = net.place(output), net.place(mask)
    net.put(output, second)
    net.put(mask, first)


def rows_one_row_too_near(net):
    conv = net.op("conv2d", "stem", "infer")
    x = conv.operands[0]
    assert net.place(conv.results[0]) < net.place(x) < net.place(conv.results[0]) + 100
    net.put(conv.results[0], net.place(x))


def rows_one_word_too_near(net):
    conv = net.op("conv2d", "stem", "infer")
    net.put(conv.results[0], net.place(conv.results[0]) + _WORD)


def rows_no_longer_promised(net):
    del net.op("conv2d", "stem", "infer").attributes["tiny.traversal"]


def rows_taken_for_planes(net):
    net.op("conv2d", "stem", "infer").attributes["tiny.traversal"] = ir.StringAttr.get("planes")


def rows_in_an_unknown_order(net):
    net.op("conv2d", "stem", "infer").attributes["tiny.traversal"] = ir.StringAttr.get("columns")


def in_place_with_a_later_reader(net):
    normalized = net.op("normalize_gradient", "project")
    assert net.place(normalized.results[0]) == net.place(normalized.operands[0])
    update = net.op("integer_conv2d_weight_update", "project")
    number = list(update.operands).index(normalized.results[0])
    update.operands[number] = normalized.operands[0]


def header_over_a_header(net):
    total = net.op("integer_add_gradients")
    net.put(total.results[1], net.place(total.operands[1]))


def header_in_the_loss(net):
    loss = net.function("train_step").regions[0].blocks[0].operations[-1].operands[0]
    net.put(net.op("normalize_gradient", "project").results[1], net.place(loss))


def label_overwritten_before_it_is_read(net):
    label = net.function("train_step").regions[0].blocks[0].arguments[1]
    net.put(net.op("global_average_pool").results[0], net.place(label))


def scratch_over_what_a_later_gradient_reads(net):
    saved = net.op("conv2d", "stem").results[0]
    net.number(net.op("integer_bias_update", "project"), "tiny.scratch_offset", net.place(saved))


def scratch_of_negative_size(net):
    net.number(net.op("integer_bias_update", "project"), "tiny.scratch_bytes", -_WORD)


def arena_one_byte_short(net):
    function = net.function("train_step")
    net.number(function, "tiny.arena_bytes", function.attributes["tiny.arena_bytes"].value - 1)


def state_one_word_into_the_next(net):
    parameter = net.parameter("head.weight")
    place = parameter.attributes["tiny.state_offset"].value
    net.number(parameter, "tiny.state_offset", place - _WORD)


def update_before_its_weight_was_read(net):
    update = net.op("integer_linear_weight_update")
    update.move_before(net.op("integer_linear_input_grad"))


def updated_twice(net):
    update = net.op("integer_linear_weight_update")
    with ir.InsertionPoint(update):
        update.clone()


def read_again_after_it_was_overwritten(net):
    total = net.op("integer_add_gradients")
    assert net.place(total.results[0]) in [net.place(total.operands[n]) for n in (0, 2)]
    with ir.InsertionPoint(net.op("normalize_gradient", "stem")):
        total.clone()


WHOLE = {
    live_values_swapped: "(overwrites|overlaps|outside)",
    rows_one_row_too_near: r"result 0 of tiny.conv2d \(stem\) overwrites argument 0",
    rows_one_word_too_near: r"result 0 of tiny.conv2d \(stem\) overwrites argument 0",
    rows_no_longer_promised: r"result 0 of tiny.conv2d \(stem\) overwrites argument 0",
    rows_taken_for_planes: r"result 0 of tiny.conv2d \(stem\) overwrites argument 0",
    rows_in_an_unknown_order: r"result 0 of tiny.conv2d \(stem\) overwrites argument 0",
    in_place_with_a_later_reader: r"\(project\) overwrites result 0 of tiny.normalize_gradient",
    header_over_a_header: r"result 1 of tiny.integer_add_gradients \(stem\) overwrites",
    header_in_the_loss: "overwrites result 0 of tiny.fixed_to_float",
    label_overwritten_before_it_is_read: "overwrites argument 1, which is still needed",
    scratch_over_what_a_later_gradient_reads: r"scratch of .* overwrites result 0 of tiny.conv2d",
    scratch_of_negative_size: "states -4 bytes of scratch",
    arena_one_byte_short: "is outside the arena of 1051 bytes",
    state_one_word_into_the_next: "head.weight overlaps .* in the state region",
    update_before_its_weight_was_read: "reads a parameter after tiny.integer_linear_weight_update",
    updated_twice: "reads a parameter after tiny.integer_linear_weight_update",
    read_again_after_it_was_overwritten: r"overwrites .*, which is still needed",
}

# Of the network whose input arrives row by row.


def ring_of_a_row_less(net):
    net.ring(net.ring_rows() - 1)


def ring_of_no_row(net):
    net.ring(0)


def ring_of_a_negative_row(net):
    net.ring(-1)


def result_over_the_ring(net):
    conv = net.op("conv2d", "stem")
    net.put(conv.results[0], net.place(conv.results[0]) + _WORD)


def scratch_over_the_ring(net):
    conv = net.op("conv2d", "stem")
    net.number(conv, "tiny.scratch_offset", net.place(conv.operands[0]) - 512)


def label_in_the_ring(net):
    offsets = net.function("train_step").attributes["tiny.argument_offsets"]
    x, _, rate = to_list(offsets)
    net.function("train_step").attributes["tiny.argument_offsets"] = integers([x, x + 60, rate])


def block_one_word_too_near(net):
    block = net.op("fused_block")
    assert net.place(block.results[0]) < net.place(block.operands[0])
    net.put(block.results[0], net.place(block.results[0]) + _WORD)


def plane_shifted_by_a_word(net):
    gradient = net.op("integer_conv2d_input_grad", "depthwise")
    assert net.place(gradient.results[0]) == net.place(gradient.operands[0])
    net.put(gradient.results[0], net.place(gradient.operands[0]) - _WORD)


def plane_without_room_for_it(net):
    height_width_and_bytes = 5 * 4 * 2
    gradient = net.op("integer_conv2d_input_grad", "depthwise")
    net.number(gradient, "tiny.scratch_bytes", height_width_and_bytes - 1)


def gradient_spread_over_its_pixel(net):
    spread = net.op("normalize_gradient", "stem").operands[0].owner.operands[0].owner
    assert spread.name == "tiny.normalize_gradient"
    net.put(spread.results[0], net.place(spread.operands[0]))


STREAMED = {
    ring_of_a_row_less: "of a streamed input of which 2 rows are kept too late",
    ring_of_no_row: "streamed through a ring of 0 rows",
    ring_of_a_negative_row: "streamed through a ring of -1 rows",
    result_over_the_ring: r"result 0 of tiny.conv2d \(stem\) overwrites argument 0",
    scratch_over_the_ring: r"scratch of tiny.conv2d \(stem\) overwrites argument 0",
    label_in_the_ring: "argument 1 overlaps argument 0",
    block_one_word_too_near: r"result 0 of tiny.fused_block .* overwrites result 0 of tiny.conv2d",
    plane_shifted_by_a_word: r"input_grad \(depthwise\) overwrites result 0 of tiny.normalize",
    plane_without_room_for_it: r"input_grad \(depthwise\) overwrites result 0 of tiny.normalize",
    gradient_spread_over_its_pixel: r"result 0 of tiny.normalize_gradient \(residual\) overwrites",
}


@pytest.mark.parametrize("fault", [*WHOLE, *STREAMED], ids=lambda fault: fault.__name__)
def test_fault_is_caught(context, fault):
    net = Network(streamed=fault in STREAMED)
    fault(net)
    with pytest.raises(PassError, match={**WHOLE, **STREAMED}[fault]):
        run_pipeline(net.module, "tiny-check-plan", verify=False)


@pytest.mark.parametrize("streamed", [False, True])
def test_what_the_faults_are_planted_in_is_legal(context, streamed):
    run_pipeline(Network(streamed).module, "tiny-check-plan", verify=False)
