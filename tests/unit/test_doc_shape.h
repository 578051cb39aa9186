/* A shape with every kind of field, for the suites and fuzz targets of the doc room. */
#ifndef ANX_TEST_DOC_SHAPE_H
#define ANX_TEST_DOC_SHAPE_H

#include "base/error.h"
#include "doc/doc.h"

enum {
    SHAPE_ID,
    SHAPE_NAME,
    SHAPE_PRICE,
    SHAPE_FLAG,
    SHAPE_UID,
    SHAPE_TAGS,
    SHAPE_NUMS,
    SHAPE_OPT,
    SHAPE_OPT_TEXT,
    SHAPE_VEC,
    SHAPE_VECS,
    SHAPE_INNER,
    SHAPE_DEEP,
    SHAPE_PARTS,
    SHAPE_MULTI_1,
    SHAPE_MULTI_2,
    SHAPE_PLACE,
    SHAPE_N
};

struct test_shape {
    struct doc_names *names;
    struct doc_field fields[SHAPE_N];
    struct doc_shape shape;
};

static inline bool
test_shape_init(struct test_shape *self)
{
    static const struct {
        const char *index, *path;
        enum field_type type;
        bool is_array, is_sparse;
        uint32_t vector_field, dim;
    } rows[SHAPE_N] = {
        [SHAPE_ID] = { "id", "id", FIELD_INT, false, false, 0, 0 },
        [SHAPE_NAME] = { "name", "name", FIELD_STRING, false, false, 0, 0 },
        [SHAPE_PRICE] = { "price", "price", FIELD_DOUBLE, false, false, 0, 0 },
        [SHAPE_FLAG] = { "flag", "flag", FIELD_BOOL, false, false, 0, 0 },
        [SHAPE_UID] = { "uid", "uid", FIELD_UUID, false, false, 0, 0 },
        [SHAPE_TAGS] = { "tags", "tags", FIELD_STRING, true, false, 0, 0 },
        [SHAPE_NUMS] = { "nums", "nums", FIELD_INT, true, false, 0, 0 },
        [SHAPE_OPT] = { "opt", "opt", FIELD_INT, false, true, 0, 0 },
        [SHAPE_OPT_TEXT] = { "opt_text", "opt_text", FIELD_STRING, false, true, 0, 0 },
        [SHAPE_VEC] = { "vec", "vec", FIELD_FLOAT_VECTOR, false, false, 0, 2 },
        [SHAPE_VECS] = { "vecs", "vecs", FIELD_FLOAT_VECTOR, true, false, 1, 2 },
        [SHAPE_INNER] = { "byname", "inner.vec", FIELD_FLOAT_VECTOR, false, false, 2, 3 },
        [SHAPE_DEEP] = { "deep_x", "deep.x", FIELD_DOUBLE, false, false, 0, 0 },
        [SHAPE_PARTS] = { "parts_n", "parts.n", FIELD_INT64, true, false, 0, 0 },
        [SHAPE_MULTI_1] = { "multi", "m1", FIELD_INT, true, false, 0, 0 },
        [SHAPE_MULTI_2] = { "multi", "m2.x", FIELD_INT, true, false, 0, 0 },
        [SHAPE_PLACE] = { "place", "place", FIELD_POINT, false, false, 0, 0 },
    };

    self->names = names_create(NULL);
    if (!self->names)
        return false;
    for (uint32_t i = 0; i < SHAPE_N; i++) {
        struct doc_field *field = &self->fields[i];

        *field = (struct doc_field) {
            .index_name = anx_text_of(rows[i].index),
            .path_text = anx_text_of(rows[i].path),
            .type = rows[i].type,
            .is_array = rows[i].is_array,
            .is_sparse = rows[i].is_sparse,
            .is_pk = i == SHAPE_ID,
            .index = i,
            .vector_field = rows[i].vector_field,
            .dim = rows[i].dim,
        };
        if (doc_path_add(field->path_text, self->names, &field->path, NULL) != ANX_OK)
            return false;
    }
    self->shape = (struct doc_shape) { .fields = self->fields, .n = SHAPE_N, .ns = ANX_TEXT("t") };
    return true;
}

static inline void
test_shape_fini(struct test_shape *self)
{
    names_destroy(self->names);
}

/* doc_vectors_fn over the vectors of a draft. */
static inline bool
test_shape_vectors(void *context, uint32_t vector_field, uint32_t n, struct doc_vectors *out)
{
    const struct doc_draft *draft = context;

    if (vector_field >= draft->n_vectors || draft->vectors[vector_field].n != n)
        return false;
    *out = draft->vectors[vector_field];
    return true;
}

#endif
