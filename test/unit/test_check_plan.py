"""Every way to spoil a plan is caught by tiny-check-plan, at the op that would do the harm."""

import ast
from pathlib import Path

import pytest
from step_text import STEP

import tiny_passes.check_plan
from tiny_dialect.attributes import integer, integers, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import parse_module
from tiny_passes.registry import PassError, run_pipeline


class Planned:
    """The planned module of `STEP` and short ways to spoil it."""

    def __init__(self, options=""):
        self.module = parse_module(STEP.encode(), "step")
        run_pipeline(self.module, f"tiny-plan-memory{options}")
        self.step, self.infer = self.module.body.operations

    def op(self, name, layer="", function=None):
        return next(
            op
            for op in (function or self.step).regions[0].blocks[0]
            if op.operation.name == f"tiny.{name}"
            and (not layer or op.attributes["layer"].value == layer)
        )

    def parameter(self, symbol, function=None):
        return next(
            op
            for op in (function or self.step).regions[0].blocks[0]
            if "symbol" in op.attributes and op.attributes["symbol"].value == symbol
        )

    def offsets(self, name, layer):
        return to_list(self.op(name, layer).attributes["tiny.offsets"])

    def put(self, name, layer, *offsets):
        self.op(name, layer).attributes["tiny.offsets"] = integers(offsets)

    def number(self, function, name, change):
        value = function.attributes[name].value + change
        function.attributes[name] = integer(value)


def shrunk_arena(plan):
    plan.number(plan.step, "tiny.arena_bytes", -4)


def bound_too_high(plan):
    plan.number(plan.step, "tiny.arena_lower_bound_bytes", 4)


def bound_too_low(plan):
    plan.number(plan.step, "tiny.arena_lower_bound_bytes", -4)


def no_arena_bytes(plan):
    del plan.step.attributes["tiny.arena_bytes"]


def swapped_results(plan):
    first, second = plan.offsets("conv2d", "a")
    plan.put("conv2d", "a", second, first)


def overwritten_saved_mask(plan):
    plan.put("add", "b", plan.offsets("conv2d", "a")[1])


def overwritten_returned_value(plan):
    plan.put("scale_gradient", "g", plan.offsets("scale_gradient", "f")[0])


def overwritten_argument(plan):
    rate = to_list(plan.step.attributes["tiny.argument_offsets"])[2]
    plan.put("conv2d", "a", plan.offsets("conv2d", "a")[0], rate)


def replaced_by_an_op_that_may_not(plan):
    plan.put("dequantize", "c", plan.offsets("add", "b")[0])


def shifted_in_place(plan):
    plan.put("scale_gradient", "f", plan.offsets("scale_gradient", "c")[0] + 4)


def misaligned(plan):
    plan.put("dequantize", "c", plan.offsets("dequantize", "c")[0] + 2)


def negative(plan):
    plan.put("dequantize", "c", -4)


def missing_offsets(plan):
    del plan.op("dequantize").attributes["tiny.offsets"]


def too_few_offsets(plan):
    plan.put("conv2d", "a", plan.offsets("conv2d", "a")[0])


def narrow_offsets(plan):
    plan.op("dequantize").attributes["tiny.offsets"] = ir.DenseI32ArrayAttr.get([0])


def overlapping_arguments(plan):
    x, _, rate = to_list(plan.step.attributes["tiny.argument_offsets"])
    plan.step.attributes["tiny.argument_offsets"] = integers([x, rate, rate])


def no_scratch_offset(plan):
    del plan.op("add").attributes["tiny.scratch_offset"]


def scratch_over_operand(plan):
    plan.op("add").attributes["tiny.scratch_offset"] = integer(plan.offsets("conv2d", "a")[0])


def scratch_over_result(plan):
    plan.op("add").attributes["tiny.scratch_offset"] = integer(plan.offsets("add", "b")[0])


def scratch_outside(plan):
    size = plan.step.attributes["tiny.arena_bytes"].value
    plan.op("add").attributes["tiny.scratch_offset"] = integer(size - 8)


def overlapping_state(plan):
    plan.parameter("v").attributes["tiny.state_offset"] = integer(12)


def state_outside(plan):
    for function in (plan.step, plan.infer):
        plan.number(function, "tiny.state_bytes", -4)


def state_bytes_differ(plan):
    plan.number(plan.infer, "tiny.state_bytes", 4)


def state_moved_in_infer(plan):
    plan.parameter("w", plan.infer).attributes["tiny.state_offset"] = integer(16)


def misaligned_state(plan):
    plan.parameter("w").attributes["tiny.state_offset"] = integer(2)


def no_state_offset(plan):
    del plan.parameter("v").attributes["tiny.state_offset"]


def frozen_in_infer(plan):
    del plan.parameter("w", plan.infer).attributes["trained"]


def frozen_with_state(plan):
    plan.parameter("k").attributes["tiny.state_offset"] = integer(0)


def parameter_twice(plan):
    parameter = plan.parameter("v")
    parameter.attributes["symbol"] = ir.StringAttr.get("w")
    parameter.attributes["tiny.state_offset"] = integer(0)


def update_before_use(plan):
    update = plan.op("bias_update", "d").operation
    update.operands[1] = plan.step.arguments[2]
    update.move_before(plan.op("conv2d").operation)


def second_update(plan):
    plan.op("bias_update", "e").operation.operands[0] = plan.parameter("w").result


def update_of_frozen(plan):
    plan.op("bias_update", "e").operation.operands[0] = plan.parameter("k").result


def update_of_activation(plan):
    plan.op("bias_update", "e").operation.operands[0] = plan.op("add").y


def operand_read_too_late(plan):
    plan.op("scale_gradient", "f").operation.operands[0] = plan.op("dequantize").y


FAULTS = {
    shrunk_arena: "is outside the arena of",
    bound_too_high: "states a lower bound of",
    bound_too_low: "states a lower bound of",
    no_arena_bytes: "has no tiny.arena_bytes",
    swapped_results: "(overwrites|overlaps|outside)",
    overwritten_saved_mask: r"result 0 of tiny.add \(b\) overwrites",
    overwritten_returned_value: r"overwrites result 0 of tiny.scale_gradient \(f\)",
    overwritten_argument: "overwrites argument 2, which is still needed",
    replaced_by_an_op_that_may_not: r"result 0 of tiny.dequantize \(c\) overwrites",
    shifted_in_place: "(overwrites|outside)",
    misaligned: "is not aligned to 4",
    negative: "is outside the arena",
    missing_offsets: "has no tiny.offsets",
    too_few_offsets: "expects 2 tiny.offsets, got 1",
    narrow_offsets: "tiny.offsets: expected array<i64",
    overlapping_arguments: "argument 2 overlaps argument 1",
    no_scratch_offset: "has no tiny.scratch_offset",
    scratch_over_operand: r"scratch of tiny.add \(b\) (overwrites|overlaps)",
    scratch_over_result: r"scratch of tiny.add \(b\) (overwrites|overlaps)",
    scratch_outside: "is outside the arena",
    overlapping_state: "v overlaps w in the state region",
    state_outside: "v at .* is outside the state of 28 bytes",
    state_bytes_differ: "another function",
    state_moved_in_infer: "(lies at 16 here|overlaps v)",
    misaligned_state: "w at 2 of the state is not aligned",
    no_state_offset: "has no tiny.state_offset",
    frozen_in_infer: "w is trained in one function and frozen in another",
    frozen_with_state: "k is frozen, but has a place in the state region",
    parameter_twice: "w occurs twice in one function",
    update_before_use: r"reads a parameter after tiny.bias_update \(d\) wrote it",
    second_update: r"reads a parameter after tiny.bias_update \(d\) wrote it",
    update_of_frozen: "writes what is not a trained parameter",
    update_of_activation: "writes what is not a trained parameter",
    operand_read_too_late: r"overwrites result 0 of tiny.dequantize \(c\), which is still needed",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_fault_is_caught(context, fault):
    plan = Planned()
    run_pipeline(plan.module, "tiny-check-plan")
    fault(plan)
    with pytest.raises(PassError, match=FAULTS[fault]) as caught:
        run_pipeline(plan.module, "tiny-check-plan", verify=False)
    assert caught.value.where.startswith("step:")


@pytest.mark.parametrize("options", ["", "{in_place=false}", "{alignment=16}"])
def test_good_plans_pass(context, options):
    run_pipeline(Planned(options).module, "tiny-check-plan")


@pytest.mark.parametrize("name", ["check_plan", "check_overlap", "check_stream"])
def test_checker_shares_no_code_with_the_planner(name):
    folder = Path(tiny_passes.check_plan.__file__ or "").parent
    tree = ast.parse((folder / f"{name}.py").read_text("utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    mine = {module for module in modules if module and module.startswith("tiny_passes")}
    own = {f"tiny_passes.{part}" for part in ("registry", "check_overlap", "check_stream")}
    assert mine <= own
