/* Documents: immutable bytes, compact, walked in place. Field names are tags of the namespace's dictionary.
 * The layout is in src/doc/README.md; stored records and memory hold the same bytes, so loading is reading.
 *
 * Vectors of vector-indexed fields are not in the bytes: a DOC_VECTOR node stands in the place of each and
 * says which vector field it belongs to and which of the document's vectors of that field it is; the floats
 * live in the record's tail on disk and in the vector index in memory.
 *
 * A document was checked (doc_check) when its bytes came from outside; the walkers below trust them. */
#ifndef ANX_DOC_DOC_H
#define ANX_DOC_DOC_H

#include "base/arena.h"
#include "base/buffer.h"
#include "doc/names.h"
#include "doc/value.h"

#ifdef __cplusplus
extern "C" {
#endif

enum doc_kind {
    DOC_NULL,
    DOC_BOOL,
    DOC_INT,
    DOC_DOUBLE,
    DOC_STRING,
    DOC_UUID,
    DOC_ARRAY,
    DOC_OBJECT,
    DOC_VECTOR,
    DOC_ABSENT /* never stored: what doc_child and doc_find give for nothing */
};

/* What stands in the place of a vector. */
enum doc_vector_form {
    VECTOR_EMPTY,   /* an empty vector: [] (or null) */
    VECTOR_ONLY,    /* the vector of a field that is no array */
    VECTOR_ELEMENT, /* one vector of an array field */
    VECTOR_NONE,    /* an array field without vectors: [] */
    VECTOR_NULL     /* an array field without vectors: null */
};

/* One node of a document, decoded. Borrowed from its bytes. */
struct doc_node {
    enum doc_kind kind;
    uint32_t tag;      /* name of this member; 0 for array elements and the root */
    struct value value; /* DOC_NULL .. DOC_UUID */
    bool is_float;      /* DOC_DOUBLE: it was a vector's component, and prints in single precision */
    uint32_t field;     /* DOC_VECTOR: which vector field (its place among the namespace's vector fields) */
    uint32_t vector;    /* DOC_VECTOR: place among the field's vectors that are not empty */
    uint32_t n_vector;  /* DOC_VECTOR: 1, or 0 when there are no floats (any form but ONLY and ELEMENT) */
    enum doc_vector_form form; /* DOC_VECTOR */
    uint8_t packed;     /* DOC_ARRAY: how its elements are stored; for doc_next */
    const uint8_t *body, *end; /* DOC_ARRAY, DOC_OBJECT: the children's bytes */
};

struct doc {
    const uint8_t *bytes;
    size_t size;
};

struct doc_node doc_root(struct doc doc);
/* Children in stored order: for (at = doc_first(&node); doc_next(&node, &at, &child);) */
const uint8_t *doc_first(const struct doc_node *parent);
bool doc_next(const struct doc_node *parent, const uint8_t **at, struct doc_node *child);
struct doc_node doc_child(const struct doc_node *object, uint32_t tag);
/* Damaged or forged bytes: ANX_E_CORRUPT. Depth is limited to DOC_DEPTH_MAX. */
ANX_NODISCARD anx_status doc_check(struct doc doc, const struct doc_names *names, anx_error *err);
/* Also that no vector belongs to a field past n_vector_field: what bytes from a store need, whose vectors are
 * then looked up by field. */
ANX_NODISCARD anx_status doc_check_fields(struct doc doc, const struct doc_names *names,
                                          size_t n_vector_field, anx_error *err);

enum { DOC_DEPTH_MAX = 256, DOC_PATH_MAX = 32, DOC_VECTOR_FIELDS_MAX = 256 };

/* A path to fields: "a.b", "a[2].b", "a[*]", "arr[#].x". Parsed once per query or index; names that the
 * dictionary does not have yet get tag 0 and match nothing (re-resolve when it grew). */
enum doc_step_kind { STEP_PLAIN, STEP_AT, STEP_ALL, STEP_POSITION }; /* name, name[n], name[*], name[#] */
struct doc_step {
    anx_text name; /* borrowed */
    uint32_t tag;
    enum doc_step_kind kind;
    uint32_t at;
};
struct doc_path {
    struct doc_step steps[DOC_PATH_MAX];
    uint32_t n;
};
/* ANX_E_PARAMS for a malformed path. */
ANX_NODISCARD anx_status doc_path_parse(anx_text text, const struct doc_names *names, struct doc_path *out,
                                        anx_error *err);
/* The same for the paths of indexes: new names enter the dictionary, so that every step has its tag. */
ANX_NODISCARD anx_status doc_path_add(anx_text text, struct doc_names *names, struct doc_path *out,
                                      anx_error *err);
/* All of its names are in the dictionary: they occurred in some document, schema or index. */
static inline bool
doc_path_is_known(const struct doc_path *path)
{
    for (uint32_t i = 0; i < path->n; i++)
        if (path->steps[i].tag == 0)
            return false;
    return path->n > 0;
}
/* Calls visit for every node the path reaches: arrays on the way and at the end are opened (each element is a
 * node, nested arrays flattened) unless `whole`. A false return stops. positions[] holds the array index at
 * each opened level, for equal_position. Returns the number of nodes visited. */
typedef bool (*doc_visit_fn)(void *context, const struct doc_node *node, const uint32_t *positions, size_t n);
size_t doc_visit(struct doc doc, const struct doc_path *path, bool whole, doc_visit_fn visit, void *context);
/* The node itself, arrays not opened. */
struct doc_node doc_find(struct doc doc, const struct doc_path *path);

/* A copy of a document in *out (its content is replaced), with other texts where the paths [n], at most 64,
 * lead: rewrite gives the text for path number `path`, false when memory is out. Texts in arrays on the way
 * count, other values stay. Vectors keep their places. ANX_E_NOMEM. */
typedef bool (*doc_text_fn)(void *context, size_t path, anx_text text, anx_text *out);
ANX_NODISCARD anx_status doc_rewrite_texts(struct doc doc, const struct doc_path *const *paths, size_t n,
                                           doc_text_fn rewrite, void *context, anx_buffer *out,
                                           anx_error *err);

/* What the indexes of a namespace say about its fields, for parsing and for updates: values on an indexed
 * path are converted to the index's type, checked, collected, and vectors leave the document. Paths come from
 * doc_path_add and hold plain names only. */
struct doc_field {
    anx_text index_name, path_text; /* borrowed from the index definition */
    struct doc_path path;
    enum field_type type;
    bool is_array, is_sparse, is_pk;
    bool must_be_utf8;     /* collation utf8 */
    uint32_t index;        /* place of the index in the namespace */
    uint32_t path_number;  /* place among the index's json_paths */
    uint32_t vector_field; /* FIELD_FLOAT_VECTOR: place among vector fields */
    uint32_t dim;
};
struct doc_shape {
    const struct doc_field *fields;
    size_t n;
    anx_text ns; /* for error texts */
};

/* A new document: bytes, the values for each field of the shape, the vectors. Everything is in the arena. */
struct doc_vectors {
    const float *floats; /* [n * dim] row-major; NULL when n is 0 (and from doc_extract) */
    uint32_t n, dim;     /* n: vectors that are not empty */
    uint32_t n_empty;    /* [] and null where a vector could be: IS NULL holds if n is 0 or n_empty is not,
                          * IS NOT NULL for arrays if n + n_empty is not 0 */
};
struct doc_draft {
    struct doc doc;
    struct values *values; /* [shape->n]; n 0: absent (or null) in a sparse or array field, a vector, a point;
                            * other fields then have one value, the default. Sparse fields may have several
                            * values and, inside arrays, VALUE_NULL. Texts are borrowed from doc (a sparse
                            * field's converted ones from the arena) */
    bool *is_present;            /* [shape->n]: the path exists in the document */
    struct doc_vectors *vectors; /* [number of vector fields], by vector_field */
    size_t n_vectors;
};
/* Re-reads an existing document under a shape (an index was added, dropped or changed): conversions as at
 * insertion. old_vectors: the document's vectors under the old shape (by old vector_field), for a field that
 * becomes or ceases to be a vector; old_shape says where they were. */
ANX_NODISCARD anx_status doc_reshape(struct doc doc, const struct doc_shape *old_shape,
                                     const struct doc_vectors *old_vectors, struct doc_names *names,
                                     const struct doc_shape *shape, anx_arena *arena, struct doc_draft *out,
                                     anx_error *err);
/* The draft of a stored document without changing it (start-up, moving values between indexes). Of vectors it
 * says how many there are; the floats are in the record's tail, field by field, vector by vector. */
ANX_NODISCARD anx_status doc_extract(struct doc doc, const struct doc_shape *shape, anx_arena *arena,
                                     struct doc_draft *out, anx_error *err);

/* One change of an UPDATE. */
enum doc_change_kind { CHANGE_SET, CHANGE_DROP };
struct doc_change {
    enum doc_change_kind kind;
    struct doc_path path; /* may contain [n] and [*] */
    anx_text path_text;
    enum { CHANGE_VALUES, CHANGE_JSON, CHANGE_VECTORS } form;
    const struct value *values; /* CHANGE_VALUES: one scalar, or the elements of an array */
    size_t n;
    bool is_array;
    anx_text json; /* CHANGE_JSON: an object or an array of objects */
    const struct doc_vectors
        *vectors; /* CHANGE_VECTORS, on a vector field: of its dimension; a scalar has 0 or 1 */
};
/* Applies changes in order to a document; missing parents are created. Errors as in the reference behaviour
 * of UPDATE (ANX_E_PARAMS, ANX_E_LOGIC). vectors: the document's vectors, by vector_field. */
ANX_NODISCARD anx_status doc_update(struct doc doc, const struct doc_vectors *vectors,
                                    const struct doc_change *changes, size_t n, struct doc_names *names,
                                    const struct doc_shape *shape, anx_arena *arena, struct doc_draft *out,
                                    anx_error *err);

#ifdef __cplusplus
}
#endif
#endif
