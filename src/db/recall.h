/* How good the answers of a vector index are: recall@k of stored vectors as queries, against an exact scan.
 *
 * For a seeded sample of documents, each one's first vector is asked for through the index as a query would,
 * and again by comparing it with every vector. Recall is the share of the exact answer that the index gave;
 * documents as near as the last of the exact answer count as found, since any of them is right. The document
 * itself is left out of both answers (k + 1 are asked for): it is too easy to find. What the definition's
 * radius rules out is in neither.
 *
 * Nobody waits: data_lock is shared for one search, or a block of rows, at a time. Documents written
 * meanwhile may be in one answer and not in the other; measure at rest. Threads: any; one measurement at a
 * time per engine, because it keeps a processor busy for seconds. */
#ifndef ANX_DB_RECALL_H
#define ANX_DB_RECALL_H

#include "db/db.h"

enum { RECALL_K_MAX = 1000, RECALL_K_DEFAULT = 10, RECALL_QUERIES_MAX = 1000, RECALL_QUERIES_DEFAULT = 100 };
/* Queries times vectors times dimension: 10 to 60 s of one processor. */
#define RECALL_WORK_MAX 100000000000u

struct recall_params {
    anx_text index;    /* size 0: the only one */
    size_t k, queries; /* 0: the defaults */
    size_t ef, nprobe; /* 0: what a search without them uses */
    uint32_t seed;
};
struct recall_result {
    char index[256];
    const char *kind; /* "hnsw", "ivf", "flat" */
    double recall, worst; /* of all queries together; of the worst one */
    size_t k, queries, vectors;
    size_t ef, nprobe;    /* in force; 0 where the kind has none */
    double index_us[2], exact_us[2]; /* median and 99th percentile of one query. exact: of comparing alone,
                                      * many queries beside each other, so a lone scan is slower */
    double seconds;
    uint32_t seed;
};

/* Also remembered for ns_health_print. Errors: of vector_view_open; ANX_E_PARAMS names the parameter, its
 * value and its limit; ANX_E_BUSY: another measurement runs; those of the session. */
ANX_NODISCARD anx_status db_recall(struct database *db, anx_text ns, const struct recall_params *params,
                                   const struct db_session *session, struct recall_result *out,
                                   anx_error *err);

#endif
