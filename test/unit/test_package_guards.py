"""What a package refuses on the device, and the step in slices: C programs on an emulated board."""

import dataclasses
import re
import struct

import numpy as np
import pytest
import small_network
from package_program import Program, build
from unicorn import arm_const, unicorn_const

from tiny_dialect.bindings import ir
from tiny_dialect.dialect import new_context
from tiny_dialect.errors import InvalidModel
from tiny_pipelines.cli import entry, tiny_compile
from tiny_pipelines.package import compile_package
from tiny_pipelines.training import TrainingOptions
from tiny_targets.boards import find_board, generic_board
from tiny_targets.c_functions import commands_before_loss
from tiny_targets.codegen import compile_kernels
from tiny_targets.emulate import EmulationError, Emulator
from tiny_targets.firmware import build_image
from tiny_targets.provenance import Origin
from tiny_targets.schedule import build_schedule
from tiny_targets.target import find_target

BOARDS = ("stm32f746", "esp32-c3")
M7 = find_target("cortex-m7")
LOSS_REJECTED = 11

PROLOGUE = """
#include "digits.h"
#include "digits_golden.h"
#define CHECK(condition) do { if (!(condition)) return __LINE__; } while (0)
#define X digits_golden_inputs[0]

__attribute__((aligned(16))) static uint8_t arena[DIGITS_ARENA_BYTES + 16];
__attribute__((aligned(16))) static uint8_t state[DIGITS_STATE_BYTES + 16];
static uint8_t blob[DIGITS_BLOB_BYTES], other[DIGITS_BLOB_BYTES];
static digits_t model;
__attribute__((unused)) static float loss, logits[DIGITS_CLASSES];

static digits_status init(void) {
    return digits_init(&model, arena, DIGITS_ARENA_BYTES, state, DIGITS_STATE_BYTES);
}

/* 1 where the saved state is not the one in `blob`. */
static int has_changed(void) {
    if (digits_save(&model, other, sizeof other) != DIGITS_OK) return 1;
    for (uint32_t i = 0; i < sizeof other; i++)
        if (other[i] != blob[i]) return 1;
    return 0;
}
"""

ARGUMENTS = """
int main(void) {
    tiny_blob_t view;
    CHECK(digits_infer(&model, X, logits) == DIGITS_NOT_INITIALISED);
    CHECK(digits_train_step(&model, X, 0, 0.1f, &loss, logits) == DIGITS_NOT_INITIALISED);
    CHECK(digits_step_begin(&model, X, 0, 0.1f) == DIGITS_NOT_INITIALISED);
    CHECK(digits_step_resume(&model, 1, NULL, NULL) == DIGITS_NOT_INITIALISED);
    CHECK(digits_save(&model, blob, sizeof blob) == DIGITS_NOT_INITIALISED);
    CHECK(digits_restore(&model, blob, sizeof blob) == DIGITS_NOT_INITIALISED);
    CHECK(digits_open(&model, &view) == DIGITS_NOT_INITIALISED);
    CHECK(digits_set_loss_limit(&model, 1.0f) == DIGITS_NOT_INITIALISED);
    CHECK(digits_infer_input(&model) == NULL && digits_train_input(&model) == NULL);
    CHECK(digits_init(NULL, arena, sizeof arena, state, sizeof state) == DIGITS_NULL_ARGUMENT);
    CHECK(digits_init(&model, NULL, sizeof arena, state, sizeof state) == DIGITS_NULL_ARGUMENT);
    CHECK(digits_init(&model, arena, sizeof arena, NULL, sizeof state) == DIGITS_NULL_ARGUMENT);
    CHECK(digits_init(&model, arena, DIGITS_ARENA_BYTES - 1, state, sizeof state)
        == DIGITS_TOO_SMALL);
    CHECK(digits_init(&model, arena, sizeof arena, state, DIGITS_STATE_BYTES - 1)
        == DIGITS_TOO_SMALL);
    for (uint32_t i = 1; i < 16; i++) {
        CHECK(digits_init(&model, arena + i, DIGITS_ARENA_BYTES, state, DIGITS_STATE_BYTES)
            == DIGITS_MISALIGNED);
        CHECK(digits_init(&model, arena, DIGITS_ARENA_BYTES, state + i, DIGITS_STATE_BYTES)
            == DIGITS_MISALIGNED);
    }
    CHECK(digits_infer(&model, X, logits) == DIGITS_NOT_INITIALISED && init() == DIGITS_OK);
    CHECK(digits_save(&model, blob, sizeof blob) == DIGITS_OK);
    CHECK(digits_infer(NULL, X, logits) == DIGITS_NULL_ARGUMENT);
    CHECK(digits_train_step(NULL, X, 0, 0.1f, &loss, logits) == DIGITS_NULL_ARGUMENT);
    CHECK(digits_train_step(&model, X, -1, 0.1f, NULL, NULL) == DIGITS_BAD_LABEL);
    CHECK(digits_train_step(&model, X, DIGITS_CLASSES, 0.1f, NULL, NULL) == DIGITS_BAD_LABEL);
    CHECK(digits_train_step(&model, X, 0, 0.0f / 0.0f, NULL, NULL) == DIGITS_BAD_RATE);
    CHECK(digits_train_step(&model, X, 0, 1.0f / 0.0f, NULL, NULL) == DIGITS_BAD_RATE);
    CHECK(digits_train_step(&model, X, 0, -1.0f / 0.0f, NULL, NULL) == DIGITS_BAD_RATE);
    CHECK(digits_step_resume(&model, 1, NULL, NULL) == DIGITS_NO_STEP);
    CHECK(digits_save(&model, NULL, sizeof blob) == DIGITS_NULL_ARGUMENT);
    CHECK(digits_save(&model, other, DIGITS_BLOB_BYTES - 1) == DIGITS_TOO_SMALL);
    CHECK(digits_restore(&model, NULL, sizeof blob) == DIGITS_NULL_ARGUMENT);
    CHECK(digits_restore(&model, blob, DIGITS_BLOB_BYTES - 1) == DIGITS_TRUNCATED);
    CHECK(digits_restore_from(&model, NULL, NULL, sizeof blob) == DIGITS_NULL_ARGUMENT);
    CHECK(digits_open(&model, NULL) == DIGITS_NULL_ARGUMENT);
    blob[0] ^= 1;
    CHECK(digits_restore(&model, blob, sizeof blob) == DIGITS_NO_BLOB);
    blob[0] ^= 1, blob[8] ^= 1;
    CHECK(digits_restore(&model, blob, sizeof blob) == DIGITS_OTHER_MODEL);
    blob[8] ^= 1, blob[100] ^= 1;
    CHECK(digits_restore(&model, blob, sizeof blob) == DIGITS_CORRUPT);
    blob[100] ^= 1;
    CHECK(!has_changed());
    return 0;
}
"""

LOSSES = """
int main(void) {
    CHECK(init() == DIGITS_OK);
    CHECK(digits_save(&model, blob, sizeof blob) == DIGITS_OK);
    CHECK(digits_train_step(&model, X, 0, 0.0f, &loss, NULL) == DIGITS_OK && loss > 0);
    float limit = loss;
    CHECK(digits_set_loss_limit(&model, limit * 0.999f) == DIGITS_OK);
    loss = 0;
    CHECK(digits_train_step(&model, X, 0, 0.01f, &loss, logits) == DIGITS_LOSS_REJECTED);
    CHECK(loss == limit && !has_changed());
    CHECK(digits_set_loss_limit(&model, -1.0f) == DIGITS_OK);
    CHECK(digits_train_step(&model, X, 0, 0.01f, NULL, NULL) == DIGITS_LOSS_REJECTED);
    CHECK(digits_set_loss_limit(&model, 0.0f / 0.0f) == DIGITS_OK);
    CHECK(digits_train_step(&model, X, 0, 0.01f, NULL, NULL) == DIGITS_LOSS_REJECTED);
    CHECK(!has_changed());
    /* Rejected in a slice: the step is over, and the next one may begin. */
    CHECK(digits_step_begin(&model, X, 0, 0.01f) == DIGITS_OK);
    digits_status status = DIGITS_IN_PROGRESS;
    while (status == DIGITS_IN_PROGRESS) status = digits_step_resume(&model, 1, NULL, NULL);
    CHECK(status == DIGITS_LOSS_REJECTED && !has_changed());
    CHECK(digits_set_loss_limit(&model, limit) == DIGITS_OK);
    CHECK(digits_train_step(&model, X, 0, 0.01f, &loss, NULL) == DIGITS_OK);
    CHECK(loss == limit && has_changed());
    return 0;
}
"""

SLICES = """
int main(void) {
    float whole;
    tiny_blob_t view;
    CHECK(init() == DIGITS_OK);
    CHECK(digits_train_step(&model, X, 1, 0.01f, &whole, NULL) == DIGITS_OK);
    CHECK(digits_save(&model, blob, sizeof blob) == DIGITS_OK);
    for (uint32_t ops = 0; ops <= DIGITS_STEP_OPS + 1; ops += ops < 4 ? 1 : 13) {
        uint32_t slices = 0, size = ops ? ops : 1;
        CHECK(init() == DIGITS_OK);
        CHECK(digits_step_begin(&model, X, 1, 0.01f) == DIGITS_OK);
        CHECK(digits_step_begin(&model, X, 1, 0.01f) == DIGITS_BUSY);
        CHECK(digits_infer(&model, X, NULL) == DIGITS_BUSY);
        CHECK(digits_train_step(&model, X, 1, 0.01f, NULL, NULL) == DIGITS_BUSY);
        CHECK(digits_save(&model, other, sizeof other) == DIGITS_BUSY);
        CHECK(digits_open(&model, &view) == DIGITS_BUSY);
        CHECK(digits_restore(&model, blob, sizeof blob) == DIGITS_BUSY);
        CHECK(digits_infer_input(&model) == NULL);
        digits_status status = DIGITS_IN_PROGRESS;
        while (status == DIGITS_IN_PROGRESS) {
            status = digits_step_resume(&model, ops, &loss, logits);
            slices++;
        }
        CHECK(status == DIGITS_OK && loss == whole);
        CHECK(slices == (DIGITS_STEP_OPS + size - 1) / size);
        CHECK(!has_changed());
    }
    CHECK(digits_step_begin(&model, X, 1, 0.01f) == DIGITS_OK);
    CHECK(digits_step_resume(&model, 20, NULL, NULL) == DIGITS_IN_PROGRESS);
    CHECK(init() == DIGITS_OK && digits_infer(&model, X, NULL) == DIGITS_OK);
    return 0;
}
"""

STREAMS = """
/* A slot in flash, written page by page, with a reader that can fail or change its mind. */
static uint8_t slot[DIGITS_BLOB_BYTES + 64];
static uint32_t calls, fail_at = 1000000, change_at = 1000000;

static int read_slot(void *from, uint32_t offset, void *to, uint32_t bytes) {
    if (++calls == fail_at) return 1;
    tiny_copy(to, (const uint8_t *)from + offset, bytes);
    if (calls == change_at) *(uint8_t *)to ^= 1;
    return 0;
}

int main(void) {
    tiny_blob_t view;
    CHECK(init() == DIGITS_OK);
    CHECK(digits_train_step(&model, X, 1, 0.01f, NULL, NULL) == DIGITS_OK);
    CHECK(digits_save(&model, blob, sizeof blob) == DIGITS_OK);
    CHECK(digits_open(&model, &view) == DIGITS_OK);
    for (uint32_t at = 0; at < DIGITS_BLOB_BYTES; at += 32) {
        uint32_t left = DIGITS_BLOB_BYTES - at;
        CHECK(tiny_blob_read(&view, at, slot + at, left < 32 ? left : 32) == 0);
    }
    CHECK(init() == DIGITS_OK && has_changed());
    CHECK(digits_restore_from(&model, read_slot, slot, sizeof slot) == DIGITS_OK && !has_changed());
    uint32_t total = calls;
    fail_at = 3, calls = 0;
    CHECK(digits_restore_from(&model, read_slot, slot, sizeof slot) == DIGITS_READ_FAILED);
    CHECK(!has_changed());
    fail_at = 1000000, change_at = total, calls = 0;
    CHECK(digits_restore_from(&model, read_slot, slot, sizeof slot) == DIGITS_CHANGED);
    CHECK(init() == DIGITS_OK && digits_save(&model, blob, sizeof blob) == DIGITS_OK);
    calls = 0;
    CHECK(digits_restore_from(&model, read_slot, slot, sizeof slot) == DIGITS_CHANGED);
    CHECK(!has_changed()); /* the initial values again */
    return 0;
}
"""


@pytest.fixture(scope="module")
def packages(repository, tmp_path_factory):
    """Board name → folder of the package of the shipped network."""
    example, folders = repository / "examples" / "digits", {}
    for board in BOARDS:
        folders[board] = tmp_path_factory.mktemp(board) / "digits"
        options = ["--scheme", str(example / "sparse.json"), "--gradients", "int16", "--package"]
        options += ["--board", board, "-o", str(folders[board])]
        assert tiny_compile.main([str(example / "digits.mlirbc"), *options]) == 0
    return folders


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize(
    "program",
    [ARGUMENTS, LOSSES, SLICES, STREAMS],
    ids=["arguments", "losses", "slices", "streams"],
)
def test_guards(packages, board, program):
    """The program returns 0, or the line of the check that failed."""
    assert Program(build(packages[board], board, PROLOGUE + program), board).run() == 0


@pytest.fixture(scope="module")
def schedule():
    """The small network with float32 gradients, whose head can diverge."""
    with new_context(), ir.Location.unknown():
        return build_schedule(small_network.planned(gradients="float32"), M7)


@pytest.fixture(scope="module")
def emulator(schedule):
    kernels = compile_kernels(schedule.kernels, M7)
    return Emulator(build_image(schedule, kernels, generic_board(M7)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_not_learned_from(emulator, value):
    emulator.init()
    schedule = emulator.image.schedule
    bias = next(b for b in schedule.state if b.element == "f32" and len(b.shape) == 1)
    state = emulator.address_of("device_state")
    machine = emulator.machine
    machine.write(state + bias.offset, struct.pack("<f", value))
    before = machine.read(state, schedule.state_bytes)
    with pytest.raises(EmulationError, match=f"returned status {LOSS_REJECTED}$"):
        emulator.train_step(small_network.sample(0), 0, 0.05)
    assert machine.read(state, schedule.state_bytes) == before
    machine.write(state + bias.offset, struct.pack("<f", 0.0))
    loss, _ = emulator.train_step(small_network.sample(0), 0, 0.05)
    assert np.isfinite(loss)
    assert machine.read(state, schedule.state_bytes) != before


def test_the_loss_is_known_before_the_first_update(schedule):
    step = schedule.functions["train_step"]
    known = commands_before_loss(step)
    assert all(command.results for command in step.commands[:known])
    late = dataclasses.replace(
        step, commands=(*step.commands[:3], step.commands[-1], *step.commands[3:-1])
    )
    assert not late.commands[3].results
    with pytest.raises(InvalidModel, match="updates a parameter before the loss is known"):
        commands_before_loss(late)


SHCSR, MPU_TYPE, MPU_CTRL, MPU_RNR, MPU_RBAR, MPU_RASR = (
    0xE000ED00 + offset for offset in (0x24, 0x90, 0x94, 0x98, 0x9C, 0xA0)
)

# Calls itself until its stack reaches below a guard that lies in the middle of the free stack.
OVERFLOW = """
#include "tiny_guard.h"
static uint8_t zone[96] __attribute__((aligned(32)));

int deep(volatile uint8_t *above, int left);
__attribute__((noinline)) int deep(volatile uint8_t *above, int left) {
    volatile uint8_t frame[64];
    for (int i = 0; i < 64; i++) frame[i] = (uint8_t)(above[i % 8] + i);
    return left ? deep(frame, left - 1) + frame[left % 64] : frame[0];
}

int main(void) {
    volatile uint8_t here[8] = {0};
    uint8_t *lowest = (uint8_t *)(((uintptr_t)here - 600) & ~(uintptr_t)31);
    if (tiny_guard_stack(zone + 1) != 1) return 1;
    tiny_guard_mark(zone + 32);
    zone[31] = zone[64] = 7;
    if (!tiny_guard_is_whole(zone + 32)) return 2;
    zone[44] ^= 1;
    if (tiny_guard_is_whole(zone + 32)) return 3;
    tiny_guard_mark(lowest);
    if (GUARDED && tiny_guard_stack(lowest)) return 4;
    deep(here, DEPTH);
    if (!GUARDED && DEPTH > 10 && tiny_guard_is_whole(lowest)) return 5;
    return 0;
}
"""


def overflowing(package, board, depth, *, guarded):
    defines = f"#include <stdint.h>\n#define GUARDED {int(guarded)}\n#define DEPTH {depth}\n"
    return Program(build(package, board, defines + OVERFLOW), board)


def test_an_overflow_of_the_stack_traps_on_riscv(packages):
    package = packages["esp32-c3"]
    assert overflowing(package, "esp32-c3", 2, guarded=True).run() == 0
    assert overflowing(package, "esp32-c3", 14, guarded=False).run() == 0
    program = overflowing(package, "esp32-c3", 14, guarded=True)
    # The emulator asks at the first access to a page and remembers the answer; a core always asks.
    engine, start = program.machine.engine, program.address("deep")
    engine.hook_add(
        unicorn_const.UC_HOOK_CODE,
        lambda *_: engine.ctl(unicorn_const.UC_CTL_TLB_FLUSH, unicorn_const.UC_CTL_IO_WRITE),
        begin=start,
        end=start + program.symbols["deep"]["st_size"],
    )
    with pytest.raises(EmulationError, match="CPU exception"):
        program.run()


def test_the_mpu_is_told_to_guard_the_stack_on_arm(packages):
    """The emulator has no MPU: what is held here is each register against the architecture."""
    program = overflowing(packages["stm32f746"], "stm32f746", 14, guarded=True)
    assert program.run() == 4  # no regions, no guard
    program = overflowing(packages["stm32f746"], "stm32f746", 14, guarded=True)
    program.machine.write(MPU_TYPE, struct.pack("<I", 8 << 8))
    written = registers_written(program)
    assert program.run() == 0
    # The region is complete before anything is enabled, and the fault before the MPU.
    assert [place for place, _ in written] == [MPU_RNR, MPU_RBAR, MPU_RASR, SHCSR, MPU_CTRL]
    control, number, base, attributes = program.machine.words(MPU_CTRL, 4)
    assert (control, number) == (0b101, 7)
    assert base % 32 == 0
    assert 0 < base - program.board.sram.base < 2048
    assert attributes == 1 << 28 | 4 << 1 | 1
    assert program.machine.words(SHCSR, 1)[0] == 1 << 16
    assert overflowing(packages["stm32f746"], "stm32f746", 14, guarded=False).run() == 0


def registers_written(program):
    """(address, value) of each store of `tiny_guard_stack` to the system control space."""
    written = []
    start = program.address("tiny_guard_stack") & ~1
    code = range(start, start + program.symbols["tiny_guard_stack"]["st_size"])

    def note(engine, _, address, size, value, __):
        if engine.reg_read(arm_const.UC_ARM_REG_PC) & ~1 in code:
            written.append((address, value))

    hook = unicorn_const.UC_HOOK_MEM_WRITE
    program.machine.engine.hook_add(hook, note, begin=SHCSR, end=MPU_RASR + 3)
    return written


def forbidden(program):
    """The bytes that the MPU's registers close to everybody, as Armv7-M reads them (B3.5.8)."""
    control, _, base, attributes = program.machine.words(MPU_CTRL, 4)
    if not control & 1 or not attributes & 1 or attributes >> 24 & 7 or attributes >> 8 & 0xFF:
        return range(0)
    size = 1 << (attributes >> 1 & 31) + 1
    start = base & -size
    return range(start, start + size)


@pytest.mark.parametrize("depth", [2, 14])
def test_an_overflow_meets_what_the_mpu_closes_on_arm(packages, depth):
    """The region that the registers describe is watched in the place of the MPU."""
    program = overflowing(packages["stm32f746"], "stm32f746", depth, guarded=True)
    program.machine.write(MPU_TYPE, struct.pack("<I", 8 << 8))
    faults = []

    def note(_, __, address, size, ___, ____):
        closed = forbidden(program)
        if closed and address < closed.stop and address + size > closed.start:
            faults.append(address)

    kinds = unicorn_const.UC_HOOK_MEM_READ | unicorn_const.UC_HOOK_MEM_WRITE
    start, end = (program.address(f"__stack_{end}") for end in ("bottom", "top"))
    program.machine.engine.hook_add(kinds, note, begin=start, end=end - 1)
    assert program.run() == 0
    assert len(forbidden(program)) == 32
    assert bool(faults) == (depth == 14)


def test_files_that_the_how_to_names_exist(packages, repository):
    package = packages["stm32f746"]
    text = (repository / "docs" / "howto" / "package.md").read_text()
    paths = [
        path
        for path in re.findall(r"`((?:src|examples|cmake|golden)/[\w/.-]+)`", text)
        if "NAME" not in path and "TARGET" not in path
    ]
    assert paths
    for path in paths:
        assert (package / path).exists(), path


TWO_MODELS = """
#include "small.h"
__attribute__((aligned(16))) static uint8_t memory[SMALL_ARENA_BYTES];
__attribute__((aligned(16))) static uint8_t learned[SMALL_STATE_BYTES];
static uint8_t small_blob[SMALL_BLOB_BYTES];
static small_t small;

int main(void) {
    static int8_t x[SMALL_INPUT_BYTES];
    float before[SMALL_CLASSES];
    CHECK(init() == DIGITS_OK);
    CHECK(small_init(&small, memory, sizeof memory, learned, sizeof learned) == SMALL_OK);
    CHECK(digits_infer(&model, X, logits) == DIGITS_OK);
    CHECK(small_infer(&small, x, before) == SMALL_OK);
    CHECK(small_train_step(&small, x, 1, 0.01f, &loss, NULL) == SMALL_OK);
    for (uint32_t i = 0; i < sizeof logits; i++)
        CHECK(((uint8_t *)logits)[i] == digits_golden_logits[0][i]);
    CHECK(small_save(&small, small_blob, sizeof small_blob) == SMALL_OK);
    CHECK(digits_save(&model, blob, sizeof blob) == DIGITS_OK && !has_changed());
    CHECK(digits_restore(&model, small_blob, sizeof small_blob) != DIGITS_OK && !has_changed());
    return 0;
}
"""


def test_two_packages_live_in_one_program(packages, tmp_path):
    board = find_board("stm32f746")
    with new_context(), ir.Location.unknown():
        module = small_network.build(0)
        files, _ = compile_package(module, TrainingOptions("full"), board, Origin({}, {}))
    entry.write_folder(str(tmp_path / "small"), files, "zephyr/module.yml")
    elf = build(packages["stm32f746"], board.name, PROLOGUE + TWO_MODELS, other=tmp_path / "small")
    assert Program(elf, board.name).run() == 0
