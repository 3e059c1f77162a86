/* A device that learns a little in each life and remembers it in the next.
 *
 * `kept` stands for flash or for SRAM with a battery: replace the two functions that touch it. */
#include "@name@.h"
#include "@name@_golden.h"

enum { STEPS_A_LIFE = 10 };

__attribute__((aligned(16)@arena_place@)) static uint8_t arena[@NAME@_ARENA_BYTES];
__attribute__((aligned(16)@state_place@)) static uint8_t state[@NAME@_STATE_BYTES];
static @name@_t model;

__attribute__((section(".persistent"))) struct {
    uint32_t steps;
    uint8_t blob[@NAME@_BLOB_BYTES];
} kept;

static uint32_t remember(void) {
    /* Anything but a whole, undamaged state of this model is refused: then we start anew. */
    return @name@_restore(&model, kept.blob, sizeof kept.blob) == @NAME@_OK ? kept.steps : 0;
}

static @name@_status keep(uint32_t steps) {
    kept.steps = steps;
    return @name@_save(&model, kept.blob, sizeof kept.blob);
}

/* Learns the next sample. Yours come from a sensor, and what they are from a button. */
static @name@_status learn(uint32_t step) {
    uint32_t i = step % @NAME@_GOLDEN_INPUTS;
    @name@_status status = @name@_step_begin(
        &model, @NAME@_GOLDEN_INPUT(i), @name@_golden_labels[i], @NAME@_GOLDEN_RATE);
    if (status != @NAME@_OK) return status;
    do {
        /* Feed the watchdog here. */
        status = @name@_step_resume(&model, 8, NULL, NULL);
    } while (status == @NAME@_IN_PROGRESS);
    return status;
}

int main(void) {
    @name@_status status = @name@_init(&model, arena, sizeof arena, state, sizeof state);
    if (status != @NAME@_OK) return (int)status;
    @name@_set_loss_limit(&model, 1e6f);
    uint32_t first = remember();
    for (uint32_t step = first; step < first + STEPS_A_LIFE; step++) {
        status = learn(step);
        if (status != @NAME@_OK && status != @NAME@_LOSS_REJECTED) return (int)status;
    }
    return (int)keep(first + STEPS_A_LIFE);
}
