/* Holds the library on this device against the golden vectors, bit for bit.
 *
 * Returns 0, or the number of the check that failed:
 * 1 init   2 logits@self_test_numbers@ */
#include "@name@.h"
#include "@name@_golden.h"

__attribute__((aligned(16)@arena_place@)) static uint8_t arena[@NAME@_ARENA_BYTES];
__attribute__((aligned(16)@state_place@)) static uint8_t state[@NAME@_STATE_BYTES];
static @name@_t model;
@self_test_memory@
static int differ(const void *a, const void *b, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (((const uint8_t *)a)[i] != ((const uint8_t *)b)[i]) return 1;
    return 0;
}

static int wrong_logits(void) {
    @logits_type@ logits[@NAME@_CLASSES];
    for (uint32_t i = 0; i < @NAME@_GOLDEN_INPUTS; i++) {
        if (@name@_infer(&model, @NAME@_GOLDEN_INPUT(i), logits) != @NAME@_OK) return 1;
        if (differ(logits, @name@_golden_logits[i], sizeof logits)) return 1;
    }
    return 0;
}
@self_test_training@
int main(void) {
    if (@name@_init(&model, arena, sizeof arena, state, sizeof state) != @NAME@_OK) return 1;
    if (wrong_logits()) return 2;
@self_test_calls@    return 0;
}
