/* Keeps what a model has learned in a region of flash, whole through any loss of power.
 *
 * The region is divided into slots, two at least, that are written in turn, so all wear alike. A commit
 * erases the slot behind the newest one, programs the payload, reads it back, and programs the header
 * last: until then the newest slot is the old one, whole. docs/design/flash-store.md.
 *
 * No heap, no written globals; 64 bytes of buffer on the stack. */
#ifndef TINY_STORE_H
#define TINY_STORE_H

#include "tiny_state.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TINY_STORE_HEADER_BYTES 36u /* rounded up to the program width */
#define TINY_STORE_MAX_PROGRAM_BYTES 64u
#define TINY_STORE_NO_SLOT 0xffffffffu

/* A region of flash and the three functions that work on it. All take offsets from the start of the
 * region and return 0, or an error of their own. `read` may fail where the flash has found an error
 * that it cannot correct; the slot then counts as damaged. */
typedef struct {
    tiny_read_t read;
    /* Erases the page that starts at `offset`. */
    int (*erase)(void *device, uint32_t offset);
    /* Programs `bytes` bytes; both are multiples of `program_bytes`, no byte is programmed twice
     * between two erases, and `from` is aligned to 4. Returns when the flash has finished. */
    int (*program)(void *device, uint32_t offset, const void *from, uint32_t bytes);
    void *device;           /* handed to the three functions */
    uint32_t page_bytes;    /* what one erase erases */
    uint32_t page_count;    /* of the region */
    uint32_t program_bytes; /* program width: a power of two, 64 at most */
    uint8_t erased;         /* what an erased byte reads as */
} tiny_flash_t;

typedef enum {
    TINY_STORE_OK = 0,
    TINY_STORE_EMPTY = 1,         /* no whole slot of this model: start from the initial values */
    TINY_STORE_BAD_REGION = 2,    /* sizes that do not fit together */
    TINY_STORE_TOO_SMALL = 3,     /* the region has no room for two slots */
    TINY_STORE_SOURCE_FAILED = 4, /* the payload could not be read, the newest slot is untouched */
    TINY_STORE_FLASH_FAILED = 5   /* no slot could be written, the newest slot is untouched */
} tiny_store_status;

/* The caller owns it; `flash` must outlive it. */
typedef struct {
    const tiny_flash_t *flash;
    uint32_t model_hash[2];
    uint32_t payload_bytes;
    uint32_t slot_pages;
    uint32_t slot_count;
    uint32_t slot;     /* the newest whole one, or TINY_STORE_NO_SLOT */
    uint32_t sequence; /* the newest number in the region; wraps around */
} tiny_store_t;

/* Pages that a region needs at least for a payload of so many bytes; 0 for sizes that do not fit
 * together. */
uint32_t tiny_store_min_pages(const tiny_flash_t *flash, uint32_t payload_bytes);

/* Looks for the newest whole slot; OK, EMPTY, BAD_REGION or TOO_SMALL. Writes nothing. */
tiny_store_status tiny_store_open(tiny_store_t *store, const tiny_flash_t *flash,
    const uint32_t model_hash[2], uint32_t payload_bytes);

/* Makes `payload_bytes` bytes of a source the newest slot; each byte is asked for once, in order. With a
 * model: NAME_open(&model, &blob), then tiny_store_commit(&store, tiny_blob_read, &blob). */
tiny_store_status tiny_store_commit(tiny_store_t *store, tiny_read_t source, void *from);

/* A `tiny_read_t` of an open `tiny_store_t`: any stretch of the newest payload; 1 where it ends outside
 * of it or there is none. With a model: NAME_restore_from(&model, tiny_store_read, &store,
 * NAME_BLOB_BYTES). */
int tiny_store_read(void *store, uint32_t offset, void *to, uint32_t bytes);

/* How often a slot has been erased, as its header says; 0 where it has no whole header. */
uint32_t tiny_store_erases(const tiny_store_t *store, uint32_t slot);

#ifdef __cplusplus
}
#endif
#endif
