/* What every printer of documents needs: which members a projection shows, and the floats of their vectors.
 * Header only, because it runs once per member. Private to the doc room. */
#ifndef ANX_DOC_DOC_SCOPE_H
#define ANX_DOC_DOC_SCOPE_H

#include "doc/json.h"

/* How much of a subtree is printed: everything but the vectors that were not asked for, or what lies on the
 * paths that share their first `step` names with it. */
struct doc_scope {
    bool is_whole;
    uint32_t step;
    const struct doc_scope *above; /* with the member's tag, for matching paths */
    uint32_t tag;
};

/* Does the path start with the names from the root down to the scope and `tag` below it? */
static inline bool
doc_scope_matches(const struct doc_path *path, const struct doc_scope *scope, uint32_t tag)
{
    if (path->n <= scope->step || path->steps[scope->step].tag != tag)
        return false;
    for (; scope->above; scope = scope->above)
        if (path->steps[scope->step - 1].tag != scope->tag)
            return false;
    return true;
}

/* A vector, or an array of vectors: the first element tells, since an array in the place of vectors has
 * nothing else. */
static inline bool
doc_holds_vectors(const struct doc_node *node, uint32_t *field)
{
    struct doc_node at_node = *node, child;

    while (at_node.kind == DOC_ARRAY) {
        const uint8_t *at = doc_first(&at_node);

        if (!doc_next(&at_node, &at, &child))
            return false;
        at_node = child;
    }
    *field = at_node.field;
    return at_node.kind == DOC_VECTOR;
}

/* Is the member printed, and in which scope? projection NULL: everything is. */
static inline bool
doc_scope_choose(const struct doc_projection *projection, const struct doc_node *member,
                 const struct doc_scope *parent, struct doc_scope *scope)
{
    uint32_t field;
    bool is_way = false;

    *scope =
        (struct doc_scope){ .is_whole = true, .step = parent->step + 1, .above = parent, .tag = member->tag };
    if (doc_holds_vectors(member, &field))
        return !projection || projection->all_vectors ||
               (projection->vector_fields && projection->vector_fields[field]);
    if (parent->is_whole)
        return true;
    for (size_t i = 0; i < projection->n_path; i++) {
        if (!doc_scope_matches(&projection->paths[i], parent, member->tag))
            continue;
        if (projection->paths[i].n == scope->step)
            return true;
        is_way = true;
    }
    scope->is_whole = false;
    return is_way && (member->kind == DOC_OBJECT || member->kind == DOC_ARRAY);
}

/* Inside of an array that is only on the way to what was asked for, scalars are left out. */
static inline bool
doc_scope_skips(const struct doc_scope *scope, const struct doc_node *element)
{
    return !scope->is_whole && element->kind != DOC_OBJECT && element->kind != DOC_ARRAY;
}

/* ---- Vectors ---- */

/* Vectors of one field, fetched once per document. A document prints few vector fields; more than these are
 * fetched once per vector. */
enum { DOC_FETCHED_MAX = 8 };
struct doc_fetched {
    struct doc_node root; /* what is printed: its vectors are all there are */
    doc_vectors_fn fetch;
    void *context;
    struct {
        uint32_t field;
        struct doc_vectors vectors;
    } list[DOC_FETCHED_MAX];
    size_t n;
};

static inline uint32_t
doc_count_vectors(const struct doc_node *node, uint32_t field)
{
    struct doc_node child;
    uint32_t n = node->kind == DOC_VECTOR && node->field == field ? node->n_vector : 0;

    for (const uint8_t *at = doc_first(node); doc_next(node, &at, &child);)
        n += doc_count_vectors(&child, field);
    return n;
}

/* The floats of a DOC_VECTOR, [*dim]; NULL when it is empty (or they are lost). */
static inline const float *
doc_fetch_vector(struct doc_fetched *fetched, const struct doc_node *node, uint32_t *dim)
{
    struct doc_vectors vectors = { .n = 0 };
    size_t i = 0;

    if (node->n_vector == 0 || !fetched->fetch)
        return NULL;
    while (i < fetched->n && fetched->list[i].field != node->field)
        i++;
    if (i < fetched->n) {
        vectors = fetched->list[i].vectors;
    } else {
        uint32_t n = node->form == VECTOR_ONLY ? 1 : doc_count_vectors(&fetched->root, node->field);

        if (!fetched->fetch(fetched->context, node->field, n, &vectors) || !vectors.floats)
            vectors.n = 0;
        if (fetched->n < DOC_FETCHED_MAX) {
            fetched->list[fetched->n].field = node->field;
            fetched->list[fetched->n++].vectors = vectors;
        }
    }
    *dim = vectors.dim;
    return node->vector < vectors.n ? vectors.floats + (size_t) node->vector * vectors.dim : NULL;
}

#endif
