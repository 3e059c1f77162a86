#include "tiny_state.h"

/* The layout of the header; docs/design/state-blob.md. */
#define MAGIC 0x53594e54u /* "TNYS" */
#define FORMAT 1u
#define MAGIC_AT 0u
#define FORMAT_AT 4u
#define HASH_AT 8u
#define PAYLOAD_BYTES_AT 16u
#define CRC_AT 20u
#define CHUNK 64u

/* Half bytes: a table of 64 bytes in place of 1 KiB. */
static const uint32_t crc_table[16] = {
    0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
    0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
};

uint32_t tiny_crc32(uint32_t crc, const void *data, uint32_t bytes) {
    const uint8_t *in = (const uint8_t *)data;
    crc = ~crc;
    for (uint32_t i = 0; i < bytes; i++) {
        crc ^= in[i];
        crc = crc >> 4 ^ crc_table[crc & 15];
        crc = crc >> 4 ^ crc_table[crc & 15];
    }
    return ~crc;
}

static void put_word(uint8_t *to, uint32_t word) {
    for (uint32_t i = 0; i < 4; i++) to[i] = (uint8_t)(word >> 8 * i);
}

static uint32_t get_word(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void copy(uint8_t *to, const uint8_t *from, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) to[i] = from[i];
}

uint32_t tiny_blob_bytes(const tiny_state_layout_t *layout) {
    return TINY_BLOB_HEADER_BYTES + layout->payload_bytes;
}

/* All of the header but its CRC. */
static void make_header(uint8_t *header, const tiny_state_layout_t *layout) {
    put_word(header + MAGIC_AT, MAGIC);
    put_word(header + FORMAT_AT, FORMAT | TINY_BLOB_HEADER_BYTES << 16);
    put_word(header + HASH_AT, layout->model_hash[0]);
    put_word(header + HASH_AT + 4, layout->model_hash[1]);
    put_word(header + PAYLOAD_BYTES_AT, layout->payload_bytes);
}

static int is_finite(const uint8_t *values, uint32_t bytes) {
    for (uint32_t i = 0; i + 4 <= bytes; i += 4)
        if ((get_word(values + i) & 0x7f800000u) == 0x7f800000u) return 0;
    return 1;
}

tiny_blob_status tiny_blob_open(tiny_blob_t *blob, const tiny_state_layout_t *layout, const uint8_t *state) {
    blob->layout = layout;
    blob->state = state;
    make_header(blob->header, layout);
    uint32_t crc = tiny_crc32(0, blob->header, CRC_AT);
    for (uint32_t i = 0; i < layout->piece_count; i++) {
        const tiny_piece_t *piece = &layout->pieces[i];
        const uint8_t *values = state + piece->state_offset;
        if (piece->is_float && !is_finite(values, piece->bytes)) return TINY_BLOB_NOT_FINITE;
        crc = tiny_crc32(crc, values, piece->bytes);
    }
    put_word(blob->header + CRC_AT, crc);
    return TINY_BLOB_OK;
}

int tiny_blob_read(void *view, uint32_t offset, void *to, uint32_t bytes) {
    const tiny_blob_t *blob = (const tiny_blob_t *)view;
    uint32_t size = tiny_blob_bytes(blob->layout);
    uint8_t *out = (uint8_t *)to;
    if (offset > size || bytes > size - offset) return 1;
    uint32_t begin = 0; /* of the current piece in the blob; the header is the first one */
    const uint8_t *from = blob->header;
    uint32_t length = TINY_BLOB_HEADER_BYTES;
    for (uint32_t next = 0; bytes; next++) {
        uint32_t skipped = offset - begin;
        if (skipped < length) {
            uint32_t count = smaller(bytes, length - skipped);
            copy(out, from + skipped, count);
            out += count;
            offset += count;
            bytes -= count;
        }
        if (!bytes) break;
        begin += length;
        from = blob->state + blob->layout->pieces[next].state_offset;
        length = blob->layout->pieces[next].bytes;
    }
    return 0;
}

/* Passes the payload of the source through the CRC, and into `state` where there is one. */
static int read_payload(
    const tiny_state_layout_t *layout, uint8_t *state, tiny_read_t read, void *from, uint32_t *crc) {
    uint8_t chunk[CHUNK];
    uint32_t offset = TINY_BLOB_HEADER_BYTES;
    for (uint32_t i = 0; i < layout->piece_count; i++) {
        const tiny_piece_t *piece = &layout->pieces[i];
        for (uint32_t done = 0; done < piece->bytes;) {
            uint32_t count = smaller(CHUNK, piece->bytes - done);
            if (read(from, offset, chunk, count)) return 1;
            *crc = tiny_crc32(*crc, chunk, count);
            if (state) copy(state + piece->state_offset + done, chunk, count);
            done += count;
            offset += count;
        }
    }
    return 0;
}

/* The checks of `tiny_blob_check`; hands out the CRC of the header and the one it states. */
static tiny_blob_status check_header(
    const tiny_state_layout_t *layout, tiny_read_t read, void *from, uint32_t size, uint32_t *crc, uint32_t *stated) {
    uint8_t header[TINY_BLOB_HEADER_BYTES], wanted[TINY_BLOB_HEADER_BYTES];
    if (size < tiny_blob_bytes(layout)) return TINY_BLOB_TRUNCATED;
    if (read(from, 0, header, TINY_BLOB_HEADER_BYTES)) return TINY_BLOB_READ_FAILED;
    make_header(wanted, layout);
    for (uint32_t i = 0; i < CRC_AT; i++) {
        if (header[i] == wanted[i]) continue;
        if (i < HASH_AT) return TINY_BLOB_NO_BLOB;
        return i < PAYLOAD_BYTES_AT ? TINY_BLOB_OTHER_MODEL : TINY_BLOB_CORRUPT;
    }
    *crc = tiny_crc32(0, header, CRC_AT);
    *stated = get_word(header + CRC_AT);
    return TINY_BLOB_OK;
}

tiny_blob_status tiny_blob_check(
    const tiny_state_layout_t *layout, tiny_read_t read, void *from, uint32_t size) {
    uint32_t crc, stated;
    tiny_blob_status status = check_header(layout, read, from, size, &crc, &stated);
    if (status != TINY_BLOB_OK) return status;
    if (read_payload(layout, NULL, read, from, &crc)) return TINY_BLOB_READ_FAILED;
    return crc == stated ? TINY_BLOB_OK : TINY_BLOB_CORRUPT;
}

tiny_blob_status tiny_blob_restore(
    const tiny_state_layout_t *layout, uint8_t *state, tiny_read_t read, void *from, uint32_t size) {
    uint32_t crc, stated;
    tiny_blob_status status = check_header(layout, read, from, size, &crc, &stated);
    if (status != TINY_BLOB_OK) return status;
    uint32_t header_crc = crc;
    if (read_payload(layout, NULL, read, from, &crc)) return TINY_BLOB_READ_FAILED;
    if (crc != stated) return TINY_BLOB_CORRUPT;
    if (read_payload(layout, state, read, from, &header_crc)) return TINY_BLOB_CHANGED;
    return header_crc == stated ? TINY_BLOB_OK : TINY_BLOB_CHANGED;
}

int tiny_read_memory(void *from, uint32_t offset, void *to, uint32_t bytes) {
    copy((uint8_t *)to, (const uint8_t *)from + offset, bytes);
    return 0;
}
