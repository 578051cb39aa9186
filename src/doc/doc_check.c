/* Is a run of bytes a document? Everything the walkers trust: heads, sizes that add up, names and vector
 * fields that exist, vectors numbered in the order they stand, depth. Texts may be any bytes: nothing trusts
 * them. */
#include "base/bytes.h"
#include "base/error.h"
#include "doc/doc.h"
#include "doc/doc_int.h"

struct check {
    anx_reader reader;
    uint32_t n_name, n_vector_field;
    uint32_t n_vector[DOC_VECTOR_FIELDS_MAX]; /* seen so far, by field */
    anx_error *err;
};

static anx_status
corrupt(struct check *check, const char *what)
{
    return anx_fail(check->err, ANX_E_CORRUPT, "document is damaged at byte %zu: %s", check->reader.at, what);
}

/* Latches failure on more than ten bytes; padding with zeros is allowed (sizes of deep containers). */
static uint64_t
read_varint(anx_reader *reader)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 7 * VARINT_MAX; shift += 7) {
        uint8_t byte = anx_read_u8(reader);

        value |= (uint64_t) (byte & 0x7f) << (shift < 64 ? shift : 0);
        if (shift == 63 && byte > 1)
            break;
        if (!(byte & 0x80))
            return value;
    }
    reader->failed = true;
    return 0;
}

static anx_status check_children(struct check *check, size_t end, bool is_object, unsigned depth);

/* The end of a container whose size comes next. */
static anx_status
read_end(struct check *check, size_t limit, size_t *end)
{
    uint64_t size = read_varint(&check->reader);

    if (check->reader.failed || size > limit - check->reader.at)
        return corrupt(check, "a size is larger than its surroundings");
    *end = check->reader.at + (size_t) size;
    return ANX_OK;
}

static anx_status
check_packed(struct check *check, uint8_t kind, size_t limit)
{
    size_t width = kind == STORED_DOUBLE ? 8 : 4;
    size_t end = 0;
    anx_status st = read_end(check, limit, &end);

    if (st != ANX_OK)
        return st;
    if (kind != STORED_INT && kind != STORED_DOUBLE && kind != STORED_FLOAT)
        return corrupt(check, "an array of an unknown kind");
    if (kind != STORED_INT && (end - check->reader.at) % width != 0)
        return corrupt(check, "half a number at the end of an array");
    if (kind != STORED_INT)
        (void) anx_read_view(&check->reader, end - check->reader.at);
    while (!check->reader.failed && check->reader.at < end)
        (void) read_varint(&check->reader);
    return check->reader.at == end ? ANX_OK : corrupt(check, "a number crosses the end of its array");
}

static anx_status
check_vector(struct check *check, uint8_t form)
{
    uint64_t field = read_varint(&check->reader);
    uint64_t place;

    if (form > VECTOR_NULL)
        return corrupt(check, "a vector of an unknown form");
    if (check->reader.failed || field >= check->n_vector_field)
        return corrupt(check, "a vector of a field that does not exist");
    if (form != VECTOR_ONLY && form != VECTOR_ELEMENT)
        return ANX_OK;
    place = form == VECTOR_ELEMENT ? read_varint(&check->reader) : 0;
    if (check->reader.failed || place != check->n_vector[field]++)
        return corrupt(check, "a vector out of order");
    return ANX_OK;
}

/* What follows a head byte. */
static anx_status
check_payload(struct check *check, uint8_t head, size_t limit, unsigned depth)
{
    anx_reader *reader = &check->reader;
    uint8_t kind = head & 15, high = head >> 4;
    anx_status st;
    size_t end = 0;

    if (high != 0 && kind != STORED_SMALL && kind != STORED_SHORT && kind != STORED_PACKED &&
        kind != STORED_VECTOR)
        return corrupt(check, "bits that mean nothing are set");
    switch ((enum stored_kind) kind) {
    case STORED_NULL:
    case STORED_FALSE:
    case STORED_TRUE:
    case STORED_SMALL:
        return ANX_OK;
    case STORED_INT:
        (void) read_varint(reader);
        return ANX_OK;
    case STORED_DOUBLE:
        (void) anx_read_view(reader, 8);
        return ANX_OK;
    case STORED_FLOAT:
        (void) anx_read_view(reader, 4);
        return ANX_OK;
    case STORED_SHORT:
        (void) anx_read_view(reader, high);
        return ANX_OK;
    case STORED_STRING:
        st = read_end(check, limit, &end);
        if (st == ANX_OK)
            (void) anx_read_view(reader, end - reader->at);
        return st;
    case STORED_UUID:
        (void) anx_read_view(reader, 16);
        return ANX_OK;
    case STORED_ARRAY:
    case STORED_OBJECT:
        st = read_end(check, limit, &end);
        return st == ANX_OK ? check_children(check, end, kind == STORED_OBJECT, depth + 1) : st;
    case STORED_PACKED:
        return check_packed(check, high, limit);
    case STORED_VECTOR:
        return check_vector(check, high);
    case STORED_KIND_COUNT:
        break;
    }
    return corrupt(check, "an unknown kind of value");
}

static anx_status
check_children(struct check *check, size_t end, bool is_object, unsigned depth)
{
    if (depth > DOC_DEPTH_MAX)
        return corrupt(check, "too deep");
    while (check->reader.at < end) {
        uint8_t head = anx_read_u8(&check->reader);
        uint64_t tag = is_object ? read_varint(&check->reader) : 1;
        anx_status st;

        if (check->reader.failed || tag == 0 || tag > check->n_name)
            return corrupt(check, "a name that is not in the dictionary");
        st = check_payload(check, head, end, depth);
        if (st != ANX_OK)
            return st;
        if (check->reader.failed || check->reader.at > end)
            return corrupt(check, "a value crosses the end of its surroundings");
    }
    return ANX_OK;
}

anx_status
doc_check_fields(struct doc doc, const struct doc_names *names, size_t n_vector_field, anx_error *err)
{
    struct check check = { .reader = anx_reader_init(doc.bytes, doc.size), .err = err };

    check.n_name = names_count(names);
    check.n_vector_field =
        (uint32_t) (n_vector_field < DOC_VECTOR_FIELDS_MAX ? n_vector_field : DOC_VECTOR_FIELDS_MAX);
    if (doc.size > DOC_BYTES_MAX)
        return corrupt(&check, "too large");
    if (anx_read_u8(&check.reader) != DOC_FORMAT || check.reader.failed)
        return corrupt(&check, "not a document of a known format");
    return check_children(&check, doc.size, true, 0);
}

anx_status
doc_check(struct doc doc, const struct doc_names *names, anx_error *err)
{
    return doc_check_fields(doc, names, DOC_VECTOR_FIELDS_MAX, err);
}
