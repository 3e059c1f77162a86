#include "tiny_guard.h"

#define PATTERN 0x5ac3a53cu
#define WORDS (TINY_GUARD_BYTES / 4u)

#if defined(__arm__)

/* Armv7-M: the MPU's registers, and the bit of SHCSR that enables its fault. */
#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define SHCSR REGISTER(0xe000ed24u)
#define MPU_TYPE REGISTER(0xe000ed90u)
#define MPU_CTRL REGISTER(0xe000ed94u)
#define MPU_RNR REGISTER(0xe000ed98u)
#define MPU_RBAR REGISTER(0xe000ed9cu)
#define MPU_RASR REGISTER(0xe000eda0u)
#define MEMFAULTENA (1u << 16)
#define ENABLE 1u
#define PRIVDEFENA (1u << 2)
#define NO_EXECUTION (1u << 28) /* and access permissions 0: none */
#define SIZE_32_BYTES (4u << 1)

static int forbid(uint32_t address) {
    uint32_t regions = MPU_TYPE >> 8 & 0xffu;
    if (!regions) return 1;
    MPU_RNR = regions - 1;
    MPU_RBAR = address;
    MPU_RASR = NO_EXECUTION | SIZE_32_BYTES | ENABLE;
    SHCSR |= MEMFAULTENA;
    MPU_CTRL |= PRIVDEFENA | ENABLE;
    __asm__ volatile("dsb\n isb" ::: "memory");
    return 0;
}

#elif defined(__riscv)

/* A naturally aligned range of 32 bytes; locked, so that it binds machine mode too; no permissions. */
#define NAPOT_32_BYTES 3u
#define LOCKED_NAPOT 0x98u

static int forbid(uint32_t address) {
    __asm__ volatile("csrw pmpaddr0, %0" ::"r"(address >> 2 | NAPOT_32_BYTES));
    __asm__ volatile("csrs pmpcfg0, %0\n fence" ::"r"(LOCKED_NAPOT) : "memory");
    return 0;
}

#else

static int forbid(uint32_t address) {
    (void)address;
    return 1;
}

#endif

int tiny_guard_stack(void *lowest) {
    uintptr_t address = (uintptr_t)lowest;
    return address % TINY_GUARD_BYTES ? 1 : forbid((uint32_t)address);
}

void tiny_guard_mark(void *lowest) {
    for (uint32_t i = 0; i < WORDS; i++) ((volatile uint32_t *)lowest)[i] = PATTERN + i;
}

int tiny_guard_is_whole(const void *lowest) {
    for (uint32_t i = 0; i < WORDS; i++)
        if (((const volatile uint32_t *)lowest)[i] != PATTERN + i) return 0;
    return 1;
}
