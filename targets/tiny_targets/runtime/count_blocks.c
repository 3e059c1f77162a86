/* The emulator's block callback, compiled for the host: counts executed instructions exactly.
 *
 * Called at the start of every translated block. The instructions of a block are counted once from the
 * image's bytes and remembered by address; a block of another size at the same address is counted anew. */
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
