/* The shape of a namespace: its indexes in order, the fields they name, the numbers of vector fields. */
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "db/ns_int.h"

bool
index_has_scalar(const struct index_def *def)
{
    return !index_def_is_vector(def) && def->index_type != INDEX_TEXT && def->field_type != FIELD_POINT;
}

/* ---- One index ---- */

static anx_status
make_collation(const struct index_def *def, struct ns_index *out, anx_error *err)
{
    enum { N_CODE_POINT = 65536 };
    const uint16_t *order;
    anx_arena *arena;
    anx_status st;

    out->collation.mode = def->collate_mode;
    if (def->collate_mode != COLLATE_CUSTOM)
        return ANX_OK;
    arena = anx_arena_create(NULL, 0);
    out->custom_order = anx_alloc_array(NULL, N_CODE_POINT, sizeof(*out->custom_order));
    if (!arena || !out->custom_order)
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    else
        st = collation_custom(def->sort_order_letters, arena, &order, err);
    if (st == ANX_OK)
        memcpy(out->custom_order, order, N_CODE_POINT * sizeof(*order));
    out->collation.custom = out->custom_order;
    anx_arena_destroy(arena);
    return st;
}

anx_status
index_make(const struct index_def *def, struct ns_index *out, anx_error *err)
{
    anx_status st;

    memset(out, 0, sizeof(*out));
    out->vector_field = VECTOR_FIELD_NEW;
    out->def = index_def_copy(def);
    st = out->def ? make_collation(out->def, out, err) : anx_fail(err, ANX_E_NOMEM, "out of memory");
    if (st != ANX_OK)
        index_fini(out);
    return st;
}

void
index_fini(struct ns_index *index)
{
    scalar_destroy(index->scalar);
    vector_destroy(index->vector);
    row_texts_destroy(index->text);
    anx_free(NULL, index->custom_order);
    anx_free(NULL, index->def);
    memset(index, 0, sizeof(*index));
}

anx_status
index_build_empty(struct ns *ns, const struct ns_index *list, size_t n, struct ns_index *index,
                  anx_error *err)
{
    if (index_def_is_vector(index->def))
        return vector_create(ns, index, &index->vector, err);
    if (index->def->index_type == INDEX_TEXT)
        return row_texts_create(ns, list, n, index->def, &index->text, err);
    return index_has_scalar(index->def) ? scalar_create(ns, index, &index->scalar, err) : ANX_OK;
}

/* ---- All of them ---- */

/* Regular indexes come first, then sparse ones, then composites: the order in which clients see them. */
static int
index_class(const struct index_def *def)
{
    return def->field_type == FIELD_COMPOSITE ? 2 : def->is_sparse ? 1 : 0;
}

static void
number_vector_fields(struct ns_content *content)
{
    bool used[INDEXES_MAX + 1] = { false };

    content->n_vector_field = 0;
    for (size_t i = 0; i < content->n_index; i++)
        if (index_def_is_vector(content->indexes[i].def)
            && content->indexes[i].vector_field != VECTOR_FIELD_NEW)
            used[content->indexes[i].vector_field] = true;
    for (size_t i = 0; i < content->n_index; i++) {
        struct ns_index *index = &content->indexes[i];
        uint32_t free_field = 0;

        if (!index_def_is_vector(index->def))
            continue;
        while (used[free_field])
            free_field++;
        if (index->vector_field == VECTOR_FIELD_NEW) {
            index->vector_field = free_field;
            used[free_field] = true;
        }
        if (content->n_vector_field <= index->vector_field)
            content->n_vector_field = index->vector_field + 1;
    }
}

static anx_status
add_fields(struct ns *ns, struct ns_content *content, size_t place, struct doc_field *fields, anx_error *err)
{
    struct ns_index *index = &content->indexes[place];
    const struct index_def *def = index->def;

    index->first_field = (uint32_t) content->shape.n;
    for (size_t p = 0; p < def->n_path; p++) {
        struct doc_field *field = &fields[content->shape.n++];
        anx_status st;

        *field = (struct doc_field) {
            .index_name = def->name,
            .path_text = def->json_paths[p],
            .type = def->field_type,
            .is_array = def->is_array,
            .is_sparse = def->is_sparse,
            .is_pk = def->is_pk,
            .must_be_utf8 = def->collate_mode == COLLATE_UTF8,
            .index = (uint32_t) place,
            .path_number = (uint32_t) p,
            .vector_field = index_def_is_vector(def) ? index->vector_field : 0,
            .dim = index_def_is_vector(def) ? def->vector.dim : 0,
        };
        st = doc_path_add(field->path_text, ns->names, &field->path, err);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

anx_status
content_make(struct ns *ns, const struct ns_index *indexes, size_t n, struct ns_content *out, anx_error *err)
{
    struct doc_field *fields;
    size_t n_field = 0;
    anx_status st = ANX_OK;

    *out = (struct ns_content) { .pk = SIZE_MAX };
    for (size_t i = 0; i < n; i++)
        n_field += indexes[i].def->field_type == FIELD_COMPOSITE ? 0 : indexes[i].def->n_path;
    out->indexes = anx_alloc_zeroed(NULL, n + 1, sizeof(*out->indexes));
    fields = anx_alloc_zeroed(NULL, n_field + 1, sizeof(*fields));
    out->shape = (struct doc_shape) { .fields = fields, .ns = anx_text_of(ns->name) };
    if (!out->indexes || !fields) {
        content_fini(out);
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    }
    for (int class = 0; class < 3; class++)
        for (size_t i = 0; i < n; i++)
            if (index_class(indexes[i].def) == class)
                out->indexes[out->n_index++] = indexes[i];
    number_vector_fields(out);
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        if (out->indexes[i].def->is_pk)
            out->pk = i;
        if (out->indexes[i].def->field_type != FIELD_COMPOSITE)
            st = add_fields(ns, out, i, fields, err);
    }
    if (st != ANX_OK)
        content_fini(out);
    return st;
}

void
content_fini(struct ns_content *content)
{
    const void *fields = content->shape.fields;
    void *memory;

    memcpy(&memory, &fields, sizeof(memory)); /* ours, though the shape shows them as constant */
    anx_free(NULL, memory);
    anx_free(NULL, content->indexes);
    memset(content, 0, sizeof(*content));
}

void
content_swap(struct ns *ns, struct ns_content *content)
{
    struct ns_content before = { ns->indexes, ns->n_index, ns->pk, ns->shape, ns->n_vector_field };

    ns->indexes = content->indexes;
    ns->n_index = content->n_index;
    ns->pk = content->pk;
    ns->shape = content->shape;
    ns->n_vector_field = content->n_vector_field;
    *content = before;
}
