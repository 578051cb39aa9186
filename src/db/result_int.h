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
#endif
