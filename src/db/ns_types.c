/* What binary clients have to know of a namespace: the dictionary of field names with its identity, and the
 * fields that have indexes. */
#include "db/ns.h"
#include "doc/cjson.h"

/* Types of fields as the protocol numbers them, and the bytes that one value takes in its flat records. */
static const struct {
    uint8_t type, size;
} field_types[FIELD_TYPE_COUNT] = {
    [FIELD_INT] = { 8, 4 },    [FIELD_INT64] = { 0, 8 }, [FIELD_DOUBLE] = { 1, 8 },
    [FIELD_STRING] = { 2, 8 }, [FIELD_BOOL] = { 3, 1 },  [FIELD_UUID] = { 12, 16 },
    [FIELD_POINT] = { 1, 8 },  [FIELD_COMPOSITE] = { 10, 0 }, [FIELD_FLOAT_VECTOR] = { 13, 8 },
};
enum { TYPE_STRING = 2, ARRAY_SIZE = 8 };

int32_t
ns_types_version(const struct ns *ns)
{
    return (int32_t) ((uint32_t) ns->state_token ^ names_count(ns->names));
}

static void
put_text(anx_buffer *out, anx_text text)
{
    anx_buffer_varint(out, text.size);
    anx_buffer_text(out, text);
}

static bool
is_field(const struct index_def *def)
{
    return def->field_type != FIELD_COMPOSITE && !def->is_sparse;
}

static void
print_field(const struct index_def *def, size_t *offset, anx_buffer *out)
{
    bool is_array = def->is_array || def->field_type == FIELD_POINT;
    size_t size = field_types[def->field_type].size;

    anx_buffer_varint(out, field_types[def->field_type].type);
    if (def->field_type == FIELD_FLOAT_VECTOR)
        anx_buffer_varint(out, def->vector.dim);
    put_text(out, def->name);
    anx_buffer_varint(out, *offset);
    anx_buffer_varint(out, size);
    anx_buffer_varint(out, is_array);
    anx_buffer_varint(out, def->n_path);
    for (size_t i = 0; i < def->n_path; i++)
        put_text(out, def->json_paths[i]);
    *offset += is_array ? ARRAY_SIZE : size;
}

/* The first field is the whole document. */
static void
print_fields(const struct ns *ns, anx_buffer *out)
{
    size_t n = 1, offset = ARRAY_SIZE;

    for (size_t i = 0; i < ns->n_index; i++)
        n += is_field(ns->indexes[i].def);
    anx_buffer_varint(out, 0); /* offset of the head of strings in flat records, which are never sent */
    anx_buffer_varint(out, n);
    anx_buffer_varint(out, TYPE_STRING);
    put_text(out, ANX_TEXT("-tuple"));
    anx_buffer_varint(out, 0);
    anx_buffer_varint(out, ARRAY_SIZE);
    anx_buffer_varint(out, false);
    anx_buffer_varint(out, 0);
    for (size_t i = 0; i < ns->n_index; i++)
        if (is_field(ns->indexes[i].def))
            print_field(ns->indexes[i].def, &offset, out);
}

void
ns_print_types(struct ns *ns, size_t nsid, bool lock, anx_buffer *out)
{
    uint32_t count;

    if (lock)
        pthread_rwlock_rdlock(&ns->data_lock);
    count = names_count(ns->names);
    anx_buffer_varint(out, nsid);
    put_text(out, anx_text_of(ns->name));
    anx_buffer_varint(out, (uint32_t) ns->state_token);
    anx_buffer_varint(out, count);
    cjson_print_names(out, ns->names, count);
    print_fields(ns, out);
    if (lock)
        pthread_rwlock_unlock(&ns->data_lock);
}
