#include "tiny_runtime.h"

/* The library interface wants its three structures aligned so. */
#define TINY_ALIGNED __attribute__((aligned(16)))
#define TINY_REQUIRE(name, condition) typedef char name[(condition) ? 1 : -1] __attribute__((unused))

/* IREE's executable library interface, version 6, on 32-bit targets. */
#define LIBRARY_VERSION 6u

typedef struct {
    uint32_t workgroup_size_x, workgroup_size_y;
    uint16_t workgroup_size_z, constant_count;
    uint32_t workgroup_count_x, workgroup_count_y;
    uint16_t workgroup_count_z;
    uint8_t max_concurrency, binding_count;
    const uint32_t *constants;
    void *const *bindings;
    const uint32_t *binding_lengths;
} dispatch_state_t;

typedef struct {
    uint32_t workgroup_x, workgroup_y;
    uint16_t workgroup_z, reserved;
    uint32_t processor;
    void *local_memory;
    uint32_t local_memory_size;
} workgroup_state_t;

typedef struct {
    uint32_t words[20];
} environment_t;

typedef int (*kernel_t)(const environment_t *, const dispatch_state_t *, const workgroup_state_t *);

typedef struct {
    const uint32_t *header; /* its first word is the version */
    uint32_t import_count;
    const void *import_symbols;
    uint32_t export_count;
    const kernel_t *exports;
} library_t;

TINY_REQUIRE(pointers_of_four_bytes, sizeof(void *) == 4);
TINY_REQUIRE(dispatch_constants, offsetof(dispatch_state_t, constants) == 24);
TINY_REQUIRE(dispatch_bindings, offsetof(dispatch_state_t, bindings) == 28);
TINY_REQUIRE(dispatch_binding_count, offsetof(dispatch_state_t, binding_count) == 23);
TINY_REQUIRE(dispatch_size, sizeof(dispatch_state_t) == 36);
TINY_REQUIRE(workgroup_memory, offsetof(workgroup_state_t, local_memory) == 16);
TINY_REQUIRE(workgroup_size, sizeof(workgroup_state_t) == 24);
TINY_REQUIRE(environment_size, sizeof(environment_t) == 80);
TINY_REQUIRE(library_exports, offsetof(library_t, exports) == 16);
TINY_REQUIRE(command_size, sizeof(tiny_command_t) == 8);

/* The kernels need no environment, and the lengths of static buffers are never read. */
static const environment_t environment TINY_ALIGNED = {{0}};
static const uint32_t lengths[TINY_MAX_BINDINGS] = {0};

int tiny_bind_kernels(tiny_context_t *context, tiny_query_t query, uint32_t kernel_count) {
    const library_t *library = (const library_t *)query(LIBRARY_VERSION, &environment);
    if (!library || library->header[0] != LIBRARY_VERSION) return 1;
    if (library->import_count != 0 || library->export_count != kernel_count) return 1;
    context->kernels = (const void *)library->exports;
    return 0;
}

void tiny_copy(void *to, const void *from, uint32_t bytes) {
    uint8_t *out = (uint8_t *)to;
    const uint8_t *in = (const uint8_t *)from;
    for (uint32_t i = 0; i < bytes; i++) out[i] = in[i];
}

void tiny_initialize_state(const tiny_context_t *context, const tiny_initializer_t *table, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const tiny_initializer_t *entry = &table[i];
        uint8_t *to = context->bases[TINY_STATE] + entry->state_offset;
        const uint8_t *from = context->bases[TINY_CONSTANTS] + entry->constant_offset;
        if (entry->kind == TINY_COPY) tiny_copy(to, from, entry->count);
        for (uint32_t k = 0; entry->kind != TINY_COPY && k < entry->count; k++) {
            int32_t weight = ((const int8_t *)from)[k];
            if (entry->kind == TINY_MASTER)
                ((int16_t *)(void *)to)[k] = (int16_t)(weight * 256 + 128);
            else
                ((float *)(void *)to)[k] = (float)weight;
        }
    }
}

/* Lets the rows from `arrived` on and before `needed` arrive, each in its slot. */
static int request_rows(
    const tiny_context_t *context, const tiny_stream_t *stream, uint32_t arrived, uint32_t needed) {
    while (arrived < needed) {
        uint32_t slot = arrived % stream->slots, count = stream->slots - slot;
        if (count > needed - arrived) count = needed - arrived;
        uint8_t *place = context->bases[TINY_ARENA] + stream->ring + slot * stream->row_bytes;
        if (context->rows(context->rows_from, (int8_t *)place, arrived, count)) return TINY_INPUT_FAILED;
        arrived += count;
    }
    return 0;
}

/* Not inlined: the emulator recognises the start of a command by this function's address. */
__attribute__((noinline)) static int tiny_run_command(
    const tiny_context_t *context, const tiny_command_t *command, const uint32_t *bindings,
    const tiny_stream_t *stream) {
    void *pointers[TINY_MAX_BINDINGS];
    for (uint32_t i = 0; i < command->binding_count; i++) {
        uint32_t binding = bindings[command->first_binding + i];
        pointers[i] = context->bases[binding >> 30] + (binding & 0x3fffffffu);
    }
    dispatch_state_t dispatch TINY_ALIGNED = {
        1, 1, 1, 0, 1, 1, 1, 1, (uint8_t)command->binding_count, NULL, pointers, lengths};
    workgroup_state_t workgroup TINY_ALIGNED = {0, 0, 0, 0, 0, NULL, 0};
    kernel_t kernel = ((const kernel_t *)context->kernels)[command->kernel];
    if (!stream) return kernel(&environment, &dispatch, &workgroup);
    dispatch.workgroup_count_x = stream->steps;
    for (uint32_t step = 0, arrived = 0; step < stream->steps; arrived = stream->arrivals[step++]) {
        if (request_rows(context, stream, arrived, stream->arrivals[step])) return TINY_INPUT_FAILED;
        workgroup.workgroup_x = step;
        int status = kernel(&environment, &dispatch, &workgroup);
        if (status) return status;
    }
    return 0;
}

int tiny_run(const tiny_context_t *context, const tiny_program_t *program, uint32_t first, uint32_t end) {
    for (uint32_t i = first; i < end; i++) {
        const tiny_stream_t *stream = program->stream;
        if (stream && stream->command != i) stream = NULL;
        int status = tiny_run_command(context, &program->commands[i], program->bindings, stream);
        if (status) return status;
    }
    return 0;
}

/* Of two floats without their signs the larger one has the larger bits, and NaN the largest of all. */
int tiny_is_within(uint32_t value_bits, uint32_t limit_bits) {
    return (value_bits & 0x7fffffffu) <= limit_bits;
}
