/* A stack that overflows faults, or at least is found out, before it corrupts what was learned.
 *
 * The cheapest guard is a linker script with the stack at the bottom of SRAM: it then overflows into
 * nothing. Where it cannot lie there, these close its last bytes. */
#ifndef TINY_GUARD_H
#define TINY_GUARD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TINY_GUARD_BYTES 32u

/* Forbids every access to the TINY_GUARD_BYTES from `lowest` on, the lowest address of the stack, a
 * multiple of TINY_GUARD_BYTES. Cortex-M: takes the highest region of the MPU, enables it with the
 * default map behind it, and the MemManage fault. RISC-V: takes PMP entry 0, locked until reset. What
 * the fault handler does is yours. 0, or 1 for a wrong address or a core without this hardware; a
 * RISC-V core without PMP takes an illegal-instruction trap. Call it once, in privileged mode. A frame
 * larger than the guard may write below it before it meets it: reserve what the manifest proves. */
int tiny_guard_stack(void *lowest);

/* The same in software, for cores without: a pattern, and whether it is still there. An overflow is
 * found late, and one that jumps over the pattern never. */
void tiny_guard_mark(void *lowest);
int tiny_guard_is_whole(const void *lowest);

#ifdef __cplusplus
}
#endif
#endif
