/* See record.h. */
#include "db/record.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

void
record_write(struct record_writer *writer, struct doc doc, const struct doc_vectors *vectors, size_t n)
{
    uint8_t *head = writer->heads + RECORD_HEAD_SIZE;
    size_t n_field = 0;

    writer->parts[0] = (anx_text) { (const char *) writer->heads, RECORD_HEAD_SIZE };
    writer->parts[1] = (anx_text) { (const char *) doc.bytes, doc.size };
    writer->n_part = 2;
    for (size_t i = 0; i < n; i++) {
        size_t size = (size_t) vectors[i].n * vectors[i].dim * sizeof(float);

        if (vectors[i].n == 0)
            continue;
        anx_store_le(head, i, 2);
        anx_store_le(head + 2, 0, 2);
        anx_store_le(head + 4, vectors[i].n, 4);
        anx_store_le(head + 8, vectors[i].dim, 4);
        writer->parts[writer->n_part++] = (anx_text) { (const char *) head, RECORD_FIELD_SIZE };
        writer->parts[writer->n_part++] = (anx_text) { (const char *) vectors[i].floats, size };
        head += RECORD_FIELD_SIZE;
        n_field++;
    }
    writer->heads[0] = RECORD_VERSION;
    writer->heads[1] = 0;
    anx_store_le(writer->heads + 2, n_field, 2);
    anx_store_le(writer->heads + 4, doc.size, 4);
}

anx_status
record_read(anx_text record, struct doc *doc, struct record_vectors *vectors, size_t n, anx_error *err)
{
    anx_reader r = anx_reader_init(record.data, record.size);
    uint8_t version = anx_read_u8(&r);
    unsigned n_field;

    (void) anx_read_u8(&r);
    n_field = anx_read_u16(&r);
    doc->size = anx_read_u32(&r);
    doc->bytes = anx_read_view(&r, doc->size);
    if (!r.failed && version != RECORD_VERSION)
        return anx_fail(err, ANX_E_VERSION, "a stored document has version %u, known is %d", version,
                        RECORD_VERSION);
    memset(vectors, 0, n * sizeof(*vectors));
    for (unsigned i = 0; i < n_field && !r.failed; i++) {
        unsigned field = anx_read_u16(&r);
        uint32_t count;
        uint32_t dim;
        uint64_t size;

        (void) anx_read_u16(&r);
        count = anx_read_u32(&r);
        dim = anx_read_u32(&r);
        size = (uint64_t) count * dim;
        if (field >= n || size > record.size / sizeof(float))
            return anx_fail(err, ANX_E_CORRUPT,
                            "a stored document has %u vectors of %u dimensions in field %u", count, dim,
                            field);
        vectors[field] =
            (struct record_vectors) { anx_read_view(&r, (size_t) size * sizeof(float)), count, dim };
    }
    if (r.failed || r.at != r.size)
        return anx_fail(err, ANX_E_CORRUPT, "a stored document of %zu bytes does not end where it should",
                        record.size);
    return ANX_OK;
}

const uint8_t *
record_vector(anx_text record, uint32_t field, uint32_t position, uint32_t dim)
{
    anx_reader r = anx_reader_init(record.data, record.size);
    size_t size = (size_t) dim * sizeof(float);
    unsigned n_field;

    (void) anx_read_u16(&r);
    n_field = anx_read_u16(&r);
    (void) anx_read_view(&r, anx_read_u32(&r));
    for (unsigned i = 0; i < n_field && !r.failed; i++) {
        uint32_t number = anx_read_u32(&r) & 0xffff, n = anx_read_u32(&r), dims = anx_read_u32(&r);
        uint64_t all = (uint64_t) n * dims;
        const uint8_t *floats;

        if (all > record.size / sizeof(float))
            return NULL;
        floats = anx_read_view(&r, (size_t) all * sizeof(float));
        if (number == field)
            return !r.failed && position < n && dims == dim ? floats + position * size : NULL;
    }
    return NULL;
}
