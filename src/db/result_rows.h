/* Results for binary clients: rows one after the other with what the client asked for around each document,
 * and the parts of an answer beside them.
 *
 *     result_describe(result, &d);
 *     for (i...) result_print_types(result, i, &out);      of namespaces whose dictionary the client lacks
 *     for (i...) result_print_aggregation(result, i, &out, &err);
 *     result_print_rows(result, &form, ends, &out, &err);
 *
 * Namespaces are numbered: the query's own, those of its merged queries, of its joins, of the joins of merged
 * queries. Threads: one at a time per result. */
#ifndef ANX_DB_RESULT_ROWS_H
#define ANX_DB_RESULT_ROWS_H

#include "db/db.h"

struct result_description {
    size_t n_ns;
    size_t count;         /* rows */
    size_t total;         /* asked for by the query, else 0 */
    size_t n_aggregation; /* that of the total included */
    bool is_ranked;       /* rows have ranks */
    bool with_rank;       /* and the query wants to see them */
    bool has_joins;
    bool is_whole;        /* no fields were selected by name */
    bool is_cacheable;    /* rows are whole documents, vectors included, and have versions */
    bool is_explained;
    bool has_docs;        /* false: a list of nothing but its length (commits) */
};
void result_describe(const struct result *result, struct result_description *out);
/* ns.h: ns_types_version and ns_print_types of a namespace; what tells its rows from another's. */
int32_t result_types_version(const struct result *result, size_t nsid);
void result_print_types(const struct result *result, size_t nsid, anx_buffer *out);
int64_t result_incarnation(const struct result *result, size_t nsid);
ANX_NODISCARD anx_status result_print_aggregation(struct result *result, size_t i, anx_buffer *out,
                                                  anx_error *err);
void result_print_explanation(struct result *result, anx_buffer *out); /* JSON */

enum result_row_format { ROWS_BARE, ROWS_CJSON, ROWS_JSON };
/* A row: [varint id, varint version] [varint nsid] [rank] [4 bytes size, document] [joined rows].
 * Joined rows: varint number of joins or 0, then for each varint n and n rows. */
struct result_rows {
    enum result_row_format format;
    bool with_id, with_ns, with_rank, with_joined;
    bool rank_is_float;   /* 4 bytes; else a varint */
    size_t *ends;         /* NULL, or [count]: becomes where in `out` each row ends */
    size_t max;           /* bytes of all rows; at most what `out` may grow by */
};
/* ANX_E_LIMIT (names or arrays beyond CJSON), ANX_E_LOGIC (larger than how->max), and those of the session.
 * After a failure `out` holds some of the rows. */
ANX_NODISCARD anx_status result_print_rows(struct result *result, const struct result_rows *how,
                                           anx_buffer *out, anx_error *err);

#endif
