/* JSON in and out. Reading is simdjson behind this interface (json_simd.cc is the one C++ file of the tree);
 * numbers are written in the shortest form that reads back (std::to_chars).
 *
 * Two ways in: documents go straight to document bytes and float rows (json_reader, json_read_doc); small
 * things (queries, definitions, settings) become a tree (json_parse).
 * Threads: a reader is used by one thread at a time; everything else is free of state. */
#ifndef ANX_DOC_JSON_H
#define ANX_DOC_JSON_H

#include "doc/doc.h"

#ifdef __cplusplus
extern "C" {
#endif

struct json_reader;
struct json_reader *json_reader_create(void);
void json_reader_destroy(struct json_reader *reader); /* NULL is fine */

/* Reads the next document of a sequence of JSON objects with optional white space between them, from
 * text[*at]; moves *at behind it. *more false: only white space was left. New names enter the dictionary.
 * Errors: ANX_E_PARSE_JSON (malformed, or not an object), ANX_E_LOGIC, ANX_E_PARAMS, ANX_E_NOT_VALID
 * (conversions and vector dimensions, with the texts clients know). The text needs no padding. */
ANX_NODISCARD anx_status json_read_doc(struct json_reader *reader, anx_text text, size_t *at, bool *more,
                                       struct doc_names *names, const struct doc_shape *shape,
                                       anx_arena *arena, struct doc_draft *out, anx_error *err);

/* A JSON value as a tree. Key order and repeated keys are kept. */
enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_INT,
    JSON_UINT,
    JSON_DOUBLE,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};
struct json_node {
    enum json_kind kind;
    anx_text key; /* of a member */
    union {
        bool boolean;
        int64_t integer;
        uint64_t natural; /* JSON_UINT: above INT64_MAX */
        double real;
        anx_text text;
        struct {
            struct json_node *items;
            size_t n;
        } list; /* elements or members */
    };
    anx_text raw; /* the text it was read from (inside of the copy in the arena) */
};
/* One value, nothing but white space behind it. ANX_E_PARSE_JSON. */
ANX_NODISCARD anx_status json_parse(anx_text text, anx_arena *arena, struct json_node **out, anx_error *err);
/* The same, but an array of JSON_LIST_MIN or more elements that are all numbers is left as text: list.items
 * is NULL, list.n their number, raw the text, for json_floats or json_parse. For vectors in queries. */
ANX_NODISCARD anx_status json_parse_lists(anx_text text, anx_arena *arena, struct json_node **out,
                                          anx_error *err);
enum { JSON_LIST_MIN = 16 };
/* The numbers of such an array, narrowed from doubles; out [list->list.n]. False: one is beyond a double. */
ANX_NODISCARD bool json_floats(const struct json_node *list, float *out);
/* First member of that name, NULL when absent or not an object. */
const struct json_node *json_member(const struct json_node *object, const char *key);
bool json_number(const struct json_node *node, double *out); /* any number kind */

/* Writing. */
void json_print_text(anx_buffer *out, anx_text text); /* with quotes and escapes */
void json_print_int(anx_buffer *out, int64_t value);
void json_print_double(anx_buffer *out, double value); /* always with . or exponent; NaN, inf: null */
void json_print_float(anx_buffer *out, float value);   /* shortest single-precision form */
void json_print_value(anx_buffer *out, const struct value *value);
void json_print_node(anx_buffer *out, const struct json_node *node);

/* Which fields of a document are printed. */
struct doc_projection {
    bool all_regular;              /* every field that is not a vector */
    bool all_vectors;
    const struct doc_path *paths;  /* further fields; a parent path selects its subtree */
    size_t n_path;
    const bool *vector_fields; /* [number of vector fields]: printed even without all_vectors; may be NULL */
};
/* Gives the floats of a vector field of the document being printed; called only for printed vectors. */
typedef bool (*doc_vectors_fn)(void *context, uint32_t vector_field, uint32_t n, struct doc_vectors *out);
/* The members, without the closing brace when `open` (the caller adds "rank()" and kin and closes it). */
void json_print_doc(anx_buffer *out, struct doc doc, const struct doc_names *names,
                    const struct doc_projection *projection, doc_vectors_fn vectors, void *context,
                    bool open);
/* One node and its subtree. */
void json_print_doc_node(anx_buffer *out, const struct doc_node *node, const struct doc_names *names,
                         doc_vectors_fn vectors, void *context);

#ifdef __cplusplus
}
#endif
#endif
