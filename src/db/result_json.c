/* Results as JSON, written straight from the stored documents:
 *
 *     {"items":[...],"aggregations":[...],"namespaces":[...],"cache_enabled":true,"explain":{...},
 *      "total_items":1,"query_total_items":1} */
#include "base/clock.h"
#include "base/error.h"
#include "db/result_int.h"

enum {
    ROWS_AHEAD = 16, /* documents that are fetched together, so that their cache misses overlap */
    BATCHES_PER_CHECK = 6
};

/* ---- Documents ---- */

bool
result_stored_vectors(void *context, uint32_t vector_field, uint32_t n, struct doc_vectors *out)
{
    const struct row_vectors *v = context;

    for (size_t i = 0; i < v->ns->n_index; i++) {
        const struct ns_index *index = &v->ns->indexes[i];

        if (index->vector && index->vector_field == vector_field)
            return vector_get(index->vector, v->row, n, v->result->scratch, out);
    }
    return false;
}

bool
result_copied_vectors(void *context, uint32_t vector_field, uint32_t n, struct doc_vectors *out)
{
    const struct item_copy *item = context;

    if (!item->vectors)
        return false;
    *out = item->vectors[vector_field];
    return out->n >= n;
}

/* The members of a stored document, without the closing brace. */
static void
print_row(struct result *result, const struct part *part, uint32_t row, struct doc doc, anx_buffer *out)
{
    struct row_vectors vectors = { result, part->ns, row };

    json_print_doc(out, doc, part->ns->names, &part->projection.fields, result_stored_vectors, &vectors,
                   true);
    if (result->scratch)
        anx_arena_reset(result->scratch);
}

static void
print_comma(anx_buffer *out, bool is_first)
{
    if (!is_first)
        anx_buffer_char(out, ',');
}

static void
print_joined(struct result *result, struct join *join, uint32_t row, bool is_first, anx_buffer *out)
{
    size_t n;
    const struct vector_hit *found = join_rows(&result->exec, join, row, &n);

    if (n == 0)
        return;
    print_comma(out, is_first);
    json_print_text(out, join->label);
    anx_buffer_text(out, ANX_TEXT(":["));
    for (size_t i = 0; i < n; i++) {
        print_comma(out, i == 0);
        print_row(result, join->right, found[i].row, rows_get(join->right->ns->rows, found[i].row), out);
        anx_buffer_char(out, '}');
    }
    anx_buffer_char(out, ']');
}

/* Is the object that ends the buffer still empty? */
static bool
is_empty_object(const anx_buffer *out)
{
    return out->size > 0 && out->data[out->size - 1] == '{';
}

void
result_attach_joins(struct result *result, struct part *part, uint32_t row)
{
    for (size_t i = 0; i < part->query->n_join; i++)
        part->joins[i].is_attached = part->joins_are_plain || part->joins[i].query->type == JOIN_LEFT;
    if (!part->joins_are_plain)
        where_attach(&result->exec, &part->where, row);
}

static void
print_joins(struct result *result, struct part *part, uint32_t row, anx_buffer *out)
{
    result_attach_joins(result, part, row);
    for (size_t i = 0; i < part->query->n_join; i++)
        if (part->joins[i].is_attached)
            print_joined(result, &part->joins[i], row, is_empty_object(out), out);
}

void
result_print_hit(struct result *result, struct part *part, const struct vector_hit *hit, struct doc doc,
                 anx_buffer *out)
{
    print_row(result, part, hit->row, doc, out);
    if (part->joins)
        print_joins(result, part, hit->row, out);
    if (part->query->with_rank) {
        print_comma(out, is_empty_object(out));
        anx_buffer_text(out, ANX_TEXT("\"rank()\":"));
        json_print_float(out, hit->rank);
    }
    anx_buffer_char(out, '}');
}

void
result_print_copy(const struct result *result, const struct item_copy *item, anx_buffer *out)
{
    static const struct doc_projection everything = { .all_regular = true, .all_vectors = true };

    if (!item->doc.bytes)
        anx_buffer_text(out, ANX_TEXT("{}"));
    else
        json_print_doc(out, item->doc, result->ns->names, &everything, result_copied_vectors,
                       (void *) (uintptr_t) item, false);
}

struct part *
result_find_hit(const struct result *result, size_t i, const struct vector_hit **hit)
{
    if (result->merged) {
        *hit = &result->merged[i].hit;
        return result->parts[result->merged[i].part];
    }
    *hit = &result->parts[0]->hits.items[i];
    return result->parts[0];
}

static void
fetch_docs(const struct result *result, size_t first, size_t last, struct doc *docs)
{
    for (size_t i = first; i < last; i++) {
        const struct vector_hit *hit;
        const struct part *part = result_find_hit(result, i, &hit);

        docs[i - first] = part_doc(part, hit->row);
        if (docs[i - first].bytes)
            __builtin_prefetch(docs[i - first].bytes + 60);
    }
}

/* The window of the print, resolved against the rows there are. */
struct shown {
    size_t first, last;
    size_t *ends; /* for the caller: where each item ends; may be NULL */
};

static void
note_end(const struct shown *shown, size_t i, const anx_buffer *out)
{
    if (shown->ends)
        shown->ends[i - shown->first] = out->size;
}

/* Rows [first, last) of a SELECT, at most ROWS_AHEAD. */
static void
print_hits(struct result *result, const struct shown *shown, size_t first, size_t last, anx_buffer *out)
{
    struct doc docs[ROWS_AHEAD];

    fetch_docs(result, first, last, docs);
    for (size_t i = first; i < last; i++) {
        const struct vector_hit *hit;
        struct part *part = result_find_hit(result, i, &hit);

        print_comma(out, i == shown->first);
        result_print_hit(result, part, hit, docs[i - first], out);
        note_end(shown, i, out);
    }
}

static anx_status
print_selected(struct result *result, const struct shown *shown, anx_buffer *out)
{
    struct exec *x = &result->exec;

    for (size_t i = shown->first; i < shown->last && !out->failed && x->status == ANX_OK; i += ROWS_AHEAD) {
        print_hits(result, shown, i, shown->last - i < ROWS_AHEAD ? shown->last : i + ROWS_AHEAD, out);
        if ((i - shown->first) / ROWS_AHEAD % BATCHES_PER_CHECK == BATCHES_PER_CHECK - 1)
            exec_latch(x, db_session_check(x->session, x->err));
    }
    return x->status;
}

/* ---- Around them ---- */

static bool
shows_vectors(const struct result *result)
{
    for (size_t i = 0; i < result->n_part; i++) {
        const struct part *part = result->parts[i];

        if (part->projection.fields.all_vectors || part->projection.fields.vector_fields)
            return true;
        for (size_t j = 0; part->joins && j < part->query->n_join; j++)
            if (part->joins[j].right->projection.fields.all_vectors ||
                part->joins[j].right->projection.fields.vector_fields)
                return true;
    }
    return false;
}

anx_status
result_open_scratch(struct result *result)
{
    if (!shows_vectors(result) || result->scratch)
        return ANX_OK;
    result->scratch = anx_arena_create(NULL, 0);
    return result->scratch
               ? ANX_OK
               : anx_fail(result->exec.err, ANX_E_NOMEM, "could not allocate memory for a result");
}

static anx_status
print_items(struct result *result, const struct result_window *window, anx_buffer *out)
{
    size_t n = result_count(result);
    struct shown shown = { .last = n, .ends = window ? window->item_ends : NULL };
    anx_status st = result_open_scratch(result);

    if (st != ANX_OK)
        return st;
    if (window && window->is_set) {
        shown.first = window->offset < n ? window->offset : n;
        shown.last = window->limit < n - shown.first ? shown.first + window->limit : n;
    }
    anx_buffer_text(out, ANX_TEXT("{\"items\":["));
    if (!result->ns)
        st = print_selected(result, &shown, out);
    for (size_t i = shown.first; result->ns && i < shown.last && !out->failed; i++) {
        print_comma(out, i == shown.first);
        result_print_copy(result, &result->items[i], out);
        note_end(&shown, i, out);
    }
    anx_buffer_char(out, ']');
    return st;
}

void
result_print_total(const struct result *result, anx_buffer *out)
{
    anx_buffer_text(out, ANX_TEXT("{\"value\":"));
    json_print_double(out, (double) result->total);
    anx_buffer_printf(out, ",\"type\":\"%s\",\"fields\":[\"*\"]}",
                      result->is_cached_total ? "count_cached" : "count");
}

static anx_status
print_aggregations(struct result *result, anx_buffer *out)
{
    anx_status st;

    if (!result->aggregates && !result->has_total)
        return ANX_OK;
    anx_buffer_text(out, ANX_TEXT(",\"aggregations\":["));
    st = aggregates_print(&result->exec, result->aggregates, out);
    if (result->has_total) {
        print_comma(out, !result->aggregates);
        result_print_total(result, out);
    }
    anx_buffer_char(out, ']');
    return st;
}

/* The query's own, the merged ones, then the joined ones of all of them. */
static void
print_namespaces(const struct result *result, anx_buffer *out)
{
    anx_buffer_text(out, ANX_TEXT(",\"namespaces\":["));
    if (result->ns)
        json_print_text(out, result->ns_name);
    for (size_t i = 0; i < result->n_part; i++) {
        print_comma(out, i == 0);
        json_print_text(out, result->parts[i]->space->name);
    }
    for (size_t i = 0; i < result->n_part; i++)
        for (size_t j = 0; result->parts[i]->joins && j < result->parts[i]->query->n_join; j++) {
            anx_buffer_char(out, ',');
            json_print_text(out, result->parts[i]->joins[j].right->space->name);
        }
    anx_buffer_char(out, ']');
}

/* A client may keep documents that it got whole. */
bool
result_is_cacheable(const struct result *result)
{
    for (size_t i = 0; i < result->n_part; i++) {
        const struct part *part = result->parts[i];

        if (part->projection.names_fields)
            return false;
        for (size_t j = 0; part->joins && j < part->query->n_join; j++)
            if (part->joins[j].right->projection.names_fields)
                return false;
    }
    return true;
}

static void
print_totals(const struct result *result, const struct result_window *window, anx_buffer *out)
{
    bool is_query_total = window && window->without_query_total;

    if (is_query_total && result->has_total)
        anx_buffer_printf(out, ",\"total_items\":%zu", result->total);
    else if ((window && window->is_set) || result->shows_item_total)
        anx_buffer_printf(out, ",\"total_items\":%zu", result_count(result));
    else if (result->has_total)
        anx_buffer_printf(out, ",\"total_items\":%zu", result->total);
    if (result->has_total && !is_query_total)
        anx_buffer_printf(out, ",\"query_total_items\":%zu", result->total);
}

static anx_status
print(struct result *result, const struct result_window *window, anx_buffer *out)
{
    anx_status st = print_items(result, window, out);

    if (st == ANX_OK)
        st = print_aggregations(result, out);
    if (st != ANX_OK)
        return st;
    print_namespaces(result, out);
    anx_buffer_text(out, result_is_cacheable(result) ? ANX_TEXT(",\"cache_enabled\":true")
                                              : ANX_TEXT(",\"cache_enabled\":false"));
    if (result->exec.is_explained) {
        result->explain.end_ns = anx_clock_ns();
        anx_buffer_text(out, ANX_TEXT(",\"explain\":"));
        explain_print(&result->explain, result->parts, result->n_part, out);
    }
    print_totals(result, window, out);
    anx_buffer_char(out, '}');
    if (!out->failed)
        return ANX_OK;
    if (out->size >= out->max / 2)
        return anx_fail(result->exec.err, ANX_E_LOGIC, "Response is larger than the limit of %zu bytes",
                        out->max);
    return anx_fail(result->exec.err, ANX_E_NOMEM, "could not allocate memory for a response");
}

anx_status
result_print_json(struct result *result, const struct result_window *window, anx_buffer *out, anx_error *err)
{
    anx_status st;

    result->exec.err = err;
    result->exec.status = ANX_OK;
    st = print(result, window, out);
    result->exec.err = NULL;
    return st;
}
