/* Runs a static list of kernel dispatches. No heap, no written globals, no dependencies.
 *
 * Kernels are built by IREE; their entry points follow its executable library interface, version 6. */
#ifndef TINY_RUNTIME_H
#define TINY_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TINY_MAX_BINDINGS 32

/* A binding is a space in its two highest bits and an offset in the others. */
enum { TINY_ARENA = 0, TINY_STATE = 1, TINY_CONSTANTS = 2, TINY_SPACES = 3 };

typedef struct {
    uint16_t kernel;
    uint16_t binding_count;
    uint32_t first_binding;
} tiny_command_t;

typedef struct {
    const tiny_command_t *commands;
    const uint32_t *bindings;
    uint32_t command_count;
} tiny_program_t;

/* How the initial value of one piece of state is stored in flash. */
enum {
    TINY_COPY = 0,    /* bytes as they are */
    TINY_MASTER = 1,  /* int8 -> int16, (w << 8) + 128: the middle of the bucket */
    TINY_FLOAT = 2    /* int8 -> float32 */
};

typedef struct {
    uint32_t kind;
    uint32_t state_offset;
    uint32_t constant_offset;
    uint32_t count; /* bytes of TINY_COPY, elements of the others */
} tiny_initializer_t;

/* Memory and kernels of one model; the caller owns all of it. */
typedef struct {
    uint8_t *bases[TINY_SPACES];
    const void *kernels;
} tiny_context_t;

/* 0, or 1 where the kernel library does not speak the interface this runtime was written for. */
int tiny_bind_kernels(tiny_context_t *context, uint32_t kernel_count);

void tiny_initialize_state(const tiny_context_t *context, const tiny_initializer_t *table, uint32_t count);

/* 0, or the status of the first kernel that failed. */
int tiny_run(const tiny_context_t *context, const tiny_program_t *program);

void tiny_copy(void *to, const void *from, uint32_t bytes);

#ifdef __cplusplus
}
#endif
#endif
