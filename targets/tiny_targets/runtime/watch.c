/* Callbacks of the emulator, compiled for the host, where one in Python would be too slow. */
#include <stdint.h>

typedef struct {
    const uint8_t *code;
    uint64_t base;
    uint64_t size;
    uint64_t is_thumb;
    uint32_t *block_bytes;  /* per half-word: size of the block that starts here */
    uint32_t *block_counts; /* per half-word: its instructions */
    uint64_t instructions;
} counter_t;

static uint32_t count(const counter_t *counter, uint64_t offset, uint32_t size) {
    uint32_t instructions = 0;
    for (uint64_t i = offset; i < offset + size && i + 1 < counter->size; instructions++) {
        uint32_t half = counter->code[i] | (uint32_t)counter->code[i + 1] << 8;
        int is_wide = counter->is_thumb ? (half >> 11) >= 0x1d : (half & 3) == 3;
        i += is_wide ? 4 : 2;
    }
    return instructions;
}

/* At the start of every translated block: counts executed instructions exactly. Those of a block are
 * counted once from the image's bytes and remembered by address; a block of another size at the same
 * address is counted anew. */
void count_block(void *engine, uint64_t address, uint32_t size, counter_t *counter) {
    (void)engine;
    uint64_t offset = address - counter->base;
    if (offset >= counter->size) return;
    uint64_t slot = offset >> 1;
    if (counter->block_bytes[slot] != size) {
        counter->block_bytes[slot] = size;
        counter->block_counts[slot] = count(counter, offset, size);
    }
    counter->instructions += counter->block_counts[slot];
}

typedef struct {
    uint64_t count;
    uint64_t first_address;
} misaligned_t;

/* At every load and store: the emulator itself lets misaligned ones pass, many cores trap on them. */
void check_alignment(void *engine, int kind, uint64_t address, int size, int64_t value, misaligned_t *found) {
    (void)engine, (void)kind, (void)value;
    if ((address & (uint64_t)(size - 1)) == 0) return;
    if (found->count++ == 0) found->first_address = address;
}
