/* A region of flash on the host that keeps its rules and loses power at a chosen step: what `FlashModel`
 * in Python calls, and a flash driver of `tiny_store.h`. */
#include <stdint.h>
#include <string.h>

enum { FLASH_OK = 0, FLASH_OFF = 1, FLASH_MISUSE = 2 };

typedef struct {
    uint8_t *cells;
    uint8_t *is_programmed; /* a program unit */
    uint32_t *wear;         /* erases of a page */
    uint32_t size;
    uint32_t page_bytes;
    uint32_t program_bytes;
    uint32_t erased;
    uint32_t is_off;
    uint32_t misused_at;    /* where the last misuse began */
    int64_t steps;
    int64_t cut_at;         /* the step in which power is lost, or -1 */
    int64_t tear_seed;      /* chooses the bits that change in it, or -1 for all */
} flash_model_t;

static uint32_t random_bits(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state >> 11;
}

/* Moves cells to `target`, or part of the way where power is lost in this step. */
static int change(flash_model_t *flash, uint32_t offset, const uint8_t *target, uint32_t bytes) {
    int is_cut = flash->steps == flash->cut_at;
    uint32_t state = (uint32_t)flash->tear_seed * 2654435761u ^ (offset + 1) * 2246822519u ^ 0x9e3779b9u;
    for (uint32_t i = 0; i < bytes; i++) {
        uint8_t changed = is_cut && flash->tear_seed >= 0 ? (uint8_t)random_bits(&state) : 0xff;
        uint8_t old = flash->cells[offset + i];
        flash->cells[offset + i] = (uint8_t)((old & ~changed) | (target[i] & changed));
    }
    flash->is_off |= (uint32_t)is_cut;
    flash->steps++;
    return is_cut ? FLASH_OFF : FLASH_OK;
}

static int misuse(flash_model_t *flash, uint32_t offset) {
    flash->misused_at = offset;
    return FLASH_MISUSE;
}

static int is_inside(const flash_model_t *flash, uint32_t offset, uint32_t bytes) {
    return offset <= flash->size && bytes <= flash->size - offset;
}

int flash_model_read(void *device, uint32_t offset, void *to, uint32_t bytes) {
    flash_model_t *flash = device;
    if (flash->is_off) return FLASH_OFF;
    if (!is_inside(flash, offset, bytes)) return misuse(flash, offset);
    memcpy(to, flash->cells + offset, bytes);
    return FLASH_OK;
}

int flash_model_erase(void *device, uint32_t offset) {
    flash_model_t *flash = device;
    uint32_t bytes = flash->page_bytes, units = bytes / flash->program_bytes;
    if (flash->is_off) return FLASH_OFF;
    if (!is_inside(flash, offset, bytes) || offset % bytes) return misuse(flash, offset);
    uint8_t *is_programmed = flash->is_programmed + offset / flash->program_bytes;
    flash->wear[offset / bytes]++;
    uint8_t target[256];
    memset(target, (int)flash->erased, sizeof target);
    if (flash->steps != flash->cut_at) {
        memset(flash->cells + offset, (int)flash->erased, bytes);
        memset(is_programmed, 0, units);
        flash->steps++;
        return FLASH_OK;
    }
    /* Half erased is not erased: nothing may be programmed there. */
    memset(is_programmed, 1, units);
    for (uint32_t done = 0; done < bytes; done += sizeof target) {
        uint32_t piece = bytes - done < sizeof target ? bytes - done : (uint32_t)sizeof target;
        change(flash, offset + done, target, piece);
        flash->steps--; /* all of it is one step */
    }
    flash->steps++;
    return FLASH_OFF;
}

int flash_model_program(void *device, uint32_t offset, const void *from, uint32_t bytes) {
    flash_model_t *flash = device;
    uint32_t width = flash->program_bytes;
    if (flash->is_off) return FLASH_OFF;
    if (!is_inside(flash, offset, bytes) || offset % width || bytes % width) return misuse(flash, offset);
    for (uint32_t done = 0; done < bytes; done += width) {
        uint8_t target[256], *is_programmed = flash->is_programmed + (offset + done) / width;
        const uint8_t *old = flash->cells + offset + done, *wanted = (const uint8_t *)from + done;
        if (*is_programmed) return misuse(flash, offset + done);
        *is_programmed = 1;
        for (uint32_t i = 0; i < width; i++)
            target[i] = flash->erased ? old[i] & wanted[i] : old[i] | wanted[i];
        int status = change(flash, offset + done, target, width);
        if (status) return status;
    }
    return FLASH_OK;
}
