
static int wrong_losses(void) {
    for (uint32_t step = 0; step < @NAME@_GOLDEN_STEPS; step++) {
        uint32_t i = step % @NAME@_GOLDEN_INPUTS;
        float loss;
        if (@name@_train_step(&model, @NAME@_GOLDEN_INPUT(i), @name@_golden_labels[i],
                @NAME@_GOLDEN_RATE, &loss, NULL) != @NAME@_OK)
            return 1;
        if (differ(&loss, &@name@_golden_losses[step], sizeof loss)) return 1;
    }
    return 0;
}

/* The checksum in the blob is that of the golden state; a blob with one wrong bit is refused. */
static int wrong_state(void) {
    if (@name@_save(&model, blob, sizeof blob) != @NAME@_OK) return 1;
    if (differ(blob + TINY_BLOB_HEADER_BYTES - 4u, &@name@_golden_state_crc, 4u)) return 1;
    blob[sizeof blob / 2] ^= 1;
    if (@name@_restore(&model, blob, sizeof blob) != @NAME@_CORRUPT) return 1;
    blob[sizeof blob / 2] ^= 1;
    return 0;
}

/* Forgets everything, and knows it again after the restore. */
static int wrong_restore(void) {
    float before, after;
    if (@name@_train_step(&model, @NAME@_GOLDEN_INPUT(0), 0, 0.0f, &before, NULL) != @NAME@_OK) return 1;
    if (@name@_init(&model, arena, sizeof arena, state, sizeof state) != @NAME@_OK) return 1;
    if (@name@_restore(&model, blob, sizeof blob) != @NAME@_OK) return 1;
    if (@name@_train_step(&model, @NAME@_GOLDEN_INPUT(0), 0, 0.0f, &after, NULL) != @NAME@_OK) return 1;
    return differ(&before, &after, sizeof before);
}
