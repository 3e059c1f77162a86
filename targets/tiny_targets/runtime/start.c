/* Start-up for a bare Cortex-M or RV32 core: FPU, .data, .bss, the stack's pattern; then `device_main`. */
#include <stdint.h>

extern uint32_t __data_start[], __data_end[], __data_load[];
extern uint32_t __bss_start[], __bss_end[];
extern uint32_t __stack_bottom[], __stack_top[];

void device_main(void);
void device_start(void);

__attribute__((used, noinline)) void device_start(void) {
    uint32_t *stack_pointer;
#if defined(__arm__)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to the FPU */
    __asm__ volatile("dsb\n isb\n mov %0, sp" : "=r"(stack_pointer)::"memory");
#else
#if defined(__riscv_flen)
    __asm__ volatile("csrs mstatus, %0" ::"r"(1u << 13)); /* FS: initial */
#endif
    __asm__ volatile("mv %0, sp" : "=r"(stack_pointer)::"memory");
#endif
    for (volatile uint32_t *word = __stack_bottom; word < stack_pointer; word++) *word = 0xA5A5A5A5u;
    const uint32_t *load = __data_load;
    for (volatile uint32_t *word = __data_start; word < __data_end; word++) *word = *load++;
    for (volatile uint32_t *word = __bss_start; word < __bss_end; word++) *word = 0;
    device_main();
    for (;;) {
    }
}

#if defined(__arm__)
static void fault(void) {
    for (;;) __asm__ volatile("bkpt 0");
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    (const void *)__stack_top, (const void *)device_start, (const void *)fault, (const void *)fault,
    (const void *)fault,       (const void *)fault,        (const void *)fault, 0,
    0,                         0,                          0,                   (const void *)fault,
    (const void *)fault,       0,                          (const void *)fault, (const void *)fault,
};
#else
__asm__(
    ".section .vectors, \"ax\", @progbits\n"
    ".globl device_reset\n"
    "device_reset:\n"
    "  la sp, __stack_top\n"
    "  la t0, device_fault\n"
    "  csrw mtvec, t0\n"
    "  j device_start\n"
    ".balign 4\n"
    "device_fault:\n"
    "  ebreak\n"
    "  j device_fault\n");
#endif
