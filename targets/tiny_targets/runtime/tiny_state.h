/* What a model has learned as one blob of bytes: header, CRC-32, packed trained parameters.
 *
 * Nothing is copied: a blob is read from the live state in any pieces, and checked at its source
 * before a byte of the state is written. No heap, no written globals, no dependencies. */
#ifndef TINY_STATE_H
#define TINY_STATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TINY_BLOB_HEADER_BYTES 24u

/* Puts `bytes` bytes from `offset` on into `to`; 0, or an error of its own. `from` is what was
 * handed over with the function. */
typedef int (*tiny_read_t)(void *from, uint32_t offset, void *to, uint32_t bytes);

/* One trained parameter; pieces stand in payload order. */
typedef struct {
    uint32_t state_offset;
    uint32_t bytes;
    uint32_t is_float; /* 1: float32 values, which must be finite to be saved */
} tiny_piece_t;

/* The state of one model. */
typedef struct {
    const tiny_piece_t *pieces;
    uint32_t piece_count;
    uint32_t payload_bytes;
    uint32_t model_hash[2]; /* low word first */
} tiny_state_layout_t;

typedef enum {
    TINY_BLOB_OK = 0,
    TINY_BLOB_TRUNCATED = 1,   /* fewer bytes than a blob of this model has */
    TINY_BLOB_NO_BLOB = 2,     /* no magic number, or another format version */
    TINY_BLOB_OTHER_MODEL = 3, /* saved by another model */
    TINY_BLOB_CORRUPT = 4,     /* a wrong size or checksum */
    TINY_BLOB_READ_FAILED = 5, /* the source returned an error */
    TINY_BLOB_CHANGED = 6,     /* the source changed while it was read: the state is partly written */
    TINY_BLOB_NOT_FINITE = 7   /* the state holds a float that is not finite */
} tiny_blob_status;

/* A view of the live state as a blob; valid until the state changes. */
typedef struct {
    const tiny_state_layout_t *layout;
    const uint8_t *state;
    uint8_t header[TINY_BLOB_HEADER_BYTES];
} tiny_blob_t;

/* Header and payload. */
uint32_t tiny_blob_bytes(const tiny_state_layout_t *layout);

/* Makes the header in one pass over the state. */
tiny_blob_status tiny_blob_open(tiny_blob_t *blob, const tiny_state_layout_t *layout, const uint8_t *state);

/* A `tiny_read_t` of a `tiny_blob_t`: any stretch of the blob; 1 where it ends outside of it. */
int tiny_blob_read(void *blob, uint32_t offset, void *to, uint32_t bytes);

/* Whether `size` bytes at a source begin with a whole blob of this model. */
tiny_blob_status tiny_blob_check(
    const tiny_state_layout_t *layout, tiny_read_t read, void *from, uint32_t size);

/* Checks, and only then writes `state`. */
tiny_blob_status tiny_blob_restore(
    const tiny_state_layout_t *layout, uint8_t *state, tiny_read_t read, void *from, uint32_t size);

/* A `tiny_read_t` of plain memory: `from` is its first byte. */
int tiny_read_memory(void *from, uint32_t offset, void *to, uint32_t bytes);

/* CRC-32 continued over `bytes` bytes; starts with `crc` 0. */
uint32_t tiny_crc32(uint32_t crc, const void *data, uint32_t bytes);

#ifdef __cplusplus
}
#endif
#endif
