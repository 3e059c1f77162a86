#include "tiny_store.h"

/* The layout of a header; docs/design/flash-store.md. The CRC is in its last four bytes. */
#define STORE_MAGIC 0x46594e54u /* "TNYF" */
#define STORE_FORMAT 1u
#define SEQUENCE_AT 8u
#define MODEL_AT 12u
#define SIZE_AT 20u
#define PAYLOAD_CRC_AT 24u
#define ERASES_AT 28u

/* Words, because some drivers program from aligned memory alone. */
typedef union {
    uint32_t words[TINY_STORE_MAX_PROGRAM_BYTES / 4];
    uint8_t bytes[TINY_STORE_MAX_PROGRAM_BYTES];
} chunk_t;

/* What a whole header says. */
typedef struct {
    uint32_t sequence;
    uint32_t payload_crc;
    uint32_t erases;
} header_t;

static uint32_t round_up_to(uint32_t bytes, uint32_t unit) { return (bytes + unit - 1) & ~(unit - 1); }

static uint32_t header_bytes(const tiny_flash_t *flash) {
    return round_up_to(TINY_STORE_HEADER_BYTES, flash->program_bytes);
}

static void store_word(uint8_t *to, uint32_t word) {
    for (uint32_t i = 0; i < 4; i++) to[i] = (uint8_t)(word >> 8 * i);
}

static uint32_t load_word(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* Numbers wrap around: `a` is newer where it is ahead by less than half of all numbers. */
static int is_newer(uint32_t a, uint32_t b) { return a - b - 1u < 0x7fffffffu; }

static uint32_t slot_offset(const tiny_store_t *store, uint32_t slot) {
    return slot * store->slot_pages * store->flash->page_bytes;
}

static int is_region(const tiny_flash_t *flash) {
    uint32_t width = flash->program_bytes;
    if (!width || (width & (width - 1)) || width > TINY_STORE_MAX_PROGRAM_BYTES) return 0;
    if (!flash->page_bytes || flash->page_bytes % width || !flash->page_count) return 0;
    /* Offsets in the region are 32 bits wide. */
    return flash->page_bytes <= 0xffffffffu / flash->page_count;
}

/* Pages of one slot; 0 for sizes that do not fit together. */
static uint32_t pages_of_slot(const tiny_flash_t *flash, uint32_t payload_bytes) {
    if (!is_region(flash) || !payload_bytes) return 0;
    if (payload_bytes > 0xffffffffu - 2 * TINY_STORE_MAX_PROGRAM_BYTES) return 0;
    uint32_t bytes = header_bytes(flash) + round_up_to(payload_bytes, flash->program_bytes);
    return (bytes - 1) / flash->page_bytes + 1;
}

uint32_t tiny_store_min_pages(const tiny_flash_t *flash, uint32_t payload_bytes) {
    return 2 * pages_of_slot(flash, payload_bytes);
}

static int read_header(const tiny_store_t *store, uint32_t slot, header_t *header) {
    const tiny_flash_t *flash = store->flash;
    chunk_t chunk;
    uint32_t size = header_bytes(flash);
    if (flash->read(flash->device, slot_offset(store, slot), chunk.bytes, size)) return 0;
    const uint8_t *at = chunk.bytes;
    if (load_word(at) != STORE_MAGIC || load_word(at + 4) != (STORE_FORMAT | size << 16)) return 0;
    if (load_word(at + size - 4) != tiny_crc32(0, at, size - 4)) return 0;
    if (load_word(at + MODEL_AT) != store->model_hash[0]) return 0;
    if (load_word(at + MODEL_AT + 4) != store->model_hash[1]) return 0;
    if (load_word(at + SIZE_AT) != store->payload_bytes) return 0;
    header->sequence = load_word(at + SEQUENCE_AT);
    header->payload_crc = load_word(at + PAYLOAD_CRC_AT);
    header->erases = load_word(at + ERASES_AT);
    return 1;
}

/* Whether the payload in `slot`, its padding included, has the checksum. */
static int has_payload(const tiny_store_t *store, uint32_t slot, uint32_t wanted) {
    const tiny_flash_t *flash = store->flash;
    chunk_t chunk;
    uint32_t crc = 0, size = round_up_to(store->payload_bytes, flash->program_bytes);
    uint32_t start = slot_offset(store, slot) + header_bytes(flash);
    for (uint32_t done = 0; done < size;) {
        uint32_t bytes = size - done < sizeof chunk ? size - done : (uint32_t)sizeof chunk;
        if (flash->read(flash->device, start + done, chunk.bytes, bytes)) return 0;
        crc = tiny_crc32(crc, chunk.bytes, bytes);
        done += bytes;
    }
    return crc == wanted;
}

/* The newest slot whose header is whole and that comes after `behind` in the order from new to old;
 * `behind` is TINY_STORE_NO_SLOT at first. */
static uint32_t next_newest(const tiny_store_t *store, uint32_t behind, uint32_t limit, header_t *found) {
    uint32_t best = TINY_STORE_NO_SLOT;
    for (uint32_t slot = 0; slot < store->slot_count; slot++) {
        header_t header;
        if (!read_header(store, slot, &header)) continue;
        if (behind != TINY_STORE_NO_SLOT && !is_newer(limit, header.sequence) &&
            !(header.sequence == limit && slot > behind))
            continue;
        if (best != TINY_STORE_NO_SLOT && !is_newer(header.sequence, found->sequence)) continue;
        best = slot;
        *found = header;
    }
    return best;
}

tiny_store_status tiny_store_open(tiny_store_t *store, const tiny_flash_t *flash,
    const uint32_t model_hash[2], uint32_t payload_bytes) {
    store->flash = flash;
    store->model_hash[0] = model_hash[0];
    store->model_hash[1] = model_hash[1];
    store->payload_bytes = payload_bytes;
    store->slot = TINY_STORE_NO_SLOT;
    store->sequence = 0;
    store->slot_count = 0;
    store->slot_pages = pages_of_slot(flash, payload_bytes);
    if (!store->slot_pages) return TINY_STORE_BAD_REGION;
    store->slot_count = flash->page_count / store->slot_pages;
    if (store->slot_count < 2) {
        store->slot_count = 0;
        return TINY_STORE_TOO_SMALL;
    }
    header_t header = {0, 0, 0};
    uint32_t slot = next_newest(store, TINY_STORE_NO_SLOT, 0, &header);
    /* Damaged or not: what is committed next must be newer than it. */
    store->sequence = header.sequence;
    while (slot != TINY_STORE_NO_SLOT && !has_payload(store, slot, header.payload_crc))
        slot = next_newest(store, slot, header.sequence, &header);
    if (slot == TINY_STORE_NO_SLOT) return TINY_STORE_EMPTY;
    store->slot = slot;
    return TINY_STORE_OK;
}

static int program_payload(
    const tiny_store_t *store, uint32_t start, tiny_read_t source, void *from, uint32_t *crc) {
    const tiny_flash_t *flash = store->flash;
    chunk_t chunk;
    uint32_t size = round_up_to(store->payload_bytes, flash->program_bytes);
    *crc = 0;
    for (uint32_t done = 0; done < size;) {
        uint32_t bytes = size - done < sizeof chunk ? size - done : (uint32_t)sizeof chunk;
        uint32_t left = store->payload_bytes - done, wanted = bytes < left ? bytes : left;
        if (source(from, done, chunk.bytes, wanted)) return TINY_STORE_SOURCE_FAILED;
        for (uint32_t i = wanted; i < bytes; i++) chunk.bytes[i] = flash->erased;
        *crc = tiny_crc32(*crc, chunk.bytes, bytes);
        if (flash->program(flash->device, start + done, chunk.words, bytes)) return TINY_STORE_FLASH_FAILED;
        done += bytes;
    }
    return TINY_STORE_OK;
}

static int program_header(const tiny_store_t *store, uint32_t slot, const header_t *header) {
    const tiny_flash_t *flash = store->flash;
    uint32_t size = header_bytes(flash);
    chunk_t chunk;
    for (uint32_t i = 0; i < size; i++) chunk.bytes[i] = 0;
    store_word(chunk.bytes, STORE_MAGIC);
    store_word(chunk.bytes + 4, STORE_FORMAT | size << 16);
    store_word(chunk.bytes + SEQUENCE_AT, header->sequence);
    store_word(chunk.bytes + MODEL_AT, store->model_hash[0]);
    store_word(chunk.bytes + MODEL_AT + 4, store->model_hash[1]);
    store_word(chunk.bytes + SIZE_AT, store->payload_bytes);
    store_word(chunk.bytes + PAYLOAD_CRC_AT, header->payload_crc);
    store_word(chunk.bytes + ERASES_AT, header->erases);
    store_word(chunk.bytes + size - 4, tiny_crc32(0, chunk.bytes, size - 4));
    return flash->program(flash->device, slot_offset(store, slot), chunk.words, size);
}

static int is_written(const tiny_store_t *store, uint32_t slot, const header_t *wanted) {
    header_t header;
    if (!read_header(store, slot, &header)) return 0;
    return header.sequence == wanted->sequence && header.payload_crc == wanted->payload_crc;
}

static int write_slot(
    const tiny_store_t *store, uint32_t slot, header_t *header, tiny_read_t source, void *from) {
    const tiny_flash_t *flash = store->flash;
    uint32_t start = slot_offset(store, slot);
    /* Always: a page whose erase was cut short may read as erased. The header's page goes first. */
    for (uint32_t page = 0; page < store->slot_pages; page++)
        if (flash->erase(flash->device, start + page * flash->page_bytes)) return TINY_STORE_FLASH_FAILED;
    int status = program_payload(store, start + header_bytes(flash), source, from, &header->payload_crc);
    if (status) return status;
    /* The header makes the slot the newest one, so what it stands for must be there. */
    if (!has_payload(store, slot, header->payload_crc)) return TINY_STORE_FLASH_FAILED;
    if (program_header(store, slot, header)) return TINY_STORE_FLASH_FAILED;
    return is_written(store, slot, header) ? TINY_STORE_OK : TINY_STORE_FLASH_FAILED;
}

tiny_store_status tiny_store_commit(tiny_store_t *store, tiny_read_t source, void *from) {
    int is_first = store->slot == TINY_STORE_NO_SLOT;
    uint32_t before = is_first ? store->slot_count - 1 : store->slot;
    uint32_t choices = is_first ? store->slot_count : store->slot_count - 1;
    if (!store->slot_count) return TINY_STORE_TOO_SMALL;
    /* A slot that wears out is passed over. */
    for (uint32_t choice = 1; choice <= choices; choice++) {
        uint32_t slot = (before + choice) % store->slot_count;
        header_t header;
        /* Where the slot's own count is lost: all slots of a round are erased equally often. */
        if (!read_header(store, slot, &header))
            header.erases = is_first ? 0 : tiny_store_erases(store, before) - (slot > before);
        header.erases++;
        header.sequence = store->sequence + 1;
        int status = write_slot(store, slot, &header, source, from);
        if (status == TINY_STORE_FLASH_FAILED) continue;
        if (status) return (tiny_store_status)status;
        store->slot = slot;
        store->sequence = header.sequence;
        return TINY_STORE_OK;
    }
    return TINY_STORE_FLASH_FAILED;
}

int tiny_store_read(void *store, uint32_t offset, void *to, uint32_t bytes) {
    const tiny_store_t *open = (const tiny_store_t *)store;
    const tiny_flash_t *flash = open->flash;
    if (open->slot == TINY_STORE_NO_SLOT) return 1;
    if (offset > open->payload_bytes || bytes > open->payload_bytes - offset) return 1;
    return flash->read(flash->device, slot_offset(open, open->slot) + header_bytes(flash) + offset, to, bytes);
}

uint32_t tiny_store_erases(const tiny_store_t *store, uint32_t slot) {
    header_t header;
    return slot < store->slot_count && read_header(store, slot, &header) ? header.erases : 0;
}
