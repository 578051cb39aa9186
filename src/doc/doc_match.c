/* Fields of a shape along a walk. The stack never holds more than every field once per name of the longest
 * path, so its size is known when a walk starts and a step cannot fail. */
#include "doc/doc_match.h"

#include "base/alloc.h"
#include "base/error.h"

size_t
shape_vector_fields(const struct doc_shape *shape)
{
    size_t n = 0;

    for (size_t i = 0; i < shape->n; i++)
        if (shape->fields[i].type == FIELD_FLOAT_VECTOR && shape->fields[i].vector_field >= n)
            n = shape->fields[i].vector_field + 1;
    return n;
}

void
match_init(struct doc_matcher *matcher, const anx_alloc *alloc)
{
    *matcher = (struct doc_matcher) { .alloc = alloc };
}

void
match_fini(struct doc_matcher *matcher)
{
    anx_free(matcher->alloc, matcher->fields);
    match_init(matcher, matcher->alloc);
}

anx_status
match_begin(struct doc_matcher *matcher, const struct doc_shape *shape, struct doc_slice *root,
            anx_error *err)
{
    size_t needed = shape->n; /* the root's slice; then a field is in one slice per name of its path */

    for (size_t i = 0; i < shape->n; i++)
        needed += shape->fields[i].path.n;
    if (needed > matcher->capacity) {
        uint32_t *fields = anx_realloc_array(matcher->alloc, matcher->fields, needed, sizeof(*fields));

        if (!fields)
            return anx_fail(err, ANX_E_NOMEM, "out of memory");
        matcher->fields = fields;
        matcher->capacity = needed;
    }
    for (uint32_t i = 0; i < shape->n; i++)
        matcher->fields[i] = i;
    matcher->shape_fields = shape->fields;
    *root = (struct doc_slice) { .first = 0, .n = (uint32_t) shape->n, .step = 0 };
    return ANX_OK;
}

struct doc_slice
match_member(struct doc_matcher *matcher, const struct doc_slice *parent, uint32_t tag)
{
    struct doc_slice child = { .first = parent->first + parent->n, .step = parent->step + 1 };

    for (uint32_t i = 0; i < parent->n; i++) {
        uint32_t place = matcher->fields[parent->first + i];
        const struct doc_path *path = &matcher->shape_fields[place].path;

        if (path->n > parent->step && path->steps[parent->step].tag == tag)
            matcher->fields[child.first + child.n++] = place;
    }
    return child;
}
