/* Adding, changing and dropping indexes: the rules. How it is done is in ns_rebuild.c. */
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "db/db_int.h"
#include "db/embedding.h"
#include "db/events.h"
#include "db/index_def_int.h"
#include "db/ns_rebuild.h"
#include "db/quantize.h"

/* ---- Looking around ---- */

static struct ns_index *
find_by_name(const struct ns *ns, anx_text name)
{
    for (size_t i = 0; i < ns->n_index; i++)
        if (anx_text_equal_fold(ns->indexes[i].def->name, name))
            return &ns->indexes[i];
    return NULL;
}

static bool
is_component(const struct index_def *composite, anx_text name)
{
    for (size_t p = 0; composite->field_type == FIELD_COMPOSITE && p < composite->n_path; p++)
        if (anx_text_equal_fold(composite->json_paths[p], name))
            return true;
    return false;
}

static bool
has_documents(const struct ns *ns)
{
    return rows_count(ns->rows) > 0;
}

/* ---- Rules that need the namespace ---- */

/* A composite and its component; component NULL: the field has no index. */
static anx_status
check_component(const struct index_def *def, anx_text name, const struct index_def *component, anx_error *err)
{
    bool is_text = def->index_type == INDEX_TEXT;

    if (!component)
        return is_text
                   ? ANX_OK
                   : anx_fail(
                         err, ANX_E_PARAMS,
                         "Composite indexes over non-indexed field ('%.*s') are not supported yet (except "
                         "for full-text indexes). Create at least column index('-') over each field "
                         "inside the composite index",
                         ANX_TEXT_ARG(name));
    if (component->field_type == FIELD_COMPOSITE)
        return anx_fail(err, ANX_E_PARAMS,
                        "Cannot create composite index '%.*s' over the other composite '%.*s'",
                        ANX_TEXT_ARG(def->name), ANX_TEXT_ARG(component->name));
    if (index_def_is_vector(component))
        return anx_fail(err, ANX_E_PARAMS,
                        "Composite indexes over float vector indexed field ('%.*s') are not supported yet",
                        ANX_TEXT_ARG(name));
    if (component->is_sparse)
        return anx_fail(err, ANX_E_PARAMS,
                        "Composite indexes over sparse indexed field ('%.*s') are not supported yet",
                        ANX_TEXT_ARG(name));
    if (!is_text && (component->is_array || component->field_type == FIELD_POINT))
        return anx_fail(err, ANX_E_PARAMS,
                        "Cannot add array subindex '%.*s' to not fulltext composite index '%.*s'",
                        ANX_TEXT_ARG(name), ANX_TEXT_ARG(def->name));
    if (component->field_type == FIELD_UUID && def->index_type != INDEX_HASH)
        return anx_fail(err, ANX_E_PARAMS, "Only hash index allowed on UUID field");
    return ANX_OK;
}

/* Every composite with its components, as the list would be. */
static anx_status
check_composites(const struct ns_index *list, size_t n, anx_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct index_def *def = list[i].def;

        for (size_t p = 0; def->field_type == FIELD_COMPOSITE && p < def->n_path; p++) {
            const struct index_def *component = NULL;
            anx_status st;

            for (size_t j = 0; j < n && !component; j++)
                if (j != i && anx_text_equal_fold(list[j].def->name, def->json_paths[p]))
                    component = list[j].def;
            st = check_component(def, def->json_paths[p], component, err);
            if (st != ANX_OK)
                return st;
        }
    }
    return ANX_OK;
}

/* Each path belongs to one index. */
static anx_status
check_paths(const struct ns *ns, const struct index_def *def, anx_error *err)
{
    for (size_t i = 0; def->field_type != FIELD_COMPOSITE && i < ns->n_index; i++) {
        const struct index_def *other = ns->indexes[i].def;

        if (other->field_type == FIELD_COMPOSITE || anx_text_equal_fold(other->name, def->name))
            continue;
        for (size_t p = 0; p < def->n_path; p++)
            for (size_t q = 0; q < other->n_path; q++)
                if (anx_text_equal(def->json_paths[p], other->json_paths[q]))
                    return anx_fail(
                        err, ANX_E_LOGIC,
                        "Cannot add field with name '%.*s' to namespace '%s'. Json path '%.*s' already "
                        "used in field '%.*s'",
                        ANX_TEXT_ARG(def->name), ns->name, ANX_TEXT_ARG(def->json_paths[p]),
                        ANX_TEXT_ARG(other->name));
    }
    return ANX_OK;
}

/* What holds for an index that is added and for one that takes the place of `old`. */
static anx_status
check_in_namespace(const struct ns *ns, const struct index_def *def, const struct index_def *old,
                   anx_error *err)
{
    const struct index_def *key = ns->pk == SIZE_MAX ? NULL : ns->indexes[ns->pk].def;
    size_t n_regular = 0;

    if (def->is_pk && key && key != old)
        return anx_fail(err, ANX_E_CONFLICT,
                        "Cannot add PK index '%s.%.*s'. Already exists another PK index - '%.*s'", ns->name,
                        ANX_TEXT_ARG(def->name), ANX_TEXT_ARG(key->name));
    for (size_t i = 0; i < ns->n_index; i++)
        n_regular += ns->indexes[i].def->field_type != FIELD_COMPOSITE;
    if (!old && def->field_type != FIELD_COMPOSITE && n_regular >= INDEXES_MAX)
        return anx_fail(
            err, ANX_E_CONFLICT,
            "Cannot add index '%s.%.*s'. Too many non-composite indexes. %d non-composite indexes are "
            "allowed only",
            ns->name, ANX_TEXT_ARG(def->name), INDEXES_MAX);
    if (index_def_is_vector(def) && has_documents(ns) && (!key || (key == old && !def->is_pk)))
        return anx_fail(err, ANX_E_PARAMS,
                        "Cannot %s index '%.*s' in namespace '%s'. The namespace does not have PK index",
                        old ? "update" : "add", ANX_TEXT_ARG(def->name), ns->name);
    return check_paths(ns, def, err);
}

/* ---- Adding ---- */

/* The present indexes with room for one more at the end. */
static struct ns_index *
copy_list(const struct ns *ns, anx_error *err)
{
    struct ns_index *list = anx_alloc_array(NULL, ns->n_index + 1, sizeof(*list));

    if (!list)
        (void) anx_fail(err, ANX_E_NOMEM, "out of memory");
    else if (ns->n_index > 0)
        memcpy(list, ns->indexes, ns->n_index * sizeof(*list));
    return list;
}

static anx_status
add_index(struct ns *ns, const struct index_def *def, bool is_private, anx_error *err)
{
    struct ns_index *list;
    anx_status st = check_in_namespace(ns, def, NULL, err);

    if (st != ANX_OK)
        return st;
    list = copy_list(ns, err);
    if (!list)
        return ANX_E_NOMEM;
    st = index_make(def, &list[ns->n_index], err);
    if (st == ANX_OK) {
        st = check_composites(list, ns->n_index + 1, err);
        if (st == ANX_OK)
            st = ns_rebuild(ns, list, ns->n_index + 1, is_private, err);
        else
            index_fini(&list[ns->n_index]);
    }
    anx_free(NULL, list);
    return st;
}

/* ---- Changing ---- */

/* Types among which values can be converted. */
static int
type_family(enum field_type type)
{
    switch (type) {
    case FIELD_BOOL:
    case FIELD_INT:
    case FIELD_INT64:
    case FIELD_DOUBLE: return 0;
    case FIELD_STRING:
    case FIELD_UUID: return 1;
    default: return 2 + (int) type;
    }
}

/* What may not change while there are documents. */
static anx_status
check_change(const struct ns *ns, const struct index_def *old, const struct index_def *def, anx_error *err)
{
    if (!has_documents(ns))
        return ANX_OK;
    if (type_family(old->field_type) != type_family(def->field_type))
        return anx_fail(err, ANX_E_PARAMS, "Cannot convert key from type %s to %s",
                        field_type_name(old->field_type), field_type_name(def->field_type));
    for (size_t i = 0; old->is_pk && !def->is_pk && i < ns->n_index; i++)
        if (ns->indexes[i].vector)
            return anx_fail(
                err, ANX_E_LOGIC,
                "Cannot remove PK index '%.*s' from namespace '%s': the namespace contains float vector "
                "index '%.*s'",
                ANX_TEXT_ARG(old->name), ns->name, ANX_TEXT_ARG(ns->indexes[i].def->name));
    if (old->is_array != def->is_array)
        return anx_fail(
            err, ANX_E_PARAMS,
            "Cannot update index '%.*s' in namespace '%s'. Can't convert array index to not array and "
            "vice versa in non-empty namespace",
            ANX_TEXT_ARG(def->name), ns->name);
    return ANX_OK;
}

/* Fields that an embedder reads must be able to be its input. */
static anx_status
check_embedder(const struct ns *ns, const struct index_def *def, anx_error *err)
{
    const struct embedder_def *embedder = &def->vector.upsert_embedder;

    for (size_t i = 0; index_def_is_vector(def) && i < embedder->n_field; i++) {
        const struct ns_index *field = find_by_name(ns, embedder->fields[i]);

        if (!field)
            return anx_fail(
                err, ANX_E_LOGIC,
                "Cannot update index field named '%.*s' in namespace '%s'. Auxiliary field '%.*s' not "
                "found",
                ANX_TEXT_ARG(def->name), ns->name, ANX_TEXT_ARG(embedder->fields[i]));
        if (field->def->field_type == FIELD_COMPOSITE || field->def->is_sparse)
            return anx_fail(
                err, ANX_E_PARAMS,
                "Cannot update index field named '%.*s' in namespace '%s'. Support for embedding only "
                "for scalar index fields. Using %sfield '%.*s' %s",
                ANX_TEXT_ARG(def->name), ns->name, field->def->is_sparse ? "" : "composite ",
                ANX_TEXT_ARG(field->def->name),
                field->def->is_sparse ? "is sparse, so embedding is not supported"
                                      : "for embedding is invalid");
    }
    return ANX_OK;
}

static bool
is_quantized_now(const struct ns_index *index)
{
    struct vector_numbers numbers = { 0 };

    if (index->vector)
        vector_get_numbers(index->vector, &numbers);
    return numbers.is_quantized;
}

static anx_status
check_quantization(const struct ns *ns, const struct ns_index *index, const struct index_def *def,
                   anx_error *err)
{
    const struct index_def *old = index->def;

    if (!index_def_is_vector(old) || !index_def_is_vector(def) || !is_quantized_now(index)
        || !def->vector.is_quantized
        || (index_def_equal_base(old, def) && vector_def_equal_quantization(&old->vector, &def->vector)))
        return ANX_OK;
    return anx_fail(
        err, ANX_E_PARAMS,
        "Cannot update quantization config in index '%.*s' in namespace '%s'. Index was quantized already. "
        "To set a new quantization config, restore the original non-quantized index by resetting the "
        "current config, then apply the new one.",
        ANX_TEXT_ARG(def->name), ns->name);
}

/* Nothing that values or structure hang on: the definition alone is replaced. */
static anx_status
change_in_place(struct ns *ns, struct ns_index *index, const struct index_def *def, bool is_private,
                anx_error *err)
{
    struct index_def *copy = index_def_copy(def);
    struct index_def *old = index->def;
    struct vector_index *vector = index->vector;
    struct store_batch *batch = NULL;
    anx_status st = ANX_OK;

    if (!copy)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    if (!is_private)
        st = persist_begin(ns, &batch, err);
    if (st == ANX_OK && vector)
        st = vector_reconfigure_prepare(vector, copy, err);
    pthread_rwlock_wrlock(&ns->data_lock);
    if (st == ANX_OK) {
        struct ns_content same;

        if (vector)
            vector_reconfigure(vector, copy);
        index->def = copy;
        /* The shape borrows texts from the definition. */
        st = content_make(ns, ns->indexes, ns->n_index, &same, err);
        if (st == ANX_OK) {
            content_swap(ns, &same);
            content_fini(&same);
        } else {
            index->def = old;
            if (vector)
                vector_reconfigure(vector, old);
        }
    }
    pthread_rwlock_unlock(&ns->data_lock);
    if (vector)
        vector_reconfigure_end(vector);
    if (st != ANX_OK) {
        anx_free(NULL, copy);
        store_batch_destroy(batch);
        return st;
    }
    anx_free(NULL, old);
    st = catalog_put(ns, NULL, batch, err);
    if (st != ANX_OK)
        store_batch_destroy(batch);
    else if (batch)
        st = persist_now(ns, batch, err);
    return st;
}

/* A new index in the place of the old one, and new composites where they depend on its type. */
static anx_status
replace_index(struct ns *ns, size_t place, const struct index_def *def, bool is_private, anx_error *err)
{
    struct ns_index *list = copy_list(ns, err);
    const struct index_def *old = ns->indexes[place].def;
    size_t n_made = 0;
    size_t made[64];
    anx_status st;

    if (!list)
        return ANX_E_NOMEM;
    st = index_make(def, &list[place], err);
    if (st == ANX_OK) {
        made[n_made++] = place;
        if (index_def_is_vector(def) && index_def_is_vector(old))
            list[place].vector_field = ns->indexes[place].vector_field;
    }
    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++) {
        if (!is_component(ns->indexes[i].def, old->name) || n_made == ANX_COUNT_OF(made))
            continue;
        st = index_make(ns->indexes[i].def, &list[i], err);
        if (st == ANX_OK)
            made[n_made++] = i;
    }
    if (st == ANX_OK)
        st = check_composites(list, ns->n_index, err);
    if (st == ANX_OK)
        st = ns_rebuild(ns, list, ns->n_index, is_private, err);
    else
        while (n_made > 0)
            index_fini(&list[made[--n_made]]);
    anx_free(NULL, list);
    return st;
}

static anx_status
update_index(struct ns *ns, struct ns_index *index, const struct index_def *def, bool is_private,
             anx_error *err)
{
    struct index_def same = *def;
    anx_status st;

    if (index_def_equal(index->def, def))
        return ANX_OK;
    st = check_in_namespace(ns, def, index->def, err);
    if (st == ANX_OK)
        st = check_change(ns, index->def, def, err);
    if (st == ANX_OK)
        st = check_quantization(ns, index, def, err);
    if (st == ANX_OK)
        st = check_embedder(ns, def, err);
    if (st != ANX_OK)
        return st;
    same.expire_after = index->def->expire_after;
    if (!index_def_equal_base(index->def, &same) || (is_quantized_now(index) && !def->vector.is_quantized))
        ann_cache_drop(ns, index);
    if (index_def_equal_base(index->def, &same) &&
        (!index->text || anx_text_equal(index->def->config_json, def->config_json)))
        return change_in_place(ns, index, def, is_private, err);
    return replace_index(ns, (size_t) (index - ns->indexes), def, is_private, err);
}

anx_status
ns_index_set_locked(struct ns *ns, const struct index_def *def, enum db_index_action action, bool is_private,
                    anx_error *err)
{
    struct ns_index *present = find_by_name(ns, def->name);
    anx_status st;

    if (action == INDEX_UPDATE && !present)
        return anx_fail(err, ANX_E_PARAMS, "Index '%.*s' not found in '%s'", ANX_TEXT_ARG(def->name),
                        ns->name);
    if (action == INDEX_ADD && present)
        return anx_fail(err, ANX_E_PARAMS, "Index already exists");
    st = index_def_check(def, action == INDEX_UPDATE ? "update" : "add", anx_text_of(ns->name), err);
    if (st != ANX_OK)
        return st;
    if (action == INDEX_UPDATE)
        return update_index(ns, present, def, is_private, err);
    if (!present)
        return add_index(ns, def, is_private, err);
    if (index_def_equal_base(present->def, def))
        return ANX_OK;
    return anx_fail(err, ANX_E_CONFLICT, "Index '%s.%.*s' already exists with different settings", ns->name,
                    ANX_TEXT_ARG(def->name));
}

/* ---- Dropping ---- */

static anx_status
check_drop(const struct ns *ns, const struct ns_index *index, anx_error *err)
{
    const struct index_def *def = index->def;

    for (size_t i = 0; i < ns->n_index; i++) {
        const struct index_def *other = ns->indexes[i].def;
        const struct embedder_def *embedder = &other->vector.upsert_embedder;

        if (is_component(other, def->name))
            return anx_fail(err, ANX_E_LOGIC,
                            "Cannot remove index '%.*s': it's a part of a composite index '%.*s'",
                            ANX_TEXT_ARG(def->name), ANX_TEXT_ARG(other->name));
        for (size_t f = 0; index_def_is_vector(other) && f < embedder->n_field; f++)
            if (anx_text_equal_fold(embedder->fields[f], def->name))
                return anx_fail(
                    err, ANX_E_LOGIC,
                    "Cannot remove index '%.*s': it's a part of a auto embedding logic in index '%.*s'",
                    ANX_TEXT_ARG(def->name), ANX_TEXT_ARG(other->name));
        if (def->is_pk && index_def_is_vector(other) && has_documents(ns))
            return anx_fail(
                err, ANX_E_LOGIC,
                "Cannot remove PK index '%.*s' from namespace '%s': the namespace contains float vector "
                "index '%.*s'",
                ANX_TEXT_ARG(def->name), ns->name, ANX_TEXT_ARG(other->name));
    }
    return ANX_OK;
}

static anx_status
drop_locked(struct ns *ns, anx_text name, anx_error *err)
{
    struct ns_index *index = find_by_name(ns, name);
    struct ns_index *list;
    size_t place;
    anx_status st;

    if (!index)
        return anx_fail(err, ANX_E_PARAMS, "Cannot remove index '%.*s': doesn't exist", ANX_TEXT_ARG(name));
    st = check_drop(ns, index, err);
    if (st != ANX_OK)
        return st;
    list = copy_list(ns, err);
    if (!list)
        return ANX_E_NOMEM;
    place = (size_t) (index - ns->indexes);
    memmove(&list[place], &list[place + 1], (ns->n_index - place - 1) * sizeof(*list));
    ann_cache_drop(ns, index);
    st = ns_rebuild(ns, list, ns->n_index - 1, false, err);
    anx_free(NULL, list);
    if (st == ANX_OK)
        embedding_forget(ns, name);
    return st;
}

/* ---- As front ends see it ---- */

static anx_status
acquire_for_change(struct database *db, anx_text name, struct ns **out, anx_error *err)
{
    anx_status st = ns_acquire(db, name, out, err);

    if (st != ANX_OK)
        return st;
    if (system_ns_kind(*out) != SYSTEM_NONE) {
        st = anx_fail(err, ANX_E_PARAMS, "Indexes of system namespace '%.*s' cannot be changed",
                      ANX_TEXT_ARG(name));
        ns_release(*out);
        return st;
    }
    pthread_mutex_lock(&(*out)->write_lock);
    st = ns_check_alive(*out, err);
    if (st != ANX_OK) {
        pthread_mutex_unlock(&(*out)->write_lock);
        ns_release(*out);
    }
    return st;
}

static anx_status
set_and_report(struct ns *ns, const struct index_def *def, enum db_index_action action, anx_error *err)
{
    uint64_t n_change = atomic_load(&ns->n_change);
    bool is_new = find_by_name(ns, def->name) == NULL;
    anx_status st = ns_index_set_locked(ns, def, action, false, err);

    if (st == ANX_OK && atomic_load(&ns->n_change) != n_change)
        event_emit(ns, is_new ? EVENT_INDEX_ADD : EVENT_INDEX_UPDATE, 1);
    return st;
}

/* Taking the quantization of an index back builds an index; that is done before the change, with writers
 * going on. */
static anx_status
build_ahead(struct ns *ns, const struct index_def *def, anx_error *err)
{
    const struct ns_index *index = find_by_name(ns, def->name);
    struct index_def same = *def;
    anx_status st;

    if (!index || !is_quantized_now(index) || def->vector.is_quantized)
        return ANX_OK;
    same.expire_after = index->def->expire_after;
    if (!index_def_equal_base(index->def, &same))
        return ANX_OK;
    st = quantizer_reset(ns->database->engine->quantizer, ns, index->vector, err);
    return st == ANX_OK ? ns_check_alive(ns, err) : st;
}

static void
drop_what_was_built(struct ns *ns, const struct index_def *def)
{
    const struct ns_index *index = find_by_name(ns, def->name);

    if (index && index->vector)
        vector_reconfigure_end(index->vector);
}

anx_status
db_index_set(struct database *db, anx_text name, anx_text definition, enum db_index_action action,
             const struct db_session *session, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct json_node *node;
    struct index_def def;
    struct ns *ns;
    anx_status st;

    (void) session;
    if (!arena)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    st = json_parse(definition, arena, &node, err);
    if (st == ANX_E_PARSE_JSON)
        anx_error_context(err, "IndexDef");
    if (st == ANX_OK)
        st = acquire_for_change(db, name, &ns, err);
    if (st == ANX_OK) {
        const struct json_node *index_name = json_member(node, "name");

        /* Before anything else is looked at. */
        if (action == INDEX_ADD && index_name && index_name->kind == JSON_STRING
            && find_by_name(ns, index_name->text))
            st = anx_fail(err, ANX_E_PARAMS, "Index already exists");
        else
            st = index_def_read(node, arena, &def, err);
        if (st == ANX_OK && action == INDEX_UPDATE)
            st = build_ahead(ns, &def, err);
        if (st == ANX_OK) {
            st = set_and_report(ns, &def, action, err);
            drop_what_was_built(ns, &def);
        }
        pthread_mutex_unlock(&ns->write_lock);
        ns_release(ns);
    }
    anx_arena_destroy(arena);
    return st;
}

anx_status
db_index_drop(struct database *db, anx_text name, anx_text index, const struct db_session *session,
              anx_error *err)
{
    struct ns *ns;
    anx_status st = acquire_for_change(db, name, &ns, err);

    (void) session;
    if (st != ANX_OK)
        return st;
    st = drop_locked(ns, index, err);
    if (st == ANX_OK)
        event_emit(ns, EVENT_INDEX_DROP, 1);
    pthread_mutex_unlock(&ns->write_lock);
    ns_release(ns);
    return st;
}
