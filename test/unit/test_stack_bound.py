"""The proven stack: never below what runs use, close to it, and refused where nothing is proven."""

import json

import pytest
import small_network

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.errors import DoesNotFit, InvalidModel
from tiny_pipelines.cli import tiny_compile, tiny_run
from tiny_pipelines.training import TrainingOptions, build_training_step
from tiny_targets.boards import generic_board
from tiny_targets.codegen import compile_kernels
from tiny_targets.firmware import STACK_BYTES, build_image
from tiny_targets.machine import READ, WRITE, Machine
from tiny_targets.program import read_program
from tiny_targets.schedule import build_schedule
from tiny_targets.stack_bound import riscv, stack_bound, thumb
from tiny_targets.stack_bound.instruction import Flow, Instruction, Stack, UnknownEffect
from tiny_targets.target import find_target
from tiny_targets.toolchain import compile_object, link

TARGETS = ("cortex-m7", "rv32imafc")
FLASH, SRAM, SRAM_BYTES = 0x0800_0000, 0x2000_0000, 0x4000
SCRIPT = f"""SECTIONS {{
  . = 0x{FLASH:x};
  .text : {{ *(.text .text.*) }}
  .rodata : {{ *(.rodata .rodata.*) }}
  /DISCARD/ : {{ *(.ARM.exidx*) *(.eh_frame*) *(.comment) *(.note*) }}
}}
"""


def program(target, body):
    source = f"#include <stdint.h>\nint entry(int n);\n{body}\n"
    core = find_target(target)
    return link(core, {"source.o": compile_object(core, source)}, SCRIPT, "entry")


def bound_of(elf, pointers=None):
    return stack_bound(elf, ["entry"], pointers or {})["entry"]


def used_by(target, elf, argument):
    """The bytes of stack that a call of `entry` touches."""
    machine = Machine(find_target(target), FLASH, b"", 0x10000)
    for base, data in read_program(elf).segments:
        machine.write(base, data)
    machine.map(SRAM, SRAM_BYTES, READ | WRITE)
    machine.write(SRAM, b"\xa5" * SRAM_BYTES)
    stop = FLASH + 0xFFF0
    entry = read_program(elf).address("entry") & ~1
    machine.call(entry, (argument,), SRAM + SRAM_BYTES, stop)
    return len(machine.read(SRAM, SRAM_BYTES).lstrip(b"\xa5"))


FRAMES = """
__attribute__((noinline)) static int leaf(int n) {
    volatile int32_t values[100];
    for (int i = 0; i < 100; i++) values[i] = n * i;
    return values[n & 63];
}
__attribute__((noinline)) static int64_t divided(int64_t a, int b) { return a / b; }
int entry(int n) {
    volatile int32_t values[20];
    for (int i = 0; i < 20; i++) values[i] = leaf(i);
    switch (n) {
    case 0: return values[3];
    case 1: return (int)divided(values[4], 7);
    case 2: return leaf(values[5]) + 1;
    case 3: return (int)((float)n * 1.25f);
    case 4: return values[9] ? 5 : leaf(n);
    default: return values[n & 15];
    }
}
"""


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "rv32imc", "rv32imafc"])
def test_a_bound_is_reached_and_never_exceeded(target):
    """Frames, a switch, 64-bit and soft-float routines of the compiler's own library."""
    elf = program(target, FRAMES)
    found = bound_of(elf)
    used = [used_by(target, elf, argument) for argument in range(6)]
    assert 480 < max(used) <= found.bytes <= max(used) + 16
    assert found.chain == ("entry", "leaf")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("int entry(int n) { return n < 2 ? n : entry(n - 1) * entry(n - 2); }", "calls itself"),
        ("int (*to)(int); int entry(int n) { return to(n) + 1; }", "through a pointer"),
        ("int (*to)(int); int entry(int n) { return to(n); }", "through a pointer"),
        (
            "void use(volatile char *); int entry(int n) {"
            " volatile char values[n]; use(values); return values[0]; }"
            " void use(volatile char *p) { p[0] = 1; }",
            "stack",
        ),
    ],
)
def test_what_has_no_bound_is_an_error_at_its_function(target, body, word):
    elf = program(target, body)
    with pytest.raises(InvalidModel, match=word) as caught:
        bound_of(elf)
    assert "entry" in str(caught.value)


@pytest.mark.parametrize("target", TARGETS)
def test_a_pointer_counts_with_all_it_may_call(target):
    elf = program(
        target,
        "static int shallow(int n) { return n; }"
        "static int deep(int n) { volatile char v[256]; v[n] = 1; return v[2]; }"
        "int (*const table[])(int) = {shallow, deep};"
        "int entry(int n) { return table[n & 1](n) + 1; }",
    )
    one = bound_of(elf, {"entry": ["shallow"]})
    both = bound_of(elf, {"entry": ["shallow", "deep"]})
    assert both.bytes >= one.bytes + 256
    assert both.chain == ("entry", "deep")


@pytest.mark.parametrize(
    ("decode", "code", "expected"),
    [
        (thumb, "2de9f04f", Instruction(4, amount=36)),  # push.w {r4-r11, lr}
        (thumb, "2ded088b", Instruction(4, amount=32)),  # vpush {d8-d11}
        (thumb, "bdec088b", Instruction(4, amount=-32)),  # vpop {d8-d11}
        (thumb, "4df804bd", Instruction(4, amount=4)),  # str r11, [sp, #-4]!
        (thumb, "5df804fb", Instruction(4, amount=-4, flow=Flow.RETURN)),  # ldr pc, [sp], #4
        (thumb, "adf5006d", Instruction(4, amount=2048)),  # sub.w sp, sp, #2048
        (thumb, "0df5006d", Instruction(4, amount=-2048)),  # add.w sp, sp, #2048
        (thumb, "f0bd", Instruction(2, amount=-20, flow=Flow.RETURN)),  # pop {r4-r7, pc}
        (thumb, "0caf", Instruction(2, Stack.FRAME, 48)),  # add r7, sp, #48
        (thumb, "6c466ff303048d460000", None),  # mov r4, sp; bfc of another register
        (thumb, "6c466ff30304a546", Instruction(8, Stack.ALIGN, 16)),
        (thumb, "a7f10c04a546", Instruction(6, Stack.RESTORE, 12)),
        (thumb, "dfe801f0", Instruction(4, flow=Flow.JUMP)),  # tbb [pc, r1]
        (thumb, "1847", Instruction(2, flow=Flow.LEAVE)),  # bx r3
        (riscv, "1571", Instruction(2, amount=224)),  # c.addi16sp sp, -224
        (riscv, "4111", Instruction(2, amount=16)),  # c.addi sp, -16
        (riscv, "130101b8", Instruction(4, amount=1152)),  # addi sp, sp, -1152
        (riscv, "8010", Instruction(2, Stack.FRAME, 96)),  # c.addi4spn s0, sp, 96
        (riscv, "130104f8", Instruction(4, Stack.RESTORE, 128)),  # addi sp, s0, -128
        (riscv, "137101ff", Instruction(4, Stack.ALIGN, 16)),  # andi sp, sp, -16
        (riscv, "8280", Instruction(2, flow=Flow.RETURN)),  # ret
        (riscv, "9702000067800210", Instruction(8, flow=Flow.JUMP, target=0x1100)),
    ],
)
def test_instructions(decode, code, expected):
    found = decode.decode(bytes.fromhex(code) + bytes(8), 0, 0x1000)
    assert found == (expected or Instruction(2))


@pytest.mark.parametrize(
    ("decode", "code"),
    [
        (thumb, "8d46"),  # mov sp, r1
        (thumb, "a5eb010d"),  # sub.w sp, r5, r1
        (thumb, "ad44"),  # add sp, r5
        (thumb, "80f30888"),  # msr msp, r0
        (thumb, "d0f800d0"),  # ldr.w sp, [r0]
        (thumb, "dff804f0"),  # ldr.w pc, [pc, #4]
        (riscv, "33015140"),  # sub sp, sp, t0
        (riscv, "2a81"),  # c.mv sp, a0
        (riscv, "4241"),  # c.lwsp sp, 16(sp)
        (riscv, "37010020"),  # lui sp
        (riscv, "ef020010"),  # jal t0
    ],
)
def test_what_moves_the_stack_elsewhere_is_no_guess(decode, code):
    with pytest.raises(UnknownEffect):
        decode.decode(bytes.fromhex(code) + bytes(8), 0, 0x1000)


@pytest.mark.parametrize("target", TARGETS)
def test_a_stack_that_may_not_suffice_is_refused_with_the_layer(target):
    core = find_target(target)
    with new_context(), ir.Location.unknown():
        module = build_training_step(small_network.build(), TrainingOptions("full"))
        schedule = build_schedule(module, core)
    compiled = compile_kernels(schedule.kernels, core)
    board = generic_board(core)
    bounds = build_image(schedule, compiled, board).stack_bounds
    assert set(bounds) == {"init", "infer", "train_step"}
    exact = -(-bounds["train_step"] // 16) * 16
    assert build_image(schedule, compiled, board, stack_bytes=exact).stack_bounds == bounds
    with pytest.raises(DoesNotFit, match="train_step may use") as caught:
        build_image(schedule, compiled, board, stack_bytes=exact - 16)
    message = str(caught.value)
    assert f"more than the {exact - 16} that are reserved" in message
    layers = {command.name for command in schedule.functions["train_step"].commands}
    assert "tiny_run_command" in message and any(name in message for name in layers)


def run_of(model, data, folder, capsys, *options):
    """(bound, used) of a compiled image after one step and an inference."""
    assert tiny_compile.main([str(model), "-o", str(folder), "--json", *options]) == 0
    bounds = json.loads(capsys.readouterr().out)["stack_bound_bytes"]
    written = json.loads((folder / "manifest.json").read_text())
    assert written["stack_bounds"] == bounds
    assert tiny_run.main([str(folder), "--data", str(data), "--steps", "1", "--json"]) == 0
    used = json.loads(capsys.readouterr().out)["stack_bytes_used"]
    return max(bounds.values()), used


@pytest.mark.parametrize("target", TARGETS)
def test_the_shipped_model_stays_within_its_bound(repository, tmp_path, capsys, target):
    digits = repository / "examples" / "digits"
    model, data = digits / "digits.mlirbc", digits / "shifted.npz"
    options = ("--scheme", str(digits / "sparse.json"), "--target", target)
    bound, used = run_of(model, data, tmp_path / "image", capsys, *options)
    assert 400 < used <= bound <= min(used + 32, STACK_BYTES)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("target", TARGETS)
def test_mcunet_stays_within_its_bound(zoo, tmp_path, capsys, target):
    model = zoo / "models" / "original" / "mcunet-5fps.pkl"
    data = zoo / "images" / "cifar10_32.npz"
    options = ("--classes", "10", "--scheme", "mcunet-5fps-49kb", "--target", target)
    bound, used = run_of(model, data, tmp_path / "image", capsys, *options)
    assert 400 < used <= bound <= min(used + 64, STACK_BYTES)
