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
    uint64_t limit; /* of instructions: here the engine is stopped */
    int (*stop)(void *engine);
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
    uint64_t offset = address - counter->base;
    if (offset >= counter->size) return;
    uint64_t slot = offset >> 1;
    if (counter->block_bytes[slot] != size) {
        counter->block_bytes[slot] = size;
        counter->block_counts[slot] = count(counter, offset, size);
    }
    counter->instructions += counter->block_counts[slot];
    if (counter->instructions >= counter->limit) counter->stop(engine);
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

typedef struct {
    int (*write)(void *engine, int register_number, const void *value);
    int32_t register_number;
    uint32_t none;
} it_state_t;

/* At every load and store that calls somebody, on Arm: no IT state stays behind. */
void clear_it_state(void *engine, int kind, uint64_t address, int size, int64_t value, it_state_t *state) {
    (void)kind, (void)address, (void)size, (void)value;
    state->write(engine, state->register_number, &state->none);
}

/* One byte of `allowed` a byte of the region: who may do what there, and what has been done. */
enum { OPERAND = 1, OWN = 2, READ_IN_ORDER = 4, WAS_WRITTEN = 8 };

#define GUARDED_REGIONS 8

typedef struct {
    uint64_t base;
    uint64_t size;
    uint8_t *allowed;
} guarded_t;

typedef struct {
    uint64_t is_active;
    uint64_t region_count;
    guarded_t regions[GUARDED_REGIONS];
    uint64_t accesses; /* those looked at */
    uint64_t count;    /* those not allowed */
    uint64_t first_address;
    uint64_t first_size;
    uint64_t first_is_write;
} access_watch_t;

/* An operand is loaded, an op's own memory is loaded and stored. Where an op overwrites an operand that
 * it reads in order, what has been stored is no operand any more; a word of which some bytes still are
 * may be loaded for their sake. */
static int is_stray(const guarded_t *region, uint64_t offset, int size, int is_write) {
    int stray = 0, is_stale = 1;
    for (int i = 0; i < size && offset + (uint64_t)i < region->size; i++) {
        uint8_t *allowed = &region->allowed[offset + (uint64_t)i];
        stray |= !(*allowed & (is_write ? OWN : OPERAND | OWN));
        is_stale &= (*allowed & WAS_WRITTEN) != 0;
        if (is_write && (*allowed & READ_IN_ORDER)) *allowed |= WAS_WRITTEN;
    }
    return stray || (!is_write && is_stale);
}

/* At every load and store while a command runs: is it inside what the command declares? Code and
 * read-only data need no watch, the map keeps them from being written. */
void check_access(void *engine, int kind, uint64_t address, int size, int64_t value, access_watch_t *watch) {
    (void)engine, (void)value;
    if (!watch->is_active) return;
    const guarded_t *region = watch->regions, *end = watch->regions + watch->region_count;
    while (region < end && address - region->base >= region->size) region++;
    if (region == end) return;
    watch->accesses++;
    int is_write = kind == 17; /* UC_MEM_WRITE */
    if (!is_stray(region, address - region->base, size, is_write)) return;
    if (watch->count++ != 0) return;
    watch->first_address = address;
    watch->first_size = (uint64_t)size;
    watch->first_is_write = (uint64_t)is_write;
}
