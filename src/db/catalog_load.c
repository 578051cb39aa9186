/* Reading the catalog when a database is opened: which namespaces there are, with names, metadata and
 * indexes.
 *
 * Definitions come before names in the catalog, but the names have to be in the dictionary first, because the
 * paths of indexes would take their tags otherwise. So definitions are collected and worked through after the
 * scan. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "db/json_fields.h"
#include "db/ns_int.h"

struct found {
    uint32_t id;
    anx_text definition; /* in the arena */
    struct ns *ns;       /* owned until it is in the list */
};
struct catalog {
    struct database *db;
    anx_arena *arena;
    struct found *found; /* owned */
    size_t n, capacity;
    anx_status st;
    anx_error *err;
};

static struct found *
find_id(struct catalog *catalog, uint32_t id)
{
    for (size_t i = 0; i < catalog->n; i++)
        if (catalog->found[i].id == id)
            return &catalog->found[i];
    return NULL;
}

static anx_status
add_definition(struct catalog *catalog, uint32_t id, anx_text value)
{
    struct found *found;

    if (catalog->n == catalog->capacity) {
        size_t capacity = catalog->capacity ? 2 * catalog->capacity : 16;
        struct found *more = anx_realloc_array(NULL, catalog->found, capacity, sizeof(*more));

        if (!more)
            return anx_fail(catalog->err, ANX_E_NOMEM, "out of memory");
        catalog->found = more;
        catalog->capacity = capacity;
    }
    found = &catalog->found[catalog->n++];
    *found = (struct found) { .id = id, .definition = anx_arena_text(catalog->arena, value) };
    if (!found->definition.data)
        return anx_fail(catalog->err, ANX_E_NOMEM, "out of memory");
    /* The name follows with the definition. */
    return ns_create(catalog->db, ANX_TEXT(""), true, &found->ns, catalog->err);
}

static anx_status
add_name(struct catalog *catalog, struct ns *ns, anx_text rest, anx_text value)
{
    uint32_t tag = 0;
    uint32_t got;
    anx_status st;

    for (size_t i = 0; i < rest.size; i++)
        tag = tag << 8 | (uint8_t) rest.data[i];
    st = names_add(ns->names, value, &got, catalog->err);
    if (st == ANX_OK && (rest.size != 4 || got != tag))
        st = anx_fail(catalog->err, ANX_E_CORRUPT, "name number %u of namespace %u is out of order", tag,
                      ns->id);
    return st;
}

static bool
visit(void *context, anx_text key, anx_text value)
{
    struct catalog *catalog = context;
    anx_text rest = { key.data + 5, key.size - 5 };
    struct found *found;
    uint32_t id = 0;

    if (key.size < 5)
        return true; /* the version */
    for (int i = 1; i < 5; i++)
        id = id << 8 | (uint8_t) key.data[i];
    if (catalog->db->next_id <= id)
        catalog->db->next_id = id + 1;
    found = find_id(catalog, id);
    if (key.data[0] == 'D')
        catalog->st = add_definition(catalog, id, value);
    else if (!found)
        anx_log(ANX_LOG_WARN, "event=catalog_leftover database=%s namespace=%u", catalog->db->name, id);
    else if (key.data[0] == 'M')
        catalog->st = meta_restore(found->ns, rest, value, catalog->err);
    else if (key.data[0] == 'N')
        catalog->st = add_name(catalog, found->ns, rest, value);
    return catalog->st == ANX_OK;
}

/* ---- Definitions ---- */

static anx_status
set_texts(struct ns *ns, struct json_fields *in, anx_error *err)
{
    anx_text name = { "", 0 };
    anx_text schema = { NULL, 0 };
    char *copy;

    fields_text(in, "name", &name);
    fields_text(in, "schema", &schema);
    if (in->status != ANX_OK || name.size == 0)
        return anx_fail(err, ANX_E_CORRUPT, "the definition of namespace %u has no name", ns->id);
    copy = anx_alloc_zeroed(NULL, name.size + 1, 1);
    if (schema.data)
        ns->schema = anx_alloc_zeroed(NULL, schema.size + 1, 1);
    if (!copy || (schema.data && !ns->schema)) {
        anx_free(NULL, copy);
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    }
    memcpy(copy, name.data, name.size);
    if (schema.data)
        memcpy(ns->schema, schema.data, schema.size);
    anx_free(NULL, ns->name);
    ns->name = copy;
    ns->kind = is_system_name(name) ? NS_CONFIG : NS_ORDINARY;
    return ANX_OK;
}

static anx_status
read_index(const struct json_node *node, const struct json_node *field, anx_arena *arena,
           struct ns_index *out, anx_error *err)
{
    struct index_def def;
    anx_status st = index_def_read(node, arena, &def, err);

    if (st == ANX_OK && field->kind != JSON_INT)
        st = anx_fail(err, ANX_E_CORRUPT, "a vector field has no number");
    if (st == ANX_OK && index_def_is_vector(&def) && (field->integer < 0 || field->integer >= INDEXES_MAX))
        st = anx_fail(err, ANX_E_CORRUPT, "a vector field has the number %lld", (long long) field->integer);
    if (st == ANX_OK)
        st = index_make(&def, out, err);
    if (st == ANX_OK && index_def_is_vector(&def))
        out->vector_field = (uint32_t) field->integer;
    return st;
}

static anx_status
set_indexes(struct ns *ns, struct json_fields *in, anx_arena *arena, anx_error *err)
{
    const struct json_node *list = fields_array(in, "indexes");
    const struct json_node *fields = fields_array(in, "vector_fields");
    size_t n = list ? list->list.n : 0;
    struct ns_content content;
    struct ns_index *indexes;
    size_t done = 0;
    anx_status st = ANX_OK;

    if (!list || !fields || fields->list.n != n)
        return anx_fail(err, ANX_E_CORRUPT, "the definition of namespace '%s' has no indexes", ns->name);
    indexes = anx_alloc_zeroed(NULL, n + 1, sizeof(*indexes));
    if (!indexes)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    while (st == ANX_OK && done < n) {
        st = read_index(&list->list.items[done], &fields->list.items[done], arena, &indexes[done], err);
        done += st == ANX_OK;
    }
    if (st == ANX_OK)
        st = content_make(ns, indexes, n, &content, err);
    if (st == ANX_OK) {
        content_swap(ns, &content); /* from here on the namespace owns the indexes */
        content_fini(&content);
    } else {
        while (done > 0)
            index_fini(&indexes[--done]);
    }
    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++)
        st = index_build_empty(ns, ns->indexes, ns->n_index, &ns->indexes[i], err);
    anx_free(NULL, indexes);
    return st;
}

/* The namespace of a definition, complete but for its documents. */
static anx_status
finish_namespace(struct catalog *catalog, struct found *found)
{
    struct json_fields in = { .prefix = "", .err = catalog->err };
    struct ns *ns = found->ns;
    struct json_node *node;
    anx_status st;

    ns->id = found->id;
    ns->n_name_stored = names_count(ns->names);
    st = json_parse(found->definition, catalog->arena, &node, catalog->err);
    in.object = node;
    if (st == ANX_OK)
        st = set_texts(ns, &in, catalog->err);
    if (st == ANX_OK)
        st = set_indexes(ns, &in, catalog->arena, catalog->err);
    if (st == ANX_OK)
        st = records_table(catalog->db, ns->id, true, &ns->table, catalog->err);
    if (st != ANX_OK)
        anx_error_context(catalog->err, "namespace '%s' (%u)", ns->name, ns->id);
    return st;
}

/* What an interrupted change of the reference left behind: it starts with @ and is removed. */
static bool
is_remains(const struct ns *ns)
{
    return ns->name[0] == '@';
}

static anx_status
remove_remains(struct ns *ns, anx_error *err)
{
    struct store_batch *batch;
    anx_status st = persist_begin(ns, &batch, err);

    if (st != ANX_OK)
        return st;
    catalog_remove(ns, batch);
    ns->n_name_stored = NAMES_GONE;
    st = persist_now(ns, batch, err);
    return st == ANX_OK ? store_table_drop(ns->database->store, ns->table, err) : st;
}

/* ---- Tables without a definition ---- */

struct leftovers {
    struct catalog *catalog;
    uint32_t ids[256]; /* more are left for the next start */
    size_t n;
};

static void
note_leftover(void *context, anx_text name)
{
    struct leftovers *leftovers = context;
    uint32_t id = 0;

    if (name.size < 2 || name.data[0] != 'r' || leftovers->n == ANX_COUNT_OF(leftovers->ids))
        return;
    for (size_t i = 1; i < name.size; i++) {
        if (name.data[i] < '0' || name.data[i] > '9')
            return;
        id = id * 10 + (uint32_t) (name.data[i] - '0');
    }
    if (!find_id(leftovers->catalog, id))
        leftovers->ids[leftovers->n++] = id;
}

static anx_status
drop_leftovers(struct catalog *catalog)
{
    struct leftovers leftovers = { .catalog = catalog };
    anx_status st = store_table_names(catalog->db->store, note_leftover, &leftovers, catalog->err);

    for (size_t i = 0; st == ANX_OK && i < leftovers.n; i++) {
        struct store_table *table;

        st = records_table(catalog->db, leftovers.ids[i], false, &table, catalog->err);
        if (st == ANX_OK)
            st = store_table_drop(catalog->db->store, table, catalog->err);
    }
    return st;
}

/* ---- The whole ---- */

static anx_status
check_version(struct database *db, anx_error *err)
{
    struct store_read *read;
    struct store_batch *batch;
    anx_text value;
    uint64_t ticket;
    anx_status st = store_read_begin(db->store, &read, err);

    if (st != ANX_OK)
        return st;
    st = store_get(read, db->catalog, ANX_TEXT("V"), &value, err);
    if (st == ANX_OK && !anx_text_equal(value, ANX_TEXT("1")))
        st = anx_fail(err, ANX_E_VERSION, "the database was written in format %.*s, known is 1",
                      ANX_TEXT_ARG(value));
    store_read_end(read);
    if (st != ANX_E_NOT_FOUND)
        return st;
    batch = store_batch_create();
    if (!batch)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    store_batch_put(batch, db->catalog, ANX_TEXT("V"), ANX_TEXT("1"));
    st = store_submit(db->store, batch, &ticket, err);
    return st == ANX_OK ? store_wait(db->store, ticket, err) : st;
}

static anx_status
scan_catalog(struct catalog *catalog)
{
    struct store_read *read;
    anx_status st = store_read_begin(catalog->db->store, &read, catalog->err);

    if (st != ANX_OK)
        return st;
    st = store_scan(read, catalog->db->catalog, (anx_text) { NULL, 0 }, visit, catalog, catalog->err);
    store_read_end(read);
    return st == ANX_OK ? catalog->st : st;
}

anx_status
catalog_load(struct database *db, anx_error *err)
{
    struct catalog catalog = { .db = db, .arena = anx_arena_create(NULL, 0), .err = err };
    anx_status st = catalog.arena ? check_version(db, err) : anx_fail(err, ANX_E_NOMEM, "out of memory");

    if (st == ANX_OK)
        st = scan_catalog(&catalog);
    for (size_t i = 0; st == ANX_OK && i < catalog.n; i++) {
        struct found *found = &catalog.found[i];

        st = finish_namespace(&catalog, found);
        if (st == ANX_OK && is_remains(found->ns)) {
            st = remove_remains(found->ns, err);
        } else if (st == ANX_OK) {
            st = list_add(db, found->ns, err);
            if (st == ANX_OK)
                found->ns = NULL;
        }
    }
    if (st == ANX_OK)
        st = drop_leftovers(&catalog);
    for (size_t i = 0; i < catalog.n; i++)
        if (catalog.found[i].ns)
            ns_destroy(catalog.found[i].ns);
    anx_free(NULL, catalog.found);
    anx_arena_destroy(catalog.arena);
    return st;
}
