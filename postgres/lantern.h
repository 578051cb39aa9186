/* What the files of the extension share: settings, options, the indexed column, errors, and the callbacks of
 * the access method. The page format is in pages.h.
 *
 *     struct anx_pg_column column;
 *     struct anx_pg_vector vector;
 *     anx_pg_column_of(index, &column);
 *     anx_pg_vector_of(&column, datum, &vector);       a row's or a query's value; wrong ones raise
 *     anx_pg_expect_row_dim(vector.dim, meta->dim);
 *     anx_pg_check(anx_..(..., &err), &err);           a failure of the engine, raised as an SQL error
 *
 * Threads: everything here is for the backend's own thread. ereport must never cross a frame of the engine:
 * engine calls return a status, and only then anx_pg_check may raise. */
#ifndef ANX_POSTGRES_LANTERN_H
#define ANX_POSTGRES_LANTERN_H

#include "pg_compat.h"

#include <nodes/pathnodes.h>

#include "annex/alloc.h"
#include "annex/index.h"
#include "annex/status.h"

/* ---- limits and defaults: options and settings read these ---- */
#define ANX_PG_VERSION "0.6.0" /* of the SQL objects; the one in lantern.control */
#define ANX_PG_AM_NAME "lantern_hnsw"

#define ANX_PG_DIM_MAX 16000       /* components of real[] and vector */
#define ANX_PG_DIM_MAX_INTEGER 2000 /* elements of integer[]: 64,000 bits */
#define ANX_PG_M_DEFAULT 16
#define ANX_PG_M_MIN 2
#define ANX_PG_M_MAX 128
#define ANX_PG_EF_CONSTRUCTION_DEFAULT 128
#define ANX_PG_EF_DEFAULT 64
#define ANX_PG_EF_MIN 1
#define ANX_PG_EF_MAX 400
#define ANX_PG_INIT_K_DEFAULT 10
#define ANX_PG_INIT_K_MAX 1000

/* ---- settings (gucs.c) ---- */
enum anx_pg_tls_verify { ANX_PG_TLS_NONE, ANX_PG_TLS_CA, ANX_PG_TLS_FULL }; /* as anx_tls_verify */

/* The server writes these; read them at the start of an operation, not in the middle of one. */
struct anx_pg_settings {
    int init_k;               /* lantern_hnsw.init_k: rows the first batch of a scan should give, 1 .. 1000 */
    int ef;                   /* lantern_hnsw.ef: 0 = the index's */
    int max_scan_tuples;      /* lantern_hnsw.max_scan_tuples: a scan ends after so many rows; 0: never */
    char *external_host;      /* lantern.external_index_host */
    int external_port;        /* lantern.external_index_port */
    bool external_secure;     /* lantern.external_index_secure */
    int external_tls_verify;  /* lantern.external_index_tls_verify, enum anx_pg_tls_verify */
    char *external_ca_file;   /* lantern.external_index_ca_file; "": the system's */
    char *external_token;     /* lantern.external_index_token; "": none */
    int external_protocol;    /* lantern.external_index_protocol: 0 newest the server speaks, 1, 2 */
    char *external_allowed;   /* lantern.external_index_allowed_hosts; "": any host */
    bool build_messages;      /* lantern.build_messages: the INFO lines of builds */
    bool pgvector_compat;     /* lantern.pgvector_compat: accepted, without effect */
    bool is_test;             /* _lantern_internal.is_test */
};
extern struct anx_pg_settings anx_pg_settings;

/* Before a connection to an indexing server: raises when the administrator's list does not have the host. */
void anx_pg_check_external_host(const char *host);

/* ---- options of an index (options.c) ---- */
/* rd_options as it is stored. dim, m, ef_construction, quant_bits and pq count when the index is built; after
 * that the meta page is right. ef may be changed at any time. */
struct anx_pg_options {
    int32 vl_len_;
    int dim; /* -1: not given */
    int m;
    int ef_construction;
    int ef;
    int quant_bits; /* 1, 8, 16, 32; 2 and 4 are refused by anx_pg_check_options */
    bool pq;
    bool external;
    int path_offset; /* _experimental_index_path: 0 when not given */
};
/* Never NULL: defaults where nothing was said. Valid while the relation is open. */
const struct anx_pg_options *anx_pg_options_of(Relation index);
/* Before a build: raises for what parses but cannot be built. */
void anx_pg_check_options(Relation index);
bytea *anx_pg_parse_options(Datum reloptions, bool validate); /* amoptions */

/* ---- the indexed column (column.c) ---- */
enum anx_pg_type { ANX_PG_REAL_ARRAY, ANX_PG_INTEGER_ARRAY, ANX_PG_VECTOR };

struct anx_pg_column {
    enum anx_pg_type type;
    anx_metric metric;  /* ANX_METRIC_L2, ANX_METRIC_COSINE, ANX_METRIC_HAMMING */
    uint32 declared_dim; /* option dim, or n of vector(n); 0: neither */
    uint32 max_dim;
    /* The value of ORDER BY: FLOAT4OID (real[]), INT4OID (integer[]), FLOAT8OID (vector). */
    Oid order_type;
    bool order_is_root; /* pgvector's <-> is the root of the squared distance */
};
/* Raises when the operator class is not one of ours. */
void anx_pg_column_of(Relation index, struct anx_pg_column *out);

/* A value, detoasted into the current memory context (or pointing into the datum). */
struct anx_pg_vector {
    uint32 dim;         /* components; integers for Hamming */
    const float *f32;   /* [dim]; NULL for Hamming */
    const uint8 *bits;  /* [dim * 4]; NULL otherwise */
};
/* Raises for arrays with NULLs, NaN and infinities, and more than max_dim components. dim may be 0. */
void anx_pg_vector_of(const struct anx_pg_column *column, Datum value, struct anx_pg_vector *out);

/* "Wrong number of dimensions: 2 instead of 3 expected" unless equal. */
void anx_pg_expect_row_dim(uint32 got, uint32 want);
/* "Expected real array with dimension 3, got 2" unless equal. */
void anx_pg_expect_query_dim(const struct anx_pg_column *column, uint32 got, uint32 want);
_Noreturn void anx_pg_no_dimensions(void); /* "column does not have dimensions, please specify one" */
/* The index is not made by this very command but filled anew (REINDEX, TRUNCATE, a rewrite) or built in a
 * later transaction (CONCURRENTLY): then no dimension is no mistake, the next row tells it. */
bool anx_pg_is_rebuild(Relation index);

/* ---- errors and memory (bridge.c) ---- */
/* Raises what an engine call returned, with its SQLSTATE, detail and hint; a pending cancel wins. */
void anx_pg_check(anx_status status, const anx_error *err);
/* An allocator over a memory context: NULL when there is no memory, never a jump. Not for objects whose calls
 * run on several threads; those use the process heap (NULL). *out borrows the context. */
void anx_pg_alloc_init(anx_alloc *out, MemoryContext context);
/* The INFO lines of builds, which lantern.build_messages turns off. */
#define anx_pg_info(...)                          \
    do {                                          \
        if (anx_pg_settings.build_messages)       \
            ereport(INFO, (errmsg(__VA_ARGS__))); \
    } while (0)

/* ---- the access method ---- */
/* pg_stat_progress_create_index; 1 is the server's own "initializing". */
enum anx_pg_phase {
    ANX_PG_PHASE_INSERT = 2, /* performing hnsw in-memory insertions */
    ANX_PG_PHASE_WRITE,      /* loading tuples into postgres index */
    ANX_PG_PHASE_SEND,       /* sending rows to the indexing server */
    ANX_PG_PHASE_WAIT,       /* waiting for the indexing server */
    ANX_PG_PHASE_RECEIVE     /* receiving the index from the indexing server */
};

/* The version of the SQL objects was compared before any of these (am.c). */
/* build_local.c, build_external.c */
IndexBuildResult *anx_pg_build(Relation heap, Relation index, IndexInfo *info);
void anx_pg_build_empty(Relation index); /* the init fork of an unlogged index */
/* insert.c. values and isnull have one entry. */
bool anx_pg_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
                   IndexInfo *info);
/* vacuum.c */
IndexBulkDeleteResult *anx_pg_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
                                          IndexBulkDeleteCallback is_dead, void *context);
IndexBulkDeleteResult *anx_pg_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats);
/* cost.c */
void anx_pg_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
                          Selectivity *selectivity, double *correlation, double *n_page);
/* scan.c. A strategy 1 order by (the operator <?>) is refused with anx_pg_deprecated_operator. */
IndexScanDesc anx_pg_begin_scan(Relation index, int n_key, int n_order_by);
void anx_pg_rescan(IndexScanDesc scan, ScanKey keys, int n_key, ScanKey order_bys, int n_order_by);
bool anx_pg_get_tuple(IndexScanDesc scan, ScanDirection direction);
void anx_pg_end_scan(IndexScanDesc scan);
_Noreturn void anx_pg_deprecated_operator(void);

/* check.c. Walks everything and reports each broken invariant in one line; heap (may be NULL) is compared
 * too. report may raise. */
typedef void (*anx_pg_report_fn)(void *context, const char *problem);
void anx_pg_check_index(Relation index, Relation heap, anx_pg_report_fn report, void *context);
/* Numbers for people, in the order they should be shown. */
typedef void (*anx_pg_stat_fn)(void *context, const char *name, double value);
void anx_pg_index_stats(Relation index, anx_pg_stat_fn report, void *context);

#endif
