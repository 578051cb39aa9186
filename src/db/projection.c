/* Which fields of a document are shown. Names in a select list are JSON paths, with their case; those that no
 * document ever had are as good as not written, and when no regular field is left, all of them are shown. */
#include "base/error.h"
#include "db/exec_int.h"

/* A vector is selected by its path; an index name that differs from it selects nothing. */
static const struct ns_index *
find_vector(const struct ns *ns, anx_text path)
{
    for (size_t i = 0; ns->n_vector_field > 0 && i < ns->n_index; i++) {
        const struct ns_index *index = &ns->indexes[i];

        if (index->vector && anx_text_equal(index->def->json_paths[0], path))
            return index;
    }
    return NULL;
}

/* The paths of vectors are listed as well: a vector is reached through the objects around it. */
static void
add_field(const struct ns *ns, anx_text name, struct doc_path *paths, bool *vector_fields, size_t *n_regular,
          struct projection *out)
{
    const struct ns_index *vector = find_vector(ns, name);
    anx_error ignored;

    if (doc_path_parse(name, ns->names, &paths[out->fields.n_path], &ignored) != ANX_OK ||
        !doc_path_is_known(&paths[out->fields.n_path]))
        return;
    out->fields.n_path++;
    out->names_fields = true;
    if (vector)
        vector_fields[vector->vector_field] = true;
    else
        ++*n_regular;
}

anx_status
projection_compile(struct exec *x, const struct space *space, const struct query *query,
                   struct projection *out)
{
    const struct ns *ns = space->ns;
    struct doc_path *paths;
    bool *vector_fields;
    size_t n_regular = 0;

    *out = (struct projection) { .fields = { .all_vectors = query->with_vectors } };
    if (query->n_field > 0) {
        paths = anx_arena_array(x->arena, query->n_field, sizeof(*paths));
        vector_fields = anx_arena_array(x->arena, ns->n_vector_field, sizeof(*vector_fields));
        if (!paths || !vector_fields)
            return exec_nomem(x);
        for (size_t i = 0; i < query->n_field; i++)
            add_field(ns, query->fields[i], paths, vector_fields, &n_regular, out);
        out->fields.paths = paths;
        out->fields.vector_fields = vector_fields;
    }
    out->fields.all_regular = query->all_fields || n_regular == 0;
    return ANX_OK;
}
