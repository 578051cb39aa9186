/* SELECT from outside: namespaces are locked, parts compiled and run, and the result keeps the locks until it
 * is freed. */
#include "db/select.h"

#include "base/clock.h"
#include "base/error.h"
#include "db/embedding.h"
#include "db/merge_int.h"
#include "db/stats.h"

static const struct db_session no_session;

/* ---- Parts ---- */

static anx_status
compile_parts(struct result *result, const struct query *query)
{
    struct exec *x = &result->exec;
    size_t n = 1 + query->n_merge;
    anx_status st;

    result->parts = anx_arena_array(x->arena, n, sizeof(struct part *));
    if (!result->parts)
        return exec_nomem(x);
    st = part_compile(x, query, exec_space(x, query->ns), PART_MAIN, &result->parts[0]);
    for (size_t i = 1; st == ANX_OK && i < n; i++)
        st = part_compile(x, query->merges[i - 1], exec_space(x, query->merges[i - 1]->ns), PART_MERGED,
                          &result->parts[i]);
    result->n_part = n;
    for (size_t i = 1; st == ANX_OK && i < n; i++) /* one total over all of them */
        result->parts[i]->wants_total = result->parts[0]->wants_total;
    if (st == ANX_OK)
        st = merge_check(x, query, result->parts, n);
    return st == ANX_OK ? aggregates_compile(x, query, result->parts, n, &result->aggregates) : st;
}

static anx_status
run_merged(struct result *result, const struct query *query)
{
    struct exec *x = &result->exec;
    uint64_t start;
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < result->n_part; i++)
        st = part_run(x, result->parts[i], NULL, 0, QUERY_NO_LIMIT, 0);
    start = explain_clock(x);
    if (st == ANX_OK)
        st = merge_rows(result, query);
    result->explain.merge_ns = explain_clock(x) - start;
    for (size_t i = 0; st == ANX_OK && result->aggregates && i < result->n_part; i++)
        st = aggregates_add(x, result->aggregates, i, &result->parts[i]->hits);
    return st;
}

static bool
is_cached_total(const struct query *query)
{
    for (size_t i = 0; i < query->n_aggregate; i++)
        if (query->aggregates[i].type == AGGREGATE_COUNT_CACHED)
            return true;
    return query->total == TOTAL_CACHED;
}

static anx_status
count_for_explain(struct result *result)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < result->n_part; i++)
        st = explain_count(&result->exec, result->parts[i]);
    result->explain.selected_ns = anx_clock_ns(); /* counting is not the query's */
    return st;
}

static anx_status
run(struct result *result, const struct query *query)
{
    struct exec *x = &result->exec;
    anx_status st;

    if (result->n_part > 1)
        st = run_merged(result, query);
    else
        st = part_run(x, result->parts[0], result->aggregates, 0, query->limit, query->offset);
    for (size_t i = 0; st == ANX_OK && i < result->n_part; i++)
        st = text_shows_run(x, result->parts[i]);
    result->hides_items = aggregates_hide_items(result->aggregates);
    result->has_total = result->parts[0]->wants_total;
    result->is_cached_total = is_cached_total(query);
    for (size_t i = 0; i < result->n_part; i++)
        result->total += result->parts[i]->total;
    return st == ANX_OK && query->explain ? count_for_explain(result) : st;
}

/* ---- Results ---- */

static struct result *
make_result(struct database *db, const struct db_session *session, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct result *result = arena ? anx_arena_array(arena, 1, sizeof(*result)) : NULL;

    if (!result) {
        anx_arena_destroy(arena);
        return NULL;
    }
    result->arena = arena;
    result->exec = (struct exec) { .db = db, .session = session ? session : &no_session, .arena = arena };
    result->exec.err = err;
    return result;
}

static anx_status
select_result(struct database *db, const struct query *query, const struct db_session *session,
              struct stats_call *call, struct result **out, anx_error *err)
{
    struct result *result = make_result(db, session, err);
    anx_status st;

    if (!result)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate memory for a query");
    result->exec.is_explained = query->explain;
    st = embed_query_texts(db, query, session, result->arena, &query, err);
    if (st == ANX_OK)
        st = exec_open(&result->exec, query, NULL);
    call->lock_ns += result->exec.lock_ns;
    if (st == ANX_OK)
        st = compile_parts(result, query);
    if (st == ANX_OK)
        st = run(result, query);
    result->exec.err = NULL; /* the caller's error object may be gone when the result is printed */
    if (st != ANX_OK) {
        result_free(result);
        return st;
    }
    *out = result;
    return ANX_OK;
}

anx_status
db_select(struct database *db, const struct query *query, const struct db_session *session,
          struct result **out, anx_error *err)
{
    struct stats_call call = { 0 };
    anx_status st;

    *out = NULL;
    stats_begin(db, STATS_SELECT, query, query->ns, session ? session : &no_session, &call);
    st = select_result(db, query, session, &call, out, err);
    stats_end(&call);
    return st;
}

/* ---- For UPDATE and DELETE ---- */

static anx_status
run_rows(struct exec *x, const struct query *query, uint32_t **rows, size_t *n)
{
    struct part *part;
    anx_status st = part_compile(x, query, x->spaces, PART_MAIN, &part);

    if (st == ANX_OK)
        st = part_run(x, part, NULL, 0, query->limit, query->offset);
    if (st != ANX_OK)
        return st;
    *rows = anx_arena_array(x->arena, part->hits.n, sizeof(**rows));
    if (!*rows)
        return exec_nomem(x);
    for (size_t i = 0; i < part->hits.n; i++)
        (*rows)[i] = part->hits.items[i].row;
    *n = part->hits.n;
    return ANX_OK;
}

static anx_status
find_rows(struct exec *x, struct ns *ns, const struct query *query, uint32_t **rows, size_t *n)
{
    anx_status st = exec_open(x, query, ns);

    *rows = NULL;
    *n = 0;
    if (st == ANX_OK)
        st = run_rows(x, query, rows, n);
    exec_fini(x);
    return st;
}

anx_status
select_rows(struct database *db, struct ns *ns, const struct query *query, const struct db_session *session,
            anx_arena *arena, uint32_t **rows, size_t *n, anx_error *err)
{
    struct exec x = { .db = db, .session = session ? session : &no_session, .arena = arena, .err = err };

    return find_rows(&x, ns, query, rows, n);
}

anx_status
select_rows_locked(struct database *db, struct ns *ns, const struct query *query,
                   const struct db_session *session, anx_arena *arena, uint32_t **rows, size_t *n,
                   anx_error *err)
{
    struct exec x = { .db = db, .session = session ? session : &no_session, .arena = arena, .err = err };

    x.strict = STRICT_NONE;
    x.may_not_lock = true;
    return find_rows(&x, ns, query, rows, n);
}
