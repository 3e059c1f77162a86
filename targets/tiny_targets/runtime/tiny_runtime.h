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

/* How an input arrives that never exists whole: rows in order, into a ring of the newest ones. */
typedef struct {
    uint32_t command; /* reads them, and runs in steps */
    uint32_t ring;    /* where in the arena */
    uint32_t slots;   /* row r lies in slot r % slots */
    uint32_t row_bytes;
    uint32_t steps;
    const uint16_t *arrivals; /* for each step, how many rows must have arrived before it */
} tiny_stream_t;

/* Puts `count` rows of the input, from row `first` on, side by side at `rows`: 0, or anything else
 * to give the step up. Rows are asked for in order, each once, and none behind the last that is
 * needed. It may wait, as for the line interrupt of a camera, but must not call the model. */
typedef int (*tiny_rows_t)(void *from, int8_t *rows, uint32_t first, uint32_t count);

typedef struct {
    const tiny_command_t *commands;
    const uint32_t *bindings;
    uint32_t command_count;
    const tiny_stream_t *stream; /* NULL where the input exists whole */
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
    uint32_t ready;      /* TINY_READY once everything above is bound */
    uint32_t is_running; /* 1 between the slices of a training step */
    uint32_t next;       /* the command that the next slice starts with */
    uint32_t loss_limit; /* bits of the largest float32 loss that is learned from */
    tiny_rows_t rows;    /* where the rows of a streamed input come from */
    void *rows_from;
} tiny_context_t;

#define TINY_READY 0x54494e59u
#define TINY_ALL_COMMANDS 0xffffffffu
#define TINY_LARGEST_FLOAT 0x7f7fffffu

/* The entry point of a kernel library. */
typedef const void *(*tiny_query_t)(uint32_t max_version, const void *environment);

/* 0, or 1 where the kernel library does not speak the interface this runtime was written for. */
int tiny_bind_kernels(tiny_context_t *context, tiny_query_t query, uint32_t kernel_count);

void tiny_initialize_state(const tiny_context_t *context, const tiny_initializer_t *table, uint32_t count);

#define TINY_INPUT_FAILED (-1)

/* Runs the commands from `first` on and before `end`; 0, or the status of the first kernel that failed,
 * or TINY_INPUT_FAILED where rows did not arrive. */
int tiny_run(const tiny_context_t *context, const tiny_program_t *program, uint32_t first, uint32_t end);

/* True for a number of at most `limit_bits` in magnitude, both as the bits of a float32. */
int tiny_is_within(uint32_t value_bits, uint32_t limit_bits);

void tiny_copy(void *to, const void *from, uint32_t bytes);

#ifdef __cplusplus
}
#endif
#endif
