"""A core as such: what watching it must not change."""

import pytest

from tiny_targets.access_watch import AccessWatch
from tiny_targets.machine import PAGE, READ, WRITE, Machine
from tiny_targets.target import find_target

CODE, MEMORY = 0x08000000, 0x20000000
STOP = CODE + PAGE - 4


def halves(*words):
    return b"".join(word.to_bytes(2, "little") for word in words)


STORE_IN_AN_IT_BLOCK = halves(
    0x2000,  # movs r0, #0
    0xBF08,  # it eq
    0x6008,  # streq r0, [r1]
    0x3001,  # adds r0, #1
    0xE7FF,  # b to the next instruction, which starts a block
    0x3004,  # adds r0, #4
    0x4770,  # bx lr
)
LOAD_IN_AN_IT_BLOCK = STORE_IN_AN_IT_BLOCK.replace(halves(0x6008), halves(0x680A))  # ldreq r2


def machine_of(code, name):
    machine = Machine(find_target(name), CODE, code, PAGE)
    machine.map(MEMORY, PAGE, READ | WRITE)
    return machine


def watch_accesses(machine):
    return AccessWatch(machine, [(MEMORY, PAGE)])


WATCHES = {
    "alignment": [Machine.watch_alignment],
    "accesses": [watch_accesses],
    "both": [Machine.watch_alignment, watch_accesses],
}


@pytest.mark.parametrize("watches", WATCHES.values(), ids=WATCHES)
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7"])
@pytest.mark.parametrize("code", [STORE_IN_AN_IT_BLOCK, LOAD_IN_AN_IT_BLOCK], ids=["store", "load"])
def test_no_watch_changes_what_follows_an_it_block(code, name, watches):
    machine = machine_of(code, name)
    assert machine.call(CODE, [0, MEMORY], MEMORY + PAGE, STOP) == 5
    attached = [watch(machine) for watch in watches]
    assert machine.call(CODE, [0, MEMORY], MEMORY + PAGE, STOP) == 5
    del attached  # the machine calls back into them
