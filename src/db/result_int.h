/* What a result is made of. select.c and result.c make them, result_json.c prints them. */
#ifndef ANX_DB_RESULT_INT_H
#define ANX_DB_RESULT_INT_H

#include "db/exec_int.h"
#include "db/result.h"

/* A document of a list of copies. */
struct item_copy {
    struct doc doc; /* bytes NULL: shown as {} */
    const struct doc_vectors *vectors;
};
/* A row of a merged result. */
struct merged_row {
    uint32_t part;
    struct vector_hit hit;
};
struct result {
    anx_arena *arena; /* owned; the result itself lives in it */
    /* Of a SELECT */
    struct exec exec;
    struct part **parts; /* the query's own, then those of MERGE */
    size_t n_part;
    struct merged_row *merged; /* arena [n_merged]; NULL without MERGE: the rows of parts[0] */
    size_t n_merged;
    struct aggregates *aggregates;
    bool has_total, is_cached_total, hides_items;
    size_t total;
    struct explain explain;
    anx_arena *scratch; /* owned; floats of the document that is printed */
    /* Of a change: copies */
    struct ns *ns; /* one reference */
    anx_text ns_name;
    struct item_copy *items; /* owned, heap */
    size_t n_item, item_capacity;
    bool shows_item_total;
};

/* ---- What the printers share (result_json.c) ---- */

/* The floats of a row that is printed; a doc_vectors_fn whose context is this. */
struct row_vectors {
    struct result *result;
    const struct ns *ns;
    uint32_t row;
};
bool result_stored_vectors(void *context, uint32_t vector_field, uint32_t n, struct doc_vectors *out);
/* The same of a copy; the context is its struct item_copy. */
bool result_copied_vectors(void *context, uint32_t vector_field, uint32_t n, struct doc_vectors *out);
/* Where the i-th row of a SELECT is. */
struct part *result_find_hit(const struct result *result, size_t i, const struct vector_hit **hit);
/* The arena for floats, when vectors are shown. */
ANX_NODISCARD anx_status result_open_scratch(struct result *result);
/* Which joins of a part belong to a row: sets is_attached. */
void result_attach_joins(struct result *result, struct part *part, uint32_t row);
/* One row as a JSON object, with joined documents and rank. */
void result_print_hit(struct result *result, struct part *part, const struct vector_hit *hit, struct doc doc,
                      anx_buffer *out);
void result_print_copy(const struct result *result, const struct item_copy *item, anx_buffer *out);
/* {"value":N,"type":"count","fields":["*"]} */
void result_print_total(const struct result *result, anx_buffer *out);
bool result_is_cacheable(const struct result *result);
#endif
