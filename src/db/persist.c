/* Records and the catalog of a database. See README.md for the layout and the crash argument.
 *
 * Keys of the catalog table, in order, so that one scan meets a definition before what belongs to it:
 *
 *     "D" id            definition, JSON
 *
 *     "M" id key        metadata
 *
 *     "N" id tag        name of the dictionary
 *
 *     "V"               version of all this
 *
 * id and tag are 4 bytes, big-endian. Records of namespace 7 are in the table "r7", by row, 4 bytes,
 * big-endian. */
#include "db/persist.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "db/ns_int.h"
#include "db/pending.h"
#include "db/record.h"

static void
put_be32(char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char) (value >> (24 - 8 * i) & 0xff);
}

size_t
catalog_key(char kind, uint32_t id, anx_text rest, char out[STORE_KEY_MAX])
{
    out[0] = kind;
    put_be32(out + 1, id);
    if (rest.size > 0)
        memcpy(out + 5, rest.data, rest.size);
    return 5 + rest.size;
}

/* ---- Records ---- */

anx_status
persist_begin(struct ns *ns, struct store_batch **out, anx_error *err)
{
    *out = NULL;
    if (!ns->table)
        return ANX_OK;
    *out = store_batch_create();
    return *out ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "out of memory");
}

void
persist_put_shaped(struct ns *ns, struct store_batch *batch, uint32_t row, struct doc doc,
                   const struct doc_vectors *vectors, size_t n_vector_field)
{
    struct record_writer writer;
    char key[4];

    put_be32(key, row);
    record_write(&writer, doc, vectors, n_vector_field);
    store_batch_put_parts(batch, ns->table, (anx_text) { key, 4 }, writer.parts, writer.n_part);
}

void
persist_put(struct ns *ns, struct store_batch *batch, uint32_t row, struct doc doc,
            const struct doc_vectors *vectors)
{
    if (!batch)
        return;
    persist_put_shaped(ns, batch, row, doc, vectors, ns->n_vector_field);
}

void
persist_delete(struct ns *ns, struct store_batch *batch, uint32_t row)
{
    char key[4];

    if (!batch)
        return;
    for (size_t i = 0; i < ns->n_index; i++)
        if (ns->indexes[i].vector)
            vector_keep(ns->indexes[i].vector, row);
    put_be32(key, row);
    store_batch_delete(batch, ns->table, (anx_text) { key, 4 });
}

/* All names, not only those of this batch: another thread's parse may have added one that is used here. */
static uint32_t
put_names(struct ns *ns, struct store_batch *batch)
{
    uint32_t count = names_count(ns->names);

    if (!ns->table || ns->n_name_stored == NAMES_GONE)
        return ns->n_name_stored;
    for (uint32_t tag = ns->n_name_stored + 1; tag <= count; tag++) {
        char rest[4];
        char key[STORE_KEY_MAX];
        size_t size;

        put_be32(rest, tag);
        size = catalog_key('N', ns->id, (anx_text) { rest, 4 }, key);
        store_batch_put(batch, ns->database->catalog, (anx_text) { key, size }, names_text(ns->names, tag));
    }
    return count;
}

anx_status
persist_submit(struct ns *ns, struct store_batch *batch, uint64_t *ticket, anx_error *err)
{
    uint32_t n_name;
    anx_status st;

    *ticket = 0;
    atomic_store_explicit(&ns->changed_ns, anx_clock_ns(), memory_order_relaxed);
    atomic_fetch_add_explicit(&ns->n_change, 1, memory_order_relaxed);
    if (!batch)
        return ANX_OK;
    if (ns->pending && !pending_check(ns->pending)) {
        pending_submitted(ns->pending, 0);
        store_batch_destroy(batch);
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    }
    n_name = put_names(ns, batch);
    st = store_submit(ns->database->store, batch, ticket, err);
    if (st == ANX_OK)
        ns->n_name_stored = n_name;
    if (ns->pending)
        pending_submitted(ns->pending, st == ANX_OK ? *ticket : 0);
    return st;
}

anx_status
persist_wait(struct ns *ns, uint64_t ticket, anx_error *err)
{
    anx_status st;

    if (ticket == 0)
        return ANX_OK;
    st = store_wait(ns->database->store, ticket, err);
    if (ns->pending)
        pending_settle(ns->pending, store_durable(ns->database->store));
    return st;
}

anx_status
persist_now(struct ns *ns, struct store_batch *batch, anx_error *err)
{
    uint64_t ticket;
    anx_status st = persist_submit(ns, batch, &ticket, err);

    return st == ANX_OK ? persist_wait(ns, ticket, err) : st;
}

const void *
persist_peek_vector(struct ns *ns, struct store_read *read, uint32_t vector_field, uint32_t row,
                    uint32_t position, uint32_t dim)
{
    anx_text value;
    char key[4];

    put_be32(key, row);
    if (store_peek(read, ns->table, (anx_text) { key, 4 }, &value) != ANX_OK)
        return NULL;
    return record_vector(value, vector_field, position, dim);
}

bool
persist_read_vectors(struct ns *ns, uint32_t vector_field, uint32_t row, uint32_t n, uint32_t dim, float *out)
{
    const uint8_t *floats = NULL;
    struct store_read *read;
    anx_text value;
    char key[4];

    if (!ns->table || n == 0 || store_read_begin(ns->database->store, &read, NULL) != ANX_OK)
        return false;
    put_be32(key, row);
    if (store_get(read, ns->table, (anx_text) { key, 4 }, &value, NULL) == ANX_OK
        && record_vector(value, vector_field, n - 1, dim))
        floats = record_vector(value, vector_field, 0, dim);
    if (floats)
        memcpy(out, floats, (size_t) n * dim * sizeof(float));
    store_read_end(read);
    return floats != NULL;
}

/* ---- The catalog: writing ---- */

anx_status
records_table(struct database *db, uint32_t id, bool create, struct store_table **out, anx_error *err)
{
    char name[16];

    (void) snprintf(name, sizeof(name), "r%u", id);
    return store_table(db->store, anx_text_of(name), create, out, err);
}

static void
print_definition(struct ns *ns, const struct ns_index *indexes, size_t n_index, anx_buffer *out)
{
    anx_buffer_text(out, ANX_TEXT("{\"version\":1,\"name\":"));
    json_print_text(out, anx_text_of(ns->name));
    if (ns->schema) {
        anx_buffer_text(out, ANX_TEXT(",\"schema\":"));
        json_print_text(out, anx_text_of(ns->schema));
    }
    anx_buffer_text(out, ANX_TEXT(",\"indexes\":["));
    for (size_t i = 0; i < n_index; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        index_def_print(indexes[i].def, false, out);
    }
    anx_buffer_text(out, ANX_TEXT("],\"vector_fields\":["));
    for (size_t i = 0; i < n_index; i++)
        anx_buffer_printf(out, "%s%d", i ? "," : "",
                          index_def_is_vector(indexes[i].def) ? (int) indexes[i].vector_field : -1);
    anx_buffer_text(out, ANX_TEXT("]}"));
}

anx_status
catalog_put(struct ns *ns, const struct ns_content *content, struct store_batch *batch, anx_error *err)
{
    char key[STORE_KEY_MAX];
    size_t size = catalog_key('D', ns->id, (anx_text) { NULL, 0 }, key);
    anx_buffer out;
    bool failed;

    if (!batch)
        return ANX_OK;
    anx_buffer_init(&out, NULL, UINT32_MAX);
    print_definition(ns, content ? content->indexes : ns->indexes, content ? content->n_index : ns->n_index,
                     &out);
    failed = out.failed;
    if (!failed)
        store_batch_put(batch, ns->database->catalog, (anx_text) { key, size },
                        (anx_text) { out.data, out.size });
    anx_buffer_fini(&out);
    return failed ? anx_fail(err, ANX_E_NOMEM, "out of memory") : ANX_OK;
}

struct removal {
    struct ns *ns;
    struct store_batch *batch;
};

static void
remove_meta(void *context, anx_text key, anx_text value)
{
    struct removal *removal = context;
    char bytes[STORE_KEY_MAX];
    size_t size = catalog_key('M', removal->ns->id, key, bytes);

    (void) value;
    store_batch_delete(removal->batch, removal->ns->database->catalog, (anx_text) { bytes, size });
}

void
catalog_remove(struct ns *ns, struct store_batch *batch)
{
    struct removal removal = { ns, batch };
    char key[STORE_KEY_MAX];
    size_t size = catalog_key('D', ns->id, (anx_text) { NULL, 0 }, key);

    if (!batch || !ns->table)
        return;
    store_batch_delete(batch, ns->database->catalog, (anx_text) { key, size });
    meta_each(ns, remove_meta, &removal);
    for (uint32_t tag = 1; tag <= ns->n_name_stored; tag++) {
        char rest[4];

        put_be32(rest, tag);
        size = catalog_key('N', ns->id, (anx_text) { rest, 4 }, key);
        store_batch_delete(batch, ns->database->catalog, (anx_text) { key, size });
    }
    store_batch_clear_table(batch, ns->table);
}
