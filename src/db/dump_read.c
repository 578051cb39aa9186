/* Reading the frames of a dump. See dump.h for the layout. */
#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "db/dump_int.h"

const char dump_magic[DUMP_MAGIC_SIZE] = { 'A', 'N', 'X', 'D', 'U', 'M', 'P', '1' };

/* Appends up to n bytes to the buffer; fewer at the end of the file. Grows as bytes arrive, so that a forged
 * size costs nothing. */
static anx_status
read_some(struct dump_reader *reader, size_t n, anx_error *err)
{
    while (n > 0) {
        size_t piece = n < DUMP_PIECE ? n : DUMP_PIECE;
        char *to = anx_buffer_reserve(&reader->frame, piece);
        ssize_t got = to ? read(reader->fd, to, piece) : 0;

        if (!to)
            return anx_fail(err, ANX_E_NOMEM, "no memory for a frame of the dump");
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return anx_fail(err, ANX_E_IO, "could not read the dump: %s", strerror(errno));
        if (got == 0)
            return ANX_OK;
        reader->frame.size += (size_t) got;
        n -= (size_t) got;
    }
    return ANX_OK;
}

anx_status
dump_reader_open(struct dump_reader *reader, int fd, anx_error *err)
{
    anx_status st;

    *reader = (struct dump_reader) { .fd = fd };
    anx_buffer_init(&reader->frame, NULL, SIZE_MAX);
    st = read_some(reader, DUMP_MAGIC_SIZE, err);
    if (st == ANX_OK && (reader->frame.size < DUMP_MAGIC_SIZE ||
                         memcmp(reader->frame.data, dump_magic, DUMP_MAGIC_SIZE) != 0))
        st =
            anx_fail(err, ANX_E_VERSION, "this is not a dump of version 1: its first bytes are not ANXDUMP1");
    reader->at = DUMP_MAGIC_SIZE;
    return st;
}

void
dump_reader_close(struct dump_reader *reader)
{
    anx_buffer_fini(&reader->frame);
}

static anx_status
fail_damaged(const struct dump_reader *reader, const char *what, anx_error *err)
{
    return anx_fail(err, ANX_E_CORRUPT, "the dump is damaged at byte %llu: %s",
                    (unsigned long long) reader->at, what);
}

anx_status
dump_reader_next(struct dump_reader *reader, anx_error *err)
{
    const uint8_t *bytes;
    size_t size;
    anx_status st;

    anx_buffer_clear(&reader->frame);
    st = read_some(reader, DUMP_HEAD_SIZE, err);
    if (st != ANX_OK)
        return st;
    if (reader->frame.size == 0) {
        reader->is_at_end = true;
        return anx_fail(err, ANX_E_CORRUPT, "the dump ends early, at byte %llu",
                        (unsigned long long) reader->at);
    }
    if (reader->frame.size < DUMP_HEAD_SIZE)
        return fail_damaged(reader, "it ends inside a frame", err);
    bytes = (const uint8_t *) reader->frame.data;
    size = (size_t) anx_load_le(bytes + 4, 4);
    if (anx_load_le(bytes + 8, 8) != reader->number)
        return fail_damaged(reader, "a frame is missing or repeated", err);
    if (size > DUMP_PAYLOAD_MAX)
        return fail_damaged(reader, "a frame is larger than a gibibyte", err);
    st = read_some(reader, size + DUMP_SUM_SIZE, err);
    if (st != ANX_OK)
        return st;
    if (reader->frame.size < DUMP_HEAD_SIZE + size + DUMP_SUM_SIZE)
        return fail_damaged(reader, "it ends inside a frame", err);
    bytes = (const uint8_t *) reader->frame.data;
    if (anx_hash(bytes, DUMP_HEAD_SIZE + size) != anx_load_le(bytes + DUMP_HEAD_SIZE + size, DUMP_SUM_SIZE))
        return fail_damaged(reader, "a checksum is wrong", err);
    reader->kind = (enum dump_kind) anx_load_le(bytes, 4);
    reader->payload = bytes + DUMP_HEAD_SIZE;
    reader->size = size;
    reader->number++;
    reader->at += reader->frame.size;
    return ANX_OK;
}

bool
dump_next_entry(const uint8_t *payload, size_t size, size_t *at, struct dump_entry *out)
{
    anx_reader reader = anx_reader_init(payload, size);

    reader.at = *at;
    out->key_size = (size_t) anx_read_le(&reader, 2);
    out->value_size = (size_t) anx_read_le(&reader, 4);
    out->key = anx_read_view(&reader, out->key_size);
    out->value = anx_read_view(&reader, out->value_size);
    *at = reader.at;
    return !reader.failed;
}
